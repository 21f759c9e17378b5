"""Counting: what the client gives for executions, checkpoint calls and LLM usage, and how it asks for it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar, Unpack

from pydantic import PlainSerializer, computed_field

from kitaru.analytics.answers import make_answer
from kitaru.analytics.grammar import Asked, GroupBy, MetricSpec, Subject, make_query
from kitaru.client.models import Snapshot
from kitaru.projections.listing import Selection

if TYPE_CHECKING:
    from kitaru.analytics.answers import Answer
    from kitaru.client.access import Access

Key = str | int | float | bool | None


def _in_json(value: float | int | None) -> float | int | None:
    return value if value is None or isfinite(value) else None


Number = Annotated[float | int | None, PlainSerializer(_in_json, when_used="json")]
"""A sum past what a float holds is infinite, which JSON cannot say."""


class ExecutionStatisticsGroup(Snapshot):
    """The executions that have these keys. A metric is None where nothing has a number."""

    keys: dict[str, Key]
    execution_count: int
    metrics: dict[str, Number]


class CheckpointStatisticsGroup(Snapshot):
    """The checkpoint calls that have these keys."""

    keys: dict[str, Key]
    checkpoint_count: int
    metrics: dict[str, Number]


class LLMUsageStatisticsGroup(Snapshot):
    """The LLM usage records that have these keys."""

    keys: dict[str, Key]
    usage_record_count: int
    metrics: dict[str, Number]


G = TypeVar("G")


class _Statistics(Snapshot, Generic[G]):
    groups: tuple[G, ...]
    truncated: bool

    @computed_field
    @property
    def group_count(self) -> int:
        """How many groups there are here."""
        return len(self.groups)


class ExecutionStatistics(_Statistics[ExecutionStatisticsGroup]):
    """Executions by group. `truncated`: there are more groups than these."""


class CheckpointStatistics(_Statistics[CheckpointStatisticsGroup]):
    """Checkpoint calls by group."""


class LLMUsageStatistics(_Statistics[LLMUsageStatisticsGroup]):
    """LLM usage records by group."""


class Checkpoints:
    """`client.checkpoints`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def statistics(  # noqa: PLR0913  (the surface's)
        self,
        *,
        group_by: GroupBy | Iterable[GroupBy] = (),
        metrics: MetricSpec | Iterable[MetricSpec] = (),
        flow: str | None = None,
        status: str | Iterable[str] | None = None,
        stack: str | None = None,
        tags: str | Iterable[str] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        where: Mapping[str, object] | None = None,
        timezone: str = "UTC",
        max_groups: int = 1000,
    ) -> CheckpointStatistics:
        """Checkpoint calls counted by group: as `executions.statistics`, with groupings `checkpoint` and `type` too.

        status, since and until are of the call (running, completed, failed, interrupted; when it began); the other filters
        are of its execution. Raises KitaruUsageError.
        """
        selection: Selection = {
            "flow": flow, "status": status, "stack": stack, "tags": tags, "since": since, "until": until, "where": where,
        }  # fmt: skip
        asked: Asked = {"group_by": group_by, "metrics": metrics, "timezone": timezone, "max_groups": max_groups}
        found = count(self._access, "checkpoints", selection, **asked)
        return CheckpointStatistics(
            groups=tuple(
                CheckpointStatisticsGroup(keys=group.keys, checkpoint_count=group.counted, metrics=group.metrics)
                for group in found.groups
            ),
            truncated=found.truncated,
        )


class LLMUsage:
    """`client.llm_usage`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def statistics(  # noqa: PLR0913  (the surface's)
        self,
        *,
        group_by: GroupBy | Iterable[GroupBy] = (),
        metrics: MetricSpec | Iterable[MetricSpec] = (),
        flow: str | None = None,
        status: str | Iterable[str] | None = None,
        stack: str | None = None,
        tags: str | Iterable[str] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        where: Mapping[str, object] | None = None,
        timezone: str = "UTC",
        max_groups: int = 1000,
    ) -> LLMUsageStatistics:
        """LLM usage records counted by group: as `executions.statistics`, by model, provider, adapter, billing_effect too.

        status, since and until are of the record (completed, failed, interrupted; when it was recorded); the other filters
        are of its execution. Raises KitaruUsageError.
        """
        selection: Selection = {
            "flow": flow, "status": status, "stack": stack, "tags": tags, "since": since, "until": until, "where": where,
        }  # fmt: skip
        asked: Asked = {"group_by": group_by, "metrics": metrics, "timezone": timezone, "max_groups": max_groups}
        found = count(self._access, "llm_usage", selection, **asked)
        return LLMUsageStatistics(
            groups=tuple(
                LLMUsageStatisticsGroup(keys=group.keys, usage_record_count=group.counted, metrics=group.metrics)
                for group in found.groups
            ),
            truncated=found.truncated,
        )


def execution_statistics(access: Access, selection: Selection, **asked: Unpack[Asked]) -> ExecutionStatistics:
    """`client.executions.statistics`."""
    found = count(access, "executions", selection, **asked)
    return ExecutionStatistics(
        groups=tuple(
            ExecutionStatisticsGroup(keys=group.keys, execution_count=group.counted, metrics=group.metrics)
            for group in found.groups
        ),
        truncated=found.truncated,
    )


def count(access: Access, subject: Subject, selection: Selection, **asked: Unpack[Asked]) -> Answer:
    """Check the question, ask the store as it is now, and order what it says."""
    query = make_query(subject, access.project, time.time_ns() // 1000, selection, **asked)
    reader = access.find_reader()
    if reader is None:
        return make_answer(query, ())
    from kitaru.analytics.engine import answer

    return make_answer(query, answer(reader, access.choice.location, query))
