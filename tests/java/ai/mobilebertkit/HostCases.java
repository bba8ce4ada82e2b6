package ai.mobilebertkit;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Answers cases that the host writes, for it to compare: java HostCases KIND FOLDER reads FOLDER/KIND.in and
 * writes FOLDER/KIND.out. Numbers are big-endian; a text is its count of UTF-16 units and these.
 * tools/java_cases.py has the other side.
 */
public final class HostCases {
    private interface Case {
        void answer(DataInputStream in, DataOutputStream out) throws IOException;
    }

    private final File folder;
    private final Map<String, SquadMetric> metrics = new LinkedHashMap<>(); // in the order of first use
    private WordPieceTokenizer tokenizer;

    private HostCases(File folder) {
        this.folder = folder;
    }

    public static void main(String[] arguments) throws IOException {
        HostCases cases = new HostCases(new File(arguments[1]));
        switch (arguments[0]) {
            case "texts":
                cases.answerAll("texts", cases::text);
                break;
            case "questions":
                cases.answerAll("questions", cases::question);
                break;
            case "candidates":
                cases.answerAll("candidates", cases::candidates);
                break;
            case "pairs":
                cases.answerAll("pairs", HostCases::pair);
                break;
            case "files":
                cases.answerAll("files", HostCases::file);
                break;
            case "speed":
                cases.answerAll("speed", cases::speed);
                break;
            default:
                throw new IllegalArgumentException(arguments[0]);
        }
    }

