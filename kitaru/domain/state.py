"""What an execution's events amount to, as far as the next decision needs it: ExecutionState and `evolve`.

The state is a NamedTuple and its sets of calls are bits of one integer: a fold over 20,000 events builds 20,000
states, and this is the shape in which that costs microseconds each whatever the number of calls
(docs/decisions/0003). Calls are numbered from 1; bit n stands for call n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, cast

from kitaru.domain.events import (
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
    ExecutionRetried,
    ExecutionStarted,
    ExecutionSuspended,
    HistoryDropped,
    PayloadErased,
    RunnerClaimed,
    WaitAborted,
    WaitExpired,
    WaitOpened,
    WaitResolved,
)
from kitaru.domain.outline import CallCompleted, CallStarted
from kitaru.domain.status import ExecutionStatus


class Pending(NamedTuple):
    """An open wait or timer. `version` is that of its WaitOpened; `expires_at` is microseconds since 1970."""

    wait: int
    kind: Literal["input", "timer"]
    name: str
    version: int
    expires_at: int | None


_NO_ATTEMPTS: Mapping[int, int] = MappingProxyType({})


class ExecutionState(NamedTuple):
    """One execution after `version` events. `status` None: it does not exist yet."""

    version: int = 0
    status: ExecutionStatus | None = None
    epoch: int = 0
    runner: str | None = None
    cancel_requested: bool = False
    pending: tuple[Pending, ...] = ()
    waits: int = 0
    calls: int = 0
    attempts: Mapping[int, int] = _NO_ATTEMPTS
    """Latest attempt of each call that has no result."""
    in_flight: int = 0
    completed: int = 0
    failed: int = 0
    woken: bool = False
    """Something can go on although something is awaited: an answer or a moment came in, or a runner left work behind."""
    erased: bool = False
    reused: int = 0
    """Calls that took another call's result."""


ABSENT = ExecutionState()


def evolve(state: ExecutionState, event: Event) -> ExecutionState:
    """The state after `event`. Never refuses: what is recorded has happened."""
    version = state.version + 1
    match event:
        case AttemptStarted(call=call, attempt=attempt):
            return state._replace(
                version=version,
                calls=max(state.calls, call),
                attempts={**state.attempts, call: attempt},
                in_flight=state.in_flight | 1 << call,
            )
        case CheckpointCompleted(call=call):
            attempts = dict(state.attempts)
            attempts.pop(call, None)
            return state._replace(
                version=version,
                attempts=attempts,
                in_flight=state.in_flight & ~(1 << call),
                completed=state.completed | 1 << call,
            )
        case AttemptFailed(call=call):
            return state._replace(version=version, in_flight=state.in_flight & ~(1 << call))
        case CheckpointFailed(call=call):
            return state._replace(version=version, failed=state.failed | 1 << call)
        case CheckpointReused(call=call):
            return state._replace(
                version=version,
                calls=max(state.calls, call),
                completed=state.completed | 1 << call,
                reused=state.reused | 1 << call,
            )
        case WaitOpened():
            opened = Pending(event.wait, event.kind, event.name, version, event.expires_at)
            return state._replace(
                version=version,
                status=ExecutionStatus.WAITING,
                pending=(*state.pending, opened),
                waits=max(state.waits, event.wait),
            )
        case WaitResolved(wait=wait) | WaitAborted(wait=wait) | WaitExpired(wait=wait):
            pending = tuple(p for p in state.pending if p.wait != wait)
            status = state.status
            if status is ExecutionStatus.WAITING and not pending:
                status = ExecutionStatus.RUNNING
            return state._replace(version=version, status=status, pending=pending, woken=True)
        case ExecutionStarted():
            return state._replace(version=version, status=ExecutionStatus.RUNNING)
        case RunnerClaimed(epoch=epoch, runner=runner):
            return state._replace(version=version, epoch=epoch, runner=runner, in_flight=0, woken=False)
        case ExecutionSuspended():
            return state._replace(version=version, runner=None, woken=event.leaves_work)
        case ExecutionRetried():
            status = ExecutionStatus.WAITING if state.pending else ExecutionStatus.RUNNING
            return state._replace(version=version, status=status, failed=0, cancel_requested=False)
        case PayloadErased():
            return state._replace(version=version, erased=True)
        case HistoryDropped():
            return ExecutionState(
                version=version,
                status=event.status,
                epoch=event.epoch,
                cancel_requested=event.cancel_requested,
                waits=event.waits,
                woken=event.woken,
                erased=True,
            )
        case CancelRequested():
            return state._replace(version=version, cancel_requested=True)
        case ExecutionCompleted():
            return _ended(state, ExecutionStatus.COMPLETED)
        case ExecutionFailed():
            return _ended(state, ExecutionStatus.FAILED)
        case ExecutionCancelled():
            return _ended(state, ExecutionStatus.CANCELLED)
        case _:
            return state._replace(version=version)


Folded = Event | CallStarted | CallCompleted


def fold(state: ExecutionState, events: Iterable[Folded]) -> ExecutionState:
    """The state after `events`: what `evolve` gives one by one, without building the states between.

    The two events that a call consists of are nearly all of a long stream; only they are handled here. Their calls are
    collected in sets: to set one bit of a number copies all of it.
    """
    version, calls, attempts = state.version, state.calls, dict(state.attempts)
    started: set[int] = set()
    completed: set[int] = set()

    def folded() -> ExecutionState:
        ended = _bits(completed)
        in_flight = (state.in_flight & ~ended) | _bits(started)
        done = state.completed | ended
        return state._replace(version=version, calls=calls, attempts=attempts, in_flight=in_flight, completed=done)

    for event in events:
        if type(event) is CallStarted or type(event) is AttemptStarted:  # a model's class answers isinstance slowly
            version += 1
            call = event.call
            calls = max(calls, call)
            attempts[call] = event.attempt
            started.add(call)
        elif type(event) is CallCompleted or type(event) is CheckpointCompleted:
            version += 1
            call = event.call
            attempts.pop(call, None)
            started.discard(call)
            completed.add(call)
        else:
            state = evolve(folded(), cast("Event", event))
            version, calls, attempts = state.version, state.calls, dict(state.attempts)
            started, completed = set(), set()
    return folded()


def _bits(calls: set[int]) -> int:
    found = bytearray((max(calls, default=0) >> 3) + 1)
    for call in calls:
        found[call >> 3] |= 1 << (call & 7)
    return int.from_bytes(found, "little")


def _ended(state: ExecutionState, status: ExecutionStatus) -> ExecutionState:
    return state._replace(version=state.version + 1, status=status, runner=None, pending=(), in_flight=0)
