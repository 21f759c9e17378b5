"""Rows and folded events as the client's models. What a list says of an execution and what `get` says are made here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from orjson import loads

from kitaru.client.models import (
    ArtifactRef,
    CheckpointAttempt,
    CheckpointCall,
    Execution,
    FailureInfo,
    FrozenExecutionSpec,
    PendingWait,
    Plain,
    RunnerStatus,
)
from kitaru.client.shown import has_passed, masked, moment, shown, shown_text, shown_tree
from kitaru.client.usage import metadata_of_call, metadata_of_execution, records_of, registry_of, summary_of
from kitaru.domain.errors import FailureOrigin
from kitaru.domain.ids import artifact_id, attempt_id, call_id, wait_id
from kitaru.domain.status import ExecutionStatus
from kitaru.domain.usage import UsageRecord, UsageSeen

if TYPE_CHECKING:
    from kitaru.domain.events import FailureFields, FlowOptions, Target
    from kitaru.domain.payload import Payload
    from kitaru.projections.detail import Artifact, Attempt, Call, Detail, Load, Wait
    from kitaru.projections.listing import ExecutionRow, WaitRow

ERASED = "(erased)"
_INPUTS = ("prompt", "context", "input")
_MEDIA_TYPES = {"k1": "application/vnd.kitaru.k1+json"}


class Seen(NamedTuple):
    """What the reason of a status is made of. `sleeps_until` is microseconds since 1970; `runner` is None in the past.

    `expired` are those of `waits_for` whose time has come, which closes them when somebody goes on.
    """

    exec_id: str
    status: ExecutionStatus
    runner: RunnerStatus | None
    cancel_requested: bool
    waits_for: tuple[str, ...]
    sleeps_until: int | None
    stack: str
    progress: object
    expired: tuple[str, ...] = ()


def reason_of(seen: Seen) -> str | None:
    """Why an unfinished execution is where it is, in words; None when there is nothing to say."""
    if seen.status.is_finished:
        return None
    if seen.cancel_requested:
        return "cancel requested: it stops at its next boundary"
    if seen.waits_for:
        names = ", ".join(f"{name} (expired)" if name in seen.expired else name for name in seen.waits_for)
        if seen.expired and seen.runner != "alive":
            return f"waiting for {names}; go on with: kitaru executions resume {seen.exec_id} (or leave it to a worker)"
        return f"waiting for {names}"
    if seen.sleeps_until is not None:
        return f"sleeping until {moment(seen.sleeps_until).isoformat(timespec='seconds')}"
    if seen.runner == "lost":
        return f"its runner is gone; go on with: kitaru recover {seen.exec_id}"
    if seen.runner == "queued" and seen.stack == "local":
        return f"ready to go on: a worker takes it, or: kitaru executions resume {seen.exec_id}"
    if seen.runner == "queued":
        return f"queued on the stack {seen.stack}"
    if seen.runner == "none":
        return f"no runner has it; go on with: kitaru recover {seen.exec_id}"
    return _progress(seen.progress)


def _progress(progress: object) -> str | None:
    if not isinstance(progress, dict):
        return None
    fields = cast("Plain", progress)
    message, percent = fields.get("message"), fields.get("percent")
    parts = [str(message)] if message is not None else []
    if percent is not None:
        parts.append(f"{percent} %")
    return ", ".join(parts) or None


def runner_of(status: ExecutionStatus, stack: str, *, runner: str | None, is_alive: bool, queued: bool) -> RunnerStatus:
    """Who runs it. Unclaimed work on another stack than `local` is queued: somebody else will take it."""
    if status.is_finished:
        return "none"
    if runner is not None:
        return "alive" if is_alive else "lost"
    return "queued" if queued or (stack != "local" and status is ExecutionStatus.RUNNING) else "none"


def from_row(row: ExecutionRow, waits: Sequence[PendingWait], sleeps_until: int | None, is_alive: bool) -> Execution:
    """An execution in a list. Its parts are of the models' own types: checking them would cost building the schemas."""
    status = ExecutionStatus(row.status)
    runner = runner_of(status, row.stack, runner=row.runner, is_alive=is_alive, queued=bool(row.queued))
    summary = None if row.usage is None else summary_of(row.usage, _seen(row))
    metadata = metadata_of_execution(cast("Plain", shown(row.metadata) or {}), row.usage, summary)
    names = tuple(wait.name for wait in waits)
    expired = tuple(wait.name for wait in waits if has_passed(wait.expires_at))
    cancels, progress = bool(row.cancel_requested), metadata.get("progress")
    seen = Seen(row.exec_id, status, runner, cancels, names, sleeps_until, row.stack, progress, expired)
    failure = None
    if row.failure_type is not None:
        failure = FailureInfo.model_construct(
            message=_or_erased(shown_text(row.failure_message)),
            exception_type=row.failure_type,
            traceback=shown_text(row.failure_traceback),
            origin=FailureOrigin(row.failure_origin),
        )
    spec = cast("dict[str, Plain]", loads(row.spec))
    return Execution.model_construct(
        exec_id=row.exec_id,
        flow_id=row.flow_id,
        flow_name=row.flow_name,
        project=row.project,
        status=status,
        status_reason=reason_of(seen),
        runner=runner,
        started_at=moment(row.started_at),
        ended_at=None if row.ended_at is None else moment(row.ended_at),
        duration=None if row.ended_at is None else (row.ended_at - row.started_at) / 1e6,
        stack_id=row.stack,
        stack_name=row.stack,
        tags=tuple(cast("list[str]", loads(row.tags))),
        metadata=metadata,
        failure=failure,
        pending_wait=waits[0] if waits else None,
        pending_waits=tuple(waits),
        waits=None,
        checkpoints=None,
        checkpoint_count=row.checkpoint_count,
        artifacts=None,
        artifact_count=row.artifact_count,
        original_exec_id=row.original_exec_id,
        frozen_execution_spec=_spec(spec["target"], spec["options"], row.stack),
        llm_usage_summary=summary,
        llm_usage_records=None,
        version=row.version,
    )


