"""One valid event of each type, and an execution in hand whose every step goes through `decide`."""

from __future__ import annotations

from typing import TypeVar, get_args

import pytest

from kitaru.domain import commands as c
from kitaru.domain.decide import decide
from kitaru.domain.errors import FailureOrigin, KitaruStateError
from kitaru.domain.events import AttemptStarted, Event, EventBase, ExecutionStarted, FlowOptions, Target
from kitaru.domain.payload import Payload
from kitaru.domain.state import ABSENT, ExecutionState, evolve

E = TypeVar("E", bound=EventBase)

NOW = 1_700_000_000_000_000
SECOND = 1_000_000
VALUE = Payload.of(b"value", "k1")
EVENT_TYPES: tuple[type[EventBase], ...] = get_args(get_args(Event)[0])

_FAILURE: dict[str, object] = {"origin": FailureOrigin.USER_CODE, "exception_type": "ValueError", "message": VALUE}
_ATTEMPT: dict[str, object] = {"call": 1, "attempt": 1}
_REQUIRED: dict[str, dict[str, object]] = {
    "ExecutionStarted": {
        "flow_id": "f", "flow_name": "research", "project": "default",
        "target": Target(file="/a.py", qualname="f"), "options": FlowOptions(), "stack": "local", "inputs": VALUE,
    },
    "RunnerClaimed": {"epoch": 1, "runner": "r1"},
    "ExecutionSuspended": {},
    "ExecutionResumed": {"by": "ann"},
    "ExecutionRetried": {"by": "ann"},
    "CancelRequested": {"by": "ann"},
    "ExecutionCancelled": {},
    "ExecutionFailed": _FAILURE,
    "ExecutionCompleted": {"output": VALUE},
    "AttemptStarted": _ATTEMPT,
    "AttemptFailed": _ATTEMPT | _FAILURE,
    "CheckpointCompleted": _ATTEMPT | {"output": VALUE},
    "CheckpointFailed": _ATTEMPT,
    "CheckpointReused": {
        "call": 1, "invocation_id": "fetch", "name": "fetch", "input_digest": "d", "output": VALUE,
        "original_call_id": "x.c1",
    },
    "InputsDiffered": {"call": 1, "input_digest": "d"},
    "WaitOpened": {"wait": 1, "kind": "input", "invocation_id": "approve", "name": "approve"},
    "WaitResolved": {"wait": 1, "value": VALUE, "by": "ann"},
    "WaitAborted": {"wait": 1, "by": "ann"},
    "WaitExpired": {"wait": 1},
    "ArtifactSaved": {"name": "report", "kind": "output", "value": VALUE},
    "MetadataLogged": {"values": VALUE},
    "TagsChanged": {},
    "LLMUsageRecorded": _ATTEMPT | {"record_id": "u1", "record": VALUE},
    "PayloadErased": {"by": "ann", "through": 1},
    "HistoryDropped": {
        "by": "ann", "through": 7, "previous": "0" * 64, "status": "completed", "epoch": 1, "waits": 0, "kept": VALUE,
    },
}  # fmt: skip


def sample(event_type: type[E], **fields: object) -> E:
    """A valid event of the type: its required fields, and these."""
    return event_type.model_validate({"at": NOW} | _REQUIRED[event_type.__name__] | fields)


def opened(call: int, **fields: object) -> AttemptStarted:
    """The attempt that opens the call."""
    return sample(AttemptStarted, call=call, invocation_id=f"i{call}", name="fetch", input_digest="d", **fields)


def names(events: tuple[EventBase, ...]) -> list[str]:
    """The types of the events, in order."""
    return [type(event).__name__ for event in events]


def fold(events: list[EventBase] | tuple[EventBase, ...], state: ExecutionState = ABSENT) -> ExecutionState:
    """The state after the events."""
    for event in events:
        state = evolve(state, event)  # type: ignore[arg-type]
    return state


class Execution:
    """An execution in hand, started and claimed by `runner` (None: queued). What is refused leaves it as it was."""

    def __init__(self, runner: str | None = "r1") -> None:
        self.state = ABSENT
        self.events: list[EventBase] = []
        self.do(c.Start(sample(ExecutionStarted), runner))

    def do(self, command: c.Command, *, at: int = NOW) -> list[str]:
        """Decide the command, fold what it gave, and return the types of it."""
        events = decide(self.state, command, at)
        self.state = fold(events, self.state)
        self.events.extend(events)
        return names(events)

    def report(self, *events: EventBase, epoch: int | None = None, at: int = NOW) -> list[str]:
        """Report events from the runner of `epoch`, by default the present one."""
        return self.do(c.Report(self.state.epoch if epoch is None else epoch, events), at=at)  # type: ignore[arg-type]


def refused(execution: Execution, *events: EventBase) -> bool:
    """Whether the report is refused by the state of the execution, and leaves it as it was."""
    before = execution.state
    with pytest.raises(KitaruStateError) as caught:
        execution.report(*events)
    return caught.type is KitaruStateError and execution.state == before
