package ai.mobilebertkit;

import java.util.Arrays;

/** A list of ints without boxes: the code points of a text, as Python counts characters, or token ids. */
final class IntList {
    private int[] values;
    private int length;

    IntList(int capacity) {
        values = new int[Math.max(capacity, 8)];
    }

    /** The code points of a text; half a surrogate pair is one too. */
    static IntList codePoints(String text) {
        IntList result = new IntList(text.length());
        for (int i = 0; i < text.length(); i += Character.charCount(text.codePointAt(i))) {
            result.append(text.codePointAt(i));
        }
        return result;
    }

    int length() {
        return length;
    }

    int get(int index) {
        return values[index];
    }

    void append(int... more) {
        for (int value : more) {
            insert(length, value);
        }
    }

    void insert(int index, int value) {
        if (length == values.length) {
            values = Arrays.copyOf(values, 2 * length);
        }
        System.arraycopy(values, index, values, index + 1, length - index);
        values[index] = value;
        length++;
    }

    void truncate(int newLength) {
        length = newLength;
    }

    int[] toArray() {
        return Arrays.copyOf(values, length);
    }

    /** The text of the code points from `first` to before `end`. */
    String text(int first, int end) {
        return new String(values, first, end - first);
    }

    /** The text of all code points. */
    String text() {
        return text(0, length);
    }
}
