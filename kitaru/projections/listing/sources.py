"""The numbers of the executions that pass all filters, newest first.

Each filter is a source of numbers in falling order, straight from an index; a candidate that one source skips is
skipped in all others by one seek (a leapfrog join). So nothing is read but what matches, or is a seek away.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from kitaru.projections.listing import usage
from kitaru.projections.listing.filters import STATUSES, Condition, Filters, Scalar

Query = Callable[[str, Sequence[object]], list[tuple[object, ...]]]
"""Run one constant SELECT with its parameters."""

_NEWEST = 2**62
_FIRST_SLICE, _LAST_SLICE = 8, 512
_FEW = 2_000
"""Matches of a range that are better sorted than found by walking from the newest."""

_ALL = "SELECT number FROM executions WHERE project = ? AND number <= ? ORDER BY number DESC LIMIT ?"
_STATUS = """SELECT number FROM executions WHERE project = ? AND status = ? AND number <= ?
    ORDER BY number DESC LIMIT ?"""
_STACK = """SELECT number FROM executions WHERE project = ? AND stack = ? AND number <= ?
    ORDER BY number DESC LIMIT ?"""
_FLOW_IDS = "SELECT flow_id FROM flows WHERE project = ? AND (flow_id = ? OR flow_name = ?)"
_FLOW = """SELECT number FROM executions WHERE flow_id = ? AND status = ? AND number <= ?
    ORDER BY number DESC LIMIT ?"""
_TAG = "SELECT number FROM execution_tags WHERE tag = ? AND number <= ? ORDER BY number DESC LIMIT ?"
_TIME = """SELECT number FROM executions WHERE project = ? AND +started_at >= ?
    AND +started_at < ? AND number <= ? ORDER BY number DESC LIMIT ?"""
_FEW_BY_TIME = "SELECT number FROM executions WHERE project = ? AND started_at >= ? AND started_at < ? LIMIT ?"

_EQUAL = """SELECT number FROM execution_metadata WHERE key = ? AND kind = ? AND value = ? AND number <= ?
    ORDER BY number DESC LIMIT ?"""
_PRESENT = "SELECT number FROM execution_metadata WHERE key = ? AND number <= ? ORDER BY number DESC LIMIT ?"
_ABSENT = """SELECT number FROM executions WHERE project = ? AND NOT EXISTS (SELECT 1 FROM execution_metadata other
    WHERE other.key = ? AND other.number = executions.number) AND number <= ? ORDER BY number DESC LIMIT ?"""
_UNEQUAL = """SELECT number FROM executions WHERE project = ? AND NOT EXISTS (SELECT 1 FROM execution_metadata other
    WHERE other.key = ? AND other.number = executions.number AND other.kind = ? AND other.value = ?)
    AND number <= ? ORDER BY number DESC LIMIT ?"""
# The unary plus keeps the walk in the order of numbers; without it SQLite takes the index by value, and sorts.
_WALKS = {
    ">": """SELECT number FROM execution_metadata WHERE key = ? AND +kind = ? AND +value > ? AND number <= ?
        ORDER BY number DESC LIMIT ?""",
    ">=": """SELECT number FROM execution_metadata WHERE key = ? AND +kind = ? AND +value >= ? AND number <= ?
        ORDER BY number DESC LIMIT ?""",
    "<": """SELECT number FROM execution_metadata WHERE key = ? AND +kind = ? AND +value < ? AND number <= ?
        ORDER BY number DESC LIMIT ?""",
    "<=": """SELECT number FROM execution_metadata WHERE key = ? AND +kind = ? AND +value <= ? AND number <= ?
        ORDER BY number DESC LIMIT ?""",
}
_RANGES = {
    ">": "SELECT number FROM execution_metadata WHERE key = ? AND kind = ? AND value > ? LIMIT ?",
    ">=": "SELECT number FROM execution_metadata WHERE key = ? AND kind = ? AND value >= ? LIMIT ?",
    "<": "SELECT number FROM execution_metadata WHERE key = ? AND kind = ? AND value < ? LIMIT ?",
    "<=": "SELECT number FROM execution_metadata WHERE key = ? AND kind = ? AND value <= ? LIMIT ?",
}


class Source(Protocol):
    """Numbers in falling order."""

    def at_most(self, number: int) -> int | None:
        """The largest that is not above `number`; each call's `number` is not above the one before."""
        ...


