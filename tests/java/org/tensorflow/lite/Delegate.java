package org.tensorflow.lite;

import java.io.Closeable;

/** A stub of TensorFlow Lite's interface, as far as the Java code calls it. */
public interface Delegate extends Closeable {
    long getNativeHandle();

    @Override
    default void close() {}
}
