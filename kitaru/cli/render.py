"""Executions, events and artifacts as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from kitaru.cli.output import clean, dumped, print_fields, print_table
from kitaru.domain.errors import shown_type
from kitaru.domain.usage import RESERVED_KEYS

if TYPE_CHECKING:
    from kitaru.client.models import ArtifactRef, CheckpointCall, Execution, ExecutionEvent, FailureInfo, PendingWait
    from kitaru.domain.usage import UsageSummary

_EVENT_CHARS = 160
_RUNTIME_FRAME = re.compile(r'  File ".*[/\\]kitaru[/\\]runtime[/\\]\w+\.py", line \d+, in ')
_SPARE = ("Tags", "Checkpoints", "Duration", "Started")
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def when(moment: datetime | None) -> str:
    """A time to the second, in UTC."""
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")


def lasted(seconds: float | None) -> str:
    """A duration that a person reads at once."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.3g}ms"
    if seconds < _MINUTE:
        return f"{seconds:.3g}s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)}m {int(seconds % _MINUTE)}s"
    if seconds < _DAY:
        return f"{int(seconds // _HOUR)}h {int(seconds % _HOUR // _MINUTE)}m"
    return f"{int(seconds // _DAY)}d {int(seconds % _DAY // _HOUR)}h"


def execution_table(executions: Sequence[Execution]) -> None:
    """One line for each execution."""
    header = ("Execution", "Flow", "Status", "Started", "Duration", "Checkpoints", "Tags", "Note")
    print_table(header, [_line(execution) for execution in executions], _SPARE, "Note")


def _line(execution: Execution) -> tuple[str, ...]:
    failure = execution.failure
    note = execution.status_reason or ("" if failure is None else failure_line(failure))
    return (
        execution.exec_id,
        execution.flow_name,
        execution.status.value,
        when(execution.started_at),
        lasted(execution.duration),
        str(execution.checkpoint_count),
        " ".join(execution.tags),
        note,
    )


def wait_table(waits: Sequence[PendingWait]) -> None:
    """One line for each open wait."""
    rows = [(wait.exec_id, wait.name, when(wait.entered_waiting_at), _expiry(wait), wait.question or "") for wait in waits]
    print_table(("Execution", "Wait", "Since", "Expires", "Question"), rows, ("Expires", "Since"), "Question")


def _expiry(wait: PendingWait) -> str:
    from kitaru.client.shown import has_passed

    return f"{when(wait.expires_at)} (expired)" if has_passed(wait.expires_at) else when(wait.expires_at)


def failure_line(failure: FailureInfo) -> str:
    """Why something failed, on one line."""
    lines = failure.message.splitlines()
    return f"{shown_type(failure.exception_type)}: {lines[0] if lines else ''}".rstrip(": ")


def execution_text(execution: Execution) -> None:
    """One execution in full."""
    spec = execution.frozen_execution_spec
    print_fields(
        (
            ("Execution", execution.exec_id),
            ("Flow", execution.flow_name),
            ("Status", execution.status.value),
            ("Reason", execution.status_reason),
            ("Runner", execution.runner if execution.runner != "none" else None),
            ("Started", when(execution.started_at)),
            ("Ended", when(execution.ended_at) or None),
            ("Duration", lasted(execution.duration) or None),
            ("Project", execution.project if execution.project != "default" else None),
            ("Stack", execution.stack_name),
            ("Target", spec.target),
            ("Tags", " ".join(execution.tags) or None),
            ("Replay of", execution.original_exec_id),
            ("Checkpoints", execution.checkpoint_count),
            ("Artifacts", execution.artifact_count),
            ("LLM usage", usage_line(execution.llm_usage_summary)),
            *((f"  {key}", dumped(value)) for key, value in execution.metadata.items() if key not in RESERVED_KEYS),
        )
    )
    if execution.failure is not None:
        failure_text(execution.failure)
    if execution.waits:
        print("\nWaits")
        for wait in execution.waits:
            _wait_text(wait)
    if execution.checkpoints:
        print()
        checkpoint_table(execution.checkpoints)
    if execution.artifacts and any(artifact.save_type == "manual" for artifact in execution.artifacts):
        print()
        artifact_table([artifact for artifact in execution.artifacts if artifact.save_type == "manual"])


