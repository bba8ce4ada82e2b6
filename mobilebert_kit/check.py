"""Does a phone's GPU, NNAPI or XNNPACK delegate take the whole of a .tflite model? If not: which op, and why?

    python -m mobilebert_kit.check mobilebert_float_384_gpu.tflite --delegate gpu --run
    python -m mobilebert_kit.check model.tflite --delegate nnapi --api 27..34
    python -m mobilebert_kit.check model.tflite --delegate nnapi --feature_level 6 --json

Any .tflite; no TensorFlow. Ends with 3 where a delegate that was asked for does not take the whole model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from math import isfinite
from typing import Any

from absl import flags

from mobilebert_kit.delegates.delegate import DEFAULT_API_LEVEL, DELEGATES, Delegate
from mobilebert_kit.delegates.macs import macs
from mobilebert_kit.delegates.model_card import model_card
from mobilebert_kit.delegates.report import Report
from mobilebert_kit.delegates.summary import headline, refusals, to_json
from mobilebert_kit.delegates.tflite_file import Model, read_tflite
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.main import run
from mobilebert_kit.runtime.accelerator import (
    AcceleratorRun,
    largest_difference,
    model_inputs,
    run_on_accelerator,
)

_DELEGATE = flags.DEFINE_list("delegate", list(DELEGATES), f"Of {', '.join(DELEGATES)}.")
_API = flags.DEFINE_string(
    "api", str(DEFAULT_API_LEVEL), "Android API levels for nnapi: one, several (28,30) or a range (27..34)."
)
_FEATURE_LEVEL = flags.DEFINE_integer(
    "feature_level", None, "For nnapi, instead of --api: the driver's NNAPI feature level, 1 to 8."
)
_RUN = flags.DEFINE_bool(
    "run", False, "Also compile and run the model on LiteRT's GPU accelerator (by software without a GPU)."
)
_RUN_INPUTS = flags.DEFINE_integer("run_inputs", 2, "With --run: how many random inputs.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print the verdict on every node as one JSON object.")


def main(path: str) -> None:
    delegates = _delegates()
    if _RUN.value and "gpu" not in _DELEGATE.value:
        raise InputError(f"Expected --run with --delegate gpu, got --delegate {','.join(_DELEGATE.value)}.")
    model = read_tflite(path)
    counts = [macs(graph) for graph in model.subgraphs]
    ran, difference = _run(model) if _RUN.value else (None, None)
    show = _JsonOutput(model, counts) if _JSON.value else _TextOutput(model, counts)
    refusing = {}
    for delegate in delegates:
        for number in range(len(model.subgraphs)):
            report = delegate.check(model, number)
            show.report(delegate, number, report)
            if not report.whole:
                refusing[str(delegate)] = True
    if ran is not None:
        show.run(ran, difference)
        if not ran.fully_accelerated:
            refusing["LiteRT's GPU accelerator"] = True
    show.end()
    _require_whole(list(refusing), difference)


def _delegates() -> list[Delegate]:
    unknown = [name for name in _DELEGATE.value if name not in DELEGATES]
    if unknown or not _DELEGATE.value:
        raise InputError(
            f"Expected --delegate to be of {', '.join(DELEGATES)}, got {', '.join(unknown) or 'none'}."
        )
    made = []
    for name in dict.fromkeys(_DELEGATE.value):
        if name != "nnapi":
            made.append(Delegate(name))
        elif _FEATURE_LEVEL.value is not None:
            made.append(Delegate(name, feature_level=_FEATURE_LEVEL.value))
        else:
            made += [Delegate(name, api_level=level) for level in _levels(_API.value)]
    return made


def _levels(text: str) -> Iterator[int]:
    """ "30", "28,30", "27..34" -> the levels. InputError for anything else."""
    try:
        for part in text.split(","):
            first, _, last = part.partition("..")
            levels = range(int(first), int(last or first) + 1)
            if not levels:
                raise ValueError("nothing between")
            yield from levels
    except ValueError:
        raise InputError(f"Expected --api to be like 30, 28,30 or 27..34, got {text!r}.") from None


def _run(model: Model) -> tuple[AcceleratorRun, float | None]:
    """The run, and its largest difference to the CPU where it gave outputs."""
    inputs = model_inputs(model, _RUN_INPUTS.value, seed=0)
    ran = run_on_accelerator(model.path, inputs)
    return ran, largest_difference(ran, model.path, inputs) if ran.outputs else None


class _TextOutput:
    """Prints as it goes: a hostile file may have many nodes, and be asked of many levels."""

    def __init__(self, model: Model, counts: list[tuple[int, ...]]):
        self._several, self._counts = len(model.subgraphs) > 1, counts
        nodes = sum(len(graph.nodes) for graph in model.subgraphs)
        graphs = f" in {len(model.subgraphs)} graphs" if self._several else ""
        print(
            f"{model.path}: {nodes} nodes{graphs}, {sum(map(sum, counts)) / 1e9:.3g} G multiply-accumulates"
        )
        print(model_card(model))

    def report(self, delegate: Delegate, number: int, report: Report) -> None:
        where = f", subgraph {number}" if self._several else ""
        print(f"{delegate}{where}: {headline(report, self._counts[number])}")
        if not report.whole:
            print(refusals(report))

    def run(self, ran: AcceleratorRun, difference: float | None) -> None:
        whole = "fully accelerated" if ran.fully_accelerated else "not fully accelerated"
        print(f"LiteRT's GPU accelerator, run on {ran.device or 'no device'}: {whole}")
        for refusal in ran.refusals:
            count = f" ({refusal.nodes} nodes)" if refusal.nodes else ""
            print(f"  refuses {refusal.op}{count}: {refusal.reason or 'without a reason'}")
        if ran.failure:
            print(f"  {ran.failure}")
        if difference is not None:
            print(f"  largest difference to the CPU's outputs {difference:.2g} ({ran.precision})")

    def end(self) -> None:
        pass


class _JsonOutput:
    """One object at the end: an entry of `reports` per delegate, level and subgraph."""

    def __init__(self, model: Model, counts: list[tuple[int, ...]]):
        self._counts = counts
        self._object: dict[str, Any] = {
            "model": str(model.path),
            "macs": sum(map(sum, counts)),
            **asdict(model_card(model)),
            "reports": [],
            "run": None,
        }

    def report(self, delegate: Delegate, number: int, report: Report) -> None:
        self._object["reports"].append(
            {
                "delegate": delegate.name,
                "level": str(delegate),
                "api_level": delegate.api_level,
                "feature_level": delegate.feature_level,
                "subgraph": number,
                **to_json(report, self._counts[number]),
            }
        )

    def run(self, ran: AcceleratorRun, difference: float | None) -> None:
        finite = difference is not None and isfinite(difference)
        self._object["run"] = {
            "device": ran.device,
            "precision": ran.precision,
            "fully_accelerated": ran.fully_accelerated,
            "refusals": [asdict(refusal) for refusal in ran.refusals],
            "failure": ran.failure,
            "messages": list(ran.messages),
            "largest_difference": difference if finite else None,
        }

    def end(self) -> None:
        print(json.dumps(self._object, allow_nan=False))


def _require_whole(refusing: list[str], difference: float | None) -> None:
    """CheckFailed where a delegate, or the accelerator when run, does not take the whole model."""
    if refusing:
        raise CheckFailed(
            f"Expected the whole model to be delegated, got nodes that {'; '.join(refusing)} would not run. "
            "A fix beside a node names the lowering of this kit that makes another form of it; --delegate "
            "asks for fewer delegates."
        )
    if difference is not None and not isfinite(difference):
        raise CheckFailed(
            "Expected the GPU's outputs to be finite where the CPU's are, got a NaN or an infinity. Does an "
            "activation overflow?"
        )


if __name__ == "__main__":
    run(main, arguments=("MODEL.tflite",))
