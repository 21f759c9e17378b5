"""Crashes without processes: executions that stop at a chosen event, and going on with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from kitaru.domain.commands import Start
from kitaru.domain.events import (
    AttemptStarted,
    CheckpointCompleted,
    CheckpointFailed,
    EventBase,
    ExecutionStarted,
    FlowOptions,
)
from kitaru.domain.ids import flow_id
from kitaru.domain.state import ExecutionState, evolve
from kitaru.runtime import code, recovery
from kitaru.runtime.clock import installed
from kitaru.runtime.flow import Flow
from kitaru.runtime.handle import FlowHandle
from kitaru.runtime.session import encode_payload
from kitaru.runtime.start import new_exec_id
from kitaru.store.log import EventLog, Head, OutcomeUnknown

PATIENCE = 20.0
"""Seconds after which a test that waits for an execution gives up."""


class Crash(BaseException):
    """The process is no more, as far as this log is concerned."""


class CrashingLog:
    """A log that dies at its n-th append (from 1), before or after it is committed; afterwards it takes nothing."""

    def __init__(self, log: EventLog, at: int, *, after: bool = False) -> None:
        self._log = log
        self._left = at
        self._after = after
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, head: Head, events: Sequence[EventBase], state: ExecutionState, event_ids: Sequence[str]) -> Head:
        """Append, or crash."""
        if self.is_dead:
            raise Crash
        self._left -= 1
        if self._left > 0:
            return self._log.append(head, events, state, event_ids)
        self.is_dead = True
        if self._after:
            self._log.append(head, events, state, event_ids)
        raise Crash


class UnsureLog:
    """A log that commits every n-th append and says that it does not know."""

    def __init__(self, log: EventLog, every: int) -> None:
        self._log = log
        self._every = every
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, head: Head, events: Sequence[EventBase], state: ExecutionState, event_ids: Sequence[str]) -> Head:
        """Append, and perhaps deny it."""
        self._count += 1
        after = self._log.append(head, events, state, event_ids)
        if self._count % self._every == 0:
            raise OutcomeUnknown("the test says so")
        return after


def started_event(log: EventLog, flow: Flow[..., Any], inputs: dict[str, object], **options: Any) -> ExecutionStarted:
    """The first event of an execution of `flow`."""
    return ExecutionStarted(
        at=installed().now(),
        flow_id=flow_id(log.store_id, "default", flow.name),
        flow_name=flow.name,
        project="default",
        target=code.target_of(flow.fn.__code__.co_filename, flow.fn.__qualname__),
        options=FlowOptions(retries=flow.retries, strict=flow.strict, **options),
        stack="local",
        inputs=encode_payload(inputs, "the inputs")[0],
    )


def queue(log: EventLog, flow: Flow[..., Any], **inputs: object) -> str:
    """Record an execution that nobody runs yet."""
    exec_id = new_exec_id()
    log.execute(exec_id, Start(started_event(log, flow, inputs), None), installed().now())
    return exec_id


def run_on(log: Any, flow: Flow[..., Any], exec_id: str) -> None:
    """Run a queued or lost execution on this log until its runner has left, however it leaves."""
    runner = recovery.take_over(log, exec_id, flow)
    assert runner.done.wait(PATIENCE), "the runner hangs"
    runner.join()


def recovered(log: EventLog, flow: Flow[..., Any], exec_id: str) -> Any:
    """Go on with a lost execution, and give the flow's value or raise its error."""
    run_on(log, flow, exec_id)
    return FlowHandle(log, exec_id, flow, None).get()


def copy_of(log: EventLog, events: Sequence[EventBase]) -> str:
    """A new execution with exactly these events, run by a process that is dead."""
    started, *rest = events
    assert isinstance(started, ExecutionStarted)
    exec_id = new_exec_id()
    head, _ = log.execute(exec_id, Start(started, str(uuid4()) if rest else None), 1)
    assert rest or head.version == 1
    rest = rest[1:]
    if rest:
        state = log.head(exec_id).state
        for event in rest:
            state = evolve(state, event)  # type: ignore[arg-type]
        log.append(log.head(exec_id), rest, state, [str(uuid4()) for _ in rest])
    return exec_id


def prefixes(events: Sequence[EventBase]) -> list[Sequence[EventBase]]:
    """What a crash may leave of an unfinished execution: every prefix, but for batches that are written as one."""
    return [events[:k] for k in range(1, len(events)) if not isinstance(events[k], CheckpointFailed)]


def bodies_to_run(events: Sequence[EventBase]) -> tuple[set[str], set[str]]:
    """Invocation ids that have a recorded result, and those that were opened without one."""
    ids: dict[int, str] = {}
    done: set[str] = set()
    for event in events:
        if isinstance(event, AttemptStarted) and event.invocation_id is not None:
            ids[event.call] = event.invocation_id
        elif isinstance(event, (CheckpointCompleted, CheckpointFailed)):
            done.add(ids[event.call])
    return done, set(ids.values()) - done
