"""The attention mask of an integer model: the smallest magnitude that changes no answer.

An additive mask of -10000 would take the whole range of an int8 score. What padding needs is only that
exp(score + mask) vanishes beside the real scores; how little does is measured, on the calibration windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mobilebert_kit.quantize.calibration import Inputs

# Magnitudes in scaled scores. exp(-64) is below the resolution of float32 sums.
CANDIDATES = (6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0, 32.0, 40.0, 48.0, 64.0)

Answer = Callable[[int, np.ndarray, np.ndarray], tuple[int, int]]


def clamp_mask(
    build: Callable[[tf.Variable], tf.Module],
    windows: Sequence[Inputs],
    answer: Answer,
    published: float,
) -> float:
    """The mask value of smallest magnitude among CANDIDATES with which every window keeps its answer.

    Args:
        build: makes the float model with the given mask value.
        windows: the inputs of each window; those without padding cannot change and are passed over.
        answer: (index of a window, start logits [S], end logits [S]) -> the span that answers.
        published: the checkpoint's own mask value, returned where no candidate keeps all answers.
    """
    value = tf.Variable(published, dtype=tf.float32)
    module = build(value)
    names = [spec.name for spec in module.serve.input_signature]

    def span(index: int, mask_value: float) -> tuple[int, int]:
        value.assign(mask_value)
        outputs = module.serve(*(tf.constant(windows[index][name]) for name in names))
        return answer(index, outputs["start_logits"].numpy()[0], outputs["end_logits"].numpy()[0])

    padded = [index for index, window in enumerate(windows) if not window["input_mask"].all()]
    expected = {index: span(index, published) for index in padded}
    for magnitude in CANDIDATES:
        # A window that refutes one magnitude is tried first with the next: most fail at once.
        refuted_by = next((i for i in padded if span(i, -magnitude) != expected[i]), None)
        if refuted_by is None:
            return -magnitude
        padded.remove(refuted_by)
        padded.insert(0, refuted_by)
    return published
