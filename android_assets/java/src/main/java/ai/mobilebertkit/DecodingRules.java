package ai.mobilebertkit;

import java.util.ArrayList;
import java.util.List;

/**
 * By whose rules logits become a text. They differ in rounding, and in aligning wordpieces to the context.
 */
public enum DecodingRules {
    /** Google's run_squad.py (google-research, mobilebert), which published scores are measured with. */
    OFFICIAL {
        @Override
        double sum(float start, float end) {
            return (double) start + end;
        }

        /**
         * Where the tokenized text has another length without spaces, nothing can be aligned: all of the
         * words.
         */
        @Override
        String align(String pieces, List<String> words) {
            String text = String.join(" ", words);
            String tokenized = String.join(" ", BasicTokenizer.tokens(text));
            return letters(text) == letters(tokenized) ? project(pieces, tokenized, text) : text;
        }
    },

    /** The MLPerf Mobile app (mobile_app_open, flutter/cpp/datasets/squad.cc and squad_utils/common.h). */
    MLPERF_APP {
        @Override
        double sum(float start, float end) {
            return start + end; // rounded to float
        }

        @Override
        String align(String pieces, List<String> words) {
            List<String> tokenized = new ArrayList<>();
            for (String word : words) {
                tokenized.add(String.join(" ", BasicTokenizer.tokens(word)));
            }
            return project(pieces, String.join(" ", tokenized), String.join(" ", words));
        }
    };

    /** What spans are compared by. */
    abstract double sum(float start, float end);

    /** The part of the words that `pieces` is the tokenized form of; all of them where it is nowhere. */
    abstract String align(String pieces, List<String> words);

    private static int letters(String text) {
        return text.codePointCount(0, text.length()) - (int) text.chars().filter(unit -> unit == ' ').count();
    }

    /** Where `pieces` is in `tokenized`, code point by code point without spaces, in `text`; else `text`. */
    private static String project(String pieces, String tokenized, String text) {
        int start = tokenized.indexOf(pieces);
        int end = start + pieces.length();
        if (start < 0
                || pieces.isEmpty()
                || tokenized.charAt(start) == ' '
                || tokenized.charAt(end - 1) == ' ') {
            return text;
        }
        int first = letters(tokenized.substring(0, start));
        int last = letters(tokenized.substring(0, end)) - 1;
        int from = -1;
        int letter = 0;
        for (int i = 0; i < text.length(); i += Character.charCount(text.codePointAt(i))) {
            if (text.charAt(i) == ' ') {
                continue;
            }
            if (letter == first) {
                from = i;
            }
            if (letter == last) {
                return text.substring(from, i + Character.charCount(text.codePointAt(i)));
            }
            letter++;
        }
        return text;
    }
}