    private void answerAll(String kind, Case each) throws IOException {
        File vocab = new File(folder, "vocab.txt");
        if (vocab.exists()) {
            tokenizer = new WordPieceTokenizer(Vocabulary.read(new FileInputStream(vocab)));
        }
        FileInputStream cases = new FileInputStream(new File(folder, kind + ".in"));
        FileOutputStream answers = new FileOutputStream(new File(folder, kind + ".out"));
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(cases));
                DataOutputStream out = new DataOutputStream(new BufferedOutputStream(answers))) {
            for (int count = in.readInt(); count > 0; count--) {
                each.answer(in, out);
            }
            for (SquadMetric metric : metrics.values()) {
                writeMetric(out, metric);
            }
            if (in.read() >= 0) {
                throw new EOFException("more cases than told");
            }
        }
    }

    /** text -> its basic tokens and its ids; "refused" where it is none. */
    private void text(DataInputStream in, DataOutputStream out) throws IOException {
        String text = readText(in);
        try {
            writeText(out, String.join("\n", BasicTokenizer.tokens(text)));
            writeInts(out, tokenizer.ids(text));
        } catch (IllegalArgumentException error) {
            writeText(out, "refused");
            writeInts(out);
        }
    }

    /**
     * lengths (tokens, stride, query, n best, answer), question, context, right answers, windows, sets of
     * logits (for each a row of starts and of ends for each window) -> the windows, and for each set of
     * logits the answer by each rule. After the last question, the metrics of each set and rule over all of
     * them.
     */
    private void question(DataInputStream in, DataOutputStream out) throws IOException {
        int[] lengths = readInts(in);
        String question = readText(in);
        Passage passage = new Passage(tokenizer, readText(in));
        List<String> truths = readTexts(in);
        Windows cutter = new Windows(tokenizer, lengths[0], lengths[1], lengths[2]);
        List<Window> windows = cutter.of(question, passage);
        out.writeInt(windows.size());
        for (Window window : windows) {
            writeInts(out, window.inputIds());
            writeInts(out, window.inputMask());
            writeInts(out, window.segmentIds());
            int[] words = new int[window.length];
            int[] peaks = new int[window.length];
            for (int i = 0; i < window.length; i++) {
                words[i] = window.word(passage, window.contextStart + i);
                peaks[i] = window.mayStart(window.contextStart + i) ? 1 : 0;
            }
            writeInts(out, words);
            writeInts(out, peaks);
        }
        for (int sets = in.readInt(); sets > 0; sets--) {
            float[][] starts = readRows(in, windows.size(), lengths[0]);
            float[][] ends = readRows(in, windows.size(), lengths[0]);
            for (DecodingRules rules : DecodingRules.values()) {
                AnswerDecoder decoder =
                        new AnswerDecoder(tokenizer.vocabulary(), lengths[3], lengths[4], rules);
                Answer answer = decoder.decode(passage, windows, starts, ends);
                writeText(out, answer.text());
                String key = sets + " " + rules;
                metrics.computeIfAbsent(key, name -> new SquadMetric()).add(answer.text(), truths);
            }
        }
    }

    /** As a question with one set of logits -> its candidates, each with its place in the context, or -1. */
    private void candidates(DataInputStream in, DataOutputStream out) throws IOException {
        int[] lengths = readInts(in);
        String question = readText(in);
        String text = readText(in);
        Passage passage = new Passage(tokenizer, text);
        Windows cutter = new Windows(tokenizer, lengths[0], lengths[1], lengths[2]);
        List<Window> windows = cutter.of(question, passage);
        float[][] starts = readRows(in, windows.size(), lengths[0]);
        float[][] ends = readRows(in, windows.size(), lengths[0]);
        AnswerDecoder decoder =
                new AnswerDecoder(tokenizer.vocabulary(), lengths[3], lengths[4], DecodingRules.OFFICIAL);
        List<Candidate> candidates;
        try {
            candidates = decoder.candidates(passage, windows, starts, ends);
        } catch (IllegalArgumentException error) {
            out.writeInt(-1);
            return;
        }
        out.writeInt(candidates.size());
        for (Candidate candidate : candidates) {
            writeText(out, candidate.text());
            out.writeDouble(candidate.score());
            out.writeDouble(candidate.probability());
            int first = passage.start(candidate.firstWord());
            writeText(out, text.substring(first, passage.end(candidate.lastWord())));
        }
    }

    /** prediction, right answers -> exact match, F1, the app's F1. */
    private static void pair(DataInputStream in, DataOutputStream out) throws IOException {
        SquadMetric metric = new SquadMetric();
        metric.add(readText(in), readTexts(in));
        writeMetric(out, metric);
    }

    /** "vocab", "json" or an API level, the bytes of a file -> what is read in it, or the error. */
    private static void file(DataInputStream in, DataOutputStream out) throws IOException {
        String kind = readText(in);
        byte[] bytes = new byte[in.readInt()];
        in.readFully(bytes);
        try {
            ByteArrayInputStream stream = new ByteArrayInputStream(bytes);
            if (kind.equals("vocab")) {
                writeText(out, Vocabulary.read(stream).size() + " tokens");
            } else if (kind.equals("json")) {
                writeText(out, String.valueOf(Json.parse(new String(bytes, StandardCharsets.UTF_8))));
            } else {
                List<String> files = new ArrayList<>();
                ModelBundle bundle = ModelBundle.read(stream);
                for (ModelFile model : ModelChooser.candidates(bundle, Integer.parseInt(kind))) {
                    files.add(model.delegate() + ":" + model.file());
                }
                writeText(out, String.join(" ", files));
            }
        } catch (IllegalArgumentException error) {
            writeText(out, error.getMessage());
        }
    }

    /** context -> how many words it has, and how many nanoseconds of this thread tokenizing it took. */
    private void speed(DataInputStream in, DataOutputStream out) throws IOException {
        String text = readText(in);
        ThreadMXBean threads = ManagementFactory.getThreadMXBean();
        long before = threads.getCurrentThreadCpuTime();
        Passage passage = new Passage(tokenizer, text);
        out.writeLong(threads.getCurrentThreadCpuTime() - before);
        out.writeLong(passage.words.size());
    }

    private static void writeMetric(DataOutputStream out, SquadMetric metric) throws IOException {
        out.writeDouble(metric.exactMatch());
        out.writeDouble(metric.f1());
        out.writeDouble(metric.appF1());
    }

    private static String readText(DataInputStream in) throws IOException {
        char[] units = new char[in.readInt()];
        for (int i = 0; i < units.length; i++) {
            units[i] = in.readChar();
        }
        return new String(units);
    }

    private static List<String> readTexts(DataInputStream in) throws IOException {
        String[] texts = new String[in.readInt()];
        for (int i = 0; i < texts.length; i++) {
            texts[i] = readText(in);
        }
        return Arrays.asList(texts);
    }

    private static int[] readInts(DataInputStream in) throws IOException {
        int[] values = new int[in.readInt()];
        for (int i = 0; i < values.length; i++) {
            values[i] = in.readInt();
        }
        return values;
    }

    private static float[][] readRows(DataInputStream in, int rows, int columns) throws IOException {
        float[][] values = new float[rows][columns];
        for (float[] row : values) {
            for (int i = 0; i < columns; i++) {
                row[i] = in.readFloat();
            }
        }
        return values;
    }

    private static void writeText(DataOutputStream out, String text) throws IOException {
        out.writeInt(text.length());
        out.writeChars(text);
    }

    private static void writeInts(DataOutputStream out, int... values) throws IOException {
        out.writeInt(values.length);
        for (int value : values) {
            out.writeInt(value);
        }
    }
}
