"""A quantization report as one HTML page that loads nothing: tables, bars of CSS, one curve of SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from mobilebert_kit.html_page import bar, cards, document, in_decibels, section, table

ROWS = 40  # of the ranking; the JSON file has all
SHOWN_POINTS = 16  # more are folded away
Findings = dict[str, Any]


def page(findings: Findings) -> str:
    """The page of what `quant_analysis` found (the content of the JSON file)."""
    title = f"{findings['target']}: where int8's accuracy goes"
    parts = (_summary(findings), _keep(findings), _groups(findings), _layers(findings["layers"]))
    body = "\n".join((*parts, _ranking(findings), _provenance(findings)))
    lead = (
        f"{escape(findings['checkpoint']['name'])}, recipe <code>{escape(findings['recipe'])}</code>; F1 on "
        f"{findings['evaluation']['questions']} questions, noise on {findings['windows_measured']} windows."
    )
    return document(title, lead, body)


def _summary(findings: Findings) -> str:
    file, simulation = findings["file"], findings["simulation"]
    values = (
        (f"{findings['float']['f1']:.2f}", "F1, float"),
        (f"{file['f1']:.2f}", f"F1, {findings['target']} file"),
        (f"{file['f1_drop']:.2f}", "F1 lost"),
        (f"{in_decibels(file['sqnr_db'])} dB", "SQNR of the logits"),
        (f"{file['same_spans']:.0%}", "windows with float's span"),
        (f"{in_decibels(simulation['against_file']['sqnr_db'])} dB", "simulation against the file"),
    )
    return cards(values)


def within_one_question(findings: Findings) -> list[str]:
    """A sentence where F1 can not tell the drop from none; else nothing."""
    drop, questions = findings["file"]["f1_drop"], findings["evaluation"]["questions"]
    if not 0 < abs(drop) <= 100 / questions:
        return []
    return [
        f"A drop of {drop:.2f} is within one question of {questions}, which weighs {100 / questions:.2f}: "
        "take more questions, or trust the logits."
    ]


def _keep(findings: Findings) -> str:
    keep = findings["keep"]
    limit, verified = keep["max_f1_drop"], keep.get("verified")
    doubt = within_one_question(findings)
    if verified is None:
        told = " ".join([f"Nothing: the drop is within {limit:g} F1.", *doubt])
        return section("What to keep in float", told, "", "good")
    told = (
        f"{len(keep['tensors'])} tensors: the file made so has F1 {verified['f1']:.2f}, a drop of "
        f"{verified['f1_drop']:.2f} (asked for: {limit:g} at most)."
    )
    if verified["refused"]:
        told += (
            f" But {findings['delegate']} refuses {verified['refused_nodes']} of its {verified['nodes']} "
            "nodes: this target can not keep them. Training has to help there."
        )
    elif not keep["met"]:
        told += " That is the best found, and not enough: see what the other groups cost, weights above all."
    rows = [
        [
            str(trial["kept"]),
            f"{trial['f1']:.2f}",
            f"{trial['f1_drop']:.2f}",
            in_decibels(trial["sqnr_db"]),
            f"{trial['bytes'] / 1e6:.1f}",
            str(trial["refused_nodes"]),
        ]
        for trial in keep["trials"]
    ]
    head = ("kept", "F1", "F1 lost", "logits, dB", "MB", "nodes refused")
    points = escape("\n".join(keep["float_points"]))
    opened = " open" if len(keep["float_points"]) <= SHOWN_POINTS else ""
    content = (
        f"{table(head, rows, numbers=range(6))}<details{opened}><summary>{len(keep['float_points'])} "
        f"<code>float_points</code> of a recipe</summary><pre>{points}</pre></details>"
    )
    return section(
        "What to keep in float", " ".join([told, *doubt]), content, "good" if keep["met"] else "bad"
    )


def _groups(findings: Findings) -> str:
    def noise(scored: Findings) -> float:
        return 0.0 if scored["sqnr_db"] is None else 10 ** (-scored["sqnr_db"] / 10)

    most = max((noise(row["alone"]) for row in findings["groups"]), default=0.0)
    rows = []
    for row in findings["groups"]:
        scored = [row["alone"], *([row["left_out"]] if "left_out" in row else [])]
        cells = [f"<b>{escape(row['group'])}</b><br><span class=small>{escape(row['meaning'])}</span>"]
        cells += [str(row["tensors"]), bar(noise(row["alone"]), most)]
        cells += [text for one in scored for text in (in_decibels(one["sqnr_db"]), f"{one['f1_drop']:.2f}")]
        rows.append(cells)
    head = (
        "group",
        "tensors",
        "noise alone",
        "logits, dB",
        "F1 lost",
        "without it, dB",
        "F1 lost without it",
    )
    told = (
        "Each group alone in int8, and everything but the group. The bars are the noise of the logits; 3 dB "
        "less are twice the noise. F1 moves by whole questions: with few of them, trust the logits."
    )
    return section("Groups", told, table(head, rows, numbers=(1, 3, 4, 5, 6)))


def _layers(layers: Sequence[Findings]) -> str:
    """A curve of the SQNR of each layer's result."""
    values = [(row["layer"], row["sqnr_db"]) for row in layers if row["sqnr_db"] is not None]
    if not values:
        return ""
    width, height, left, below = 980, 220, 44, 26
    top = max(10.0, 10 * -(-max(value for _, value in values) // 10))
    low = min(0.0, 10 * (min(value for _, value in values) // 10))

    def at(layer: float, value: float) -> tuple[float, float]:
        share = layer / max(1, len(layers) - 1)
        return left + 8 + share * (width - left - 24), 8 + (top - value) / (top - low) * (height - below - 8)

    lines = []
    for value in range(int(low), int(top) + 1, 10):
        y = at(0, value)[1]
        lines.append(f'<path d="M{left} {y:.1f}H{width}" stroke="#dfe5ea"/>')
        lines.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    for layer, value in values:
        x, y = at(layer, value)
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#2f7fb8"/>')
        lines.append(f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{layer}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*pair) for pair in values))
    lines.append(f'<polyline points="{line}" fill="none" stroke="#2f7fb8" stroke-width="2"/>')
    svg = f'<svg viewBox="0 0 {width} {height}" font-size="12" fill="#51606f">{"".join(lines)}</svg>'
    return section("Layer by layer", "SQNR of each layer's result, in dB, of the quantized model.", svg)


def _ranking(findings: Findings) -> str:
    tensors = findings["tensors"][:ROWS]
    most = max((row["logit_noise_share"] for row in tensors), default=0.0)
    rows = [
        [
            f"<code>{escape(row['tensor'])}</code><br><span class=small>{escape(row['group'])}</span>",
            bar(row["logit_noise_share"], most),
            f"{row['logit_noise_share']:.1%}",
            *(in_decibels(row[key]) for key in ("sqnr_own_db", "sqnr_before_db", "sqnr_after_db")),
        ]
        for row in tensors
    ]
    told = (
        f"The {len(rows)} worst of {len(findings['tensors'])}, by what their rounding adds to the noise of "
        "the logits. Own: the tensor, rounded, in the float model. Before and after: the quantized model's "
        "tensor against the float model's, before and after this rounding. Padding does not count."
    )
    head = ("tensor", "noise of the logits", "share", "own, dB", "before, dB", "after, dB")
    return section("Tensors", told, table(head, rows, numbers=(2, 3, 4, 5)))


def _provenance(findings: Findings) -> str:
    checkpoint = findings["checkpoint"]
    rows = [
        ("command", findings["command"]),
        ("checkpoint", f"{checkpoint['format']}, {checkpoint['parameters']:,} parameters"),
        ("sha256 of its tensors", checkpoint["sha256_of_tensors"]),
    ]
    for name in ("calibration", "evaluation"):
        data = findings[name]
        told = f"{data['source']}: {data['questions']} questions, {data['windows']} windows"
        rows += [(name, told), ("sha256 of its questions", data["questions_sha256"])]
    rows.append(("versions", ", ".join(f"{name} {number}" for name, number in findings["versions"].items())))
    cells = [[escape(name), f"<code>{escape(str(value))}</code>"] for name, value in rows]
    return section("Where this comes from", "", table(("", ""), cells))
