"""Running a .tflite file: one interpreter over two runtimes, and the F1 loop. No TensorFlow."""
