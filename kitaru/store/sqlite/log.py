"""The event log in SQLite: one folder, one file, any number of processes. Importing it imports eventsourcing."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Literal

from kitaru.domain.commands import Command, Erase
from kitaru.domain.errors import KitaruBackendError, KitaruNotFoundError
from kitaru.domain.events import EventBase
from kitaru.domain.ids import uuid7
from kitaru.domain.payload import Payload
from kitaru.domain.state import ExecutionState
from kitaru.store.changes import CommitSignal
from kitaru.store.leases import FileLeases
from kitaru.store.log import Head, OutcomeUnknown, ProjectorFactory, Reads, Recorded, Tombstone
from kitaru.store.outline import Outlined
from kitaru.store.read import Reader
from kitaru.store.sqlite import forks
from kitaru.store.sqlite.connection import LOCK_NAME, connect, database_path, make_folder, open_reader, open_writer
from kitaru.store.sqlite.failures import typed
from kitaru.store.sqlite.lines import WaitingLines
from kitaru.store.sqlite.members import Append, Delete, DropHistories, Execute
from kitaru.store.sqlite.pool import ReaderPool
from kitaru.store.sqlite.projected import make_missing, prepare
from kitaru.store.sqlite.rebuild import rebuild
from kitaru.store.sqlite.recorder import Recorder
from kitaru.store.sqlite.write_lock import WriteLock
from kitaru.store.sqlite.writer import GroupCommit

LOCK_SECONDS = 30.0
_UNKNOWN_TRIES = 3
_SHRINK_TRIES = 10


def new_event_id() -> str:
    """A UUIDv7 from the clock and the system's randomness."""
    return uuid7(time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10)))