def usage_line(summary: UsageSummary | None) -> str | None:
    """What an execution's LLM calls used, on one line; None without any."""
    if summary is None:
        return None
    count, reused = summary.usage_record_count, summary.reused_usage_record_count
    unknown = count - reused - summary.incurred_usage_record_count
    parts = [f"{count} record{'s' * (count != 1)}"]
    parts += [f"{number} {word}" for number, word in ((reused, "reused"), (unknown, "unknown")) if number]
    parts.append(f"{summary.total_tokens:,} tokens ({summary.input_tokens:,} in, {summary.output_tokens:,} out)")
    without = summary.records_without_cost_count
    if without < count:
        parts.append(f"{summary.display_cost_usd.normalize():f} USD")
    if without:
        parts.append("no cost known" if without == count else f"{without} without a cost")
    return ", ".join(parts)


def failure_text(failure: FailureInfo) -> None:
    """Why something failed, with the traceback: of the user's own frames, JSON has all of them."""
    print(f"\nFailure ({failure.origin.value}): {clean(shown_type(failure.exception_type))}: ", end="")
    print(clean(failure.message, keep_lines=True))
    for line in _own_frames((failure.traceback or "").rstrip().splitlines()):
        print(f"  {clean(line)}")


def _own_frames(lines: Sequence[str]) -> Iterator[str]:
    """A traceback without the frames of the runtime, through which every call of a checkpoint goes."""
    is_left_out = False
    for line in lines:
        if line.startswith("  File "):
            is_left_out = _RUNTIME_FRAME.match(line) is not None
        elif not line.startswith("    "):
            is_left_out = False
        if not is_left_out:
            yield line


def _wait_text(wait: PendingWait) -> None:
    print_fields(
        (
            ("  Wait", f"{wait.name} ({wait.outcome or 'pending'})"),
            ("  Question", wait.question),
            ("  Since", when(wait.entered_waiting_at)),
            ("  Answer", None if wait.outcome != "answered" else dumped(wait.value)),
            ("  By", wait.by),
        )
    )


def checkpoint_table(calls: Sequence[CheckpointCall]) -> None:
    """One line for each checkpoint call."""
    rows: list[tuple[str, ...]] = []
    for call in calls:
        failures = [attempt.failure for attempt in call.attempts if attempt.failure is not None]
        note = f"reused from {call.original_call_id}" if call.original_call_id is not None else ""
        if failures:
            note = failure_line(failures[-1])
        elif any(attempt.status == "interrupted" for attempt in call.attempts):
            note = "interrupted"
        took = None if call.ended_at is None else (call.ended_at - call.started_at).total_seconds()
        rows.append((call.invocation_id, call.status, str(len(call.attempts)), when(call.started_at), lasted(took), note))
    header = ("Checkpoint", "Status", "Attempts", "Started", "Duration", "Note")
    print_table(header, rows, ("Started", "Attempts"), "Note")


def artifact_table(artifacts: Sequence[ArtifactRef]) -> None:
    """One line for each recorded value."""
    rows = [
        (
            artifact.artifact_id,
            artifact.name,
            artifact.kind,
            artifact.save_type,
            f"{artifact.size}",
            (artifact.producing_call or "").rpartition(".")[2],
        )
        for artifact in artifacts
    ]
    print_table(("Artifact", "Name", "Kind", "Saved", "Bytes", "Call"), rows)


def event_line(event: ExecutionEvent) -> str:
    """One event on one line; long values are cut."""
    parts: list[str] = []
    for key, value in event.data.items():
        text = value if isinstance(value, str) else dumped(value)
        parts.append(f"{key}={text if len(text) <= _EVENT_CHARS else text[:_EVENT_CHARS] + '…'}")
    at = event.at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
    return clean(f"{event.version:>5}   {at}   {event.type:<20}   {'  '.join(parts)}".rstrip())
