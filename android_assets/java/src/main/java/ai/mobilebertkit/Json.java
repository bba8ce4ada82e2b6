package ai.mobilebertkit;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A strict reader of JSON (RFC 8259): Map, List, String, Double, Boolean or null. It refuses what the host's
 * reader refuses too: a name twice in an object, NaN, anything after the value, and lists nested deeper than
 * 64.
 */
final class Json {
    private static final int MAX_DEPTH = 64;
    private static final String NUMBER = "-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?";

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** The value of a JSON text. IllegalArgumentException where it is none. */
    static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value(0);
        json.skipSpace();
        if (json.at < text.length()) {
            throw json.error("the end");
        }
        return value;
    }

    private Object value(int depth) {
        if (depth > MAX_DEPTH) {
            throw error("at most " + MAX_DEPTH + " levels");
        }
        skipSpace();
        switch (peek()) {
            case '{':
                return object(depth);
            case '[':
                return list(depth);
            case '"':
                return string();
            default:
                return word();
        }
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> result = new LinkedHashMap<>();
        at++;
        skipSpace();
        while (peek() != '}') {
            if (!result.isEmpty()) {
                take(',');
                skipSpace();
            }
            String name = string();
            skipSpace();
            take(':');
            if (result.containsKey(name)) {
                throw error("each name once, not '" + name + "' again");
            }
            result.put(name, value(depth + 1));
            skipSpace();
        }
        at++;
        return result;
    }

    private List<Object> list(int depth) {
        List<Object> result = new ArrayList<>();
        at++;
        skipSpace();
        while (peek() != ']') {
            if (!result.isEmpty()) {
                take(',');
            }
            result.add(value(depth + 1));
            skipSpace();
        }
        at++;
        return result;
    }

    private String string() {
        take('"');
        StringBuilder result = new StringBuilder();
        while (peek() != '"') {
            char unit = text.charAt(at++);
            if (unit < ' ') {
                throw error("no control character in a string");
            }
            result.append(unit == '\\' ? escaped() : unit);
        }
        at++;
        return result.toString();
    }

    private char escaped() {
        char letter = peek();
        at++;
        if (letter == 'u') {
            String digits = text.substring(at, Math.min(at + 4, text.length()));
            if (!digits.matches("[0-9a-fA-F]{4}")) {
                throw error("four hexadecimal digits");
            }
            at += 4;
            return (char) Integer.parseInt(digits, 16);
        }
        int which = "\"\\/bfnrt".indexOf(letter);
        if (which < 0) {
            throw error("an escape of JSON");
        }
        return "\"\\/\b\f\n\r\t".charAt(which);
    }

    /** A number, true, false or null. */
    private Object word() {
        int first = at;
        while (at < text.length() && " \t\r\n,]}:".indexOf(text.charAt(at)) < 0) {
            at++;
        }
        String word = text.substring(first, at);
        switch (word) {
            case "true":
                return Boolean.TRUE;
            case "false":
                return Boolean.FALSE;
            case "null":
                return null;
            default:
                if (!word.matches(NUMBER)) {
                    at = first;
                    throw error("a value");
                }
                return Double.valueOf(word);
        }
    }

    private void skipSpace() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char peek() {
        if (at >= text.length()) {
            throw error("more text");
        }
        return text.charAt(at);
    }

    private void take(char expected) {
        if (peek() != expected) {
            throw error("'" + expected + "'");
        }
        at++;
    }

    private IllegalArgumentException error(String expected) {
        String found = text.substring(Math.min(at, text.length()), Math.min(at + 20, text.length()));
        return new IllegalArgumentException(
                "Expected " + expected + " as JSON, got '" + found + "' at character " + at
                + " of " + text.length() + ". Copy the file again.");
    }
}
