"""P8, P9, P11 and P13: statistics and export of a population, beside bare DuckDB over ideal native columns.

The stores are built once and kept (benchmarks.population.cache); whoever changes one works on a copy.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders.questions import OF_THE_MARK, QUESTIONS, Rows, are_equal
from benchmarks.marks import Row, at_most
from benchmarks.population.cache import store_of
from benchmarks.population.columns import columns_of
from benchmarks.rounds import ROOT, ContenderError, Plan, Series, python, take_turns
from benchmarks.setting import Setting

IDS = ("P8", "P9", "P11", "P13")
CHANGED = 10_000
OURS, BARE, AFTER = "Kitaru", "bare DuckDB", "Kitaru, changed"
_TURN_SECONDS = 0.1
"""About how long one turn of the bare baseline is to take."""
_BARE_SECONDS = 4e-9
"""Rough seconds of a bare question for each execution: only the counts depend on it."""


def measure(setting: Setting, wanted: frozenset[str]) -> list[Row]:
    """The rows of all sizes."""
    rows: list[Row] = []
    for size in setting.populations:
        store = store_of(size)
        ask(store, ["status"])  # builds the base, if it is not there
        if "P8" in wanted:
            rows += compare(setting, store, columns_of(store), size)
        if "P9" in wanted:
            rows += _changed(setting, store, columns_of(store), size)
        if "P11" in wanted:
            rows.append(_export(setting, store, columns_of(store), size))
        if "P13" in wanted:
            rows.append(_memory(store, size))
    return rows


def compare(setting: Setting, store: Path, columns: Path, size: int) -> list[Row]:
    """Every question, to the client and to bare DuckDB; their answers have to be the same."""
    rows: list[Row] = []
    _check(f"over {size:,}", ask(store, QUESTIONS), _answers("bare_duckdb", columns, "--answers", *QUESTIONS))
    for name in QUESTIONS:
        series = _turns(setting, f"p8-{size}", size, {OURS: (store, name), BARE: (columns, name)})
        mark = at_most(2) if name in OF_THE_MARK else None
        what = f"statistics over {size:,}: {name}"
        figure = f"{series.seconds(OURS) * 1000:.2f} ms, bare {series.seconds(BARE) * 1000:.2f} ms"
        ratio = series.cost_ratio(OURS, BARE)
        rows.append(Row("P8", what, figure, ratio, "x bare DuckDB", mark, rate=ratio))
    return rows


def _changed(setting: Setting, store: Path, columns: Path, size: int) -> list[Row]:
    """Each question of the mark again, on a copy in which executions changed since the base was built.

    Its answers have to be those over the native columns, with the tag counted in that the changes added.
    """
    room = setting.room(f"p9-{size}")
    copy = room / "store"
    shutil.copytree(store, copy)
    changed = min(CHANGED, size // 10)
    _run(python("benchmarks.contenders.change", copy, changed), {"KITARU_DURABILITY": "os"})
    rows: list[Row] = []
    with _no_next_base(copy):
        expected = _answers("bare_duckdb", columns, "--answers-after", changed, *QUESTIONS)
        _check(f"over {size:,} with {changed:,} changed", ask(copy, QUESTIONS), expected)
        for name in OF_THE_MARK:
            series = _turns(setting, f"p9-{size}", size, {OURS: (store, name), AFTER: (copy, name)})
            what = f"{changed:,} of {size:,} changed since the base: {name}"
            figure = f"{series.seconds(AFTER) * 1000:.2f} ms, before {series.seconds(OURS) * 1000:.2f} ms"
            rows.append(Row("P9", what, figure, series.cost_ratio(AFTER, OURS), "x P8", at_most(2)))
        shutil.rmtree(room)
    return rows


@contextmanager
def _no_next_base(store: Path) -> Generator[None]:
    """Hold the builders' lock: who would build the next base waits, until there is nothing left to build."""
    descriptor = os.open(store / "statistics" / "build.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _export(setting: Setting, store: Path, columns: Path, size: int) -> Row:
    """An export beside a COPY; before the first round the files of both are compared."""
    room = setting.room(f"p11-{size}")
    plans = [
        Plan(OURS, python("benchmarks.contenders.exports", store, room / "ours", "kitaru", columns), 1),
        Plan(BARE, python("benchmarks.contenders.exports", store, room / "bare", "bare", columns), 1),
    ]
    series = take_turns(plans, setting.rounds, room)
    shutil.rmtree(room)
    figure = f"{series.seconds(OURS):.2f} s, bare {series.seconds(BARE):.2f} s"
    ratio = series.cost_ratio(OURS, BARE)
    return Row("P11", f"Parquet export of {size:,} executions", figure, ratio, "x bare COPY", at_most(1.5))


def _memory(store: Path, size: int) -> Row:
    said = _run(python("benchmarks.contenders.statistics", store, "--peak"))
    peak = int(said.split()[-1]) / 1024
    return Row("P13", f"statistics over {size:,}", f"{peak:.0f} MiB", peak, "MiB at the peak", at_most(300))


def _turns(setting: Setting, room: str, size: int, who: dict[str, tuple[Path, str]]) -> Series:
    count = max(2, min(100, round(_TURN_SECONDS / (_BARE_SECONDS * size + 0.0005))))
    plans = [
        Plan(name, python(f"benchmarks.contenders.{_module(name)}", store, question), count)
        for name, (store, question) in who.items()
    ]
    return take_turns(plans, setting.rounds, setting.room(room))


def _module(name: str) -> str:
    return "bare_duckdb" if name == BARE else "statistics"


def ask(store: Path, questions: Iterable[str]) -> list[Rows]:
    """The client's answers."""
    return _answers("statistics", store, "--answers", *questions)


def _answers(module: str, place: Path, *asked: object) -> list[Rows]:
    said = _run(python(f"benchmarks.contenders.{module}", place, *asked))
    return [[tuple(row) for row in rows] for rows in json.loads(said)]


def _check(where: str, ours: Sequence[Rows], expected: Sequence[Rows]) -> None:
    """All questions' answers have to be the same."""
    different = [name for name, *both in zip(QUESTIONS, ours, expected, strict=True) if not are_equal(*both)]
    if different:
        raise ContenderError(f"{', '.join(different)} {where}: the answers differ")


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ContenderError(done.stderr[-2000:])
    return done.stdout