def _seen(row: ExecutionRow) -> UsageSeen:
    return UsageSeen(*(tuple(cast("list[str]", loads(names or "[]"))) for names in (row.adapters, row.models, row.warnings)))


def from_detail(exec_id: str, detail: Detail, load: Load, is_alive: bool | None) -> Execution:
    """An execution in full. `is_alive` is None for one as it was: who lives today says nothing about it."""
    started, state = detail.started, detail.state
    assert started is not None
    assert state.status is not None
    status = ExecutionStatus(state.status.value)
    runner = None
    if is_alive is not None:
        runner = runner_of(status, started.stack, runner=state.runner, is_alive=is_alive, queued=detail.queued)
    summary = summary_of(detail.usage, detail.usage_seen)
    metadata = metadata_of_execution(shown_tree(detail.metadata), detail.usage, summary)
    waits = [wait_of(exec_id, wait, load) for wait in detail.waits.values() if wait.opened.kind == "input"]
    pending = tuple(wait for wait in waits if wait.outcome is None)
    timers = [wait.opened.expires_at for wait in detail.open_waits if wait.opened.kind == "timer"]
    sleeps_until = min((at for at in timers if at is not None), default=None)
    names = tuple(wait.name for wait in pending)
    expired = tuple(wait.name for wait in pending if runner is not None and has_passed(wait.expires_at))
    cancels, progress = state.cancel_requested, metadata.get("progress")
    seen = Seen(exec_id, status, runner, cancels, names, sleeps_until, started.stack, progress, expired)
    artifacts = {artifact.version: artifact_of(exec_id, artifact, detail) for artifact in detail.artifacts}
    calls = tuple(_call(exec_id, call, artifacts, load) for call in detail.calls.values())
    records = tuple(record for call in calls for record in call.llm_usage_records)
    return Execution(
        exec_id=exec_id,
        flow_id=started.flow_id,
        flow_name=started.flow_name,
        project=started.project,
        status=status,
        status_reason=reason_of(seen),
        runner=runner or "none",
        started_at=moment(started.at),
        ended_at=None if detail.ended_at is None else moment(detail.ended_at),
        duration=None if detail.ended_at is None else (detail.ended_at - started.at) / 1e6,
        stack_id=started.stack,
        stack_name=started.stack,
        tags=tuple(detail.tags),
        metadata=metadata,
        failure=None if detail.failure is None else _failure(detail.failure, load),
        pending_wait=pending[0] if pending else None,
        pending_waits=pending,
        waits=tuple(waits),
        checkpoints=calls,
        checkpoint_count=len(calls),
        artifacts=tuple(artifacts.values()),
        artifact_count=len(detail.artifacts),
        original_exec_id=started.original_exec_id,
        frozen_execution_spec=_spec_of(started.target, started.options, started.stack, registry_of(records) or None),
        llm_usage_summary=summary,
        llm_usage_records=records,
        version=state.version,
    )


def as_listed(full: Execution) -> Execution:
    """An execution without what lists leave out."""
    spec = full.frozen_execution_spec.model_copy(update={"model_registry": None})
    left_out = {"waits": None, "checkpoints": None, "artifacts": None, "llm_usage_records": None}
    return full.model_copy(update={**left_out, "frozen_execution_spec": spec})


def _spec_of(target: Target, options: FlowOptions, stack: str, models: dict[str, str] | None) -> FrozenExecutionSpec:
    return _spec(target.model_dump(mode="json"), options.model_dump(mode="json"), stack, models)


