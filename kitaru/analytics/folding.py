"""Checkpoint calls, attempts, waits and usage records of executions, folded from their events into columns.

It says of a call and an attempt what kitaru.projections.detail says of them; a test holds the two together. But here no
event's model is made, only its body is parsed, and what is not asked for by statistics or the export is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from kitaru.domain.metadata import Tree, is_tree, merged
from kitaru.store.values.text import write

TYPES = (
    "AttemptStarted", "AttemptFailed", "CheckpointCompleted", "CheckpointFailed", "CheckpointReused", "MetadataLogged",
    "LLMUsageRecorded", "WaitOpened", "WaitResolved", "WaitAborted", "WaitExpired", "RunnerClaimed", "PayloadErased",
    "ExecutionCompleted", "ExecutionFailed", "ExecutionCancelled",
)  # fmt: skip
"""The events that say something of these."""


class Step(NamedTuple):
    """An event of one of these types. `payload` is parsed, there only for logged metadata and usage records, if at all."""

    number: int
    version: int
    type: str
    body: dict[str, Any]
    payload: object = None


class Folded:
    """Rows of four tables, each as a list of columns, in the order of the tables' statements."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.attempts: list[tuple[object, ...]] = []
        self.waits: list[tuple[object, ...]] = []
        self.usage: list[tuple[object, ...]] = []


def fold(steps: Iterable[Step]) -> Folded:
    """Fold the events of some executions, which stand one execution after the other, each in the order of its versions."""
    folded = Folded()
    execution: _Execution | None = None
    for step in steps:
        if execution is None or execution.number != step.number:
            if execution is not None:
                execution.finish(folded)
            execution = _Execution(step.number)
        _HANDLERS[step.type](execution, step)
    if execution is not None:
        execution.finish(folded)
    return folded


class _Attempt:
    __slots__ = ("ended_at", "metadata", "number", "origin", "raised", "retry_after", "started_at", "status")

    def __init__(self, number: int, at: int) -> None:
        self.number, self.started_at, self.status = number, at, "running"
        self.ended_at: int | None = None
        self.raised: str | None = None
        self.origin: str | None = None
        self.retry_after: float | None = None
        self.metadata: Tree = {}


class _Call:
    __slots__ = ("attempts", "body", "ended_at", "metadata", "started_at", "status")

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.started_at: int = body["at"]
        self.status = "running"
        self.ended_at: int | None = None
        self.attempts: list[_Attempt] = []
        self.metadata: Tree = {}


class _Execution:
    def __init__(self, number: int) -> None:
        self.number = number
        self.calls: dict[int, _Call] = {}
        self.waits: dict[int, list[object]] = {}
        self.usage: list[Step] = []

    def attempt_started(self, step: Step) -> None:
        body = step.body
        at, number = body["at"], body["attempt"]
        if number == 1:
            self.calls[body["call"]] = _Call(body)
        call = self.calls[body["call"]]
        call.status, call.ended_at = "running", None
        call.attempts.append(_Attempt(number, at))

    def attempt_failed(self, step: Step) -> None:
        body = step.body
        attempt = self.calls[body["call"]].attempts[-1]
        attempt.status, attempt.ended_at = "failed", max(body["at"], attempt.started_at)
        attempt.raised, attempt.origin, attempt.retry_after = body["exception_type"], body["origin"], body.get("retry_after")

    def call_failed(self, step: Step) -> None:
        call = self.calls[step.body["call"]]
        call.status, call.ended_at = "failed", max(step.body["at"], call.started_at)

    def call_completed(self, step: Step) -> None:
        at, call = step.body["at"], self.calls[step.body["call"]]
        attempt = call.attempts[-1]
        call.status = attempt.status = "completed"
        call.ended_at, attempt.ended_at = max(at, call.started_at), max(at, attempt.started_at)

    def call_reused(self, step: Step) -> None:
        call = self.calls[step.body["call"]] = _Call(step.body)
        call.status, call.ended_at = "completed", call.started_at

    def metadata_logged(self, step: Step) -> None:
        call = self.calls.get(step.body.get("call") or 0)
        if call is not None and is_tree(step.payload):
            logged = cast("Tree", step.payload)
            call.metadata = merged(call.metadata, logged)
            if call.attempts:
                call.attempts[-1].metadata = merged(call.attempts[-1].metadata, logged)

    def usage_recorded(self, step: Step) -> None:
        self.usage.append(step)

    def wait_opened(self, step: Step) -> None:
        body = step.body
        named = (body["kind"], body["invocation_id"], body["name"])
        self.waits[body["wait"]] = [*named, body["at"], body.get("expires_at"), None, None, None]

    def wait_closed(self, step: Step) -> None:
        self._close(self.waits[step.body["wait"]], _OUTCOMES[step.type], step.body["at"], step.body.get("by"))

    def claimed(self, _: Step) -> None:
        for call in self.calls.values():
            last = call.attempts[-1] if call.attempts else None
            if last is not None and last.status == "running":
                last.status = call.status = "interrupted"

    def ended(self, step: Step) -> None:
        self.claimed(step)
        for call in self.calls.values():
            if call.status == "running":
                last = call.attempts[-1]
                call.status = last.status
                call.ended_at = None if last.ended_at is None else max(last.ended_at, call.started_at)
        for wait in self.waits.values():
            if wait[5] is None:
                self._close(wait, "cancelled", step.body["at"], None)

    def erased(self, _: Step) -> None:
        for call in self.calls.values():
            call.metadata = {}
            for attempt in call.attempts:
                attempt.metadata = {}
        self.usage = [used._replace(payload=None) for used in self.usage]

    @staticmethod
    def _close(wait: list[object], outcome: str, at: int, by: str | None) -> None:
        wait[5:] = [outcome, max(at, cast("int", wait[3])), by]

    def finish(self, folded: Folded) -> None:
        """Add this execution's rows."""
        totals: dict[int, list[int | None]] = {}
        for used in self.usage:
            call = self.calls.get(used.body["call"])
            row = _usage_row(used, call)
            folded.usage.append(row)
            _add(totals.setdefault(used.body["call"], [0, None, None, None, None]), row)
        for ordinal, call in self.calls.items():
            body, last = call.body, call.attempts[-1] if call.attempts else None
            failed = last if call.status == "failed" else None
            folded.calls.append(
                (
                    self.number, ordinal,
                    body.get("invocation_id") or "", body.get("name") or "", body.get("checkpoint_type"),
                    call.status, call.started_at, call.ended_at, len(call.attempts), body.get("original_call_id"),
                    _text(body.get("parents")), failed and failed.raised, failed and failed.origin,
                    _text(call.metadata), *totals.get(ordinal, _NO_USAGE),
                )
            )  # fmt: skip
            for each in call.attempts:
                failure = (each.raised, each.origin, each.retry_after)
                times = (each.status, each.started_at, each.ended_at)
                folded.attempts.append((self.number, ordinal, each.number, *times, *failure, _text(each.metadata)))
        folded.waits.extend((self.number, ordinal, *wait) for ordinal, wait in self.waits.items())


