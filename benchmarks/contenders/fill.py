"""Fills a store through Kitaru's own event log: its encoder, its digest chain, its read models.

`python -m benchmarks.contenders.fill executions|events STORE N`. Run it with KITARU_DURABILITY=os: what is built here
is thrown away.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Sequence

from kitaru.compose import open_log
from kitaru.domain.commands import Start
from kitaru.domain.errors import FailureOrigin
from kitaru.domain.events import (
    AttemptStarted,
    CheckpointCompleted,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    FlowOptions,
    Target,
)
from kitaru.domain.ids import flow_id, uuid7
from kitaru.domain.payload import Payload
from kitaru.domain.state import evolve
from kitaru.settings import resolve_store
from kitaru.store.log import EventLog, Head
from kitaru.store.values import CODEC, encode

CALLS_PER_EXECUTION = 100
EVENTS_PER_EXECUTION = 2 * CALLS_PER_EXECUTION + 3
FLOWS = ("research", "triage", "summarise", "invoice", "nightly-report")
TAGS = ("nightly", "customer", "batch")
TIERS = ("enterprise", "team", "free", "trial")
START = 1_767_225_600_000_000
"""2026-01-01, in microseconds since 1970: the same store each time."""

SECOND = 1_000_000


def payload(value: object) -> Payload:
    """A value as the runner would record it."""
    return Payload.of(encode(value), CODEC)


def start_execution(log: EventLog, number: int) -> Head:
    """Append the two events that start and claim an execution; what they say follows from `number`."""
    at = START + number * SECOND
    flow_name = FLOWS[number % len(FLOWS)]
    started = ExecutionStarted(
        at=at,
        flow_id=flow_id(log.store_id, "default", flow_name),
        flow_name=flow_name,
        project="default",
        target=Target(file=None, qualname=flow_name),
        options=FlowOptions(),
        stack="local",
        tags=TAGS[: number % (len(TAGS) + 1)],
        inputs=payload({"question": f"number {number}"}),
        metadata=payload({"customer_tier": TIERS[number % len(TIERS)], "score": number % 100}),
    )
    exec_id = uuid7(at // 1000, uuid.uuid4().int)
    head, _ = log.execute(exec_id, Start(started, log.leases.acquire()), at)
    return head


def append(log: EventLog, head: Head, events: Sequence[Event]) -> Head:
    """Append events as a runner does: fold them into the state, then hand both to the log."""
    state = head.state
    for event in events:
        state = evolve(state, event)
    return log.append(head, events, state, [str(uuid.uuid4()) for _ in events])


def checkpoint_events(first_call: int, calls: int, at: int) -> Iterator[Event]:
    """Two events for each call, as a trivial checkpoint records them."""
    for call in range(first_call, first_call + calls):
        name = "step" if call == 1 else f"step_{call}"
        yield AttemptStarted(at=at, call=call, attempt=1, invocation_id=name, name="step", input_digest="0" * 64)
        yield CheckpointCompleted(at=at, call=call, attempt=1, output=payload(call))


def _fill_executions(log: EventLog, count: int) -> None:
    output, message, user_code = payload("done"), payload("it broke"), FailureOrigin.USER_CODE
    for number in range(count):
        at = START + number * SECOND + SECOND // 2
        ending: Event = ExecutionCompleted(at=at, output=output)
        if number % 10 == 3:
            ending = ExecutionFailed(at=at, origin=user_code, exception_type="ValueError", message=message)
        elif number % 10 == 7:
            ending = ExecutionCancelled(at=at)
        append(log, start_execution(log, number), [ending])


def _fill_events(log: EventLog, count: int) -> None:
    output = payload("done")
    for number in range(-(-count // EVENTS_PER_EXECUTION)):
        at = START + number * SECOND + 1
        events = [*checkpoint_events(1, CALLS_PER_EXECUTION, at), ExecutionCompleted(at=at, output=output)]
        append(log, start_execution(log, number), events)


def main() -> None:
    """Fill a store."""
    kind, store, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    log = open_log(resolve_store(store))
    try:
        {"executions": _fill_executions, "events": _fill_events}[kind](log, count)
    finally:
        log.close()


if __name__ == "__main__":
    main()
