"""From a question to one statement: groups and metrics over what the base holds and has not changed, and the tail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from kitaru.analytics import words as w
from kitaru.analytics.grammar import Grouping, Metric, Query
from kitaru.analytics.keys import EXACT, Key, label_of
from kitaru.analytics.statement import Statement, Word
from kitaru.analytics.zones import QUARTER, SECOND, UNITS, YEAR_ONE, Shift, are_quarters
from kitaru.domain.usage import COSTS, FLAT_KEYS
from kitaru.projections.listing import usage
from kitaru.projections.listing.filters import Condition

BASE, TAIL, GONE = 0, 1, 2
"""Places of rows. GONE: what the base holds of executions that have changed since, to be taken off what it holds in all."""
Value = tuple[str, str | None, bool]
"""What is measured: a source, the key when it is metadata, and whether only how many differ is asked."""

_TABLES = {"executions": "executions", "checkpoints": "calls", "llm_usage": "usage"}


class Scene(NamedTuple):
    """What a statement has to know of the store: the flows a filter means, the zone's shifts, the keys that were read.

    `parts`: where the subject's rows are. `has_base`: there is a base of executions.
    """

    flows: Sequence[str]
    shifts: tuple[Shift, ...]
    keys: Mapping[str, Key]
    parts: Sequence[Part]
    has_base: bool

    @property
    def takes_off(self) -> bool:
        """Whether what has changed is taken off the base."""
        return any(part.place == GONE for part in self.parts)


class Part(NamedTuple):
    """Rows of the subject in one place, from one execution's number on, up to before another's.

    `has_changed`: some of the base's executions among them have changed, and are not to be counted here.
    """

    place: int
    since: int | None = None
    until: int | None = None
    has_changed: bool = False


def values_of(query: Query) -> list[Value]:
    """The distinct sources of a query's metrics."""
    return list(dict.fromkeys(map(_value_of, query.metrics)))


def _value_of(metric: Metric) -> Value:
    return metric.source, metric.metadata_key, metric.aggregation == "count_distinct"


def metadata_of(query: Query) -> list[str]:
    """The metadata keys that a query touches, those of LLM usage among them."""
    keys = [grouping.metadata_key for grouping in query.groupings] + [metric.metadata_key for metric in query.metrics]
    return list(dict.fromkeys([*(key for key in keys if key is not None), *(each.key for each in query.filters.where)]))


def keys_of(query: Query) -> list[str]:
    """The metadata keys that a query touches and that were logged."""
    return [key for key in metadata_of(query) if key not in w.FIGURES]


def can_take_off(query: Query, keys: Mapping[str, Key]) -> bool:
    """Whether rows can be taken off an answer that has them in it: off counts, and off sums of whole numbers."""
    floats = {key for key, found in keys.items() if found.has_floats}
    return all(
        metric.aggregation == "count" or (metric.aggregation == "sum" and metric.metadata_key not in floats)
        for metric in query.metrics
    )


def ask(query: Query, scene: Scene) -> Statement:
    """The statement whose rows are the groups: their keys, their count, their metrics; to be read by `left_over` when rows
    are taken off.
    """
    values = values_of(query)
    made = Statement().say(w.SELECT)
    for place in range(len(query.groupings)):
        made.say(w.GROUP, place, w.COMMA)
    made.say(w.SIGNED_COUNT if scene.takes_off else w.COUNT)
    for metric in query.metrics:
        before, *after = w.SIGNED_AGGREGATE if scene.takes_off else w.AGGREGATES[metric.aggregation]
        made.say(w.COMMA, before)
        for words in after:
            made.say(values.index(_value_of(metric)), words)
    for place, part in enumerate(scene.parts):
        made.say(w.UNION if place else w.FROM_PARTS).add(_Rows(query, scene, part).select(values))
    if not query.groupings:
        return made.say(w.END)
    made.say(w.GROUP_BY)
    for place in range(len(query.groupings)):
        made.say(*((w.COMMA,) if place else ()), w.GROUP, place)
    return made


def left_over(query: Query, rows: Iterable[Sequence[object]]) -> list[tuple[object, ...]]:
    """The rows of a statement in which others are taken off, as those of any other: each metric comes as its sum and how
    many have a value.
    """
    place = len(query.groupings)
    found: list[tuple[object, ...]] = []
    for row in rows:
        if row[place] or not place:  # else everything has left the group
            measured = zip(query.metrics, row[place + 1 :: 2], row[place + 2 :: 2], strict=True)
            metrics = [_left(metric, total, have) for metric, total, have in measured]
            found.append((*row[:place], row[place] or 0, *metrics))
    return found


def _left(metric: Metric, total: object, have: object) -> object:
    if metric.aggregation == "count":
        return have or 0
    return total if have else None


