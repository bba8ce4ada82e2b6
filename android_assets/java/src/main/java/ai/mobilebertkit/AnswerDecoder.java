package ai.mobilebertkit;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * From logits to an answer: the span with the largest sum of start and end logit among the n best of each in
 * each window, in the context, of a limited length, and starting where the window has the most context.
 */
public final class AnswerDecoder {
    private static final String NO_ANSWER = "empty"; // run_squad.py, write_predictions

    private final Vocabulary vocabulary;
    private final int nBest;
    private final int maxAnswerLength;
    private final DecodingRules rules;

    /**
     * @param nBest how many starts and how many ends of a window are tried.
     * @param maxAnswerLength in wordpieces.
     * @throws IllegalArgumentException if either is less than 1.
     */
    public AnswerDecoder(Vocabulary vocabulary, int nBest, int maxAnswerLength, DecodingRules rules) {
        if (nBest < 1 || maxAnswerLength < 1) {
            throw new IllegalArgumentException(
                    "Expected an n-best size and an answer length of 1 at least, got " + nBest
                    + " and " + maxAnswerLength + ". Take them from the bundle.");
        }
        this.vocabulary = vocabulary;
        this.nBest = nBest;
        this.maxAnswerLength = maxAnswerLength;
        this.rules = rules;
    }

    /**
     * The answer from all windows of a question.
     *
     * @param startLogits a row for each window, a number for each of its tokens; endLogits likewise.
     * @throws IllegalArgumentException if there are other rows than windows, rows of another length, or a
     *     NaN.
     */
    public Answer decode(
            Passage passage, List<Window> windows, float[][] startLogits, float[][] endLogits) {
        Span best = null;
        for (int row = 0; row < windows.size(); row++) {
            Span inWindow = new Span(windows.get(row), 0, 0, Double.NEGATIVE_INFINITY); // stands for none
            for (Span span : spans(row, windows, startLogits, endLogits)) {
                inWindow = larger(inWindow, span);
            }
            if (best == null || inWindow.score > best.score) {
                best = inWindow;
            }
        }
        if (best == null || best.score == Double.NEGATIVE_INFINITY) {
            return new Answer(NO_ANSWER, Double.NEGATIVE_INFINITY);
        }
        return new Answer(text(passage, best), best.score);
    }

    /**
     * The n best answers of different texts, the best first, none where no span is valid: run_squad.py's
     * n-best list. Their probabilities are the softmax over their scores.
     *
     * @throws IllegalArgumentException as `decode`, also where a logit is infinite.
     */
    public List<Candidate> candidates(
            Passage passage, List<Window> windows, float[][] startLogits, float[][] endLogits) {
        List<Span> spans = new ArrayList<>();
        for (int row = 0; row < windows.size(); row++) {
            spans.addAll(spans(row, windows, startLogits, endLogits));
            checkFinite(startLogits[row]);
            checkFinite(endLogits[row]);
        }
        spans.sort(Comparator.comparingDouble(span -> 0.0 - span.score)); // stable; 0.0 and -0.0 are equals
        Map<String, Span> best = new LinkedHashMap<>();
        double total = 0;
        for (Span span : spans) {
            if (best.size() < nBest && best.putIfAbsent(text(passage, span), span) == null) {
                total += Math.exp(span.score - spans.get(0).score);
            }
        }
        List<Candidate> candidates = new ArrayList<>();
        for (Map.Entry<String, Span> entry : best.entrySet()) {
            Span span = entry.getValue();
            double probability = Math.exp(span.score - spans.get(0).score) / total;
            int first = span.window.word(passage, span.start);
            int last = span.window.word(passage, span.end);
            candidates.add(new Candidate(entry.getKey(), span.score, probability, first, last));
        }
        return candidates;
    }

    private static float[] check(float[][] logits, int row, List<Window> windows) {
        int length = windows.get(row).inputIds().length;
        if (logits.length != windows.size() || logits[row].length != length) {
            throw new IllegalArgumentException(
                    "Expected logits of shape [" + windows.size() + ", " + length + "], got ["
                    + logits.length + ", " + (row < logits.length ? logits[row].length : 0)
                    + "]. Hand over a row for each window.");
        }
        for (float logit : logits[row]) {
            if (Float.isNaN(logit)) {
                throw new IllegalArgumentException(
                        "Expected numbers as logits, got NaN in window " + row + " of "
                        + windows.size() + ". The model, or the delegate that ran it, is broken.");
            }
        }
        return logits[row];
    }

    private static void checkFinite(float[] logits) {
        for (float logit : logits) {
            if (Float.isInfinite(logit)) {
                throw new IllegalArgumentException(
                        "Expected finite numbers as logits, got " + logit
                                + ". The model, or the delegate that ran it, is broken.");
            }
        }
    }

    private static final class Span {
        final Window window;
        final int start;
        final int end;
        final double score;

        Span(Window window, int start, int end, double score) {
            this.window = window;
            this.start = start;
            this.end = end;
            this.score = score;
        }
    }

    /** The first of equals; of infinite sums as NumPy's argmax, to which a NaN is the largest. */
    private static Span larger(Span first, Span second) {
        boolean nan = Double.isNaN(second.score) && !Double.isNaN(first.score);
        return nan || second.score > first.score ? second : first;
    }

    /** All valid spans of a window, by their starts, then by their ends, the largest logits first. */
    private List<Span> spans(int row, List<Window> windows, float[][] startLogits, float[][] endLogits) {
        float[] startRow = check(startLogits, row, windows);
        float[] endRow = check(endLogits, row, windows);
        Window window = windows.get(row);
        List<Span> spans = new ArrayList<>();
        int[] ends = largest(endRow);
        for (int start : largest(startRow)) {
            for (int end : ends) {
                boolean inContext = window.mayStart(start) && window.mayEnd(end);
                if (inContext && end >= start && end - start < maxAnswerLength) {
                    spans.add(new Span(window, start, end, rules.sum(startRow[start], endRow[end])));
                }
            }
        }
        return spans;
    }

    /** The positions of the n largest logits, the largest first, of equals the earlier one. */
    private int[] largest(float[] logits) {
        int[] positions = new int[Math.min(nBest, logits.length)];
        int count = 0;
        for (int position = 0; position < logits.length; position++) {
            int at = count;
            while (at > 0 && logits[positions[at - 1]] < logits[position]) {
                at--;
            }
            if (at < positions.length) {
                count = Math.min(count + 1, positions.length);
                System.arraycopy(positions, at, positions, at + 1, count - at - 1);
                positions[at] = position;
            }
        }
        return positions;
    }

    private String text(Passage passage, Span span) {
        Window window = span.window;
        StringBuilder joined = new StringBuilder();
        for (int id : Arrays.copyOfRange(window.inputIds(), span.start, span.end + 1)) {
            joined.append(joined.length() == 0 ? "" : " ").append(vocabulary.token(id));
        }
        String pieces = joined.toString().replace(" ##", "").replace("##", "");
        int first = window.word(passage, span.start);
        int last = window.word(passage, span.end);
        return rules.align(
                String.join(" ", Whitespace.split(pieces)), passage.words.subList(first, last + 1));
    }
}
