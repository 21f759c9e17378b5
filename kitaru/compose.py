"""The composition root: the one place that knows every concrete class and wires them.

Everything is imported where it is needed: the paths that only read import no eventsourcing and no event classes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kitaru.domain.errors import KitaruBackendError
from kitaru.settings import StoreChoice, resolve_durability

if TYPE_CHECKING:
    from kitaru.runtime.runner import Runner
    from kitaru.store.leases import FileLeases
    from kitaru.store.log import EventLog, ProjectorFactory
    from kitaru.store.read import Reader

_logs: dict[tuple[int, str], EventLog] = {}
_opening = threading.Lock()


def projectors() -> tuple[ProjectorFactory, ...]:
    """Every read model, in the order in which they are written."""
    from kitaru.projections.artifacts import Artifacts
    from kitaru.projections.executions import Executions
    from kitaru.projections.reuse import ReuseIndex
    from kitaru.projections.waits import PendingWaits

    return (Executions, PendingWaits, Artifacts, ReuseIndex)


def open_log(choice: StoreChoice) -> EventLog:
    """The event log of a store, made when absent; one for each folder and process. Raises KitaruBackendError."""
    key = (os.getpid(), os.path.realpath(choice.location))
    with _opening:
        log = _logs.get(key)
        if log is None:
            from kitaru.store.sqlite.log import SQLiteLog

            log = _logs[key] = SQLiteLog(choice.location, projectors(), durability=resolve_durability())
        return log


def close_logs() -> None:
    """Close every log of this process that `open_log` gave."""
    with _opening:
        while _logs:
            _logs.popitem()[1].close()


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


def open_leases(choice: StoreChoice) -> FileLeases:
    """The leases of a store, to ask whether a runner lives."""
    from kitaru.store.leases import FileLeases

    return FileLeases(choice.location)


def recover(choice: StoreChoice, exec_ids: Sequence[str], target: str | None = None) -> list[Runner]:
    """Go on with lost executions in threads of this process; `target` (FILE:flow) names another place of the code."""
    from kitaru.runtime import recovery

    return recovery.recover(open_log(choice), exec_ids, target)
