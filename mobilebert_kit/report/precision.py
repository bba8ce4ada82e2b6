"""The sections of report.html on what int8 and float16 do to the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from mobilebert_kit.html_page import in_decibels, section, table
from mobilebert_kit.quantize.half_precision import MASK_POINTS
from mobilebert_kit.quantize.layer_errors import WINDOWS, LayerError
from mobilebert_kit.report import plots
from mobilebert_kit.report.evidence import Evidence

HEADROOM_ROWS = 5  # the manifest has all


def layers(evidence: Evidence) -> str:
    """A curve for each int8 target over the layers, and a table behind a fold."""
    others = [name for name in evidence.manifest["targets"] if name not in evidence.layer_errors]
    not_int8 = f"No activations in int8, so nothing to measure: {', '.join(others)}." if others else ""
    if not evidence.layer_errors:
        return section("Largest quantization errors by layer", not_int8, "")
    windows = min(WINDOWS, evidence.manifest["evaluation"]["windows"])
    by_place = {
        name: {error.place: error for error in errors} for name, errors in evidence.layer_errors.items()
    }
    every = list(dict.fromkeys(place for errors in by_place.values() for place in errors))
    compared = [
        place
        for place in every
        if any(place in errors and errors[place].result_db is not None for errors in by_place.values())
    ]
    series = {
        name: [errors[place].result_db if place in errors else None for place in compared]
        for name, errors in by_place.items()
    }
    chart = plots.curves([place.removeprefix("layer ") for place in compared], series)
    tables = [
        f"<details><summary>{escape(name)}, layer by layer</summary>{_errors(errors.values())}</details>"
        for name, errors in by_place.items()
    ]
    told = (
        f"SQNR in dB of each layer's result in the quantized model, simulated, against the float model's, on "
        f"{windows} windows without padding: 20 dB are an error of a tenth, 40 dB of a hundredth. Below, the "
        "tensor of each layer that its own rounding changes most. What that costs in F1, quant_report tells. "
        f"{not_int8}"
    )
    return section("Largest quantization errors by layer", told, chart + "".join(tables))


def _errors(errors: Iterable[LayerError]) -> str:
    rows = [
        [
            escape(error.place),
            "" if error.result_db is None else in_decibels(error.result_db),
            f"<code>{escape(error.tensor)}</code>",
            in_decibels(error.own_db),
            f"{10 ** (-error.own_db / 20):.1%}",
        ]
        for error in errors
    ]
    head = ("place", "result, dB", "tensor with the largest error of its own", "own, dB", "error")
    return table(head, rows, numbers=(1, 3, 4))


def half_precision(evidence: Evidence) -> str:
    """What is left of float16's range, and what the rounding does to F1."""
    measured = {name: t for name, t in evidence.manifest["targets"].items() if "fp16_headroom" in t}
    others = [name for name in evidence.manifest["targets"] if name not in measured]
    told = "GPUs compute in float16, whose largest number is 65504. The mask's constants are left out."
    if others:
        told += f" Not measured for {', '.join(others)}, which no GPU is to compute."
    rows = []
    for name, target in measured.items():
        simulated, room = target["simulated_fp16"], target["fp16_headroom"]
        activations = {
            point: size for point, size in room["tensors"].items() if not point.endswith(MASK_POINTS)
        }
        factor = "all activations are 0" if room["headroom"] is None else f"{room['headroom']:g} x"
        largest = [
            f"{size:g} <code>{escape(point)}</code>"
            for point, size in list(activations.items())[:HEADROOM_ROWS]
        ]
        rows.append(
            [
                f"<b>{escape(name)}</b>",
                factor,
                "<br>".join(largest),
                f"{simulated['f1']:.2f} ({0 - simulated['f1_drop']:+.2f})",
                escape(simulated["overflow"] or "none"),
                str(simulated["windows_lost"]),
            ]
        )
    head = ("target", "headroom", "largest activations", "F1 simulated", "overflow", "windows lost")
    return section("Headroom in float16", told, table(head, rows, numbers=(3, 5)) if rows else "")
