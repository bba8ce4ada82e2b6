package ai.mobilebertkit;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.Map;

/**
 * What the host's tokenizer and scorer do with each code point, read once from the resource characters.txt.
 * tools/java_characters.py writes that file and describes every name in it.
 */
final class Characters {
    // Absolute, since a shrinker that renames this package leaves resources where they are.
    private static final String RESOURCE = "/ai/mobilebertkit/characters.txt";

    private static final Map<String, BitSet> SETS = new HashMap<>();
    private static final Map<String, Map<Integer, int[]>> MAPS = new HashMap<>();

    static {
        for (String name : new String[] {"lower", "normal", "order"}) {
            MAPS.put(name, new HashMap<>());
        }
        load();
    }

    static final BitSet REMOVED = SETS.get("removed");
    static final BitSet SPACE = SETS.get("space");
    static final BitSet CASED = SETS.get("cased");
    static final BitSet IGNORABLE = SETS.get("ignorable");
    static final BitSet IDEOGRAPH = SETS.get("ideograph");
    static final BitSet ACCENT = SETS.get("accent");
    static final BitSet BLOCKING = SETS.get("blocking");
    static final BitSet SEPARATOR = SETS.get("separator");
    static final BitSet PUNCTUATION = SETS.get("punctuation");
    static final BitSet WHITESPACE = SETS.get("whitespace");
    static final BitSet WORD = SETS.get("word");

    private static final Map<Integer, int[]> LOWER = MAPS.get("lower");
    private static final Map<Integer, int[]> NORMAL = MAPS.get("normal");
    private static final Map<Integer, int[]> ORDER = MAPS.get("order");

    private Characters() {}

    /** Python's str.lower() of a single character; null where that is the character itself. */
    static int[] lower(int code) {
        return LOWER.get(code);
    }

    /** Canonical decomposition without accents, in lower case; null where that is the character itself. */
    static int[] normal(int code) {
        return NORMAL.get(code);
    }

    /** Canonical combining class, 0 for what is no mark or is dropped as an accent. */
    static int order(int code) {
        int[] order = ORDER.get(code);
        return order == null ? 0 : order[0];
    }

    private static void load() {
        try (InputStream stream = Characters.class.getResourceAsStream(RESOURCE)) {
            if (stream == null) {
                throw new IllegalStateException(
                        "Expected the resource " + RESOURCE + ", got none. Package src/main/resources too.");
            }
            BufferedReader lines =
                    new BufferedReader(new InputStreamReader(stream, StandardCharsets.US_ASCII));
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (!line.startsWith("#")) {
                    add(line.split(" "));
                }
            }
        } catch (IOException error) {
            throw new IllegalStateException("Cannot read the resource " + RESOURCE + ".", error);
        }
    }

    private static void add(String[] fields) {
        int[] codes = new int[fields.length - 1];
        for (int i = 0; i < codes.length; i++) {
            codes[i] = Integer.parseInt(fields[i + 1], 16);
        }
        Map<Integer, int[]> map = MAPS.get(fields[0]);
        if (map == null) {
            SETS.computeIfAbsent(fields[0], name -> new BitSet()).set(codes[0], codes[1] + 1);
        } else {
            map.put(codes[0], Arrays.copyOfRange(codes, 1, codes.length));
        }
    }
}
