"""The sections of report.html on F1, size, latency, and what the delegates take."""

from __future__ import annotations

from html import escape

from mobilebert_kit.html_page import bar, section, table
from mobilebert_kit.report import plots
from mobilebert_kit.report.evidence import Evidence
from mobilebert_kit.targets import FLOAT


def against_float(evidence: Evidence) -> str:
    """Plots of F1, exact match, size and latency; float has a row of its own only where it is a target."""
    made, timings = evidence.manifest["targets"], evidence.latency.timings
    reference, most = evidence.manifest["evaluation"]["float"], evidence.manifest["evaluation"]["max_f1_drop"]
    drawn = []
    for key, title in (("f1", "F1"), ("exact_match", "Exact match")):
        values = {name: target[key] for name, target in made.items()}
        told = {name: f"{value:.2f} ({value - reference[key]:+.2f})" for name, value in values.items()}
        limit = reference[key] - most if key == "f1" and most < reference[key] else None
        drawn.append(plots.dots(f"{title} (float {reference[key]:.2f})", values, told, reference[key], limit))
    sizes = {name: evidence.sizes[name] / 1e6 for name in made}
    whole = evidence.sizes[FLOAT.name] / 1e6
    told = {name: f"{size:.1f} ({size / whole:.2f} x)" for name, size in sizes.items()}
    drawn.append(plots.bars(f"Size, MB (float {whole:.1f})", sizes, told, whole))
    times = {name: timings[name].median for name in made}
    told = {name: f"{times[name]:.1f} ({timings[name].ratio:.2f} x)" for name in made}
    usual = timings[FLOAT.name].median
    drawn.append(plots.bars(f"Latency of a window, ms (float {usual:.1f})", times, told, usual))
    words = (
        "The upright line is the float model. The axes of F1 and exact match are cut; the dashed line is as "
        f"far as F1 was allowed to fall, by {most:g}. Latency: CPU time of one thread, the median of "
        f"{evidence.latency.runs} runs of each file in turn, on the machine that made this "
        f"({evidence.machine}{_load(evidence)}); the factor is the median of each turn's. A file for NNAPI "
        "or a GPU runs on the CPU here, too: how fast a phone runs it, only the phone tells."
    )
    return section("Against float", words, f'<div class="plots">{"".join(drawn)}</div>')


def _load(evidence: Evidence) -> str:
    load = evidence.latency.load
    return "" if load is None else f"; load average {load:.1f}"


def targets(evidence: Evidence) -> str:
    """The same as a table, with the files and the recipes; float first, exported or not."""
    manifest, timings = evidence.manifest, evidence.latency.timings
    float_row = {"file": "not in this folder", "recipe": "", "status": FLOAT.status, "f1_drop": 0.0}
    reference = {FLOAT.name: float_row | manifest["evaluation"]["float"]}
    rows = [
        [
            f"<b>{escape(name)}</b><br><span class=small>{escape(target['status'])}</span>",
            f"<code>{escape(target['file'])}</code><br><span class=small>{escape(target['recipe'])}</span>",
            f"{target['exact_match']:.2f}",
            f"{target['f1']:.2f}",
            f"{target['f1_drop']:.2f}",
            f"{evidence.sizes[name] / 1e6:.1f}",
            f"{timings[name].median:.1f}",
            f"{timings[name].fastest:.1f} - {timings[name].slowest:.1f}",
            f"{timings[name].ratio:.2f}",
        ]
        for name, target in (reference | manifest["targets"]).items()
    ]
    head = ("target", "file", "EM", "F1", "F1 lost", "MB", "ms", "fastest, slowest", "x float")
    return section("Targets", "", table(head, rows, numbers=range(2, 9)))


def delegates(evidence: Evidence) -> str:
    """How much of each file its delegate takes, and what it leaves."""
    rows = []
    for name, target in evidence.manifest["targets"].items():
        if "nodes" not in target:
            told = "not checked: no TFLite delegate runs this file"
            rows.append([escape(name), "", told, "", "", ""])
            continue
        left = ", ".join(f"{count} {op}" for op, count in evidence.left_to_cpu[name].items())
        rows.append(
            [
                escape(name),
                escape(target["delegate"]),
                bar(target["delegated_nodes"], target["nodes"]),
                f"{target['delegated_nodes']} of {target['nodes']}",
                str(target["partitions"]),
                escape(left or "none"),
            ]
        )
    told = (
        "How many nodes of each file its delegate takes, by the kit's rules for it. XNNPACK is the CPU's: "
        "what it leaves are look-ups and conversions that the CPU's other kernels do."
    )
    head = ("target", "delegate", "coverage", "nodes", "partitions", "left to the CPU's own kernels")
    return section("Delegates", told, table(head, rows, numbers=(3, 4)))
