package org.tensorflow.lite;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * A stub of TensorFlow Lite's class: the calls that the Java code makes, answered by `Interpreter.behaviour`.
 */
public final class Interpreter implements AutoCloseable {
    /** What a test wants the runtime to do. */
    public interface Behaviour {
        /** Throws where a delegate refuses the model. */
        void create(ByteBuffer model, Options options);

        void run(Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey);

        void close();
    }

    public static Behaviour behaviour;

    /** A stub of its options. */
    public static class Options {
        public final List<Delegate> delegates = new ArrayList<>();
        public int threads = -1;

        public Options addDelegate(Delegate delegate) {
            delegates.add(delegate);
            return this;
        }

        public Options setNumThreads(int numThreads) {
            threads = numThreads;
            return this;
        }
    }

    public Interpreter(ByteBuffer model, Options options) {
        behaviour.create(model, options);
    }

    public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey) {
        behaviour.run(inputs, outputs, signatureKey);
    }

    @Override
    public void close() {
        behaviour.close();
    }
}
