"""The rules: `decide(state, command, at)` gives the events that the command leads to, or raises why it is refused.

Pure: no clock, no randomness, no I/O. `at` is the caller's clock in microseconds since 1970. What it raises is
KitaruStateError (the state does not allow it), KitaruFencedError (a newer runner) or KitaruRuntimeError (a limit).
"""

from __future__ import annotations

from kitaru.domain import commands as c
from kitaru.domain import limits
from kitaru.domain.errors import KitaruFencedError, KitaruRuntimeError, KitaruStateError
from kitaru.domain.events import (
    ArtifactSaved,
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    CheckpointCompleted,
    CheckpointFailed,
    CheckpointReused,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionResumed,
    ExecutionRetried,
    ExecutionSuspended,
    InputsDiffered,
    LLMUsageRecorded,
    MetadataLogged,
    PayloadErased,
    RunnerClaimed,
    TagsChanged,
    WaitAborted,
    WaitExpired,
    WaitOpened,
    WaitResolved,
)
from kitaru.domain.state import ExecutionState, Pending, evolve
from kitaru.domain.status import ExecutionStatus as S
from kitaru.domain.transitions import TRANSITIONS

_PAST_THE_LIMIT = (
    AttemptFailed,
    CheckpointCompleted,
    CheckpointFailed,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionSuspended,
    LLMUsageRecorded,
)
"""What ends something that was under way when the limit was reached."""
_CLOSED = "was answered or given up, or expired, before (see kitaru executions get EXECUTION)"


def decide(state: ExecutionState, command: c.Command, at: int) -> tuple[Event, ...]:
    """The events of `command` in `state`; empty when it asks for what already is. Refusals raise."""
    if isinstance(command, c.Report):
        advance(state, command, at)
        return command.events
    name = type(command).__name__
    if state.status not in TRANSITIONS[name]:
        raise KitaruStateError(_not_allowed(name, state))
    match command:
        case c.Start():
            return (command.started, *_claimed(state, command.runner, at))
        case c.Claim():
            _check_free(state, command.lost_epoch, at)
            if state.cancel_requested:
                return (ExecutionCancelled(at=at),)
            return _claimed(state, command.runner, at, command.file_digest)
        case c.Resume():
            _check_free(state, command.lost_epoch, at)
            if state.cancel_requested:
                return (ExecutionCancelled(at=at),)
            resumed = ExecutionResumed(at=at, by=command.by, file_digest=command.file_digest)
            return (resumed, *_claimed(state, command.runner, at))
        case c.Retry():
            if state.erased:
                raise KitaruStateError("the execution's payloads were erased; start a new one")
            retried = ExecutionRetried(at=at, by=command.by, file_digest=command.file_digest)
            return (retried, *_claimed(state, command.runner, at))
        case c.Answer():
            answered = _find_open(state, command.wait, at)
            return (WaitResolved(at=at, wait=answered.wait, value=command.value, by=command.by),)
        case c.AbortWait():
            aborted = WaitAborted(at=at, wait=_find_open(state, command.wait, at).wait, by=command.by)
            return (aborted, *_cancelled(state, command.by, command.lost_epoch, at))
        case c.Cancel():
            return _cancelled(state, command.by, command.lost_epoch, at)
        case c.ChangeTags():
            return (TagsChanged(at=at, by=command.by, add=command.add, remove=command.remove),)
        case c.Erase():
            return (PayloadErased(at=at, by=command.by, through=state.version),)


def find_pending(state: ExecutionState, wait: str) -> Pending:
    """The pending input wait with that name, else with that ordinal. Raises KitaruStateError listing the names."""
    inputs = [p for p in state.pending if p.kind == "input"]
    for pending in inputs:
        if pending.name == wait:
            return pending
    for pending in inputs:
        if str(pending.wait) == wait:
            return pending
    names = ", ".join(repr(p.name) for p in inputs) or "none"
    closed = {str(number) for number in range(1, state.waits + 1)} - {str(p.wait) for p in state.pending}
    if wait in closed:
        raise KitaruStateError(f"wait {wait!r} is not open any more: it {_CLOSED}; pending: {names}")
    if closed:
        raise KitaruStateError(
            f"no wait {wait!r} is pending here, or it is not open any more: it {_CLOSED}; pending: {names}"
        )
    raise KitaruStateError(f"no wait {wait!r} is pending here; pending: {names}")


