"""Going on with executions whose runner is gone: the code is found first, then the execution is claimed, then it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

from kitaru.domain.commands import Claim
from kitaru.domain.errors import KitaruNotFoundError, KitaruStateError
from kitaru.domain.events import Event, ExecutionStarted
from kitaru.domain.state import ABSENT, ExecutionStatus, fold
from kitaru.runtime import code, process
from kitaru.runtime.clock import installed as installed_clock
from kitaru.runtime.history import History
from kitaru.runtime.runner import Runner
from kitaru.runtime.session import Session
from kitaru.store.log import EventLog, Head

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow

_LIST_RUNNING = "SELECT exec_id FROM executions WHERE project = ? AND status = 'running' ORDER BY number"


def is_lost(log: EventLog, head: Head) -> bool:
    """Whether the execution should be running and nobody runs it."""
    if head.state.status is not ExecutionStatus.RUNNING:
        return False
    return head.state.runner is None or runner_is_lost(log, head)


def runner_is_lost(log: EventLog, head: Head) -> bool:
    """Whether a runner is recorded that lives no more, or that has left without being able to say so."""
    runner = head.state.runner
    if runner is None:
        return False
    if runner == log.leases.acquire():
        return process.find(log.location, head.exec_id) is None
    return not log.leases.is_alive(runner)


def lost_executions(log: EventLog, project: str) -> list[str]:
    """Ids of the project's executions that should be running and that nobody runs, oldest first."""
    ids = [str(row[0]) for row in log.query(_LIST_RUNNING, (project,))]
    return [exec_id for exec_id in ids if is_lost(log, log.head(exec_id))]


def recover(log: EventLog, exec_ids: Iterable[str], target: str | None = None) -> list[Runner]:
    """Go on with those executions, each in a thread of this process. `target` (FILE:flow) names another place of the code.

    Raises KitaruRuntimeError when the code cannot be loaded; the execution stays as it was.
    """
    flow = code.load_flow(target) if target is not None else None
    return [take_over(log, exec_id, flow) for exec_id in exec_ids]


def take_over(
    log: EventLog, exec_id: str, flow: Flow[..., object] | None = None, *, stay_seconds: float | None = None
) -> Runner:
    """Claim an execution that nobody runs, and run it on. Raises KitaruStateError when somebody does, or it waits."""
    head = log.head(exec_id)
    if flow is None:
        flow = code.load_recorded(started_event(log, exec_id).target, log.store_id)
    lost = head.state.epoch if runner_is_lost(log, head) else None
    log.execute(exec_id, Claim(log.leases.acquire(), lost), installed_clock().now())
    return launch(log, exec_id, flow, stay_seconds=stay_seconds)


def launch(log: EventLog, exec_id: str, flow: Flow[..., object], *, stay_seconds: float | None = None) -> Runner:
    """Run an execution that this process has just claimed; `stay_seconds` is how long it stays for a wait at most."""
    from kitaru.runtime.replaying import original_of

    head = log.head(exec_id)
    history = History()

    def indexed() -> Iterator[Event]:
        for recorded in log.read(exec_id, limit=head.version):
            event = cast("Event", recorded.event)
            history.add(event)
            yield event

    state = fold(ABSENT, indexed())
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


def started_event(log: EventLog, exec_id: str) -> ExecutionStarted:
    """The first event. Raises KitaruNotFoundError."""
    for recorded in log.read(exec_id, limit=1):
        if isinstance(recorded.event, ExecutionStarted):
            return recorded.event
    raise KitaruNotFoundError(f"the execution {exec_id} is not in the store {log.location}")
