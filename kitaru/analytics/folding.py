"""Checkpoint calls and LLM usage records of executions, folded from their events into rows.

It says of a call what kitaru.projections.detail says of it; a test holds the two together. But here no event's model is
made, only its body is parsed, and nothing is kept that statistics do not ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

TYPES = (
    "AttemptStarted", "AttemptFailed", "CheckpointCompleted", "CheckpointFailed", "CheckpointReused", "LLMUsageRecorded",
    "RunnerClaimed", "ExecutionCompleted", "ExecutionFailed", "ExecutionCancelled",
)  # fmt: skip
"""The events that say something of these."""

Body = dict[str, Any]
Step = tuple[int, str, Body]
"""An event of one of these types: its execution's number, its type, its body."""

Row = tuple[object, ...]


def fold(steps: Iterable[Step]) -> tuple[list[Row], list[Row]]:
    """The rows of calls and of usage records, in the order of their tables' statements.

    The events stand one execution after the other, each execution's in the order of their versions.
    """
    calls: list[Row] = []
    usage: list[Row] = []
    execution: _Execution | None = None
    for number, name, body in steps:
        if execution is None or execution.number != number:
            if execution is not None:
                execution.finish(calls, usage)
            execution = _Execution(number)
        _HANDLERS[name](execution, body)
    if execution is not None:
        execution.finish(calls, usage)
    return calls, usage


class _Call:
    """A call, and its last attempt."""

    __slots__ = (
        "attempts",
        "ended_at",
        "kind",
        "last_ended_at",
        "last_started_at",
        "last_status",
        "name",
        "started_at",
        "status",
    )

    def __init__(self, body: Body) -> None:
        self.name: str = body.get("name") or ""
        self.kind: str | None = body.get("checkpoint_type")
        self.started_at: int = body["at"]
        self.status = self.last_status = "running"
        self.ended_at: int | None = None
        self.last_ended_at: int | None = None
        self.last_started_at: int = body["at"]
        self.attempts = 0

    def try_ended(self, status: str, at: int) -> None:
        self.last_status, self.last_ended_at = status, max(at, self.last_started_at)


class _Execution:
    def __init__(self, number: int) -> None:
        self.number = number
        self.calls: dict[int, _Call] = {}
        self.usage: list[Body] = []

    def attempt_started(self, body: Body) -> None:
        if body["attempt"] == 1:
            self.calls[body["call"]] = _Call(body)
        call = self.calls[body["call"]]
        call.status = call.last_status = "running"
        call.ended_at = call.last_ended_at = None
        call.last_started_at = body["at"]
        call.attempts += 1

    def attempt_failed(self, body: Body) -> None:
        self.calls[body["call"]].try_ended("failed", body["at"])

    def call_failed(self, body: Body) -> None:
        call = self.calls[body["call"]]
        call.status, call.ended_at = "failed", max(body["at"], call.started_at)

    def call_completed(self, body: Body) -> None:
        call = self.calls[body["call"]]
        call.try_ended("completed", body["at"])
        call.status, call.ended_at = "completed", max(body["at"], call.started_at)

    def call_reused(self, body: Body) -> None:
        call = self.calls[body["call"]] = _Call(body)
        call.status, call.ended_at = "completed", call.started_at

    def usage_recorded(self, body: Body) -> None:
        self.usage.append(body)

    def claimed(self, _: Body) -> None:
        for call in self.calls.values():
            if call.attempts and call.last_status == "running":
                call.last_status = call.status = "interrupted"

    def ended(self, body: Body) -> None:
        self.claimed(body)
        for call in self.calls.values():
            if call.status == "running":
                call.status, at = call.last_status, call.last_ended_at
                call.ended_at = None if at is None else max(at, call.started_at)

    def finish(self, calls: list[Row], usage: list[Row]) -> None:
        """Add this execution's rows."""
        number = self.number
        totals: dict[int, list[int]] = {}
        for body in self.usage:
            ordinal = body["call"]
            figures: Body = body.get("figures") or _NO_FIGURES
            row = _figures(figures)
            call = self.calls.get(ordinal)
            usage.append((number, ordinal, body["at"], None if call is None else call.name, *row))
            _add(totals.setdefault(ordinal, [0] * _SUMS), row)
        for ordinal, call in self.calls.items():
            times = (call.started_at, call.ended_at)
            said = (number, ordinal, call.name, call.kind, call.status, *times, call.attempts)
            calls.append((*said, *totals.get(ordinal, _NO_SUMS)))


_NO_FIGURES: Body = {}
_SUMS = 4
_NO_SUMS = (None,) * _SUMS
_HANDLERS: dict[str, Callable[[_Execution, Body], None]] = {
    "AttemptStarted": _Execution.attempt_started,
    "AttemptFailed": _Execution.attempt_failed,
    "CheckpointCompleted": _Execution.call_completed,
    "CheckpointFailed": _Execution.call_failed,
    "CheckpointReused": _Execution.call_reused,
    "LLMUsageRecorded": _Execution.usage_recorded,
    "RunnerClaimed": _Execution.claimed,
    "ExecutionCompleted": _Execution.ended,
    "ExecutionFailed": _Execution.ended,
    "ExecutionCancelled": _Execution.ended,
}


def _figures(figures: Body) -> tuple[Any, ...]:
    """What a record added first: its cost, its tokens. What a body leaves out is the default of `UsageFigures`."""
    get = figures.get
    actual, estimated, effect = get("actual_cost"), get("estimated_cost"), get("billing_effect", "incurred")
    cost = None if effect == "reused_not_incurred" else estimated if actual is None else actual
    return (
        cost, get("total_tokens"), get("input_tokens"), get("output_tokens"), get("cached_input_tokens"),
        get("reasoning_tokens"), actual, estimated, get("latency_us"), get("adapter", "kitaru.llm"), get("provider"),
        get("model"), get("status", "completed"), effect,
    )  # fmt: skip


def _add(totals: list[int], row: tuple[Any, ...]) -> None:
    for place in range(_SUMS):
        totals[place] += row[place] or 0
