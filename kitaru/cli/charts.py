"""Statistics as charts of characters: bars by group, lines over time. Only what is asked for draws plotext in."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import NamedTuple, Protocol, cast

from kitaru.cli.output import tell
from kitaru.domain.errors import KitaruFeatureNotAvailableError

_MOST_BARS, _MOST_LINES, _MOST_TICKS = 40, 6, 5
_LABEL_CHARS = 32
_WIDEST, _LINES_HEIGHT = 120, 18
_FRAME = 4
"""Rows of a chart besides what is drawn: title, two edges, numbers."""


class Chart(NamedTuple):
    """One number of every group: labels as they are shown, `times` as text where time is grouped by."""

    title: str
    labels: Sequence[str]
    times: Sequence[str] | None
    values: Sequence[float | int | None]


class _Figure(Protocol):
    """What is used of plotext, which has no types."""

    def clear(self) -> object: ...
    def theme(self, name: str) -> object: ...
    def plot_size(self, width: int, height: int) -> object: ...
    def title(self, label: str) -> object: ...
    def bar(self, *args: object, orientation: str, width: float) -> object: ...
    def signal(self, *args: object, marker: str) -> _Line: ...
    def draw(self, signal: object) -> object: ...
    def ruler(self, axis: str) -> _Ruler: ...
    def build(self) -> _Matrix: ...


class _Line(Protocol):
    def lines(self) -> object: ...
    def label(self, label: str) -> object: ...


class _Ruler(Protocol):
    def lim(self, lower: float, upper: float) -> object: ...
    def ticks(self, positions: Sequence[float], labels: Sequence[str]) -> object: ...


class _Matrix(Protocol):
    def string(self, colorless: bool) -> str: ...


def check() -> None:
    """Raise KitaruFeatureNotAvailableError when what draws charts is not installed."""
    _figure()


def draw(charts: Sequence[Chart]) -> None:
    """Print the charts. Raises KitaruFeatureNotAvailableError as `check` does."""
    figure = _figure()
    width = max(40, min(shutil.get_terminal_size().columns, _WIDEST))
    is_coloured = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
    for place, chart in enumerate(charts):
        figure.clear()
        figure.theme("simple")
        figure.title(chart.title)
        drawn = _lines(figure, chart, width) if chart.times is not None else _bars(figure, chart, width)
        if not drawn:
            tell(f"{chart.title}: there is no number to draw")
            continue
        print("\n" * bool(place) + "\n".join(line.rstrip() for line in figure.build().string(not is_coloured).splitlines()))


def _figure() -> _Figure:
    try:
        import plotext  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise KitaruFeatureNotAvailableError(
            "--plot draws with plotext, which is not installed; in Kitaru's folder: pip install '.[plot]'",
            code="extra-missing",
        ) from None
    return cast("_Figure", cast("ModuleType", plotext).figure)


def _bars(figure: _Figure, chart: Chart, width: int) -> bool:
    """A bar for each group, in their order from the top."""
    found = [(label, value) for label, value in zip(chart.labels, chart.values, strict=True) if _is_drawable(value)]
    if not found:
        return False
    if len(found) > _MOST_BARS:
        tell(f"{chart.title}: the first {_MOST_BARS} of {len(found)} are drawn")
    shown = found[:_MOST_BARS][::-1]
    places, values = list(range(1, len(shown) + 1)), [value for _, value in shown]
    figure.plot_size(width, len(shown) + _FRAME)
    figure.draw(figure.bar(places, values, orientation="h", width=0.1))
    figure.ruler("y").lim(0.5, len(shown) + 0.5)
    figure.ruler("y").ticks(places, [_cut(label) for label, _ in shown])
    figure.ruler("x").lim(*_span(cast("list[float]", values)))
    return True


def _lines(figure: _Figure, chart: Chart, width: int) -> bool:
    """A line over time for each of the largest groups that the other keys make."""
    series: dict[str, list[tuple[float, float]]] = {}
    moments: Mapping[float, str] = {_seconds(text): text for text in chart.times or ()}
    for label, text, value in zip(chart.labels, chart.times or (), chart.values, strict=True):
        if _is_drawable(value):
            series.setdefault(label, []).append((_seconds(text), float(cast("float", value))))
    if not series:
        return False
    largest = sorted(series, key=lambda label: -sum(value for _, value in series[label]))
    if len(largest) > _MOST_LINES:
        tell(f"{chart.title}: the {_MOST_LINES} largest of {len(largest)} are drawn")
    figure.plot_size(width, _LINES_HEIGHT)
    for label in largest[:_MOST_LINES]:
        line = figure.signal([moment for moment, _ in series[label]], [value for _, value in series[label]], marker="hd")
        line.lines()
        if len(series) > 1:
            line.label(_cut(label))
        figure.draw(line)
    figure.ruler("y").lim(*_span([value for label in largest[:_MOST_LINES] for _, value in series[label]]))
    known = sorted(moments)
    step = max(1, math.ceil(len(known) / _MOST_TICKS))
    figure.ruler("x").ticks(known[::step], [moments[moment] for moment in known[::step]])
    return True


def _span(values: Sequence[float]) -> tuple[float, float]:
    """From 0, or from below it, to the greatest."""
    least, greatest = min(0.0, *values), max(0.0, *values)
    return least, greatest if greatest > least else least + 1


def _is_drawable(value: float | None) -> bool:
    return value is not None and abs(value) < 1e300


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _cut(label: str) -> str:
    return label if len(label) <= _LABEL_CHARS else f"{label[: _LABEL_CHARS - 1]}…"
