"""gelu for delegates that have no GELU: x times a sigmoid, whose argument is an odd polynomial of x.

    before:  x * (1 + erf(x / sqrt 2)) / 2                             gelu, GELU
             x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2     gelu_tanh, GELU
    after:   s = min(x^2, 49)                                          MUL, MINIMUM
             x * sigmoid(x * (a + b s + c s^2))                        2 x (MUL, ADD), MUL, LOGISTIC, MUL

(1 + tanh(z)) / 2 is sigmoid(2 z), so gelu_tanh is of this form, with c = 0: ULP. gelu is not; its polynomial
is the one of degree 5 whose largest difference is least. Claim: 2.6e-5 from gelu at most, for any x. Beyond
7, where gelu is x or 0 to 1e-11, the polynomial goes on as a straight line: its last coefficient would turn
it round.

The coefficients of gelu: minimax by Lawson's reweighted least squares over (0, 9].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

EXACT = (1.5950158, 0.0740113, -0.00070303)
TANH = (2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715)
LARGEST_SQUARE = 49.0


def sigmoid_gelu(x: tf.Tensor, coefficients: Sequence[float]) -> tf.Tensor:
    """x of any shape -> the same; `coefficients` of x, x^3, ... are EXACT or TANH."""
    square = tf.minimum(x * x, LARGEST_SQUARE)
    slope = square * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        slope = slope * square + coefficient
    return x * tf.sigmoid(x * slope)