def _find_open(state: ExecutionState, wait: str, at: int) -> Pending:
    """The pending input wait, whose time has not come."""
    pending = find_pending(state, wait)
    if pending.expires_at is not None and at >= pending.expires_at:
        raise KitaruStateError(
            f"wait {pending.name!r} has expired: it is neither answered nor given up any more. Go on with the execution: "
            "kitaru executions resume EXECUTION, or leave it to a worker"
        )
    return pending


def _not_allowed(name: str, state: ExecutionState) -> str:
    status = "absent" if state.status is None else str(state.status)
    needs = sorted(str(s) for s in TRANSITIONS[name] if s is not None) or ["absent"]
    refusal = f"{name} is not possible: the execution is {status}; it has to be {' or '.join(needs)}"
    return f"{refusal}. {hint}" if (hint := _next_step(name, state)) else refusal


def _next_step(name: str, state: ExecutionState) -> str | None:
    """What is possible instead."""
    match name, state.status:
        case "Answer" | "AbortWait", _ if state.waits:
            return f"The wait is not open any more: it {_CLOSED}"
        case "Retry", S.RUNNING | S.WAITING:
            return "Go on with one whose runner is gone by kitaru executions resume EXECUTION, or kitaru recover"
        case "Resume", S.FAILED:
            return "Run it on from there: kitaru executions retry EXECUTION"
        case "Retry" | "Resume", S.COMPLETED | S.CANCELLED:
            return "Replay it: kitaru executions replay EXECUTION --from CHECKPOINT"
        case _:
            return None


def _claimed(state: ExecutionState, runner: str | None, at: int, file_digest: str | None = None) -> tuple[Event, ...]:
    if runner is None:
        return ()
    return (RunnerClaimed(at=at, epoch=state.epoch + 1, runner=runner, file_digest=file_digest),)


def is_ready(state: ExecutionState, at: int) -> bool:
    """Whether an execution without a runner has something to do: nothing is awaited, or something else can go on."""
    due = any(p.expires_at is not None and p.expires_at <= at for p in state.pending)
    return not state.pending or state.woken or due or state.cancel_requested


def _check_free(state: ExecutionState, lost_epoch: int | None, at: int) -> None:
    """Raise why nobody may go on with the execution now. A runner that was lost may have left work at any point."""
    if state.runner is not None:
        if state.epoch != lost_epoch:
            raise KitaruStateError("a live runner holds this execution; wait for it, or cancel it")
        return
    if is_ready(state, at):
        return
    names = ", ".join(repr(p.name) for p in state.pending if p.kind == "input")
    if names:
        raise KitaruStateError(
            f"the execution waits for input: {names}; answer it first: kitaru executions input EXECUTION --wait NAME"
        )
    raise KitaruStateError("the execution sleeps; it is not due yet")


def _cancelled(state: ExecutionState, by: str, lost_epoch: int | None, at: int) -> tuple[Event, ...]:
    requested: tuple[Event, ...] = () if state.cancel_requested else (CancelRequested(at=at, by=by),)
    if state.runner is None or state.epoch == lost_epoch:
        return (*requested, ExecutionCancelled(at=at))
    return requested