def _spec(target: Plain, options: Plain, stack: str, models: dict[str, str] | None = None) -> FrozenExecutionSpec:
    file, digest = target.get("file"), target.get("digest")
    qualname = str(target.get("qualname"))
    return FrozenExecutionSpec.model_construct(
        target=qualname if file is None else f"{file}:{qualname}",
        file_digest=None if digest is None else str(digest),
        options=cast("Plain", masked(options)),
        stack=stack,
        model_registry=models,
    )


def _failure(failed: FailureFields, load: Load) -> FailureInfo:
    return FailureInfo(
        message=_or_erased(shown_text(load(failed.message))),
        exception_type=failed.exception_type,
        traceback=None if failed.traceback is None else shown_text(load(failed.traceback)),
        origin=failed.origin,
    )


def _or_erased(text: str | None) -> str:
    return ERASED if text is None else text


def _call(exec_id: str, call: Call, artifacts: Mapping[int, ArtifactRef], load: Load) -> CheckpointCall:
    told = records_of(call.usage, load)  # once: an attempt's records are the call's own
    records, by_attempt = tuple(record for _, record in told), defaultdict[int, list[UsageRecord]](list)
    for number, record in told:
        by_attempt[number].append(record)
    attempts = tuple(_attempt(exec_id, call.call, each, tuple(by_attempt[each.number]), load) for each in call.attempts)
    return CheckpointCall(
        call_id=call_id(exec_id, call.call),
        invocation_id=call.invocation_id,
        name=call.name,
        checkpoint_type=call.checkpoint_type,
        status=call.status,
        started_at=moment(call.started_at),
        ended_at=None if call.ended_at is None else moment(call.ended_at),
        metadata=metadata_of_call(shown_tree(call.metadata), records),
        original_call_id=call.original_call_id,
        parent_call_ids=tuple(call_id(exec_id, parent) for parent in call.parents),
        failure=attempts[-1].failure if call.failure is not None else None,
        attempts=attempts,
        artifacts=tuple(artifacts[artifact.version] for artifact in call.artifacts),
        llm_usage_records=records,
    )


def _attempt(exec_id: str, call: int, attempt: Attempt, records: tuple[UsageRecord, ...], load: Load) -> CheckpointAttempt:
    return CheckpointAttempt(
        attempt_id=attempt_id(exec_id, call, attempt.number),
        number=attempt.number,
        status=attempt.status,
        started_at=moment(attempt.started_at),
        ended_at=None if attempt.ended_at is None else moment(attempt.ended_at),
        metadata=shown_tree(attempt.metadata),
        failure=None if attempt.failure is None else _failure(attempt.failure, load),
        llm_usage_records=records,
    )


def wait_from_row(exec_id: str, row: WaitRow) -> PendingWait:
    """A pending wait of a list. Raises ValueError for bytes that are no value."""
    return PendingWait.model_construct(
        wait_id=wait_id(exec_id, row.wait),
        exec_id=exec_id,
        name=row.name,
        question=shown_text(row.question),
        schema_=shown(row.json_schema),
        metadata=cast("Plain", shown(row.metadata) or {}),
        entered_waiting_at=moment(row.opened_at),
        expires_at=None if row.expires_at is None else moment(row.expires_at),
    )


def wait_of(exec_id: str, wait: Wait, load: Load) -> PendingWait:
    """A wait for input, open or closed."""
    opened = wait.opened

    def plain(payload: Payload | None) -> object:
        return None if payload is None else shown(load(payload))

    question = plain(opened.question)
    return PendingWait(
        wait_id=wait_id(exec_id, opened.wait),
        exec_id=exec_id,
        name=opened.name,
        question=None if question is None else str(question),
        schema=plain(opened.json_schema),
        metadata=cast("Plain", plain(opened.metadata) or {}),
        entered_waiting_at=moment(opened.at),
        expires_at=None if opened.expires_at is None else moment(opened.expires_at),
        outcome=wait.outcome,
        value=plain(wait.value),
        by=wait.by,
        closed_at=None if wait.closed_at is None else moment(wait.closed_at),
    )


def artifact_of(exec_id: str, artifact: Artifact, detail: Detail) -> ArtifactRef:
    """A recorded value, not loaded."""
    saved, call = artifact.saved, artifact.call
    kind = saved.kind if saved is not None else "output"
    return ArtifactRef(
        artifact_id=artifact_id(exec_id, artifact.version),
        name=saved.name if saved is not None else detail.calls[call].name if call is not None else "",
        kind=kind,
        save_type="step_output" if saved is None else "manual",
        direction="input" if kind in _INPUTS else "output",
        producing_call=None if call is None else call_id(exec_id, call),
        metadata={},
        tags=saved.tags if saved is not None else (),
        size=artifact.value.size,
        media_type=_MEDIA_TYPES.get(artifact.value.codec, "application/octet-stream"),
        created_at=moment(artifact.at),
    )
