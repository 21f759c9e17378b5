"""The engine's groups as they are shown: ordered, truncated, labelled. Pure.

With a time, the oldest come first, then the other keys decide, and truncation keeps the newest, that is the last rows; else
the largest come first, then the keys decide, and truncation keeps the first rows. Keys of any kinds have one order: False,
True, numbers, texts by code points, None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from kitaru.analytics.grammar import Query
from kitaru.projections.listing.filters import Scalar

Number = float | int | None


class RawGroup(NamedTuple):
    """A group as the engine counts it: keys and metrics in the query's order.

    The key of a time is where its hour, day, week or month begins on the clock of the query's zone, in whole seconds since
    1970-01-01 00:00 on that clock. Two hours that a clock shows alike (when summer time ends) are one group.
    """

    keys: tuple[Scalar, ...]
    counted: int
    metrics: tuple[Number, ...] = ()


class Group(NamedTuple):
    """A group as it is shown."""

    keys: dict[str, Scalar]
    counted: int
    metrics: dict[str, Number]


class Answer(NamedTuple):
    """All of the groups, or as many as were asked for."""

    groups: tuple[Group, ...]
    truncated: bool


def make_answer(query: Query, found: Sequence[RawGroup]) -> Answer:
    """Order, truncate and label. Without groupings there is always one group."""
    if not query.groupings and not found:
        found = (RawGroup((), 0, (None,) * len(query.metrics)),)
    place = query.time
    ordered = sorted(found, key=_largest_first if place is None else _oldest_first(place))
    most = query.max_groups
    kept = ordered[:most] if place is None else ordered[-most:]
    return Answer(tuple(_labelled(query, group) for group in kept), len(kept) < len(ordered))


def time_label(granularity: str, seconds: int) -> str:
    """`2026-03-01 14:00:00` of an hour, `2026-03-01` of a day, a week (its Monday) and a month (its first day)."""
    try:
        moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001  (a clock's time in the zone asked for)
    except OverflowError:
        moment = datetime.max if seconds > 0 else datetime.min  # noqa: DTZ901
    return moment.isoformat(" ")[: 13 if granularity == "hour" else 10] + (":00:00" if granularity == "hour" else "")


def _largest_first(group: RawGroup) -> tuple[object, ...]:
    return (-group.counted, *map(_rank, group.keys))


def _oldest_first(place: int) -> Callable[[RawGroup], tuple[object, ...]]:
    def order(group: RawGroup) -> tuple[object, ...]:
        others = (*group.keys[:place], *group.keys[place + 1 :])
        return (_rank(group.keys[place]), *map(_rank, others))

    return order


def _rank(key: Scalar) -> tuple[int, str | int | float]:
    match key:
        case None:
            return 3, 0
        case bool():
            return 0, key
        case str():
            return 2, key
        case _:
            return 1, key


def _labelled(query: Query, group: RawGroup) -> Group:
    keys: dict[str, Scalar] = {}
    for grouping, key in zip(query.groupings, group.keys, strict=True):
        if grouping.granularity is not None and isinstance(key, int):
            keys[grouping.name] = time_label(grouping.granularity, key)
        else:
            keys[grouping.name] = int(key) if isinstance(key, float) and key.is_integer() and abs(key) < 2**53 else key
    metrics: dict[str, Number] = {}
    for metric, value in zip(query.metrics, group.metrics, strict=True):
        metrics[metric.name] = 0 if value is None and metric.aggregation.startswith("count") else value
    return Group(keys, group.counted, metrics)
