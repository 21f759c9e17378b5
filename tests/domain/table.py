"""R16: what is allowed in which status, spelled out by hand, and a checker that any `decide` can be held to.

The states are made so that the status alone decides: a live runner, an open wait, calls in every condition. A cell of
the product's table that differs from the one here therefore shows as a difference, whatever the finer rules say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kitaru.domain import commands as c
from kitaru.domain.errors import KitaruError, KitaruStateError
from kitaru.domain.events import (
    ArtifactSaved,
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    CheckpointCompleted,
    CheckpointFailed,
    CheckpointReused,
    EventBase,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionResumed,
    ExecutionRetried,
    ExecutionStarted,
    ExecutionSuspended,
    HistoryDropped,
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
from kitaru.domain.state import ExecutionState, ExecutionStatus, Pending
from tests.domain.samples import NOW, VALUE, names, sample

Decide = Callable[[ExecutionState, c.Command, int], tuple[EventBase, ...]]

STATUSES: dict[str, ExecutionStatus | None] = {
    "absent": None,
    "running": ExecutionStatus.RUNNING,
    "waiting": ExecutionStatus.WAITING,
    "completed": ExecutionStatus.COMPLETED,
    "failed": ExecutionStatus.FAILED,
    "cancelled": ExecutionStatus.CANCELLED,
}

_LIVE = ("running", "waiting")
_FINISHED = ("completed", "failed", "cancelled")
ALLOWED: dict[str, tuple[str, ...]] = {
    "Start": ("absent",),
    "Claim": _LIVE,
    "Resume": _LIVE,
    "Retry": ("failed",),
    "Answer": ("waiting",),
    "AbortWait": ("waiting",),
    "Cancel": _LIVE,
    "ChangeTags": (*_LIVE, *_FINISHED),
    "Erase": _FINISHED,
    # A runner's reports.
    "AttemptStarted": _LIVE,
    "AttemptFailed": _LIVE,
    "CheckpointCompleted": _LIVE,
    "CheckpointFailed": _LIVE,
    "CheckpointReused": _LIVE,
    "InputsDiffered": _LIVE,
    "WaitOpened": _LIVE,
    "WaitExpired": ("waiting",),
    "ArtifactSaved": _LIVE,
    "MetadataLogged": _LIVE,
    "TagsChanged": _LIVE,
    "LLMUsageRecorded": _LIVE,
    "ExecutionSuspended": _LIVE,
    "ExecutionRetried": _LIVE,
    "ExecutionFailed": _LIVE,
    "ExecutionCompleted": _LIVE,
    "ExecutionCancelled": _LIVE,
    # What only a command brings about is never reported.
    "ExecutionStarted": (),
    "RunnerClaimed": (),
    "ExecutionResumed": (),
    "CancelRequested": (),
    "WaitResolved": (),
    "WaitAborted": (),
    "PayloadErased": (),
    "HistoryDropped": (),
}


class Row(NamedTuple):
    """A command that nothing but the status can refuse, what it leads to, and what its state needs besides."""

    command: c.Command
    leads_to: list[str]
    needs: dict[str, object]


def _reported(event: EventBase, **needs: object) -> Row:
    return Row(c.Report(3, (event,)), [type(event).__name__], needs)  # type: ignore[arg-type]


_IDLE: dict[str, object] = {"in_flight": 0}
ROWS: dict[str, Row] = {
    "Start": Row(c.Start(sample(ExecutionStarted), None), ["ExecutionStarted"], {}),
    "Claim": Row(c.Claim("r4", 3), ["RunnerClaimed"], {"pending": ()}),
    "Resume": Row(c.Resume("ann", "r4", 3), ["ExecutionResumed", "RunnerClaimed"], {"pending": ()}),
    "Retry": Row(c.Retry("ann", "r4"), ["ExecutionRetried", "RunnerClaimed"], {}),
    "Answer": Row(c.Answer("approve", VALUE, "ann"), ["WaitResolved"], {}),
    "AbortWait": Row(c.AbortWait("approve", "ann", None), ["WaitAborted", "CancelRequested"], {}),
    "Cancel": Row(c.Cancel("ann", None), ["CancelRequested"], {}),
    "ChangeTags": Row(c.ChangeTags(("nightly",), (), "ann"), ["TagsChanged"], {}),
    "Erase": Row(c.Erase("ann"), ["PayloadErased"], {}),
    "AttemptStarted": _reported(sample(AttemptStarted, call=5, invocation_id="f", name="f", input_digest="d")),
    "AttemptFailed": _reported(sample(AttemptFailed, call=1)),
    "CheckpointCompleted": _reported(sample(CheckpointCompleted, call=1)),
    "CheckpointFailed": _reported(sample(CheckpointFailed, call=4)),
    "CheckpointReused": _reported(sample(CheckpointReused, call=5)),
    "InputsDiffered": _reported(sample(InputsDiffered, call=2)),
    "WaitOpened": _reported(sample(WaitOpened, wait=3)),
    "WaitExpired": _reported(sample(WaitExpired, wait=2)),
    "ArtifactSaved": _reported(sample(ArtifactSaved)),
    "MetadataLogged": _reported(sample(MetadataLogged)),
    "TagsChanged": _reported(sample(TagsChanged, add=("nightly",))),
    "LLMUsageRecorded": _reported(sample(LLMUsageRecorded, call=1)),
    "ExecutionSuspended": _reported(sample(ExecutionSuspended), **_IDLE),
    "ExecutionRetried": _reported(sample(ExecutionRetried, automatic=True), **_IDLE),
    "ExecutionFailed": _reported(sample(ExecutionFailed)),
    "ExecutionCompleted": _reported(sample(ExecutionCompleted), **_IDLE),
    "ExecutionCancelled": _reported(sample(ExecutionCancelled), cancel_requested=True),
    "ExecutionStarted": _reported(sample(ExecutionStarted)),
    "RunnerClaimed": _reported(sample(RunnerClaimed, epoch=4)),
    "ExecutionResumed": _reported(sample(ExecutionResumed)),
    "CancelRequested": _reported(sample(CancelRequested)),
    "WaitResolved": _reported(sample(WaitResolved)),
    "WaitAborted": _reported(sample(WaitAborted)),
    "PayloadErased": _reported(sample(PayloadErased)),
    "HistoryDropped": _reported(sample(HistoryDropped)),
}


def state_in(status: str, **needs: object) -> ExecutionState:
    """Epoch 3 runs; call 1 is in flight, 2 completed, 3 failed, 4 at rest; wait 1 is open, wait 2 is due."""
    state = ExecutionState(
        version=20,
        status=STATUSES[status],
        epoch=3,
        runner="r3",
        pending=(Pending(1, "input", "approve", 7, None), Pending(2, "timer", "nap", 8, NOW)),
        waits=2,
        calls=4,
        attempts={1: 1, 3: 1, 4: 1},
        in_flight=1 << 1,
        completed=1 << 2,
        failed=1 << 3,
    )
    return state._replace(**needs)  # type: ignore[arg-type]


def objection(decide: Decide, row: str, status: str) -> str | None:
    """How `decide` departs from the table here in one cell, or None."""
    command, leads_to, needs = ROWS[row]
    state = state_in(status, **needs)
    before = state._replace(attempts=dict(state.attempts))
    try:
        got: object = names(decide(state, command, NOW))
    except KitaruError as error:
        got = type(error)
        if got is KitaruStateError and status in ALLOWED[row]:
            got = f"KitaruStateError: {error}"
    if state != before:
        return f"{row} in {status}: the state given was changed"
    expected: object = leads_to if status in ALLOWED[row] else KitaruStateError
    return None if got == expected else f"{row} in {status}: {got}, expected {expected}"


def objections(decide: Decide) -> list[tuple[str, str]]:
    """The cells, as (row, status), in which `decide` departs from the table here."""
    return [(row, status) for row in ROWS for status in STATUSES if objection(decide, row, status) is not None]