class SQLiteLog:
    """An open store. Threads share it; a forked child must open its own."""

    def __init__(
        self,
        folder: str,
        projectors: Sequence[ProjectorFactory] = (),
        *,
        durability: Literal["full", "os"] | None = None,
        lock_seconds: float = LOCK_SECONDS,
        lease_seconds: float | None = None,
        rebuilds: bool = True,
    ) -> None:
        """Open the store in `folder`, made when absent. `lock_seconds`: how long to queue behind other processes.

        `durability` "os" (KITARU_DURABILITY) lowers outcomes to the operating-system level too. `rebuilds`: read models
        that are not current are folded anew; otherwise the caller does so. Raises KitaruBackendError.
        """
        self._folder = os.path.abspath(folder)
        self._lowers_outcomes = (durability or os.environ.get("KITARU_DURABILITY")) == "os"
        self._is_forgotten = False
        self.projectors = projectors
        self._live = tuple(make("") for make in projectors)
        make_folder(self._folder)
        forks.check(database_path(self._folder), self._folder)
        self._open(lock_seconds, rebuilds=rebuilds)
        self._leases = FileLeases(self._folder, lease_seconds)
        forks.watch(self, database_path(self._folder))

    def _open(self, lock_seconds: float, *, rebuilds: bool) -> None:
        lock = WriteLock(os.path.join(self._folder, LOCK_NAME))
        try:
            lock.acquire(lock_seconds)
            try:
                connection = open_writer(self._folder, lambda made: make_missing(made, self._live))
                is_current = prepare(connection, self._live, self._folder)
            finally:
                lock.release()
        except BaseException:
            lock.close()
            raise
        self.writer = GroupCommit(self._folder, lock, connection, timeout=lock_seconds)
        self._pool = ReaderPool(self._folder)
        self._reader = Reader(self._folder, self._pool)
        self.recorder = Recorder(self.writer, self._reader)
        self._watching = open_reader(self._folder)
        self._changes = CommitSignal(self._data_version)
        self.writer.on_commit = self._committed
        self._lines = self.writer.lines = WaitingLines(self._folder, self.writer.commit)
        if rebuilds and not is_current:
            rebuild(self._folder, self.writer, self.projectors, only_stale=True)

    @property
    def store_id(self) -> str:
        """A UUID made with the store; a copy keeps it."""
        return self._reader.store_id

    @property
    def location(self) -> str:
        """The folder."""
        return self._folder

    @property
    def leases(self) -> FileLeases:
        """The runners' leases of this store."""
        return self._leases

    @property
    def changes(self) -> CommitSignal:
        """How to learn that something was committed."""
        return self._changes

    @property
    def lines(self) -> WaitingLines:
        """Where log lines go."""
        return self._lines

    # --- writing -------------------------------------------------------------------------------------------------------

    def append(self, head: Head, events: Sequence[EventBase], state: ExecutionState, event_ids: Sequence[str]) -> Head:
        """Append a runner's events after `head`. See EventLog.append."""
        member = Append(head, events, state, event_ids, self._live)
        if self._lowers_outcomes:
            member.is_outcome = False
        self.writer.commit(member)
        return member.result

    def execute(self, exec_id: str, command: Command, at: int) -> tuple[Head, tuple[EventBase, ...]]:
        """Decide a command from outside on the head row and append its events. See EventLog.execute."""
        member = Execute(exec_id, command, at, new_event_id, self._live)
        for tries_left in reversed(range(_UNKNOWN_TRIES)):
            if self._lowers_outcomes:
                member.is_outcome = False
            try:
                self.writer.commit(member)
                break
            except OutcomeUnknown as error:
                if tries_left == 0:
                    raise KitaruBackendError(
                        f"whether {type(command).__name__} of execution {exec_id} was recorded is not known ({error}); "
                        "check the disk, then look at the execution",
                        code="outcome-unknown",
                    ) from error
                member = member.again()
        assert member.result is not None
        if isinstance(command, Erase):
            self.shrink()
        return member.result

    def erase(self, exec_id: str, by: str, at: int) -> Head:
        """Forget the payloads of a finished execution. See EventLog.erase."""
        return self.execute(exec_id, Erase(by), at)[0]

    def drop_histories(self, chosen: Sequence[tuple[str, int]], by: str, at: int) -> list[str]:
        """Drop the events of finished executions. See EventLog.drop_histories."""
        member = DropHistories(chosen, by, at, new_event_id, self._live)
        try:
            self.writer.commit(member)
        except OutcomeUnknown as error:
            raise KitaruBackendError(
                f"whether the events of {len(chosen)} executions were dropped is not known ({error}); check the disk, then "
                "try again",
                code="outcome-unknown",
            ) from error
        return member.dropped

    def delete(self, exec_id: str) -> bool:
        """Remove a finished execution. See EventLog.delete."""
        try:
            self.writer.commit(Delete(exec_id, self._live))
        except OutcomeUnknown as error:
            try:
                self.writer.commit(Delete(exec_id, self._live))
            except KitaruNotFoundError:
                pass
            except OutcomeUnknown:
                raise KitaruBackendError(
                    f"whether execution {exec_id} was deleted is not known ({error}); check the disk, then try again",
                    code="outcome-unknown",
                ) from error
        return self.shrink()

    def shrink(self) -> bool:
        """Empty the WAL, so that what was deleted is in no file any more. False: somebody still reads what was before."""
        try:
            connection = connect(self._folder, "mode=rw")
            try:
                connection.execute("PRAGMA busy_timeout = 200")  # writers wait as long
                for _ in range(_SHRINK_TRIES):
                    if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0:
                        return True
                    time.sleep(0.05)
                return False
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise typed(error, self._folder) from error

    def rebuild(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Fold every event again into the read models, while writers go on; how many events that were."""
        return rebuild(self._folder, self.writer, self.projectors, progress=progress)

    def is_in_place(self) -> bool:
        """Whether the store is still where it was opened."""
        return self.writer.is_in_place()

    def close(self) -> None:
        """Release files, connections, threads and the lease."""
        if self._is_forgotten:
            return
        self._leases.release()
        self._lines.close()
        self._changes.close()
        self._reader.close()
        self._watching.close()
        self.writer.close()  # last: only a connection that may write checkpoints the WAL at its end
        forks.unwatch(self)

    def forget(self) -> None:
        """In a forked child."""
        self._is_forgotten = True
        forks.keep(self._watching)
        self._leases.forget()
        self._changes.forget(forks.refusal(self._folder))

    # --- reading -------------------------------------------------------------------------------------------------------

    def head(self, exec_id: str) -> Head:
        """Where the stream ends now. See Reads.head."""
        return self._reader.head(exec_id)

    def find_ids(self, prefix: str, limit: int = 10) -> list[str]:
        """Execution ids that begin with `prefix`. See Reads.find_ids."""
        return self._reader.find_ids(prefix, limit)

    def read(self, exec_id: str, *, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """The stream's events after a version. See Reads.read."""
        return self._reader.read(exec_id, after=after, limit=limit)

    def outline(self, exec_id: str, *, limit: int | None = None) -> Iterator[list[Outlined]]:
        """The stream's first events, those of its calls outlined. See Reads.outline."""
        return self._reader.outline(exec_id, limit=limit)

    def tail(self, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        """Events of all executions after a position. See Reads.tail."""
        return self._reader.tail(after=after, limit=limit)

    def tombstones(self, *, after: int = 0, limit: int = 1000) -> list[Tombstone]:
        """Executions deleted after a position. See Reads.tombstones."""
        return self._reader.tombstones(after=after, limit=limit)

    def last_position(self) -> int:
        """The position of the newest event or tombstone. See Reads.last_position."""
        return self._reader.last_position()

    def load(self, payload: Payload) -> bytes:
        """The payload's bytes. See Reads.load."""
        return self._reader.load(payload)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """The rows of one constant SELECT. See Reads.query."""
        return self._reader.query(sql, parameters)

    def snapshot(self) -> AbstractContextManager[Reads]:
        """One moment of the store. See Reads.snapshot."""
        return self._reader.snapshot()

    # --- waking --------------------------------------------------------------------------------------------------------

    def _data_version(self) -> int:
        return self._watching.execute("PRAGMA data_version").fetchone()[0]

    def _committed(self) -> None:
        if self._changes.waiting:
            self._changes.committed()
