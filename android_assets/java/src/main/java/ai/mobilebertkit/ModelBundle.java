package ai.mobilebertkit;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.CharacterCodingException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** What an app reads of bundle.json, which mobilebert_kit.bundle writes; docs/android.md lists its keys. */
public final class ModelBundle {
    private static final int SCHEMA_VERSION = 1;

    private static final String SEGMENTS = "segment_ids"; // the input that a DistilBERT has not

    /** What the kit's contracts call each tensor, its own name first (mobilebert_kit/contract.py). */
    private static final List<List<String>> TENSOR_NAMES = Arrays.asList(
            Arrays.asList("input_ids", "ids"),
            Arrays.asList("input_mask", "attention_mask", "mask"),
            Arrays.asList(SEGMENTS, "token_type_ids"),
            Arrays.asList("start_logits", "output_s"),
            Arrays.asList("end_logits", "output_e"));

    private final int sequenceLength;
    private final int docStride;
    private final int maxQueryLength;
    private final int maxAnswerLength;
    private final int nBest;
    private final String vocabFile;
    private final List<Graph> graphs = new ArrayList<>(); // ascending by their length
    private final List<ModelFile> models = new ArrayList<>();
    private final List<String> tensors = new ArrayList<>();

    private ModelBundle(Map<?, ?> json) {
        if (!Double.valueOf(SCHEMA_VERSION).equals(json.get("schema_version"))) {
            throw new IllegalArgumentException(
                    "Expected a bundle.json of schema version " + SCHEMA_VERSION + ", got "
                    + json.get("schema_version") + ". A newer one wants newer Java code of mobilebert_kit.");
        }
        Map<?, ?> vocab = get(json, "vocab", Map.class);
        if (!get(vocab, "lowercase", Boolean.class)) {
            throw new IllegalArgumentException(
                    "Expected a vocabulary in lower case, got another. Take an uncased model.");
        }
        sequenceLength = whole(json, "sequence_length");
        docStride = whole(json, "doc_stride");
        maxQueryLength = whole(json, "max_query_length");
        maxAnswerLength = whole(json, "max_answer_length");
        nBest = whole(json, "n_best");
        vocabFile = get(vocab, "file", String.class);
        boolean several = json.get("buckets") != null; // not before the kit wrote them
        for (Object bucket : several ? get(json, "buckets", List.class) : Collections.emptyList()) {
            Map<?, ?> shorter = as(bucket, "an entry of buckets", Map.class);
            graphs.add(new Graph(whole(shorter, "length"), get(shorter, "signature", String.class)));
        }
        graphs.add(new Graph(sequenceLength, get(json, "signature", String.class)));
        for (Object model : get(json, "models", List.class)) {
            models.add(modelFile(as(model, "an entry of models", Map.class)));
        }
        for (String list : new String[] {"inputs", "outputs"}) {
            for (Object tensor : get(json, list, List.class)) {
                tensors.add(get(as(tensor, "an entry of " + list, Map.class), "name", String.class));
            }
        }
        for (List<String> names : TENSOR_NAMES) {
            if (tensor(names.get(0)) == null && !names.get(0).equals(SEGMENTS)) {
                throw new IllegalArgumentException(
                        "Expected a tensor named " + String.join(" or ", names) + " in bundle.json, got "
                                + tensors + ". Export with one of the kit's contracts.");
            }
        }
    }

    /**
     * Reads a bundle.json to its end and closes it.
     *
     * @throws IllegalArgumentException if it is none, of a newer schema, or lacks what an app must have.
     * @throws IOException if it cannot be read.
     */
    public static ModelBundle read(InputStream bundle) throws IOException {
        try (InputStream stream = bundle) {
            return new ModelBundle(as(Json.parse(Vocabulary.utf8(stream)), "bundle.json", Map.class));
        } catch (CharacterCodingException error) {
            throw new IllegalArgumentException(
                    "Expected bundle.json as UTF-8 text, got other bytes. Copy the file again.", error);
        }
    }

    /** In the order to try them. */
    public List<ModelFile> models() {
        return Collections.unmodifiableList(models);
    }

    /** How many tokens the models take; with graphs of several lengths, the longest. */
    public int sequenceLength() {
        return sequenceLength;
    }

    /** The vocabulary's file, relative to bundle.json. */
    public String vocabFile() {
        return vocabFile;
    }

    /**
     * The graph for a window of so many tokens: the first that is longer, else the longest. Longer, for behind
     * the last token MobileBERT sees the [PAD] that it sees at full length.
     */
    Graph graphFor(int tokens) {
        for (Graph graph : graphs) {
            if (graph.length() > tokens) {
                return graph;
            }
        }
        return graphs.get(graphs.size() - 1);
    }

    /** The windows that the models were measured with. */
    public Windows windows(WordPieceTokenizer tokenizer) {
        return new Windows(tokenizer, sequenceLength, docStride, maxQueryLength);
    }

    /** The decoder that the models were measured with. */
    public AnswerDecoder decoder(Vocabulary vocabulary, DecodingRules rules) {
        return new AnswerDecoder(vocabulary, nBest, maxAnswerLength, rules);
    }

    /**
     * What the models call a tensor of the kit's: input_ids, input_mask, segment_ids, start_logits or
     * end_logits. Null where they have no segment_ids, as a DistilBERT.
     */
    public String tensor(String ownName) {
        for (List<String> names : TENSOR_NAMES) {
            for (String tensor : tensors) {
                if (names.get(0).equals(ownName) && names.contains(tensor)) {
                    return tensor;
                }
            }
        }
        return null;
    }

    private static ModelFile modelFile(Map<?, ?> model) {
        return new ModelFile(
                get(model, "delegate", String.class),
                get(model, "file", String.class),
                whole(model, "min_api"),
                model.get("max_api") == null ? null : whole(model, "max_api"),
                model.get("fallback") == null ? null : get(model, "fallback", String.class));
    }

    private static int whole(Map<?, ?> object, String name) {
        Double number = get(object, name, Double.class);
        if (number != Math.rint(number) || number < 1 || number > Integer.MAX_VALUE) {
            throw new IllegalArgumentException(
                    "Expected a whole number from 1 as '" + name + "' in bundle.json, got "
                    + number + ". Make the bundle again.");
        }
        return number.intValue();
    }

    private static <T> T get(Map<?, ?> object, String name, Class<T> type) {
        return as(object.get(name), "'" + name + "' in bundle.json", type);
    }

    private static <T> T as(Object value, String what, Class<T> type) {
        if (!type.isInstance(value)) {
            throw new IllegalArgumentException(
                    "Expected " + what + " to be a " + type.getSimpleName() + ", got " + value
                    + ". Make the bundle again, or copy the file again.");
        }
        return type.cast(value);
    }
}
