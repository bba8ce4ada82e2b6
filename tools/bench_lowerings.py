"""What each form of the graph is worth: MobileBERT lowered in other ways, on LiteRT's CPU, float32.

    python tools/bench_lowerings.py --output lowerings.json

Each variant differs from the `float` target in one thing: something that the target folds is left unfolded,
or something that it does not fold yet is folded. All are MobileBERTs of the published width with random
weights, all run in turns on one window, one thread; a ratio is the median over the rounds of a variant's CPU
time over the float target's in the same round. What is said to be the same model is proven to be.
"""

from __future__ import annotations

import os
import time

import numpy as np
from absl import flags
from benchmark_report import publish

from mobilebert_kit.contract import MLPERF
from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.main import run

SHIPPED, PLAIN = "as shipped", "the converter's, of a plain MobileBERT"
TOLERANCE = 1e-4  # of logits, between forms of one model

_LAYERS = flags.DEFINE_integer("num_hidden_layers", 4, "Of 24: a ratio hardly depends on it.", lower_bound=1)
_LENGTH = flags.DEFINE_integer("max_seq_length", 384, "Tokens of the window.", lower_bound=2)
_ROUNDS = flags.DEFINE_integer("rounds", 40, "Runs of each.", lower_bound=3)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    models = build(_LAYERS.value, _LENGTH.value)
    times, differences = take_turns(models, _ROUNDS.value)
    results = [
        {
            "variant": name,
            "ratio": float(np.median(np.divide(times[name], times[SHIPPED]))),
            "median_ms": float(np.median(times[name]) * 1e3),
            "logit_difference": differences[name],
        }
        for name in models
    ]
    publish(
        f"Forms of {_LAYERS.value} layers of MobileBERT, {_LENGTH.value} tokens, {_ROUNDS.value} rounds",
        ("variant", "CPU time, of the shipped", "median, ms", "the same model"),
        [
            (
                result["variant"],
                f"{result['ratio']:.3f}",
                f"{result['median_ms']:.1f}",
                f"to {result['logit_difference']:.1e}" if result["logit_difference"] <= TOLERANCE else "no",
            )
            for result in results
        ],
        [],
        {"results": results},
        _OUTPUT.value,
    )


def build(layers: int, length: int) -> dict[str, bytes]:
    """Each variant's .tflite, of the same random weights."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from lowering_variants import VARIANTS  # TensorFlow takes seconds: after the flags are known good
    from plain_mobilebert import convert_plain

    from mobilebert_kit.models.config import MobileBertConfig
    from mobilebert_kit.models.serving import serving_module
    from mobilebert_kit.quantize.conversion import convert
    from mobilebert_kit.quantize.recipes import W32_A32

    raw = {"model_type": "mobilebert", "vocab_size": 1000, "num_hidden_layers": layers}
    config = MobileBertConfig.from_huggingface(raw, source="the flags")
    chance = np.random.default_rng(0)
    weights = {
        name: (chance.normal(1, 0.1, shape) if name.endswith("/gamma") else chance.normal(0, 0.03, shape))
        for name, shape in config.variable_shapes().items()
    }
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    models = {}
    for name, lowering in VARIANTS.items():
        module = serving_module(config, weights, lowering=lowering, contract=MLPERF, sequence_length=length)
        models[name] = convert(module, W32_A32)
    return models | {PLAIN: convert_plain(config, weights, MLPERF, length)}


def take_turns(models: dict[str, bytes], rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """CPU seconds of each run behind a first, and the largest difference to the shipped logits."""
    from ai_edge_litert.interpreter import Interpreter

    runners = {}
    for name, model in models.items():
        interpreter = Interpreter(model_content=model, num_threads=1)
        runners[name] = interpreter.get_signature_runner("serving_default")
    length = runners[SHIPPED].get_input_details()["input_ids"]["shape"][1]
    window = {
        "input_ids": np.random.default_rng(1).integers(0, 1000, (1, length), np.int32),
        "input_mask": np.ones((1, length), np.int32),
        "segment_ids": np.zeros((1, length), np.int32),
    }
    expected = runners[SHIPPED](**window)
    differences = {
        name: max(float(np.abs(logits[key] - expected[key]).max()) for key in expected)
        for name, runner in runners.items()
        for logits in [runner(**window)]
    }
    if differences[PLAIN] > TOLERANCE:
        raise CheckFailed(
            f"Expected the plain model to be the same within {TOLERANCE:g}, got {differences[PLAIN]:.2g}."
        )
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, runner in runners.items():
            began = time.process_time()
            runner(**window)
            times[name].append(time.process_time() - began)
    return times, differences


if __name__ == "__main__":
    run(main)
