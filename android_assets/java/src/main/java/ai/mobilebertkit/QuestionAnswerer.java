package ai.mobilebertkit;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.tensorflow.lite.Delegate;
import org.tensorflow.lite.Interpreter;

/**
 * Answers questions with the first model of a bundle that its delegate takes. As TensorFlow Lite's
 * Interpreter, it is for one thread at a time, not the main one, and must be closed.
 */
public final class QuestionAnswerer implements AutoCloseable {
    private static final String CPU = "cpu"; // needs no delegate: XNNPACK is the runtime's default
    private static final float LOWEST = -Float.MAX_VALUE / 2; // of padding that was not computed; two add up

    /** What the app provides. */
    public interface Device {
        /** Build.VERSION.SDK_INT. */
        int apiLevel();

        /** How many threads compute what runs on the CPU. */
        int threads();

        /** A file of the bundle, to be read. */
        InputStream open(String file) throws IOException;

        /** A model of the bundle, memory-mapped: for that it must not be compressed in the APK. */
        ByteBuffer map(String file) throws IOException;

        /** A new delegate, "nnapi" or "gpu", or null where the app has none of that name. */
        Delegate delegate(String name);
    }

    private final ModelBundle bundle;
    private final ModelFile model;
    private final Delegate delegate; // null on the CPU
    private final Interpreter interpreter;
    private final WordPieceTokenizer tokenizer;
    private final List<String> refusals;

    private QuestionAnswerer(
            ModelBundle bundle,
            WordPieceTokenizer tokenizer,
            ModelFile model,
            Device device,
            List<String> refusals)
            throws IOException {
        this.bundle = bundle;
        this.tokenizer = tokenizer;
        this.model = model;
        this.refusals = refusals;
        delegate = model.delegate().equals(CPU) ? null : device.delegate(model.delegate());
        if (delegate == null && !model.delegate().equals(CPU)) {
            throw new UnsupportedOperationException("the app has no such delegate");
        }
        try {
            Interpreter.Options options = new Interpreter.Options();
            options.setNumThreads(device.threads());
            if (delegate != null) {
                options.addDelegate(delegate);
            }
            interpreter = new Interpreter(device.map(model.file()), options);
        } catch (RuntimeException | IOException error) {
            if (delegate != null) {
                delegate.close();
            }
            throw error;
        }
    }

    /**
     * Opens a bundle: tries its models in their order, and keeps the first that works.
     *
     * @throws IllegalArgumentException if bundle.json or the vocabulary is none, or has no model for this
     *     device.
     * @throws IllegalStateException if no model works; it names the reason of each.
     * @throws IOException if a file cannot be read.
     */
    public static QuestionAnswerer open(Device device) throws IOException {
        ModelBundle bundle = ModelBundle.read(device.open("bundle.json"));
        Vocabulary vocabulary = Vocabulary.read(device.open(bundle.vocabFile()));
        WordPieceTokenizer tokenizer = new WordPieceTokenizer(vocabulary);
        List<String> refusals = new ArrayList<>();
        for (ModelFile model : ModelChooser.candidates(bundle, device.apiLevel())) {
            try {
                return new QuestionAnswerer(bundle, tokenizer, model, device, refusals);
            } catch (RuntimeException error) { // what they throw where a driver is missing
                refusals.add(model.delegate() + ": " + error.getMessage());
            }
        }
        throw new IllegalStateException(
                "Expected one model of the bundle to work, got: " + String.join("; ", refusals)
                + ". Bundle the target 'cpu' too.");
    }

    /** The model that answers. */
    public ModelFile model() {
        return model;
    }

    /** The models that did not work before it, "delegate: reason" each. For the log. */
    public List<String> refusals() {
        return Collections.unmodifiableList(refusals);
    }

    /** A text to ask several questions about. */
    public Passage passage(String text) {
        return new Passage(tokenizer, text);
    }

    /**
     * The answer, by run_squad.py's rules. It takes one run of the model for each window of the passage.
     *
     * @throws IllegalArgumentException if the model gives NaN, or the question holds half a surrogate pair.
     */
    public Answer answer(String question, Passage passage) {
        List<Window> windows = bundle.windows(tokenizer).of(question, passage);
        float[][][] logits = logits(windows);
        return decoder().decode(passage, windows, logits[0], logits[1]);
    }

    /** The best answers with their probabilities, the best first; takes as long and throws as `answer`. */
    public List<Candidate> candidates(String question, Passage passage) {
        List<Window> windows = bundle.windows(tokenizer).of(question, passage);
        float[][][] logits = logits(windows);
        return decoder().candidates(passage, windows, logits[0], logits[1]);
    }

    @Override
    public void close() {
        interpreter.close();
        if (delegate != null) {
            delegate.close(); // after the interpreter, which uses it
        }
    }

    private AnswerDecoder decoder() {
        return bundle.decoder(tokenizer.vocabulary(), DecodingRules.OFFICIAL);
    }

    /** The starts, then the ends, of each window. */
    private float[][][] logits(List<Window> windows) {
        float[][][] logits = new float[2][windows.size()][bundle.sequenceLength()];
        for (int i = 0; i < windows.size(); i++) {
            Window window = windows.get(i);
            Graph graph = bundle.graphFor(window.tokens());
            float[][][] run = new float[2][1][graph.length()];
            Map<String, Object> outputs = new HashMap<>();
            outputs.put(bundle.tensor("start_logits"), run[0]);
            outputs.put(bundle.tensor("end_logits"), run[1]);
            interpreter.runSignature(inputs(window, graph.length()), outputs, graph.signature());
            for (int side = 0; side < 2; side++) {
                Arrays.fill(logits[side][i], LOWEST);
                System.arraycopy(run[side][0], 0, logits[side][i], 0, graph.length());
            }
        }
        return logits;
    }

    private Map<String, Object> inputs(Window window, int length) {
        Map<String, Object> inputs = new HashMap<>();
        inputs.put(bundle.tensor("input_ids"), first(length, window.inputIds()));
        inputs.put(bundle.tensor("input_mask"), first(length, window.inputMask()));
        if (bundle.tensor("segment_ids") != null) {
            inputs.put(bundle.tensor("segment_ids"), first(length, window.segmentIds()));
        }
        return inputs;
    }

    private static int[][] first(int length, int[] values) {
        return new int[][] {Arrays.copyOf(values, length)};
    }
}
