"""Answers of statistics: grouped counts and metrics, exact, and as fresh as the last commit.

An answer is an aggregate over what the base holds and has not changed, and the tail. A small store has no base. A base
that is far behind is built anew before the answer, one that lags a little is built beside, in a child process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import cast

from kitaru.analytics.answers import RawGroup
from kitaru.analytics.asking import Scene, ask, is_cost, left_over
from kitaru.analytics.bases import LIMITS, Bases, Limits
from kitaru.analytics.connection import MEMORY, duck_errors, is_of_a_file, is_of_memory
from kitaru.analytics.current import Current, families_of
from kitaru.analytics.generations import FOLDER, Family, Generation
from kitaru.analytics.grammar import Grouping, Metric, Query
from kitaru.analytics.keys import Key, value_of
from kitaru.analytics.statement import sentence
from kitaru.analytics.zones import SECOND, seconds_of
from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.usage import FLAT_KEYS, UNITS
from kitaru.projections.listing.filters import Scalar
from kitaru.store.log import Reads

_UNITS: Mapping[str, int] = {
    **dict.fromkeys(("duration", "active_duration", "wait_duration", "latency"), SECOND),
    **dict.fromkeys(("llm_cost", "cost", "actual_cost", "estimated_cost"), UNITS),
}
"""What is stored in smaller units than it is shown in: microseconds, 10^-10 USD."""
_TRIES = 3


class _Statistics:
    """The statistics of one store in this process."""

    def __init__(self, folder: str | None, limits: Limits) -> None:
        self.lock = threading.Lock()
        self._bases = None if folder is None else Bases(folder, limits)
        self._at_once = limits.at_once
        self._found: dict[Family, Generation] = {}
        self._current: Current | None = None

    def answer(self, reads: Reads, query: Query) -> list[RawGroup]:
        for tries_left in reversed(range(_TRIES)):
            try:
                scene, current = self._look(reads, query)
                statement = ask(query, scene)
                rows = current.asking.execute(sentence(statement.words), statement.parameters).fetchall()
            except duck_errors() as error:
                self._drop()
                if tries_left == 0 or not is_of_a_file(error):
                    raise _typed(error, reads.location) from error
                if tries_left < _TRIES - 1 and self._bases is not None:
                    self._bases.forget()  # not that a file had gone a moment ago: one is damaged
            except BaseException:
                self._drop()  # rows may have come in that nothing else knows of
                raise
            else:
                self._go_on(query, current)
                return [_group(row, query, scene) for row in (left_over(query, rows) if scene.takes_off else rows)]
        raise AssertionError

    def _look(self, reads: Reads, query: Query) -> tuple[Scene, Current]:
        """Bring the rows up to this moment. What is far behind is built, outside of any moment of the store."""
        with reads.snapshot() as moment:
            current = self._choose(moment)
            lacking: list[Family] = []
            if self._bases is not None:
                lacking = self._bases.lacking(moment, {family: current.position(family) for family in families_of(query)})
            if not lacking:
                return current.refresh(moment, query), current
        assert self._bases is not None
        with self._bases.built(reads, lacking) as temporary, reads.snapshot() as moment:
            if temporary:
                self._drop()
                self._current = Current({**self._bases.find(moment), **temporary}, self._at_once, has_events=True)
            current = self._choose(moment)
            return current.refresh(moment, query), current

    def _choose(self, moment: Reads) -> Current:
        """The rows that fit the store: those at hand, or new ones on a newer base."""
        current = self._current
        if current is not None and self._bases is not None:
            if not current.is_of(moment):
                current = None
            elif self._bases.has_news():
                self._found = self._bases.find(moment)
            if current is not None and (current.is_worn or any(self._gains(current, base) for base in self._found.values())):
                current = None
        if current is None:
            self._drop()
            self._found = {} if self._bases is None else self._bases.find(moment)
            current = self._current = Current(self._found, self._at_once, has_events=self._bases is not None)
        return current

    def _gains(self, current: Current, base: Generation) -> bool:
        assert self._bases is not None
        limits, ahead = self._bases.limits, base.origin.position - current.position(base.family)
        is_unread = current.position(base.family) == 0 or ahead > limits.far_behind
        return current.is_before(base) and (is_unread or current.tail_size(base.family) >= limits.gain)

    def _go_on(self, query: Query, current: Current) -> None:
        if self._bases is not None:
            based: list[Family] = [each.family for each in current.bases.values() if each.family in families_of(query)]
            self._bases.build_beside([family for family in based if self._bases.is_behind(current.tail_size(family))])

    def close(self) -> None:
        """Let go of DuckDB once nobody asks."""
        with self.lock:
            self._drop()

    def _drop(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None


MOST_OPEN = 4
"""Stores whose statistics are kept open in one process."""

_Name = tuple[str | None, str, Limits]
_opening = threading.Lock()
_open: dict[_Name, _Statistics] = {}
_of_parents: list[object] = []


def _after_fork_in_child() -> None:
    global _opening, _open
    _opening = threading.Lock()
    _of_parents.append(_open)  # kept: DuckDB's threads are not here to let go of its files
    _open = {}


os.register_at_fork(after_in_child=_after_fork_in_child)


def answer(reads: Reads, folder: str | None, query: Query, *, limits: Limits = LIMITS) -> list[RawGroup]:
    """The groups of a question, with all in them that committed before the call. `folder` is the store's, if it has one.

    Raises KitaruBackendError.
    """
    statistics = _statistics_of(reads, folder, limits)
    with statistics.lock:
        return statistics.answer(reads, query)


def _statistics_of(reads: Reads, folder: str | None, limits: Limits) -> _Statistics:
    name = (None if folder is None else os.path.realpath(folder), reads.store_id, limits)
    with _opening:
        found = _open.pop(name, None)
        if found is None:
            if len(_open) >= MOST_OPEN:
                _open.pop(next(iter(_open))).close()
            found = _Statistics(name[0], limits)
        _open[name] = found  # last: the first is the one that was not asked for the longest
        return found


def close_statistics() -> None:
    """Let go of all that is kept open for statistics."""
    with _opening:
        while _open:
            _open.popitem()[1].close()


def _group(row: Sequence[object], query: Query, scene: Scene) -> RawGroup:
    place = len(query.groupings)
    keys = tuple(map(_key, query.groupings, row))
    measured = tuple(
        _scaled(metric, found, scene.keys) for metric, found in zip(query.metrics, row[place + 1 :], strict=True)
    )
    return RawGroup(keys, cast("int", row[place]), measured)


def _key(grouping: Grouping, found: object) -> Scalar:
    if grouping.dimension == "metadata":
        return value_of(cast("str | None", found))
    if grouping.dimension == "time":
        return seconds_of(grouping.granularity or "day", cast("int", found))
    return cast("Scalar", found)


def _scaled(metric: Metric, found: object, keys: Mapping[str, Key]) -> float | int | None:
    """A metric in the units of the surface: seconds, USD, or what was logged."""
    value = cast("float | int | None", found)
    if value is None or metric.aggregation in ("count", "count_distinct"):
        return value
    if metric.metadata_key is None or metric.metadata_key in FLAT_KEYS:
        unit = _UNITS.get(metric.source) if metric.metadata_key is None else UNITS if is_cost(metric.metadata_key) else None
        return value if unit is None else value / unit
    is_whole = metric.aggregation in ("sum", "min", "max") and not keys[metric.metadata_key].has_floats
    return int(value) if is_whole else value


def _typed(error: Exception, location: str) -> KitaruBackendError:
    if is_of_memory(error):
        return KitaruBackendError(
            f"the statistics of {location} need more than {MEMORY} of memory; ask for fewer groups or metrics at once",
            code="statistics-memory",
        )
    return KitaruBackendError(
        f"the statistics of {location} failed ({error}); remove its folder {FOLDER!r}, which is made anew, and ask again",
        code="statistics",
    )
