package ai.mobilebertkit;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;

/** Texts cut at white space, of which Python, run_squad.py and Java each have an idea of their own. */
final class Whitespace {
    private static final BitSet CONTEXT = new BitSet(); // run_squad.py, read_squad_examples, is_whitespace

    static {
        " \t\r\n\u202f".chars().forEach(CONTEXT::set);
    }

    private Whitespace() {}

    /** Python's str.split(). */
    static List<String> split(String text) {
        return split(text, Characters.WHITESPACE);
    }

    /** The words of a context, as run_squad.py splits it. */
    static List<String> contextWords(String text) {
        return split(text, CONTEXT);
    }

    /** Python's str.strip(). */
    static String strip(String text) {
        int first = 0;
        int end = text.length();
        while (first < end && Characters.WHITESPACE.get(text.charAt(first))) {
            first++;
        }
        while (first < end && Characters.WHITESPACE.get(text.charAt(end - 1))) {
            end--;
        }
        return text.substring(first, end);
    }

    // By UTF-16 units: no white space lies outside the Basic Multilingual Plane.
    private static List<String> split(String text, BitSet separators) {
        List<String> words = new ArrayList<>();
        int first = 0;
        for (int i = 0; i <= text.length(); i++) {
            if (i == text.length() || separators.get(text.charAt(i))) {
                if (i > first) {
                    words.add(text.substring(first, i));
                }
                first = i + 1;
            }
        }
        return words;
    }
}