class _Rows:
    """The rows of one part, grouped by nothing yet."""

    def __init__(self, query: Query, scene: Scene, part: Part) -> None:
        self._asked = query
        self._scene = scene
        self._bounds = part
        self._part = TAIL if part.place == TAIL else BASE
        table = _TABLES[query.subject]
        is_tagged = any(grouping.dimension == "tag" for grouping in query.groupings)
        self._has_own_tag = is_tagged and table == "executions"
        self._joins_tags = is_tagged and table != "executions"
        self._table = "tags" if self._has_own_tag else table
        self._is_of_executions = table == "executions"
        keys = [scene.keys[key] for key in keys_of(query)]
        self._joined_keys = [key for key in keys if not self._is_in_row(key)]
        self._joins_figures = not self._is_of_executions and len(keys) < len(metadata_of(query))

    def select(self, values: Sequence[Value]) -> Statement:
        """What is grouped by, named g0, g1 …, and what is measured, named v0, v1 …"""
        made, is_gone = Statement().say(w.SELECT), self._bounds.place == GONE
        for place, grouping in enumerate(self._asked.groupings):
            made.add(self._group(grouping)).say(w.AS_GROUP, place, w.COMMA)
        for place, value in enumerate(values):
            if is_gone:
                made.say(w.MINUS).add(self._value(value)).say(w.END)
            else:
                made.add(self._value(value))
            made.say(w.AS_VALUE, place, w.COMMA)
        made.say(w.MINUS_ONE if is_gone else w.ONE, w.FROM[self._table][self._bounds.place])
        if self._bounds.has_changed:
            made.say(w.UNCHANGED[self._table])
        if self._joins_tags:
            made.say(w.JOIN_TAGS, *((w.TAGS_OF_BASE,) if self._scene.has_base else ()), w.ON_TAGS)
        for key in self._joined_keys:
            self._join(key, made)
        if self._joins_figures:
            made.say(w.JOIN_FIGURES, *((w.FIGURES_OF_BASE,) if self._scene.has_base else ()), w.ON_FIGURES)
        return made.add(self._where())

    def _join(self, key: Key, made: Statement) -> None:
        made.say(w.JOIN_KEY, key.slot)
        if key.column is not None and (self._part == BASE or not self._is_of_executions):
            select, label, number, exact = w.KEY_OF_BASE
            made.say(select, key.column, label, key.column, number, key.column, exact)
        end, on, number = w.ON_KEY
        made.say(end, key.slot, on, key.slot, number)

    # --- metadata -----------------------------------------------------------------------------------------------------

    def _is_in_row(self, key: Key) -> bool:
        """Whether the rows of this part have the key's columns themselves."""
        return self._part == BASE and key.column is not None and self._table == "executions"

    def _column(self, name: str, which: str) -> tuple[Word, ...]:
        key = self._scene.keys[name]
        if self._is_in_row(key):
            assert key.column is not None
            return (w.HOT, key.column, w.HOT_COLUMNS[which])
        return (w.READ, key.slot, w.READ_COLUMNS[which])

    def _figure(self, key: str) -> tuple[Word, ...]:
        return (w.OWN if self._is_of_executions else w.JOINED, w.FIGURES[key])

    # --- groups and values ----------------------------------------------------------------------------------------------

    def _group(self, grouping: Grouping) -> Statement:
        if grouping.dimension == "metadata":
            assert grouping.metadata_key is not None
            if grouping.metadata_key in w.FIGURES:
                before, after = w.PAID if is_cost(grouping.metadata_key) else w.COUNTED
                return Statement().say(before, *self._figure(grouping.metadata_key), after)
            return Statement().say(*self._column(grouping.metadata_key, "label"))
        if grouping.dimension == "time":
            return self._time(grouping.granularity or "day")
        if grouping.dimension == "tag":
            return Statement().say(w.OWN_TAG if self._has_own_tag else w.JOINED_TAG)
        return Statement().say(w.DIMENSIONS[grouping.dimension])

    def _time(self, granularity: str) -> Statement:
        """The number of an hour, day or week of the zone, counted from the year 1; of a month, its year times 12 too."""
        unit = self._clock(UNITS[granularity])
        if granularity == "month":
            return Statement().say(w.YEAR).add(unit).say(w.AND_MONTH).add(unit).say(w.MONTH_END)
        return Statement().say(w.TIME_OPEN).add(unit).say(w.TIME_END)

    def _clock(self, unit: int) -> Statement:
        """What the clock of the zone shows, from the year 1, in units of so many seconds; it begins inside of two braces."""
        shifts = self._scene.shifts
        fine = 0 if are_quarters(shifts) else 1
        scale, start = ((QUARTER, 1), YEAR_ONE // QUARTER) if fine == 0 else ((1, SECOND), 0)
        first = 0 if fine == 0 else YEAR_ONE * SECOND

        def units(seconds: int) -> int:
            return seconds // scale[0] * scale[1]

        made = Statement().say(w.TIME_COLUMNS[fine])
        if len(shifts) == 1:
            made.say(w.SHIFT[fine]).give(first + units(shifts[0].offset))
        else:
            made.say(w.CASE)
            for shift, after in pairwise(shifts):
                made.say(w.WHEN, w.TIME_COLUMNS[fine], w.BEFORE[fine])
                made.give(start + units(after.since), first + units(shift.offset))
            made.say(w.OTHERWISE[fine]).give(first + units(shifts[-1].offset))
        return made.say(w.DIVIDED, units(unit))

    def _value(self, value: Value) -> Statement:
        source, key, is_distinct = value
        if key is None:
            return Statement().say(w.SOURCES[self._asked.subject][source])
        if key in w.FIGURES:
            return Statement().say(*self._figure(key))
        found = self._scene.keys[key]
        number = self._column(key, "number")
        if found.has_big and found.has_floats and is_distinct:  # 2**53 + 1 is another number than 2**53
            return Statement().say(w.NUMBERED[0], *number, w.NUMBERED[1], *self._column(key, "label"), w.NUMBERED[2])
        if found.has_big and not found.has_floats:
            return Statement().say(w.BIG[0], *self._column(key, "exact"), w.BIG[1], *number, w.BIG[2])
        if not found.has_floats and not is_distinct:  # a sum of doubles is exact up to 2**53
            return Statement().say(w.WHOLE[0], *number, w.WHOLE[1])
        return Statement().say(*number)

    # --- filters ----------------------------------------------------------------------------------------------------------

    def _where(self) -> Statement:
        filters = self._asked.filters
        made = Statement().say(w.WHERE, w.PROJECT).give(filters.project)
        if self._bounds.since is not None:
            made.say(w.AND, w.FROM_NUMBER).give(self._bounds.since)
        if self._bounds.until is not None:
            made.say(w.AND, w.BEFORE_NUMBER).give(self._bounds.until)
        if filters.flow is not None:
            made.say(w.AND).add(_listed(w.FLOW, self._scene.flows))
        if filters.statuses:
            made.say(w.AND).add(_listed(w.STATUS, filters.statuses))
        if filters.stack is not None:
            made.say(w.AND, w.STACK).give(filters.stack)
        if filters.since is not None:
            made.say(w.AND, w.SINCE).give(filters.since)
        if filters.until is not None:
            made.say(w.AND, w.UNTIL).give(filters.until)
        for tag in filters.tags:
            if self._is_of_executions:
                made.say(w.AND, w.TAGGED[self._part]).give(tag)
            elif self._scene.has_base:
                made.say(w.AND, w.TAGGED_NOW, w.OR_TAGGED, w.END).give(tag, tag)
            else:
                made.say(w.AND, w.TAGGED_NOW, w.END).give(tag)
        for condition in filters.where:
            made.say(w.AND).add(self._condition(condition))
        return made

    def _condition(self, condition: Condition) -> Statement:
        key, operator, value = condition
        if key in w.FIGURES:
            return self._figure_condition(condition)
        label = self._column(key, "label")
        if operator == "=":
            return Statement().say(*label, w.IS_NULL) if value is None else _given(label, w.COMPARES["="], label_of(value))
        if operator == "!=":
            return Statement().say(*label, w.IS_NOT_NULL) if value is None else _given(label, w.IS_DISTINCT, label_of(value))
        compares = w.COMPARES[operator]
        if isinstance(value, str):
            made = Statement().say(*label, w.IS_TEXT[0], w.AND, *label, w.IS_TEXT[1], w.AND)
            return made.add(_given(label, compares, label_of(value)))
        assert isinstance(value, (int, float))
        number = self._column(key, "number")
        if not self._scene.keys[key].has_big or abs(value) < EXACT:
            return _given(number, compares, float(value))
        bound = min(max(int(value), -_MOST), _MOST)
        made = Statement().say(w.COALESCE).add(_given(self._column(key, "exact"), compares, bound)).say(w.COMMA)
        return made.add(_given(number, compares, float(value))).say(w.END)

    def _figure_condition(self, condition: Condition) -> Statement:
        figure, within = self._figure(condition.key), usage.span(condition)
        if condition.value is None:
            return Statement().say(*figure, w.IS_NULL if condition.operator == "=" else w.IS_NOT_NULL)
        if condition.operator == "!=":
            if within is None:
                return Statement().say(w.TRUE)
            return Statement().say(w.NOT_BETWEEN[0], *figure, w.NOT_BETWEEN[1]).give(*within)
        if within is None:
            return Statement().say(w.FALSE)
        return Statement().say(*figure, w.BETWEEN).give(*within)


_MOST = 10**38


def is_cost(key: str) -> bool:
    """Whether a metadata key is of LLM usage, and kept in units of 10^-10 USD."""
    return FLAT_KEYS.get(key) in COSTS


def _given(column: Sequence[Word], compares: str, value: object) -> Statement:
    return Statement().say(*column, compares).give(value)


def _listed(opening: str, values: Sequence[str]) -> Statement:
    if not values:
        return Statement().say(w.FALSE)
    made = Statement().say(opening)
    for place, value in enumerate(values):
        made.say(*((w.COMMA,) if place else ()), w.PARAMETER).give(value)
    return made.say(w.END)