_NO_USAGE = (0, None, None, None, None)
_OUTCOMES = {"WaitResolved": "answered", "WaitAborted": "aborted", "WaitExpired": "expired"}
_HANDLERS: dict[str, Callable[[_Execution, Step], None]] = {
    "AttemptStarted": _Execution.attempt_started,
    "AttemptFailed": _Execution.attempt_failed,
    "CheckpointCompleted": _Execution.call_completed,
    "CheckpointFailed": _Execution.call_failed,
    "CheckpointReused": _Execution.call_reused,
    "MetadataLogged": _Execution.metadata_logged,
    "LLMUsageRecorded": _Execution.usage_recorded,
    "WaitOpened": _Execution.wait_opened,
    "WaitResolved": _Execution.wait_closed,
    "WaitAborted": _Execution.wait_closed,
    "WaitExpired": _Execution.wait_closed,
    "RunnerClaimed": _Execution.claimed,
    "ExecutionCompleted": _Execution.ended,
    "ExecutionFailed": _Execution.ended,
    "ExecutionCancelled": _Execution.ended,
    "PayloadErased": _Execution.erased,
}


def _add(totals: list[int | None], row: tuple[object, ...]) -> None:
    totals[0] = (totals[0] or 0) + 1
    for place, value in enumerate(row[_COST : _COST + 4], 1):
        if value is not None:
            totals[place] = (totals[place] or 0) + cast("int", value)


_COST = 12


def _usage_row(step: Step, call: _Call | None) -> tuple[object, ...]:
    """A record's figures, which stand in the event, and what besides is told by its payload, if that is still there."""
    body, record = step.body, _part(step.payload)
    figures, usage, cost = _part(body.get("figures")), _part(record.get("usage")), _part(record.get("cost"))
    actual, estimated = figures.get("actual_cost"), figures.get("estimated_cost")
    effect = figures.get("billing_effect", "incurred")
    return (
        step.number, body["call"], body["attempt"], body["at"], None if call is None else call.body.get("name"),
        body["record_id"], figures.get("event_id"), figures.get("adapter", "kitaru.llm"), figures.get("provider"),
        figures.get("model"), figures.get("status", "completed"), effect,
        None if effect == "reused_not_incurred" else estimated if actual is None else actual,
        figures.get("total_tokens"), figures.get("input_tokens"), figures.get("output_tokens"),
        figures.get("cached_input_tokens"), figures.get("reasoning_tokens"), actual, estimated, figures.get("latency_us"),
        *(_name(record.get(name)) for name in ("surface", "call_name", "requested_model", "resolved_model", "cache_status")),
        *(_name(cost.get(name)) for name in ("currency", "source", "source_label", "pricing_version")),
        _text(figures.get("warnings")), _text(usage.get("raw")),
    )  # fmt: skip


def _part(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _name(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else str(value)


def _text(tree: object) -> str | None:
    """The JSON of something, or None for nothing."""
    return write(tree).decode() if tree else None
