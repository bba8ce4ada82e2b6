"""SQuAD v1.1: questions, windows, answers, metrics, and the MLPerf app's records. No TensorFlow."""
