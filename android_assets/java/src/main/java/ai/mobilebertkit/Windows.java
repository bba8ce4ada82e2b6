package ai.mobilebertkit;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Cuts a question and its context into windows, as convert_examples_to_features of run_squad.py does. */
public final class Windows {
    private final WordPieceTokenizer tokenizer;
    private final int sequenceLength;
    private final int docStride;
    private final int maxQueryLength;

    /**
     * All lengths are in tokens.
     *
     * @param sequenceLength how many the model takes.
     * @param docStride how much further on in the context each window starts.
     * @param maxQueryLength a longer question is cut.
     * @throws IllegalArgumentException if they leave no room for the context.
     */
    public Windows(WordPieceTokenizer tokenizer, int sequenceLength, int docStride, int maxQueryLength) {
        if (docStride < 1 || maxQueryLength < 1 || sequenceLength - 3 <= maxQueryLength) {
            throw new IllegalArgumentException(
                    "Expected a document stride and a query length of 1 at least, and a sequence length of"
                            + " more than the query length + 3, got " + docStride + ", " + maxQueryLength
                            + " and " + sequenceLength + ". Take them from the bundle.");
        }
        this.tokenizer = tokenizer;
        this.sequenceLength = sequenceLength;
        this.docStride = docStride;
        this.maxQueryLength = maxQueryLength;
    }

    /**
     * The windows of a question; none where the context has no token.
     *
     * @throws IllegalArgumentException if the question holds half a surrogate pair.
     */
    public List<Window> of(String question, Passage passage) {
        int[] query = tokenizer.ids(question);
        query = Arrays.copyOf(query, Math.min(query.length, maxQueryLength));
        int room = sequenceLength - query.length - 3; // [CLS], [SEP], [SEP]
        int total = passage.ids.length;
        List<Integer> starts = new ArrayList<>();
        for (int start = 0; start < total; start += Math.min(room, docStride)) {
            starts.add(start);
            if (start + room >= total) {
                break;
            }
        }
        int[] owner = maxContext(starts, room, total);
        List<Window> windows = new ArrayList<>();
        for (int start : starts) {
            boolean[] isMaxContext = new boolean[Math.min(room, total - start)];
            for (int i = 0; i < isMaxContext.length; i++) {
                isMaxContext[i] = owner[start + i] == windows.size();
            }
            windows.add(
                    new Window(query, passage, start, isMaxContext, tokenizer.vocabulary(), sequenceLength));
        }
        return windows;
    }

    /**
     * For each token of the context, the window that has the most context on both sides of it, the first of
     * equals: min(left, right) + 0.01 * length (run_squad.py, _check_is_max_context).
     */
    private static int[] maxContext(List<Integer> starts, int room, int total) {
        int[] owner = new int[total];
        double[] best = new double[total];
        Arrays.fill(best, Double.NEGATIVE_INFINITY);
        for (int window = 0; window < starts.size(); window++) {
            int start = starts.get(window);
            int length = Math.min(room, total - start);
            for (int i = 0; i < length; i++) {
                double score = Math.min(i, length - 1 - i) + 0.01 * length;
                if (score > best[start + i]) {
                    best[start + i] = score;
                    owner[start + i] = window;
                }
            }
        }
        return owner;
    }
}
