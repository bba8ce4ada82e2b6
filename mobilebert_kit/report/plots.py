"""Plots of HTML and CSS, whose text keeps its size on any screen; and one of SVG, which stretches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#2f7fb8", "#c8661b", "#2e8b57", "#8e5bb5")
STYLE = """
.plots { display: grid; gap: 18px 32px }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)) }
.plot h3 { font-size: 14px; margin: 0 0 4px }
.plot .row { display: grid; grid-template-columns: 74px 1fr 104px; gap: 8px; align-items: center }
.plot .row + .row { margin-top: 3px }
.plot .row span { font-size: 13px; overflow-wrap: anywhere }
.track { position: relative; height: 14px; background: #eef2f5; border-radius: 3px }
.track i { position: absolute; top: 0; bottom: 0 }
.track .fill { left: 0; background: #2f7fb8; border-radius: 3px }
.track .dot { width: 11px; height: 11px; margin: 1.5px 0 0 -5px; border-radius: 6px; background: #2f7fb8 }
.track .at { top: -3px; bottom: -3px; border-left: 2px solid #1c2733 }
.track .limit { top: -3px; bottom: -3px; border-left: 2px dashed #b8432b }
.curves { position: relative; height: 210px; margin: 6px 8px 22px 34px }
.curves svg { position: absolute; width: 100%; height: 100%; overflow: visible }
.curves span { position: absolute; font-size: 12px; color: #51606f }
.curves .y { right: 100%; transform: translateY(50%); padding-right: 6px }
.curves .x { top: 100%; transform: translateX(-50%); padding-top: 2px }
.key { font-size: 13px; margin-right: 16px; white-space: nowrap }
.key i { display: inline-block; width: 12px; height: 12px; border-radius: 6px; margin-right: 5px }
@media (max-width: 600px) { .curves.many .x:not(:nth-of-type(3n + 1)) { display: none } }
"""


def bars(title: str, values: Mapping[str, float], told: Mapping[str, str], reference: float) -> str:
    """A bar each from 0, and a line at `reference`; `told` is each value in words."""
    most = max(*values.values(), reference) or 1.0
    line = _mark("at", reference / most)
    rows = {
        name: f'<i class="fill" style="width:{value / most:.1%}"></i>{line}' for name, value in values.items()
    }
    return _plot(title, rows, told)


def dots(
    title: str, values: Mapping[str, float], told: Mapping[str, str], reference: float, limit: float | None
) -> str:
    """A dot each on an axis that is cut to what there is, lines at `reference` and, dashed, at `limit`."""
    shown = [*values.values(), reference, *([] if limit is None else [limit])]
    low, high = min(shown), max(shown)
    space = (high - low) / 12 or 1.0

    def at(value: float) -> float:
        return (value - low + space) / (high - low + 2 * space)

    lines = _mark("at", at(reference)) + ("" if limit is None else _mark("limit", at(limit)))
    return _plot(title, {name: lines + _mark("dot", at(value)) for name, value in values.items()}, told)


def curves(places: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> str:
    """A curve of dB each over `places`; None leaves a gap. The axis is from 0, or below, to whole tens."""
    known = [value for values in series.values() for value in values if value is not None]
    top = 10 * max(1, int(-(-max(known, default=0.0) // 10)))
    low = min(0, 10 * int(min(known, default=0.0) // 10))
    last = max(1, len(places) - 1)

    def across(number: int) -> float:
        return 100 * number / last

    def down(value: float) -> float:
        return 100 * (top - value) / (top - low)

    drawn, labels, keys = [], [], []
    for value in range(low, top + 1, 10):
        drawn.append(f'<path d="M0 {down(value):.1f}H100" stroke="#dfe5ea"/>')
        labels.append(f'<span class="y" style="bottom:{100 - down(value):.1f}%">{value}</span>')
    for number, place in enumerate(places):
        labels.append(f'<span class="x" style="left:{across(number):.1f}%">{escape(place)}</span>')
    for (name, values), colour in zip(series.items(), _colours(len(series)), strict=True):
        points = [
            f"{across(number):.2f} {down(value):.2f}" if value is not None else None
            for number, value in enumerate(values)
        ]
        joined = zip([None, *points[:-1]], points, strict=True)
        line = "".join(f"{'L' if before else 'M'}{here}" for before, here in joined if here)
        ends = "".join(f"M{here}h0" for here in points if here)  # of no length, with round ends: dots
        drawn.append(f'<path d="{line}" stroke="{colour}" stroke-width="2"/>')
        drawn.append(f'<path d="{ends}" stroke="{colour}" stroke-width="7" stroke-linecap="round"/>')
        keys.append(f'<span class="key"><i style="background:{colour}"></i>{escape(name)}</span>')
    many = " many" if len(places) > 10 else ""
    svg = "".join(drawn).replace("<path ", '<path fill="none" vector-effect="non-scaling-stroke" ')
    return (
        f'<div>{"".join(keys)}</div><div class="curves{many}">'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{svg}</svg>{"".join(labels)}</div>'
    )


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _mark(kind: str, share: float) -> str:
    return f'<i class="{kind}" style="left:{share:.1%}"></i>'


def _plot(title: str, tracks: Mapping[str, str], told: Mapping[str, str]) -> str:
    rows = "".join(
        f'<div class="row"><span>{escape(name)}</span><div class="track">{track}</div>'
        f"<span>{escape(told[name])}</span></div>"
        for name, track in tracks.items()
    )
    return f'<div class="plot"><h3>{escape(title)}</h3>{rows}</div>'
