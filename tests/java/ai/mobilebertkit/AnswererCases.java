package ai.mobilebertkit;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.tensorflow.lite.Delegate;
import org.tensorflow.lite.Interpreter;

/**
 * What QuestionAnswerer makes of a bundle, on stubs of TensorFlow Lite: java AnswererCases FOLDER API
 * REFUSING OFFERED QUESTION_FILE CONTEXT_FILE. REFUSING: delegates that refuse the model, "numbers": NaN as
 * logits; OFFERED: delegates that the app has; both joined by commas. Prints a line on each call of the
 * runtime, then the answer or the error.
 */
public final class AnswererCases implements QuestionAnswerer.Device, Interpreter.Behaviour {
    private final String[] arguments;
    private final List<String> refusing;
    private final List<String> offered;

    private AnswererCases(String[] arguments) {
        this.arguments = arguments;
        refusing = Arrays.asList(arguments[2].split(","));
        offered = Arrays.asList(arguments[3].split(","));
    }

    public static void main(String[] arguments) throws IOException {
        AnswererCases cases = new AnswererCases(arguments);
        Interpreter.behaviour = cases;
        try (QuestionAnswerer answerer = QuestionAnswerer.open(cases)) {
            System.out.println("refused " + answerer.refusals());
            Passage passage = answerer.passage(read(arguments[5]));
            Answer answer = answerer.answer(read(arguments[4]), passage);
            String file = answerer.model().file();
            System.out.println("answered " + file + " " + answer.found() + " " + answer.text());
        } catch (IllegalStateException | IllegalArgumentException error) {
            System.out.println("error " + error.getMessage());
        }
    }

    private static String read(String file) throws IOException {
        return new String(Files.readAllBytes(new File(file).toPath()), StandardCharsets.UTF_8);
    }

    @Override
    public int apiLevel() {
        return Integer.parseInt(arguments[1]);
    }

    @Override
    public int threads() {
        return 3;
    }

    @Override
    public InputStream open(String file) throws IOException {
        return new FileInputStream(new File(arguments[0], file));
    }

    @Override
    public ByteBuffer map(String file) {
        return ByteBuffer.wrap(file.getBytes(StandardCharsets.UTF_8));
    }

    @Override
    public Delegate delegate(String name) {
        return offered.contains(name) ? new Named(name) : null;
    }

    private static final class Named implements Delegate {
        final String name;

        Named(String name) {
            this.name = name;
        }

        @Override
        public long getNativeHandle() {
            return 1;
        }

        @Override
        public void close() {
            System.out.println("closed " + name);
        }
    }

    @Override
    public void create(ByteBuffer model, Interpreter.Options options) {
        List<String> names = new ArrayList<>();
        options.delegates.forEach(delegate -> names.add(((Named) delegate).name));
        String file = StandardCharsets.UTF_8.decode(model.duplicate()).toString();
        System.out.println("created " + file + " " + names + " " + options.threads);
        if (refusing.contains(names.isEmpty() ? "cpu" : names.get(0))) {
            throw new IllegalArgumentException("no driver");
        }
    }

    /** Start logits are the ids modulo 97, end logits modulo 89; both grow a little with the position. */
    @Override
    public void run(Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey) {
        System.out.println("ran " + signatureKey + " " + new TreeMap<>(inputs).keySet());
        int[] mask = ((int[][]) inputs.get("input_mask"))[0];
        int[] ids = ((int[][]) inputs.get("input_ids"))[0];
        float[] starts = ((float[][]) outputs.get("start_logits"))[0];
        float[] ends = ((float[][]) outputs.get("end_logits"))[0];
        for (int i = 0; i < ids.length; i++) {
            starts[i] = refusing.contains("numbers") ? Float.NaN : mask[i] * (ids[i] % 97) + i / 1024f;
            ends[i] = mask[i] * (ids[i] % 89) + i / 1024f;
        }
    }

    @Override
    public void close() {
        System.out.println("closed interpreter");
    }
}
