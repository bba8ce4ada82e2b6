package ai.mobilebertkit;

import java.util.ArrayList;
import java.util.List;

/**
 * Google's BasicTokenizer (google-research, mobilebert/tokenization.py) as the host has it: lower case, no
 * control characters, no accents, split at spaces and around punctuation and CJK ideographs.
 */
final class BasicTokenizer {
    // Hangul syllables decompose by arithmetic: Unicode, chapter 3.12.
    private static final int HANGUL = 0xAC00;
    private static final int HANGUL_END = 0xD7A4;
    private static final int LEAD = 0x1100;
    private static final int VOWEL = 0x1161;
    private static final int TAIL = 0x11A7;
    private static final int TAILS = 28;
    private static final int VOWELS_AND_TAILS = 21 * TAILS;

    private final IntList normal;
    private int sortedUpTo; // no mark is sorted to before this position of `normal`

    private BasicTokenizer(int capacity) {
        normal = new IntList(capacity);
    }

    /**
     * The words of a text.
     *
     * @throws IllegalArgumentException if the text holds half a surrogate pair, which is no Unicode text.
     */
    static List<String> tokens(String text) {
        IntList lower = Lowercase.of(clean(text));
        BasicTokenizer tokenizer = new BasicTokenizer(lower.length() + 8);
        for (int i = 0; i < lower.length(); i++) {
            tokenizer.add(lower.get(i));
        }
        return tokenizer.split();
    }

    private static IntList clean(String text) {
        IntList codes = IntList.codePoints(text);
        IntList cleaned = new IntList(codes.length());
        for (int i = 0; i < codes.length(); i++) {
            int code = codes.get(i);
            if (code >= Character.MIN_SURROGATE && code <= Character.MAX_SURROGATE) {
                throw new IllegalArgumentException(
                        "Expected valid Unicode, got half a surrogate pair as character " + i
                                + " of a text of " + codes.length() + ". Cut between code points.");
            }
            if (Characters.SPACE.get(code)) {
                cleaned.append(' ');
            } else if (!Characters.REMOVED.get(code)) {
                cleaned.append(code);
            }
        }
        return cleaned;
    }

    private void add(int code) {
        if (Characters.ACCENT.get(code)) {
            if (Characters.BLOCKING.get(code)) {
                sortedUpTo = normal.length();
            }
        } else if (Characters.IDEOGRAPH.get(code)) {
            addSorted(' ');
            addDecomposed(code);
            addSorted(' ');
        } else {
            addDecomposed(code);
        }
    }

    private void addDecomposed(int code) {
        int[] decomposed = Characters.normal(code);
        if (code >= HANGUL && code < HANGUL_END) {
            int syllable = code - HANGUL;
            addSorted(LEAD + syllable / VOWELS_AND_TAILS);
            addSorted(VOWEL + syllable % VOWELS_AND_TAILS / TAILS);
            if (syllable % TAILS != 0) {
                addSorted(TAIL + syllable % TAILS);
            }
        } else if (decomposed != null) {
            for (int part : decomposed) {
                addSorted(part);
            }
        } else {
            addSorted(code);
        }
    }

    /** Canonical ordering (Unicode, chapter 3.11): a mark goes before the marks of larger classes. */
    private void addSorted(int code) {
        int order = Characters.order(code);
        int at = normal.length();
        if (order > 0) {
            while (at > sortedUpTo && Characters.order(normal.get(at - 1)) > order) {
                at--;
            }
            normal.insert(at, code);
        } else {
            normal.append(code);
            sortedUpTo = normal.length();
        }
    }

    private List<String> split() {
        List<String> tokens = new ArrayList<>();
        int first = 0;
        for (int i = 0; i <= normal.length(); i++) {
            boolean punctuation = i < normal.length() && Characters.PUNCTUATION.get(normal.get(i));
            if (i == normal.length() || punctuation || Characters.SEPARATOR.get(normal.get(i))) {
                if (i > first) {
                    tokens.add(normal.text(first, i));
                }
                if (punctuation) {
                    tokens.add(normal.text(i, i + 1));
                }
                first = i + 1;
            }
        }
        return tokens;
    }
}
