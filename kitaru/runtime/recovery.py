"""Going on with executions whose runner is gone: the code is found first, then the execution is claimed, then it runs."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

from kitaru.domain.commands import Claim
from kitaru.domain.decide import decide, is_ready
from kitaru.domain.errors import KitaruError, KitaruNotFoundError, KitaruStateError
from kitaru.domain.events import (
    Event,
    ExecutionResumed,
    ExecutionRetried,
    ExecutionStarted,
    ExecutionSuspended,
    RunnerClaimed,
)
from kitaru.domain.state import ABSENT, ExecutionState, Folded, evolve, fold
from kitaru.runtime import code, process
from kitaru.runtime.clock import installed as installed_clock
from kitaru.runtime.history import History
from kitaru.runtime.runner import Runner, inputs_of
from kitaru.runtime.session import Session
from kitaru.store.log import EventLog, Head

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow

_LIST_UNFINISHED = """SELECT exec_id, number FROM executions WHERE project = ?1 AND status = 'running'
    UNION SELECT exec_id, number FROM executions WHERE project = ?1 AND status = 'waiting'
        AND (queued = 1 OR runner IS NOT NULL)
    UNION SELECT e.exec_id, e.number FROM pending_waits w CROSS JOIN executions e ON e.number = w.number
        WHERE w.expires_at <= ?2 AND +e.project = ?1 ORDER BY number"""
"""Who may have something to do: by indexes that suspended executions are not in. CROSS: what is due is looked up first;
left to itself SQLite walks all executions of the project instead."""
_LAST_EVENTS = 16


def is_lost(log: EventLog, head: Head) -> bool:
    """Whether there is something to do for the execution and nobody does it."""
    state = head.state
    if state.status is None or state.status.is_finished or process.is_here(log.location, head.exec_id):
        return False
    if state.runner is not None:
        return _is_gone(log, state.runner)
    return is_ready(state, installed_clock().now())


def lost_epoch(log: EventLog, exec_id: str) -> int | None:
    """The epoch of a recorded runner that lives no more, None where there is none, for decisions that depend on it."""
    state = log.head(exec_id).state
    gone = not process.is_here(log.location, exec_id) and _is_gone(log, state.runner)
    return state.epoch if gone and state.runner is not None else None


def _is_gone(log: EventLog, runner: str | None) -> bool:
    """Whether that runner runs nothing, given that this process does not run the execution."""
    return runner is None or runner == log.leases.acquire() or not log.leases.is_alive(runner)


def lost_executions(log: EventLog, project: str) -> list[str]:
    """Ids of the project's executions that should be running and that nobody runs, oldest first."""
    return [exec_id for exec_id in candidates(log, project) if is_lost(log, log.head(exec_id))]


def is_left_to_workers(log: EventLog, exec_id: str) -> bool:
    """Whether an execution that nobody runs was queued on purpose: on another stack than `local`, or with `detach`."""
    state = log.head(exec_id).state
    if state.runner is not None:
        return False
    if started_event(log, exec_id).stack != "local":
        return True
    end = state.version
    while end:  # what came since a runner left is answers, tags and the like: the slice at the end has it
        after = max(0, end - _LAST_EVENTS)
        for recorded in reversed(list(log.read(exec_id, after=after, limit=end - after))):
            if isinstance(recorded.event, (ExecutionResumed, ExecutionRetried, ExecutionSuspended)):
                return not isinstance(recorded.event, ExecutionSuspended)
        end = after
    return False


def candidates(log: EventLog, project: str) -> list[str]:
    """Ids of the executions among which those that nobody runs are; to ask `is_lost` of each costs more."""
    return [str(row[0]) for row in log.query(_LIST_UNFINISHED, (project, installed_clock().now()))]


