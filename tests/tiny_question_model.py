"""A .tflite model of the mlperf contract that is small enough to compute by hand.

start = start_of[ids] + 0.25 * segment_ids + position        end = end_of[ids] + 0.5 * input_mask - position
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (
    "who",
    "what",
    "where",
    "the",
    "was",
    "in",
    "paris",
    "london",
    "steve",
    "smith",
    "red",
    "car",
    "river",
)
VOCAB = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS),
    *"0123456789", *".,?!'()-",
)  # fmt: skip


def write_vocab(folder: Path) -> Path:
    path = folder / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in VOCAB), encoding="utf-8")
    return path


def tables(sequence_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(start_of [V], end_of [V], position [S]), float32, exact in binary so that sums have no rounding."""
    rng = np.random.default_rng(7)
    start_of, end_of = rng.integers(-64, 64, (2, len(VOCAB))) / 16
    position = np.arange(sequence_length) / 4096
    return start_of.astype(np.float32), end_of.astype(np.float32), position.astype(np.float32)


def logits(ids: np.ndarray, mask: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the model gives for one window: (start, end), float32 [S]."""
    start_of, end_of, position = tables(len(ids))
    start = start_of[ids] + np.float32(0.25) * segments + position
    end = end_of[ids] + np.float32(0.5) * mask - position
    return start.astype(np.float32), end.astype(np.float32)


def write_model(
    path: Path, sequence_length: int = 64, *, names: dict[str, str] | None = None, dtype: str = "int32",
    other_signature: bool = False,
) -> Path:  # fmt: skip
    """Convert the model with TensorFlow; `names` renames tensors, `dtype` is that of the inputs."""
    import tensorflow as tf

    name = {key: key for key in ("input_ids", "input_mask", "segment_ids", "start_logits", "end_logits")}
    name |= names or {}
    start_of, end_of, position = tables(sequence_length)

    class Tiny(tf.Module):
        @tf.function
        def answer(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            ids, mask, segments = (inputs[name[key]] for key in ("input_ids", "input_mask", "segment_ids"))
            ids = tf.cast(ids, tf.int32)
            start = tf.gather(start_of, ids) + 0.25 * tf.cast(segments, tf.float32) + position
            end = tf.gather(end_of, ids) + 0.5 * tf.cast(mask, tf.float32) - position
            return {name["end_logits"]: end, name["start_logits"]: start}

        @tf.function
        def double(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"doubled": 2.0 * inputs["x"]}

    module = Tiny()
    shape = [1, sequence_length]
    specs = {
        name[key]: tf.TensorSpec(shape, dtype, name=name[key])
        for key in ("input_ids", "input_mask", "segment_ids")
    }
    functions = [module.answer.get_concrete_function(**specs)]
    signatures = {"serving_default": functions[0]}
    if other_signature:
        functions.append(module.double.get_concrete_function(x=tf.TensorSpec([3], tf.float32, name="x")))
        signatures["double"] = functions[1]
    folder = path.with_suffix(".saved_model")
    tf.saved_model.save(module, str(folder), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=list(signatures))
    path.write_bytes(converter.convert())
    return path
