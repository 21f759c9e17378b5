"""Is the store what it says? Every event, the chain, payloads, blobs, head rows, and every read-model row against the fold.

Works on one moment of the store through a connection that only reads: the read models are folded into a private temporary
database, and the two are compared in SQL.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from kitaru.domain import limits
from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.events import EventBase, ExecutionStarted
from kitaru.domain.payload import Payload, digest_of
from kitaru.store.heads import columns
from kitaru.store.log import Projector, ProjectorFactory
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.connection import database_path, open_reader
from kitaru.store.sqlite.failures import typed
from kitaru.store.sqlite.projected import is_current
from kitaru.store.sqlite.rebuild import Progress
from kitaru.store.sqlite.walk import Run, Walker

_SLICE = 5000
_MOST_ROWS_NAMED = 20
_IDENTIFIER = re.compile(r"[a-z_]+")
_LOST_ROWS = "SELECT * FROM main.{table} EXCEPT SELECT * FROM store.{table} LIMIT ?"
_WRONG_ROWS = "SELECT * FROM store.{table} EXCEPT SELECT * FROM main.{table} LIMIT ?"
_COUNTS = "SELECT (SELECT count(*) FROM main.{table}), (SELECT count(*) FROM store.{table})"


class Problem(NamedTuple):
    """Something that is not as it was written. `where` names an event, a head, a blob or a row."""

    kind: str
    where: str
    message: str


class Report(NamedTuple):
    """What `verify` found."""

    events: int
    executions: int
    blobs: int
    problems: tuple[Problem, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(folder: str, projectors: Sequence[ProjectorFactory] = (), progress: Progress | None = None) -> Report:
    """Check the whole store in `folder`. Raises KitaruBackendError only when it cannot be opened at all."""
    open_reader(folder).close()  # says in words what is wrong with a file that is no store
    private = sqlite3.connect("", isolation_level=None, uri=True)
    try:
        private.execute("PRAGMA trusted_schema = OFF")
        private.execute("ATTACH ? AS store", (f"{Path(database_path(folder)).absolute().as_uri()}?mode=ro",))
        return _Verification(private, tuple(make("") for make in projectors), folder).run(progress)
    except sqlite3.Error as error:
        raise typed(error, folder) from error
    finally:
        private.close()


class _Verification:
    def __init__(self, connection: sqlite3.Connection, projectors: Sequence[Projector], folder: str) -> None:
        self._connection = connection
        self._projectors = projectors
        self._folder = folder
        self._problems: list[Problem] = []
        self._executions = 0

    def run(self, progress: Progress | None) -> Report:
        execute = self._connection.execute
        execute("BEGIN")
        self._guard("file", self._folder, self._check_file)
        for projector in self._projectors:
            projector.create(execute, 0)
        walker = Walker(self._on_damage)
        total = execute(schema.COUNT_EVENTS).fetchone()[0] if progress is not None else 0
        self._guard("file", self._folder, lambda: self._walk(walker, progress, total))
        for exec_id, version in walker.unfinished():
            self._say("head", exec_id, f"the head row names later events than version {version}, the last there is")
        blobs = self._guard("file", self._folder, self._check_blobs) or 0
        self._guard("file", self._folder, self._check_heads_without_events)
        if is_current(self._connection, self._projectors):
            for projector in self._projectors:
                for table in projector.tables:
                    self._guard("row", table, lambda table=table: self._compare(table))
        elif self._projectors:
            self._say("row", self._folder, "the read models are of another version; run `kitaru store rebuild`")
        return Report(walker.events, self._executions, blobs, tuple(self._problems))
