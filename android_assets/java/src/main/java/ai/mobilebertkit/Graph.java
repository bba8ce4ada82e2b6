package ai.mobilebertkit;

/** One of a model's graphs over the same weights: for windows of so many tokens, by the signature's key. */
final class Graph {
    private final int length;
    private final String signature;

    Graph(int length, String signature) {
        this.length = length;
        this.signature = signature;
    }

    int length() {
        return length;
    }

    String signature() {
        return signature;
    }
}
