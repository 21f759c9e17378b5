"""Charts as plain SVG, readable on a light and on a dark page: bars, and marks that were reached or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log2

from benchmarks.marks import Row, Verdict

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _TOP = 860, 340, 120, 20, 10, 56
_STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 } .small { font-size: 11px; fill: #656d76 }
.ours { fill: #1a7f5a } .other { fill: #9aa4ae } .missed { fill: #c4622d }
.line { stroke: #656d76; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .small { fill: #9198a1 } .line { stroke: #9198a1 }
.ours { fill: #3fb98a } .other { fill: #5b6570 } .missed { fill: #e0834f } }
</style>"""


def bars(title: str, values: Mapping[str, float], unit: str) -> str:
    """One horizontal bar for each value, the longest first; Kitaru's stands out."""
    top = max(values.values(), default=1.0)
    ordered = sorted(values.items(), key=lambda item: -item[1])
    parts: list[str] = []
    for place, (name, value) in enumerate(ordered):
        css = "ours" if name.startswith("Kitaru") else "other"
        parts.append(_bar(place, name, value / top, f"{_figure(value)} {unit}", css))
    return _document(title, len(ordered), parts)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def reached(title: str, rows: Sequence[Row]) -> str:
    """For each row with a mark and a value, how much of the mark it reaches; the dashed line is the mark itself.

    The scale is doubling: half of a mark, the mark, twice the mark are equally far apart.
    """
    marked = [row for row in rows if row.reached is not None]
    scale = _WIDTH - _LEFT - _RIGHT
    parts: list[str] = []
    for place, row in enumerate(marked):
        assert row.reached is not None
        share = min(max(log2(max(row.reached, 0.01)) + 3, 0.1), 6) / 6
        css = "ours" if row.verdict is Verdict.MET else "missed"
        parts.append(_bar(place, f"{row.id} {row.what}", share, f"{row.reached:.2f}", css))
    line_x, bottom = _LEFT + scale / 2, _TOP + len(marked) * (_BAR + _GAP)
    parts.append(f'<line class="line" x1="{line_x:.0f}" x2="{line_x:.0f}" y1="{_TOP - 8}" y2="{bottom}"/>')
    parts.append(f'<text class="small" x="{line_x + 4:.0f}" y="{_TOP - 10}">the mark</text>')
    return _document(title, len(marked), parts)


def _bar(place: int, name: str, share: float, label: str, css: str) -> str:
    y = _TOP + place * (_BAR + _GAP)
    length = max(1.0, share * (_WIDTH - _LEFT - _RIGHT))
    shown = name if len(name) <= 44 else name[:43] + "…"
    return (
        f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(shown)}</text>'
        f'<rect class="{css}" x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="3"/>'
        f'<text x="{_LEFT + length + 8:.1f}" y="{y + 15}">{escape(label)}</text>'
    )


def _document(title: str, count: int, parts: Sequence[str]) -> str:
    height = _TOP + count * (_BAR + _GAP) + 14
    frame = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
    return "\n".join([
        f'<svg {frame} role="img" aria-label="{escape(title)}">',
        _STYLE,
        f'<text class="title" x="16" y="26">{escape(title)}</text>',
        *parts,
        "</svg>",
        "",
    ])  # fmt: skip
