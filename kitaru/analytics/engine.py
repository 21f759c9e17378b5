"""Answers of statistics: grouped counts and metrics, exact, and as fresh as the last commit."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import cast

from kitaru.analytics.answers import RawGroup
from kitaru.analytics.asking import Scene, ask
from kitaru.analytics.current import Current
from kitaru.analytics.grammar import Grouping, Metric, Query
from kitaru.analytics.keys import Key, value_of
from kitaru.analytics.statement import sentence
from kitaru.analytics.zones import SECOND, seconds_of
from kitaru.projections.listing.filters import Scalar
from kitaru.store.log import Reads

_opening = threading.Lock()
_on_files: dict[tuple[str, str], Current] = {}
_in_memory: weakref.WeakKeyDictionary[Reads, Current] = weakref.WeakKeyDictionary()
_of_parents: list[object] = []


def _after_fork_in_child() -> None:
    global _opening, _on_files, _in_memory
    _opening = threading.Lock()
    _of_parents.extend((_on_files, _in_memory))  # kept: DuckDB's threads are not here to let go of its files
    _on_files, _in_memory = {}, weakref.WeakKeyDictionary()


os.register_at_fork(after_in_child=_after_fork_in_child)


def answer(reads: Reads, folder: str | None, query: Query) -> list[RawGroup]:
    """The groups of a question, among them all that committed before the call. `folder` is the store's, if it has one."""
    current = _current(reads, folder)
    with current.lock:
        with reads.snapshot() as moment:
            scene = current.refresh(moment, query, has_events=folder is not None)
        statement = ask(query, scene)
        rows = current.asking.execute(sentence(statement.words), statement.parameters).fetchall()
    return [_group(row, query, scene) for row in rows]


def _current(reads: Reads, folder: str | None) -> Current:
    with _opening:
        if folder is None:
            found = _in_memory.get(reads)
            if found is None:
                found = _in_memory[reads] = Current()
            return found
        key = (os.path.realpath(folder), reads.store_id)
        found = _on_files.get(key)
        if found is None:
            found = _on_files[key] = Current()
        return found


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
    value = cast("float | int | None", found)
    if value is None or metric.aggregation in ("count", "count_distinct"):
        return value
    if metric.metadata_key is None:
        return value / SECOND if metric.source in _DURATIONS else value
    is_whole = metric.aggregation in ("sum", "min", "max") and not keys[metric.metadata_key].has_floats
    return int(value) if is_whole else value


_DURATIONS = ("duration", "active_duration", "wait_duration")
