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
    reports = [
        (delegate, number, delegate.check(model, number))
        for delegate in delegates
        for number in range(len(model.subgraphs))
    ]
    ran, difference = _run(model) if _RUN.value else (None, None)
    if _JSON.value:
        print(json.dumps(_as_json(model, counts, reports, ran, difference), allow_nan=False))
    else:
        print("\n".join(_as_text(model, counts, reports, ran, difference)))
    _require_whole(reports, ran, difference)


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


Reports = list[tuple[Delegate, int, Report]]


def _run(model: Model) -> tuple[AcceleratorRun, float | None]:
    """The run, and its largest difference to the CPU where it gave outputs."""
    inputs = model_inputs(model, _RUN_INPUTS.value, seed=0)
    ran = run_on_accelerator(model.path, inputs)
    return ran, largest_difference(ran, model.path, inputs) if ran.outputs else None


def _as_text(
    model: Model,
    counts: list[tuple[int, ...]],
    reports: Reports,
    ran: AcceleratorRun | None,
    difference: float | None,
) -> Iterator[str]:
    nodes = sum(len(graph.nodes) for graph in model.subgraphs)
    yield f"{model.path}: {nodes} nodes, {sum(map(sum, counts)) / 1e9:.3g} G multiply-accumulates"
    for delegate, number, report in reports:
        where = f", subgraph {number}" if len(model.subgraphs) > 1 else ""
        yield f"{delegate}{where}: {headline(report, counts[number])}"
        if not report.whole:
            yield refusals(report)
    if ran is not None:
        yield from _run_as_text(ran, difference)


def _run_as_text(ran: AcceleratorRun, difference: float | None) -> Iterator[str]:
    whole = "fully accelerated" if ran.fully_accelerated else "not fully accelerated"
    yield f"LiteRT's GPU accelerator, run on {ran.device or 'no device'}: {whole}"
    for refusal in ran.refusals:
        count = f" ({refusal.nodes} nodes)" if refusal.nodes else ""
        yield f"  refuses {refusal.op}{count}: {refusal.reason or 'without a reason'}"
    if ran.failure:
        yield f"  {ran.failure}"
    if difference is not None:
        yield f"  largest difference to the CPU's outputs {difference:.2g} ({ran.precision})"


def _as_json(
    model: Model,
    counts: list[tuple[int, ...]],
    reports: Reports,
    ran: AcceleratorRun | None,
    difference: float | None,
) -> dict[str, Any]:
    """One entry of `reports` per delegate, level and subgraph; a difference that is infinite is null."""
    return {
        "model": str(model.path),
        "macs": sum(map(sum, counts)),
        "reports": [
            {
                "delegate": delegate.name,
                "level": str(delegate),
                "api_level": delegate.api_level,
                "feature_level": delegate.feature_level,
                "subgraph": number,
                **to_json(report, counts[number]),
            }
            for delegate, number, report in reports
        ],
        "run": None
        if ran is None
        else {
            "device": ran.device,
            "precision": ran.precision,
            "fully_accelerated": ran.fully_accelerated,
            "refusals": [asdict(refusal) for refusal in ran.refusals],
            "failure": ran.failure,
            "messages": list(ran.messages),
            "largest_difference": difference if difference is None or isfinite(difference) else None,
        },
    }


def _require_whole(reports: Reports, ran: AcceleratorRun | None, difference: float | None) -> None:
    """CheckFailed where a delegate, or the accelerator when run, does not take the whole model."""
    refusing = list(dict.fromkeys(str(delegate) for delegate, _, report in reports if not report.whole))
    if ran is not None and not ran.fully_accelerated:
        refusing.append("LiteRT's GPU accelerator")
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
