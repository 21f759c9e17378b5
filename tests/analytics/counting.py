"""Asking the engine as the client does, with answers that are easy to compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kitaru.analytics.answers import RawGroup, make_answer
from kitaru.analytics.bases import LIMITS, Limits
from kitaru.analytics.engine import answer
from kitaru.analytics.grammar import Subject, make_query
from kitaru.projections.listing.filters import Selection
from kitaru.store.log import EventLog

NOW = 1_800_000_000_000_000
DAY = 86_400_000_000


class Place(NamedTuple):
    """A store, its folder if it has one, and how much of it is read row by row."""

    log: EventLog
    folder: str | None
    limits: Limits = LIMITS


def raw(
    place: Place,
    group_by: str | Sequence[str] = (),
    metrics: str | Sequence[str] = (),
    *,
    subject: Subject = "executions",
    timezone: str = "UTC",
    project: str = "default",
    **selection: object,
) -> list[RawGroup]:
    """The groups as the engine counts them."""
    chosen = Selection(**selection)  # type: ignore[typeddict-item]
    query = make_query(subject, project, NOW, chosen, group_by=group_by, metrics=metrics, timezone=timezone)
    return answer(place.log, place.folder, query, limits=place.limits)


def counts(place: Place, group_by: str | Sequence[str] = (), **rest: object) -> dict[object, int]:
    """How many are in each group, by its key, or by its keys when there are several."""
    found = raw(place, group_by, **rest)  # type: ignore[arg-type]
    return {group.keys[0] if len(group.keys) == 1 else group.keys: group.counted for group in found}


def measured(place: Place, *metrics: str, **rest: object) -> tuple[object, ...]:
    """The metrics of the only group."""
    (found,) = raw(place, (), metrics, **rest)  # type: ignore[arg-type]
    return found.metrics


def labels(place: Place, token: str, timezone: str = "UTC") -> dict[object, int]:
    """How many are in each hour, day, week or month, as it is shown."""
    query = make_query("executions", "default", NOW, {}, group_by=token, timezone=timezone)
    shown = make_answer(query, answer(place.log, place.folder, query, limits=place.limits)).groups
    return {next(iter(group.keys.values())): group.counted for group in shown}
