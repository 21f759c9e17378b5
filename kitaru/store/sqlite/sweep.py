"""Taking away what nobody needs: log lines past their time, values that nothing uses, leftover files, empty pages."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from typing import NamedTuple

from kitaru.store.leases import FileLeases
from kitaru.store.log import Reads
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.connection import LOCK_NAME, connect, database_path
from kitaru.store.sqlite.failures import DATABASE_ERRORS, typed
from kitaru.store.sqlite.write_lock import WriteLock
from kitaru.store.sqlite.writer import GroupCommit, Member

_BATCH = 5_000
_LINE_BYTES = 128
"""What a line takes beside its message, about."""
_LEFT_OVER_SECONDS = 3600.0


class LogLimits(NamedTuple):
    """Which log lines stay: those from `since` on (microseconds since 1970), and of those the newest `size` bytes."""

    since: int
    size: int


def count_lines(reads: Reads, limits: LogLimits) -> int:
    """How many lines `drop_lines` would drop now."""
    if not reads.query(schema.FIND_LOGS):
        return 0
    last = reads.query(schema.FIND_LAST_LINE_TOO_MUCH, (_LINE_BYTES, limits.size))
    return int(str(reads.query(schema.COUNT_OLD_LINES, (limits.since, last[0][0] if last else 0))[0][0]))


def drop_lines(writer: GroupCommit, reads: Reads, limits: LogLimits) -> int:
    """Drop log lines past their time and past the size, in small transactions; how many."""
    if not reads.query(schema.FIND_LOGS):
        return 0
    last = reads.query(schema.FIND_LAST_LINE_TOO_MUCH, (_LINE_BYTES, limits.size))
    parameters = (limits.since, last[0][0] if last else 0, _BATCH)
    return _repeated(writer, lambda connection: connection.execute(schema.DROP_OLD_LINES, parameters).rowcount)


def count_unused_blobs(reads: Reads) -> int:
    """How many values nothing uses: none, unless a store was damaged and mended."""
    return int(str(reads.query(schema.COUNT_UNUSED_BLOBS)[0][0]))


def drop_unused_blobs(writer: GroupCommit) -> int:
    """Drop values that nothing uses; how many."""
    return _repeated(writer, lambda connection: connection.execute(schema.DROP_UNUSED_BLOBS, (_BATCH,)).rowcount)


def leftover_files(folder: str) -> list[str]:
    """Files that dead processes left: the leases of runners that live no more, and half-made ones."""
    return [*FileLeases(folder).leftovers(), *_half_made(os.path.join(folder, "runners"))]


def remove_files(paths: list[str]) -> int:
    """Unlink; how many were."""
    removed = 0
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)
            removed += 1
    return removed


def vacuum(folder: str, timeout: float) -> None:
    """Give empty pages back to the disk. Writers wait meanwhile. Raises KitaruBackendError."""
    lock = WriteLock(os.path.join(folder, LOCK_NAME))
    try:
        lock.acquire(timeout)
        connection = connect(folder, "mode=rw")
        try:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()
            lock.release()
    except DATABASE_ERRORS as error:
        raise typed(error, folder) from error
    finally:
        lock.close()


def size_of(folder: str) -> int:
    """Bytes of the database and its WAL."""
    path = database_path(folder)
    return sum(os.stat(path + suffix).st_size for suffix in ("", "-wal") if os.path.exists(path + suffix))


def _half_made(runners: str) -> list[str]:
    """A lease gets its name within moments; what has none after an hour never will."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for name in os.listdir(runners):
            path = os.path.join(runners, name)
            if name.endswith(".new") and time.time() - os.stat(path, follow_symlinks=False).st_mtime > _LEFT_OVER_SECONDS:
                found.append(path)
    return found


def _repeated(writer: GroupCommit, drop: Callable[[sqlite3.Connection], int]) -> int:
    total = 0
    while True:
        step = _Step(drop)
        writer.commit(step)
        total += step.dropped
        if step.dropped < _BATCH:
            return total


class _Step(Member):
    """One batch among the writers' appends."""

    __slots__ = ("_drop", "dropped")

    def __init__(self, drop: Callable[[sqlite3.Connection], int]) -> None:
        super().__init__("sweep", is_outcome=False)
        self._drop = drop
        self.dropped = 0

    def write(self, connection: sqlite3.Connection) -> None:
        self.is_dirty = True
        self.dropped = self._drop(connection)
