"""The table for people, and latest.json for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

from benchmarks.marks import Row

_HEADER = ("id", "what", "figure", "ratio", "mark", "")


def table(rows: Sequence[Row]) -> str:
    """All rows in aligned columns; reasons and remarks stand under the row they belong to."""
    cells = [_HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER))]
    lines = [_line(_HEADER, widths), _line(tuple("-" * width for width in widths), widths)]
    for row, line in zip(rows, cells[1:], strict=True):
        lines.append(_line(line, widths))
        if row.note:
            lines += wrap(row.note, 110, initial_indent=" " * (widths[0] + 4), subsequent_indent=" " * (widths[0] + 4))
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.value is None else f"{_number(row.value)} {row.unit}".rstrip()
    return (row.id, row.what, row.figure, ratio, str(row.mark or ""), str(row.verdict))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _number(value: float) -> str:
    if value >= 1000 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def summary(rows: Sequence[Row]) -> str:
    """How many marks there are and how many were met."""
    verdicts = [str(row.verdict) for row in rows if row.mark is not None]
    counts = {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no marks"


def as_json(rows: Sequence[Row], machine: Mapping[str, str | int], run: Mapping[str, float | str | list[float]]) -> bytes:
    """The same figures as one JSON document."""
    document = {
        "machine": machine,
        "run": run,
        "rows": [
            {
                "id": row.id,
                "what": row.what,
                "figure": row.figure,
                "value": _finite(row.value),
                "unit": row.unit,
                "mark": str(row.mark) if row.mark else None,
                "reached": _finite(row.reached),
                "verdict": str(row.verdict),
                "note": row.note,
            }
            for row in rows
        ],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def write(path: Path, data: bytes) -> None:
    """Replace the file in one step."""
    unfinished = path.with_suffix(path.suffix + ".tmp")
    unfinished.write_bytes(data)
    unfinished.replace(path)
