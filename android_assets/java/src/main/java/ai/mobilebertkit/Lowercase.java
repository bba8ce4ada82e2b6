package ai.mobilebertkit;

/** Python's str.lower(): a character at a time, but for the capital sigma, which looks around. */
final class Lowercase {
    private static final int CAPITAL_SIGMA = 0x3A3;
    private static final int FINAL_SIGMA = 0x3C2;

    private Lowercase() {}

    static IntList of(IntList text) {
        IntList result = new IntList(text.length());
        for (int i = 0; i < text.length(); i++) {
            int code = text.get(i);
            int[] lower = Characters.lower(code);
            if (code == CAPITAL_SIGMA && isCased(text, i, -1) && !isCased(text, i, 1)) {
                result.append(FINAL_SIGMA);
            } else if (lower != null) {
                result.append(lower);
            } else {
                result.append(code);
            }
        }
        return result;
    }

    /** Whether the next character in this direction that is not case-ignorable has a case. */
    private static boolean isCased(IntList text, int index, int step) {
        int i = index + step;
        while (i >= 0 && i < text.length() && Characters.IGNORABLE.get(text.get(i))) {
            i += step;
        }
        return i >= 0 && i < text.length() && Characters.CASED.get(text.get(i));
    }
}
