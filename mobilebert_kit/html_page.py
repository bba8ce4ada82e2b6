"""What the kit's HTML pages share: one file each, of sections, tables and bars of CSS, for any screen.

A page loads nothing and runs nothing, even where a text in it were not escaped: its policy forbids both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; background: #f5f7f9; margin: 0 }
main { max-width: 1060px; margin: 0 auto; padding: 24px }
h1 { font-size: 26px; line-height: 1.25; margin: 8px 0 0; overflow-wrap: anywhere }
h2 { font-size: 18px; margin: 0 0 4px }
p { margin: 4px 0 10px; color: #51606f }
section, .card { background: #fff; border: 1px solid #dfe5ea; border-radius: 8px }
section { padding: 16px 20px; margin: 16px 0 }
.cards { display: flex; gap: 12px; flex-wrap: wrap; margin: 16px 0 }
.card { flex: 1; min-width: 130px; padding: 10px 14px }
.card b { display: block; font-size: 22px; color: #14507a }
.card span { font-size: 13px; color: #51606f }
.table { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: 13.5px }
th { text-align: left; font-weight: 600; color: #51606f; border-bottom: 2px solid #dfe5ea; padding: 4px 8px }
td { border-bottom: 1px solid #edf1f4; padding: 3px 8px; vertical-align: middle }
.n { text-align: right; font-variant-numeric: tabular-nums }
.small { color: #66747f; font-size: 12.5px }
.bar { background: #e8eef3; border-radius: 3px; min-width: 90px }
.bar i { display: block; height: 11px; border-radius: 3px; background: #2f7fb8 }
code, pre { font: 12.5px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; margin: 0 }
pre { white-space: pre-wrap }
.good { border-left: 5px solid #2e9e5b }
.bad { border-left: 5px solid #c8553d }
@media (max-width: 600px) {
  main { padding: 10px } section { padding: 12px } h1 { font-size: 22px }
  td { min-width: 64px } td:has(code), td:has(.small) { min-width: 150px }
}
@media print { body { background: #fff } section { break-inside: avoid } * { print-color-adjust: exact } }
""".strip()


def document(title: str, lead: str, body: str, style: str = "") -> str:
    """The whole page. `title` is text; `lead` and `body` are HTML; `style` is CSS beyond the shared one."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n{style.strip()}\n</style>\n"
        f"<main>\n<h1>{escape(title)}</h1>\n<p>{lead}</p>\n{body}\n</main>\n</html>\n"
    )


def section(title: str, told: str, content: str, kind: str = "") -> str:
    """`title` and `told` are text, `content` is HTML; `kind` is good, bad or nothing."""
    return f'<section class="{kind}"><h2>{escape(title)}</h2>\n<p>{escape(told)}</p>\n{content}</section>'


def cards(values: Iterable[tuple[str, str]]) -> str:
    """A row of (value, what it is), both text."""
    inner = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in values
    )
    return f'<div class="cards">{inner}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """In a box of its own, which scrolls where the screen is narrow.

    Cells are HTML, those of `head` text, and a row may end early. `numbers`: the columns that are aligned to
    the right.
    """

    def line(cells: Iterable[str], tag: str) -> str:
        kinds = (' class="n"' if column in numbers else "" for column in range(len(head)))
        inner = (f"<{tag}{kind}>{cell}</{tag}>" for cell, kind in zip(cells, kinds, strict=False))
        return f"<tr>{''.join(inner)}</tr>"

    lines = [line(map(escape, head), "th"), *(line(row, "td") for row in rows)]
    return '<div class="table"><table>\n' + "\n".join(lines) + "\n</table></div>"


def bar(value: float, most: float) -> str:
    """As wide as the share of `value` in `most`."""
    share = value / most if most else 0.0
    return f'<div class="bar"><i style="width:{max(share, 0) * 100:.1f}%"></i></div>'


def in_decibels(value: float | None) -> str:
    """For people; None is a ratio without noise."""
    return "exact" if value is None else f"{value:.1f}"
