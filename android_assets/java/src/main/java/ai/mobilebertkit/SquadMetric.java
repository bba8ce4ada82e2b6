package ai.mobilebertkit;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Exact match and F1 of SQuAD v1.1 (evaluate-v1.1.py) and the MLPerf Mobile app's F1 (mobile_app_open,
 * squad_utils/common.h, F1Score): add every question, in the data set's order, then read the averages.
 */
public final class SquadMetric {
    private static final Set<String> ARTICLES = new HashSet<>(Arrays.asList("a", "an", "the"));
    private static final Set<String> APP_ARTICLES =
            new HashSet<>(Arrays.asList("a", "an", "the", "A", "An", "The"));

    private int questions;
    private double exactMatches;
    private double f1;
    private double appF1;

    /**
     * Adds a question: the best score that the prediction has with any of the right answers.
     *
     * @param prediction the answer given, or null where there is none, which counts 0.
     * @throws IllegalArgumentException if there is no right answer.
     */
    public void add(String prediction, Collection<String> answers) {
        if (answers.isEmpty()) {
            throw new IllegalArgumentException(
                    "Expected one right answer at least, got none. Take questions of SQuAD v1.1.");
        }
        questions++;
        if (prediction == null) {
            return;
        }
        double bestF1 = 0;
        double bestAppF1 = 0;
        boolean exact = false;
        for (String answer : answers) {
            bestF1 = Math.max(bestF1, f1(words(prediction), words(answer)));
            bestAppF1 = Math.max(bestAppF1, f1(appWords(prediction), appWords(answer)));
            exact |= words(prediction).equals(words(answer));
        }
        exactMatches += exact ? 1 : 0;
        f1 += bestF1;
        appF1 += bestAppF1;
    }

    /** In percent; NaN where no question was added. */
    public double exactMatch() {
        return 100.0 * exactMatches / questions;
    }

    /** In percent; NaN where no question was added. */
    public double f1() {
        return 100.0 * f1 / questions;
    }

    /** In percent; NaN where no question was added. */
    public double appF1() {
        return 100.0 * appF1 / questions;
    }

    /** The words of a text in lower case, without ASCII punctuation and articles: normalize_answer. */
    private static List<String> words(String text) {
        IntList lower = Lowercase.of(IntList.codePoints(text));
        IntList kept = new IntList(lower.length());
        for (int i = 0; i < lower.length(); i++) {
            if (!isAsciiPunctuation(lower.get(i))) {
                kept.append(lower.get(i));
            }
        }
        StringBuilder spaced = new StringBuilder();
        int first = 0;
        for (int i = 0; i <= kept.length(); i++) {
            if (i == kept.length() || !Characters.WORD.get(kept.get(i))) {
                String run = kept.text(first, i);
                spaced.append(ARTICLES.contains(run) ? " " : run);
                if (i < kept.length()) {
                    spaced.appendCodePoint(kept.get(i));
                }
                first = i + 1;
            }
        }
        return Whitespace.split(spaced.toString());
    }

    /**
     * Words between single spaces, empty ones too: the app drops articles and punctuation from words, not
     * words.
     */
    private static List<String> appWords(String text) {
        List<String> words = new ArrayList<>();
        for (String word : text.split(" ", -1)) {
            StringBuilder kept = new StringBuilder();
            for (char unit : (APP_ARTICLES.contains(word) ? "" : word).toCharArray()) {
                if (!isAsciiPunctuation(unit)) {
                    kept.append(unit >= 'A' && unit <= 'Z' ? (char) (unit - 'A' + 'a') : unit);
                }
            }
            words.add(kept.toString());
        }
        return words;
    }

    private static boolean isAsciiPunctuation(int code) {
        return code >= '!' && code <= '/' || code >= ':' && code <= '@' || code >= '[' && code <= '`'
                || code >= '{' && code <= '~';
    }

    /** The harmonic mean of precision and recall over the words, 0 to 1. */
    private static double f1(List<String> words, List<String> truth) {
        Map<String, Integer> left = new HashMap<>();
        for (String word : truth) {
            left.merge(word, 1, Integer::sum);
        }
        int common = 0;
        for (String word : words) {
            if (left.merge(word, -1, Integer::sum) >= 0) {
                common++;
            }
        }
        if (common == 0) {
            return 0;
        }
        double precision = (double) common / words.size();
        double recall = (double) common / truth.size();
        return 2 * precision * recall / (precision + recall);
    }
}
