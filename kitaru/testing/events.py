"""Executions to fill a store with, written as a runner writes them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import count
from uuid import uuid4

from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.ids import uuid7
from kitaru.domain.payload import Payload
from kitaru.domain.state import ExecutionState, evolve
from kitaru.store.log import EventLog, Head

_ids = count(1)


def new_id() -> str:
    """The next id of this test run; ids rise in the order in which they were made."""
    return uuid7(1_700_000_000_000 + next(_ids), uuid4().int)


def started(flow: str = "flow", key: str | None = None, tags: tuple[str, ...] = (), at: int = 1) -> e.ExecutionStarted:
    """The first event of an execution."""
    return e.ExecutionStarted(
        at=at,
        flow_id=f"id of {flow}",
        flow_name=flow,
        project="default",
        target=e.Target(file=None, qualname=flow),
        options=e.FlowOptions(),
        stack="local",
        tags=tags,
        inputs=Payload.of(b"{}", "k1"),
        idempotency_key=key,
    )


def start(log: EventLog, flow: str = "flow", *, key: str | None = None, runner: str = "runner") -> Head:
    """A new execution of `flow`, claimed by `runner`."""
    return log.execute(new_id(), c.Start(started(flow, key), runner), 1)[0]


def append(log: EventLog, head: Head, *events: e.EventBase, ids: Sequence[str] | None = None) -> Head:
    """Append `events` as a runner does."""
    return log.append(head, events, fold(head.state, events), ids or [new_id() for _ in events])


def fold(state: ExecutionState, events: Sequence[e.EventBase]) -> ExecutionState:
    """The state after `events`."""
    for event in events:
        state = evolve(state, event)  # type: ignore[arg-type]
    return state


def call(number: int, output: bytes = b"1") -> tuple[e.AttemptStarted, e.CheckpointCompleted]:
    """A checkpoint call that returned `output` at its first attempt."""
    opened = e.AttemptStarted(
        at=2, call=number, attempt=1, invocation_id=f"step_{number}", name="step", input_digest="0" * 64
    )
    return opened, e.CheckpointCompleted(at=3, call=number, attempt=1, output=Payload.of(output, "k1"))


def completed(output: bytes = b"1") -> e.ExecutionCompleted:
    """The flow returned `output`."""
    return e.ExecutionCompleted(at=4, output=Payload.of(output, "k1"))


@contextmanager
def raises(*expected: type[BaseException]) -> Generator[None]:
    """The block has to raise one of `expected`."""
    try:
        yield
    except expected:
        return
    raise AssertionError(f"nothing was raised; expected {' or '.join(t.__name__ for t in expected)}")
