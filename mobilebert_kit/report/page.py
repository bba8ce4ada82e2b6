"""report.html: an export or a bundle on one page that loads nothing."""

from __future__ import annotations

from html import escape
from pathlib import Path

from mobilebert_kit.html_page import cards, document, section, table
from mobilebert_kit.report import plots
from mobilebert_kit.report.answer_cards import STYLE as ANSWER_STYLE
from mobilebert_kit.report.answer_cards import answers
from mobilebert_kit.report.evidence import Evidence
from mobilebert_kit.report.performance import against_float, delegates, targets
from mobilebert_kit.report.precision import half_precision, layers
from mobilebert_kit.targets import FLOAT

NAME = "report.html"


def write_page(folder: Path, evidence: Evidence) -> None:
    """`folder`/report.html; one that is there is replaced."""
    # What no UTF-8 can hold, of an argument that was none, becomes a character reference.
    (folder / NAME).write_bytes(page(evidence).encode("utf-8", "xmlcharrefreplace"))


def page(evidence: Evidence) -> str:
    """The page, whole."""
    manifest = evidence.manifest
    family = manifest["checkpoint"]["config"].get("model_type", "mobilebert")
    title = f"{family} question answering: {', '.join(manifest['targets'])}"
    evaluation = manifest["evaluation"]
    lead = (
        f"Made {escape(evidence.date)}; scored on {evaluation['questions']} questions of "
        f"<bdi>{escape(evaluation['source'])}</bdi>, each target against the float model."
    )
    parts = (
        _summary,
        against_float,
        targets,
        delegates,
        layers,
        half_precision,
        answers,
        _provenance,
    )
    body = "\n".join(part(evidence) for part in parts)
    return document(title, lead, body, plots.STYLE + ANSWER_STYLE)


def _summary(evidence: Evidence) -> str:
    every, answered = evidence.manifest["targets"], evidence.answers
    made = {name: target for name, target in every.items() if name != FLOAT.name} or every
    smallest = min(made, key=evidence.sizes.__getitem__)
    fastest = min(made, key=lambda name: evidence.latency.timings[name].ratio)
    worst = max(made, key=lambda name: made[name]["f1_drop"])
    return cards(
        (
            (f"{evidence.manifest['evaluation']['float']['f1']:.2f}", "F1 of the float model"),
            (f"{made[worst]['f1_drop']:.2f}", f"most F1 lost: {worst}"),
            (f"{evidence.sizes[smallest] / 1e6:.1f} MB", f"smallest: {smallest}"),
            (
                f"{evidence.latency.timings[fastest].ratio:.2f} x",
                f"float's time, the fastest here: {fastest}",
            ),
            (f"{answered.differ} of {answered.questions}", "questions that a target answers otherwise"),
        )
    )


def _provenance(evidence: Evidence) -> str:
    manifest = evidence.manifest
    checkpoint = manifest["checkpoint"]
    rows = [
        ("command", manifest["command"] or "none: made from Python"),
        ("date", evidence.date),
        ("machine", evidence.machine),
        ("checkpoint", f"{checkpoint['format']}, {checkpoint['parameters']:,} parameters"),
        ("sha256 of its tensors", checkpoint["sha256_of_tensors"]),
    ]
    for name in ("calibration", "evaluation"):
        data = manifest[name]
        if data is None:
            rows.append((name, "none: no target needed it"))
            continue
        rows.append((name, f"{data['source']}: {data['questions']} questions, {data['windows']} windows"))
        rows.append(("sha256 of its questions", data["questions_sha256"]))
    rows.append(("versions", ", ".join(f"{name} {number}" for name, number in manifest["versions"].items())))
    cells = [[escape(name), f"<code>{escape(value)}</code>"] for name, value in rows]
    files = [
        [f"<code>{escape(name)}</code>", f"{entry['bytes']:,}", f"<code>{entry['sha256']}</code>"]
        for name, entry in manifest["files"].items()
    ]
    listed = table(("file", "bytes", "sha256"), files, numbers=(1,))
    return section("Where this comes from", "", f"{table(('', ''), cells)}<br>{listed}")
