"""The tools that count: the statistics of executions and of LLM usage."""

from __future__ import annotations

from typing import Annotated, TypedDict

from pydantic import Field

from kitaru.mcp import desk as at
from kitaru.mcp.desk import Answer, Desk
from kitaru.mcp.reading import Flow, Since, Stack, Status, Tags, Until, Where

GroupBy = Annotated[
    list[str] | None,
    Field(description="status, flow, stack, tag, time:hour|day|week|month, metadata:KEY; none: one group."),
]
UsageGroupBy = Annotated[
    list[str] | None,
    Field(description="model, provider, adapter, billing_effect, flow, time:day, metadata:KEY and others; none: one group."),
]
Metrics = Annotated[
    list[str] | None,
    Field(description="NAME:SOURCE:AGGREGATION, such as took:duration:p95, or NAME:metadata:KEY:sum."),
]
Timezone = Annotated[str, Field(description="Of the times: UTC, Europe/Berlin, …")]
MaxGroups = Annotated[int, Field(description="The most groups to give, 1 to 10000.")]
_MAX_CHARS = 200_000
"""10,000 groups are given whole."""


class _Asked(TypedDict):
    group_by: list[str]
    metrics: list[str]
    flow: str | None
    status: str | list[str] | None
    stack: str | None
    tags: list[str] | None
    since: str | None
    until: str | None
    where: dict[str, object] | None
    timezone: str
    max_groups: int


def executions_statistics(
    desk: Desk,
    group_by: GroupBy = None,
    metrics: Metrics = None,
    flow: Flow = None,
    status: Status = None,
    stack: Stack = None,
    tags: Tags = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    timezone: Timezone = "UTC",
    max_groups: MaxGroups = 100,
) -> Answer:
    """Count executions by groups, with metrics, as of now: how many failed this week, at what cost, for whom.

    Sources of metrics: duration, active_duration, wait_duration, step_count, cached_step_count, attempt_count,
    output_artifact_count, llm_cost, llm_tokens, metadata:KEY; aggregations: avg, sum, min, max, p50, p90, p95, p99, count,
    count_distinct.
    """
    asked = _Asked(
        group_by=group_by or [], metrics=metrics or [], flow=flow, status=status, stack=stack, tags=tags, since=since,
        until=until, where=where, timezone=timezone, max_groups=max_groups,
    )  # fmt: skip
    return at.one("executions.statistics", at.plain(desk.client.executions.statistics(**asked)), _MAX_CHARS)


def llm_usage_statistics(
    desk: Desk,
    group_by: UsageGroupBy = None,
    metrics: Metrics = None,
    flow: Flow = None,
    status: Status = None,
    stack: Stack = None,
    tags: Tags = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    timezone: Timezone = "UTC",
    max_groups: MaxGroups = 100,
) -> Answer:
    """Count LLM usage records by groups, with metrics: tokens and cost by model, by flow, by day."""
    asked = _Asked(
        group_by=group_by or [], metrics=metrics or [], flow=flow, status=status, stack=stack, tags=tags, since=since,
        until=until, where=where, timezone=timezone, max_groups=max_groups,
    )  # fmt: skip
    return at.one("llm-usage.statistics", at.plain(desk.client.llm_usage.statistics(**asked)), _MAX_CHARS)
