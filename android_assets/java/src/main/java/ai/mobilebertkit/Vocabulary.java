package ai.mobilebertkit;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The tokens of a vocab.txt: UTF-8, one a line; a token's id is its line number from 0. */
public final class Vocabulary {
    static final String PAD = "[PAD]";
    static final String UNKNOWN = "[UNK]";
    static final String CLS = "[CLS]";
    static final String SEP = "[SEP]";

    private final List<String> tokens = new ArrayList<>();
    private final Map<String, Integer> ids = new HashMap<>();

    private Vocabulary(String text) {
        String[] lines = text.split("\n", -1);
        int count = lines[lines.length - 1].isEmpty() ? lines.length - 1 : lines.length;
        for (int i = 0; i < count; i++) {
            add(Whitespace.strip(lines[i]));
        }
        for (String special : new String[] {PAD, UNKNOWN, CLS, SEP}) {
            if (!ids.containsKey(special)) {
                throw new IllegalArgumentException(
                        "Expected a BERT vocabulary with " + special + ", got none in "
                        + tokens.size() + " tokens. Take the model's vocab.txt.");
            }
        }
        if (ids.get(PAD) != 0) { // windows are padded with id 0
            throw new IllegalArgumentException(
                    "Expected [PAD] on the first line of the vocabulary, got it on line "
                    + (ids.get(PAD) + 1) + ". Take the model's vocab.txt.");
        }
    }

    /**
     * Reads a vocab.txt to its end and closes it.
     *
     * @throws IllegalArgumentException if it is none: not UTF-8, an empty line, a token twice, a special
     *     token missing, or [PAD] not first.
     * @throws IOException if it cannot be read.
     */
    public static Vocabulary read(InputStream vocab) throws IOException {
        try (InputStream stream = vocab) {
            return new Vocabulary(utf8(stream));
        } catch (CharacterCodingException error) {
            throw new IllegalArgumentException(
                    "Expected a vocabulary as UTF-8 text, got other bytes. Take the model's vocab.txt.",
                    error);
        }
    }

    /** How many tokens there are. */
    public int size() {
        return tokens.size();
    }

    /** The id of a token, or null where it is not in the vocabulary. */
    public Integer id(String token) {
        return ids.get(token);
    }

    /** The token of an id of 0 to size() - 1. */
    public String token(int id) {
        return tokens.get(id);
    }

    /** All bytes of a stream as text; CharacterCodingException where they are not UTF-8. */
    static String utf8(InputStream stream) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        byte[] part = new byte[1 << 14];
        for (int count = stream.read(part); count >= 0; count = stream.read(part)) {
            bytes.write(part, 0, count);
        }
        return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes.toByteArray())).toString();
    }

    private void add(String token) {
        int line = tokens.size() + 1;
        if (token.isEmpty()) {
            throw new IllegalArgumentException(
                    "Expected one token a line, got an empty line: line " + line + " of the vocabulary.");
        }
        Integer before = ids.put(token, tokens.size());
        if (before != null) {
            throw new IllegalArgumentException(
                    "Expected each token once, got '" + token + "' on lines " + (before + 1)
                    + " and " + line + " of the vocabulary.");
        }
        tokens.add(token);
    }
}
