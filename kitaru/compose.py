"""The composition root: the one place that knows every concrete class and wires them.

Everything is imported where it is needed: the paths that only read import no eventsourcing and no event classes.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from kitaru.domain.errors import KitaruBackendError
from kitaru.settings import StoreChoice, resolve_durability

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow
    from kitaru.runtime.handle import FlowHandle
    from kitaru.runtime.runner import Runner
    from kitaru.runtime.worker import Worker
    from kitaru.store.leases import FileLeases
    from kitaru.store.log import EventLog, ProjectorFactory
    from kitaru.store.read import Reader
    from kitaru.store.sqlite.log import SQLiteLog
    from kitaru.store.sqlite.rebuild import Progress
    from kitaru.store.sqlite.verify import Report

_logs: dict[tuple[int, str], SQLiteLog] = {}
_opening = threading.Lock()


def _after_fork_in_child() -> None:
    global _opening
    _opening = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork_in_child)


def projectors() -> tuple[ProjectorFactory, ...]:
    """Every read model, in the order in which they are written."""
    from kitaru.projections.artifacts import Artifacts
    from kitaru.projections.executions import Executions
    from kitaru.projections.reuse import ReuseIndex
    from kitaru.projections.usage import Usage
    from kitaru.projections.waits import PendingWaits

    return (Executions, PendingWaits, Artifacts, ReuseIndex, Usage)


def open_log(choice: StoreChoice, *, rebuilds: bool = True) -> EventLog:
    """The event log of a store, made when absent; one for each folder and process. Raises KitaruBackendError.

    `rebuilds`: read models that are not current are folded anew; otherwise the caller does so.
    """
    key = (os.getpid(), os.path.realpath(choice.location))
    with _opening:
        log = _logs.get(key)
        if log is not None and not log.is_in_place():
            _logs.pop(key).close()
            log = None
        if log is None:
            from kitaru.store.sqlite.log import SQLiteLog

            if not _logs:
                atexit.register(close_logs)  # the last to close moves the WAL into the file, and frees the lease

            log = SQLiteLog(choice.location, projectors(), durability=resolve_durability(), rebuilds=rebuilds)
            _logs[key] = log
        return log


def close_logs() -> None:
    """Close every log of this process that `open_log` gave."""
    with _opening:
        for key in [key for key in _logs if key[0] == os.getpid()]:  # a forked child leaves its parent's alone
            _logs.pop(key).close()


def close_log(choice: StoreChoice) -> None:
    """Close the log of this store in this process, if it is open."""
    with _opening:
        log = _logs.pop((os.getpid(), os.path.realpath(choice.location)), None)
        if log is not None:
            log.close()


def store_exists(choice: StoreChoice) -> bool:
    """Whether anything was ever written there."""
    from kitaru.store.sqlite.connection import database_path

    try:
        return os.stat(database_path(choice.location)).st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise KitaruBackendError(
            f"the store {choice.location} cannot be read ({error.strerror}); check who owns it", code="store-unreachable"
        ) from None


def open_reader(choice: StoreChoice) -> Reader:
    """A reader of an existing store, which changes no byte of it. Raises KitaruBackendError."""
    from kitaru.store.read import open_store

    return open_store(choice.location)


def make_current(choice: StoreChoice, reader: Reader) -> None:
    """Fold the read models of a store that an earlier version wrote anew, if it may be written."""
    from kitaru.projections.listing import is_current

    if not is_current(reader.query):
        with suppress(KitaruBackendError):  # then reading says what is missing
            open_log(choice)


def open_leases(choice: StoreChoice) -> FileLeases:
    """The leases of a store, to ask whether a runner lives."""
    from kitaru.store.leases import FileLeases

    return FileLeases(choice.location)


def find_lost(choice: StoreChoice, project: str, *, with_queued: bool) -> list[str]:
    """The ids of a project's executions that should be running and that nobody runs, oldest first.

    `with_queued`: those that were left to a worker, too.
    """
    from kitaru.runtime import recovery

    log = open_log(choice)
    lost = recovery.lost_executions(log, project)
    return [exec_id for exec_id in lost if with_queued or not recovery.is_left_to_workers(log, exec_id)]


def is_lost(choice: StoreChoice, exec_id: str) -> bool:
    """Whether an execution should be running, or is queued, and nobody runs it."""
    from kitaru.runtime import recovery

    log = open_log(choice)
    return recovery.is_lost(log, log.head(exec_id))


def recover(choice: StoreChoice, exec_ids: Sequence[str], target: str | None = None) -> list[Runner]:
    """Go on with lost executions in threads of this process; `target` (FILE:flow) names another place of the code."""
    from kitaru.runtime import recovery

    return recovery.recover(open_log(choice), exec_ids, target)


def answer(choice: StoreChoice, exec_id: str, wait: str, value: object, by: str | None = None) -> None:
    """Give a pending wait its value. Raises KitaruWaitValidationError, KitaruStateError."""
    from kitaru.runtime import operations

    operations.answer(open_log(choice), exec_id, wait, value, by)


def answer_text(choice: StoreChoice, exec_id: str, wait: str, text: str, by: str | None = None) -> None:
    """Give a pending wait what somebody typed. Raises KitaruWaitValidationError, KitaruStateError."""
    from kitaru.runtime import operations

    operations.answer_text(open_log(choice), exec_id, wait, text, by)


def abort_wait(choice: StoreChoice, exec_id: str, wait: str) -> None:
    """Give a pending wait up, and the execution with it. Raises KitaruStateError."""
    from kitaru.runtime import operations

    operations.abort_wait(open_log(choice), exec_id, wait)


def cancel(choice: StoreChoice, exec_id: str) -> None:
    """Cancel an execution. Raises KitaruStateError when it has ended."""
    from kitaru.runtime import operations

    operations.cancel(open_log(choice), exec_id)


def resume(choice: StoreChoice, exec_id: str, target: str | None = None, *, detach: bool = False) -> Runner | None:
    """Go on with an execution in a thread of this process, or leave it to a worker. Raises KitaruStateError."""
    from kitaru.runtime import operations

    return operations.resume(open_log(choice), exec_id, flow=_load_flow(target), detach=detach)


def retry(choice: StoreChoice, exec_id: str, target: str | None = None, *, detach: bool = False) -> Runner | None:
    """Run a failed execution on in a thread of this process, or leave it to a worker. Raises KitaruStateError."""
    from kitaru.runtime import operations

    return operations.retry(open_log(choice), exec_id, flow=_load_flow(target), detach=detach)


def replay(
    choice: StoreChoice,
    exec_id: str,
    from_: str,
    overrides: Mapping[str, object] | None,
    inputs: dict[str, object],
    target: str | None = None,
    *,
    detach: bool = False,
) -> FlowHandle[object]:
    """Start a replay in a thread of this process, or leave it to a worker. Raises KitaruStateError, KitaruUsageError."""
    from kitaru.runtime import replaying

    return replaying.replay(open_log(choice), exec_id, _load_flow(target), from_, overrides, inputs, detach=detach)


def handle_on(choice: StoreChoice, exec_id: str, runner: Runner | None, target: str | None = None) -> FlowHandle[object]:
    """The handle on what `resume` or `retry` set going here, whose flow is loaded by now."""
    from kitaru.runtime import code, recovery
    from kitaru.runtime.handle import FlowHandle

    log = open_log(choice)
    started = recovery.started_event(log, exec_id)
    flow = _load_flow(target) or code.load_recorded(started.target, started.flow_name, log.store_id)
    return FlowHandle(log, exec_id, flow, runner)


def make_worker(choice: StoreChoice, project: str, concurrency: int) -> Worker:
    """A worker on a store, which is made when absent."""
    from kitaru.runtime.worker import Worker

    return Worker(open_log(choice), project, concurrency=concurrency)


def _load_flow(target: str | None) -> Flow[..., object] | None:
    from kitaru.runtime.code import load_flow

    return None if target is None else load_flow(target)


def verify_store(choice: StoreChoice, progress: Progress | None = None) -> Report:
    """Check every event, value and read-model row of a store. Raises KitaruBackendError when it cannot be opened."""
    from kitaru.store.sqlite.verify import verify

    return verify(choice.location, projectors(), progress)


def rebuild_store(choice: StoreChoice, progress: Progress | None = None) -> int:
    """Fold every event into the read models again; how many events that were. Raises KitaruBackendError."""
    from kitaru.store.sqlite.log import SQLiteLog
    from kitaru.store.sqlite.rebuild import rebuild

    log = open_log(choice, rebuilds=False)
    assert isinstance(log, SQLiteLog)
    return rebuild(choice.location, log.writer, projectors(), progress=progress)


def backup_store(choice: StoreChoice, target: str, progress: Progress | None = None) -> None:
    """Copy a store, as it is now, into a new folder. Raises KitaruUsageError, KitaruBackendError."""
    from kitaru.store.sqlite.backup import backup

    backup(choice.location, target, progress)


def measure_store(choice: StoreChoice) -> dict[str, object]:
    """What is in a store and how many bytes its files have. Raises KitaruBackendError."""
    from kitaru.store.sqlite import schema
    from kitaru.store.sqlite.connection import database_path

    reader = open_reader(choice)
    try:
        path = database_path(choice.location)
        return {
            "store_id": reader.store_id,
            "executions": reader.query(schema.COUNT_HEADS)[0][0],
            "events": reader.query(schema.COUNT_EVENTS)[0][0],
            "last_position": reader.last_position(),
            "bytes": sum(os.stat(path + suffix).st_size for suffix in ("", "-wal") if os.path.exists(path + suffix)),
        }
    finally:
        reader.close()