def advance(state: ExecutionState, report: c.Report, at: int) -> ExecutionState:
    """The state after a runner's report, or the refusal that `decide` raises for it: for whoever needs the state."""
    for event in report.events:
        name = type(event).__name__
        if state.status not in TRANSITIONS.get(name, ()):
            raise KitaruStateError(_not_allowed(name, state) if name in TRANSITIONS else f"{name} cannot be reported")
        if report.epoch != state.epoch or state.runner is None:
            raise KitaruFencedError(
                f"another runner has taken this execution over (epoch {state.epoch}, this one is {report.epoch})"
            )
        if state.version >= limits.MAX_EVENTS and not isinstance(event, _PAST_THE_LIMIT):
            raise KitaruRuntimeError(
                f"the execution has {state.version} events, the most there may be; split the work into more executions",
                code="event-limit",
            )
        wrong = _objection(state, event, at)
        if wrong is not None:
            raise KitaruStateError(f"{name} is not possible: {wrong}")
        state = evolve(state, event)
    return state


def _objection(state: ExecutionState, event: Event, at: int) -> str | None:
    """Why the execution cannot take this report, or None."""
    match event:
        case AttemptStarted(call=call, attempt=1):
            if event.invocation_id is None or event.name is None or event.input_digest is None:
                return "attempt 1 opens a call and has to name it"
            return _objection_to_new_call(state, call)
        case AttemptStarted(call=call, attempt=attempt):
            if state.cancel_requested:
                return "the execution is being cancelled"
            if state.in_flight >> call & 1:
                return f"call {call} is in flight"
            if state.failed >> call & 1 or state.attempts.get(call) != attempt - 1:
                return f"call {call} takes no attempt {attempt}"
        case AttemptFailed(call=call, attempt=attempt) | CheckpointCompleted(call=call, attempt=attempt):
            return _objection_to_attempt(state, call, attempt)
        case CheckpointFailed(call=call, attempt=attempt):
            if state.in_flight >> call & 1 or state.failed >> call & 1 or state.attempts.get(call) != attempt:
                return f"call {call} did not end with attempt {attempt}"
        case CheckpointReused(call=call):
            return _objection_to_new_call(state, call)
        case InputsDiffered(call=call):
            if not (state.completed | state.failed) >> call & 1:
                return f"call {call} has no recorded outcome"
        case WaitOpened():
            if state.cancel_requested:
                return "the execution is being cancelled"
            if event.wait != state.waits + 1:
                return f"the next wait is {state.waits + 1}"
            if event.kind == "timer" and event.expires_at is None:
                return "a timer has a time"
            if len(state.pending) >= limits.MAX_OPEN_WAITS:
                return f"{limits.MAX_OPEN_WAITS} waits are pending, the most there may be"
        case WaitExpired(wait=wait):
            if not any(p.wait == wait and p.expires_at is not None and p.expires_at <= at for p in state.pending):
                return f"wait {wait} is not due"
        case ArtifactSaved(call=call, attempt=attempt) | MetadataLogged(call=call, attempt=attempt):
            if call is not None:
                return _objection_to_attempt(state, call, attempt)
        case LLMUsageRecorded(call=call, attempt=attempt):
            if not state.reused >> call & 1 and not 1 <= attempt <= state.attempts.get(call, 0):
                return f"attempt {attempt} of call {call} was not begun, or the call has its result"
        case ExecutionCompleted() | ExecutionSuspended() | ExecutionRetried():
            if state.in_flight:
                return "calls are in flight"
            if isinstance(event, ExecutionSuspended) and state.cancel_requested:
                return "the execution is being cancelled"
            if isinstance(event, ExecutionRetried) and not event.automatic:
                return "a runner only retries by itself"
            if isinstance(event, ExecutionRetried) and state.cancel_requested:
                return "the execution is being cancelled"
        case ExecutionCancelled():
            if not state.cancel_requested:
                return "nobody asked for it"
        case _:
            pass
    return None


def _objection_to_new_call(state: ExecutionState, call: int) -> str | None:
    if state.cancel_requested:
        return "the execution is being cancelled"
    return None if call == state.calls + 1 else f"the next call is {state.calls + 1}"


def _objection_to_attempt(state: ExecutionState, call: int, attempt: int | None) -> str | None:
    if state.in_flight >> call & 1 and state.attempts.get(call) == attempt:
        return None
    return f"attempt {attempt} of call {call} is not in flight"
