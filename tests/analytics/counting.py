"""Asking the engine as the client does, with answers that are easy to compare."""

from __future__ import annotations

from collections.abc import Sequence

from kitaru.analytics.answers import RawGroup, make_answer
from kitaru.analytics.engine import answer
from kitaru.analytics.grammar import Selection, Subject, make_query
from kitaru.store.log import Reads

NOW = 1_800_000_000_000_000
DAY = 86_400_000_000


def raw(
    reads: Reads,
    folder: str | None,
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
    return answer(reads, folder, query)


def counts(reads: Reads, folder: str | None, group_by: str | Sequence[str] = (), **rest: object) -> dict[object, int]:
    """How many are in each group, by its key, or by its keys when there are several."""
    found = raw(reads, folder, group_by, **rest)  # type: ignore[arg-type]
    return {group.keys[0] if len(group.keys) == 1 else group.keys: group.counted for group in found}


def measured(reads: Reads, folder: str | None, *metrics: str, **rest: object) -> tuple[object, ...]:
    """The metrics of the only group."""
    (found,) = raw(reads, folder, (), metrics, **rest)  # type: ignore[arg-type]
    return found.metrics


def labels(reads: Reads, folder: str | None, token: str, timezone: str = "UTC") -> dict[object, int]:
    """How many are in each hour, day, week or month, as it is shown."""
    query = make_query("executions", "default", NOW, {}, group_by=token, timezone=timezone)
    shown = make_answer(query, answer(reads, folder, query)).groups
    return {next(iter(group.keys.values())): group.counted for group in shown}
