"""Folding every event again into the read models, while writers go on.

The rows grow in shadow tables, a slice of events in each transaction; the last transaction folds what came meanwhile and
swaps the tables. Until then the live ones are untouched, so a rebuild that is interrupted has changed nothing.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Sequence

from kitaru.domain.errors import KitaruBackendError
from kitaru.store.log import OutcomeUnknown, Projector, ProjectorFactory
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.connection import open_reader
from kitaru.store.sqlite.failures import DATABASE_ERRORS, typed
from kitaru.store.sqlite.projected import generation_of, is_current, record_version
from kitaru.store.sqlite.walk import Removal, Run, Walker
from kitaru.store.sqlite.write_lock import WriteLock
from kitaru.store.sqlite.writer import GroupCommit, Member

Progress = Callable[[int, int], None]
"""Called with (events done, events in all)."""

SHADOW = "shadow_"
SLICE = 5000
LAST_SLICE = 500
LOCK_NAME = "rebuild.lock"
_IDENTIFIER = re.compile(r"[a-z_]+")
_DROP = "DROP TABLE IF EXISTS {table}"
_RENAME = "ALTER TABLE {shadow} RENAME TO {table}"


def rebuild(
    folder: str,
    writer: GroupCommit,
    projectors: Sequence[ProjectorFactory],
    *,
    progress: Progress | None = None,
    only_stale: bool = False,
    lock_seconds: float = 600.0,
) -> int:
    """Rebuild the read models of `projectors` and return how many events were folded. Raises KitaruBackendError.

    `only_stale`: nothing is done if somebody else did it while this one waited.
    """
    lock = WriteLock(os.path.join(folder, LOCK_NAME))
    try:
        lock.acquire(lock_seconds)
        try:
            return _rebuild(folder, writer, projectors, progress, only_stale)
        finally:
            lock.release()
    except OutcomeUnknown as error:
        raise KitaruBackendError(
            f"the rebuild of {folder} was cut short ({error}); run it again", code="store-io"
        ) from error
    finally:
        lock.close()


def _rebuild(
    folder: str, writer: GroupCommit, projectors: Sequence[ProjectorFactory], progress: Progress | None, only_stale: bool
) -> int:
    shadows = tuple(make(SHADOW) for make in projectors)
    reader = open_reader(folder)
    try:
        if only_stale and is_current(reader, shadows):
            return 0
        walker = Walker()
        writer.commit(_Change(lambda connection: _begin(connection, shadows)))
        total = reader.execute(schema.COUNT_EVENTS).fetchone()[0] if progress is not None else 0
        while True:
            reader.execute("BEGIN")
            try:
                runs = walker.slice(reader, SLICE)
            finally:
                if reader.in_transaction:  # an error of the disk has ended it already
                    reader.execute(schema.ROLLBACK)
            if runs:
                writer.commit(_Change(lambda connection, runs=runs: _apply(connection, shadows, runs)))
            if progress is not None:
                progress(walker.events, max(total, walker.events))
            if sum(len(run.events) for run in runs if isinstance(run, Run)) < LAST_SLICE:
                break
        writer.commit(_Change(lambda connection: _finish(connection, shadows, walker), is_outcome=True))
        return walker.events
    except DATABASE_ERRORS as error:
        raise typed(error, folder) from error
    finally:
        reader.close()


class _Change(Member):
    """One step of the rebuild among the writers' appends."""

    __slots__ = ("_change",)

    def __init__(self, change: Callable[[sqlite3.Connection], None], *, is_outcome: bool = False) -> None:
        super().__init__("rebuild", is_outcome)
        self._change = change

    def write(self, connection: sqlite3.Connection) -> None:
        self.is_dirty = True
        self._change(connection)


def _begin(connection: sqlite3.Connection, shadows: Sequence[Projector]) -> None:
    generation = generation_of(connection) + 1
    for shadow in shadows:
        for table in shadow.tables:
            connection.execute(_named(_DROP, table=table))
        shadow.create(connection.execute, generation)


def _apply(connection: sqlite3.Connection, shadows: Sequence[Projector], runs: Sequence[Run | Removal]) -> None:
    execute = connection.execute
    for run in runs:
        for shadow in shadows:
            if isinstance(run, Run):
                shadow.apply(execute, run.head, run.events)
            else:
                shadow.remove(execute, run.number, run.exec_id)


def _finish(connection: sqlite3.Connection, shadows: Sequence[Projector], walker: Walker) -> None:
    while runs := walker.slice(connection, SLICE):
        _apply(connection, shadows, runs)
    for shadow in shadows:
        for table in shadow.tables:
            live = table.removeprefix(SHADOW)
            connection.execute(_named(_DROP, table=live))
            connection.execute(_named(_RENAME, shadow=table, table=live))
        record_version(connection, shadow)
    connection.execute(schema.PUT_META, ("generation", str(generation_of(connection) + 1)))


def _named(template: str, **tables: str) -> str:
    """A statement on tables that a projector named; their names are part of this program."""
    assert all(_IDENTIFIER.fullmatch(table) for table in tables.values())
    return template.format(**tables)
