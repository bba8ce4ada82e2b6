/**
 * SQuAD question answering with BERT's uncased WordPiece, as mobilebert_kit does it on the host: the same
 * tokens, windows, answers and scores. Java 11 without dependencies; only {@link
 * ai.mobilebertkit.QuestionAnswerer} needs TensorFlow Lite. Nothing is drawn from the device's own Unicode
 * tables, which differ between Android versions.
 *
 * <p>Arguments that cannot be used raise IllegalArgumentException: "Expected X, got Y. Do Z."
 */
package ai.mobilebertkit;