class _Walk:
    """Numbers read along an index, a slice at a time; slices grow as long as none of their numbers is skipped."""

    def __init__(self, query: Query, sql: str, parameters: Sequence[object]) -> None:
        self._query = query
        self._sql = sql
        self._parameters = tuple(parameters)
        self._slice: list[int] = []
        self._at = 0
        self._size = _FIRST_SLICE
        self._is_last = False

    def at_most(self, number: int) -> int | None:
        if not self._slice or self._slice[-1] > number:
            if self._is_last:
                return None
            goes_on = bool(self._slice) and number >= self._slice[-1] - 1
            self._size = min(2 * self._size, _LAST_SLICE) if goes_on else _FIRST_SLICE
            rows = self._query(self._sql, (*self._parameters, number, self._size))
            self._slice, self._at = [int(str(row[0])) for row in rows], 0
            self._is_last = len(rows) < self._size
        while self._at < len(self._slice):
            if self._slice[self._at] <= number:
                return self._slice[self._at]
            self._at += 1
        return None


class _Few:
    """A few numbers, at hand."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = sorted(numbers)

    def at_most(self, number: int) -> int | None:
        place = bisect_left(self._numbers, number + 1)
        return self._numbers[place - 1] if place else None


class _Either:
    """Numbers of any of several sources."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def at_most(self, number: int) -> int | None:
        found = [match for source in self._sources if (match := source.at_most(number)) is not None]
        return max(found, default=None)


def find_numbers(query: Query, filters: Filters) -> Iterator[int]:
    """The numbers of the executions that pass, newest first."""
    sources = _sources(query, filters)
    candidate = _NEWEST
    while True:
        agreed = candidate
        for source in sources:
            match = source.at_most(agreed)
            if match is None:
                return
            agreed = match
        if agreed == candidate:
            yield candidate
            candidate -= 1
        else:
            candidate = agreed


def _sources(query: Query, filters: Filters) -> list[Source]:
    project = filters.project
    found: list[Source] = [_Walk(query, _TAG, (tag,)) for tag in filters.tags]
    found.extend(_by_metadata(query, project, condition) for condition in filters.where)
    if filters.flow is not None:  # with its statuses in one index: "the failed ones of this flow" may be none of many
        flows = query(_FLOW_IDS, (project, filters.flow, filters.flow))
        statuses = filters.statuses or STATUSES
        found.append(_Either([_Walk(query, _FLOW, (row[0], status)) for row in flows for status in statuses]))
    elif filters.statuses:
        found.append(_Either([_Walk(query, _STATUS, (project, status)) for status in filters.statuses]))
    if filters.stack is not None:
        found.append(_Walk(query, _STACK, (project, filters.stack)))
    if filters.since is not None or filters.until is not None:
        found.append(_by_time(query, project, filters.since, filters.until))
    if not found or filters.tags or filters.where:
        found.append(_Walk(query, _ALL, (project,)))
    return found


def _by_time(query: Query, project: str, since: int | None, until: int | None) -> Source:
    bounds = (project, -_NEWEST if since is None else since, _NEWEST if until is None else until)
    few = query(_FEW_BY_TIME, (*bounds, _FEW + 1))
    return _Few([int(str(row[0])) for row in few]) if len(few) <= _FEW else _Walk(query, _TIME, bounds)


def _by_usage(query: Query, project: str, condition: Condition) -> Source:
    key, operator, value = condition
    if value is None:
        is_absent = operator == "="
        return _Walk(query, usage.ABSENT, (project,)) if is_absent else _Walk(query, usage.PRESENT, ())
    span = usage.span(condition)
    if operator == "!=":
        return _Walk(query, _ALL, (project,)) if span is None else _Walk(query, usage.OUTSIDE, (project, key, *span))
    if span is None:
        return _Few(())
    few = query(usage.FEW[key], (*span, _FEW + 1)) if key in usage.FEW else None
    if few is not None and len(few) <= _FEW:
        return _Few([int(str(row[0])) for row in few])
    return _Walk(query, usage.WITHIN, (key, *span))


def _by_metadata(query: Query, project: str, condition: Condition) -> Source:
    if usage.is_of_usage(condition):
        return _by_usage(query, project, condition)
    key, operator, value = condition
    kind = _kind(value)
    if operator == "=":
        return _Walk(query, _ABSENT, (project, key)) if value is None else _Walk(query, _EQUAL, (key, kind, value))
    if operator == "!=":
        return _Walk(query, _PRESENT, (key,)) if value is None else _Walk(query, _UNEQUAL, (project, key, kind, value))
    few = query(_RANGES[operator], (key, kind, value, _FEW + 1))
    if len(few) <= _FEW:
        return _Few([int(str(row[0])) for row in few])
    return _Walk(query, _WALKS[operator], (key, kind, value))


def _kind(value: Scalar) -> str:
    return "b" if isinstance(value, bool) else "t" if isinstance(value, str) else "n"