def recover(log: EventLog, exec_ids: Iterable[str], target: str | None = None) -> list[Runner]:
    """Go on with those executions, each in a thread of this process. `target` (FILE:flow) names another place of the code.

    Raises KitaruRuntimeError when the code cannot be loaded; the execution stays as it was.
    """
    flow = code.load_flow(target) if target is not None else None
    runners = [take_over(log, exec_id, flow) for exec_id in exec_ids]
    return [runner for runner in runners if runner is not None]


def take_over(
    log: EventLog, exec_id: str, flow: Flow[..., object] | None = None, *, stay_seconds: float | None = None
) -> Runner | None:
    """Claim an execution that nobody runs, and run it on; None when it was being cancelled, and now is.

    Raises KitaruStateError when somebody runs it or it waits, KitaruRuntimeError when its flow cannot be loaded.
    """
    from kitaru.runtime.replaying import original_of

    started = started_event(log, exec_id)
    if flow is None:
        flow = code.load_recorded(started.target, started.flow_name, log.store_id)
    original_of(log, started)  # or it would be claimed, and then could not run
    with process.beginning(log.location, exec_id):
        state = log.head(exec_id).state
        lost = state.epoch if _is_gone(log, state.runner) else None
        claim = Claim(log.leases.acquire(), lost, code.digest_if_changed(started.target))
        decide(state, claim, installed_clock().now())  # before its past is read: that may be long
        past = read_past(log, exec_id)
        _, events = log.execute(exec_id, claim, installed_clock().now())
        if not any(isinstance(event, RunnerClaimed) for event in events):
            return None
        return launch(log, exec_id, flow, past, stay_seconds=stay_seconds)


class Past(NamedTuple):
    """What an execution has done, every event of it checked. It is read before a claim: one that cannot be read is left."""

    history: History
    state: ExecutionState


def read_past(log: EventLog, exec_id: str) -> Past:
    """The past of an execution, as it is now. Raises KitaruNotFoundError, KitaruBackendError."""
    history, state = History(), ABSENT
    with _without_collecting():
        for batch in log.outline(exec_id):
            history.extend(batch)
            state = fold(state, cast("list[Folded]", batch))
    if history.started is not None:
        inputs_of(log, history.started)
    return Past(history, state)


def launch(log: EventLog, exec_id: str, flow: Flow[..., object], past: Past, *, stay_seconds: float | None = None) -> Runner:
    """Run an execution that this process has just claimed; `stay_seconds` is how long it stays for a wait at most."""
    from kitaru.runtime.replaying import original_of

    head = log.head(exec_id)
    history, state = past
    for recorded in log.read(exec_id, after=state.version, limit=head.version - state.version):
        history.add(recorded.event)
        state = evolve(state, cast("Event", recorded.event))
    if history.started is None:
        raise KitaruNotFoundError(f"the execution {exec_id} has no events in the store {log.location}")
    if state.runner != log.leases.acquire():
        raise KitaruStateError(f"another runner has taken the execution {exec_id} over")
    session = Session(
        log, head._replace(state=state), history.started.options, installed_clock(), history, is_async=flow.is_async
    )
    session.original = original_of(log, history.started)
    session.stay_seconds = stay_seconds
    runner = Runner(flow.fn, session)
    runner.start()
    return runner


@contextmanager
def _without_collecting() -> Generator[None]:
    """A long history is many objects that all stay: looking for garbage among them took a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def started_event(log: EventLog, exec_id: str) -> ExecutionStarted:
    """The first event. Raises KitaruNotFoundError, and KitaruStateError when the events were dropped."""
    for recorded in log.read(exec_id, limit=1):
        if isinstance(recorded.event, ExecutionStarted):
            return recorded.event
    raise without_history(log, exec_id)


def without_history(log: EventLog, exec_id: str) -> KitaruError:
    """What to say of an execution whose stream does not begin with its start."""
    if log.head(exec_id).state.erased:
        return KitaruStateError(
            f"the events of {exec_id} were dropped by `kitaru store gc`: what it did is not known any more. Start a new one",
            code="history-dropped",
        )
    return KitaruNotFoundError(f"the execution {exec_id} is not in the store {log.location}")
