"""Is the store what it says? Every event, the chain, payloads, blobs, head rows, and every read-model row against the fold.

Works on one moment of the store through a connection that only reads: the read models are folded into a private temporary
database, and the two are compared in SQL.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from kitaru.domain import limits
from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.events import EventBase, ExecutionStarted
from kitaru.domain.payload import Payload, digest_of
from kitaru.store.heads import columns
from kitaru.store.log import Projector, ProjectorFactory
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.connection import database_path, reading_mode
from kitaru.store.sqlite.failures import DATABASE_ERRORS, typed
from kitaru.store.sqlite.projected import is_current
from kitaru.store.sqlite.rebuild import Progress
from kitaru.store.sqlite.walk import Run, Walker

T = TypeVar("T")

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
    mode = reading_mode(folder)  # says in words what is wrong with a file that is no store
    private = sqlite3.connect("", isolation_level=None, uri=True)
    try:
        private.execute("PRAGMA trusted_schema = OFF")
        private.execute("PRAGMA journal_mode = OFF")
        private.execute("ATTACH ? AS store", (f"{Path(database_path(folder)).absolute().as_uri()}?{mode}",))
        return _Verification(private, tuple(make("") for make in projectors), folder).run(progress)
    except DATABASE_ERRORS as error:
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
        self._damaged: set[int] = set()
        self._is_folded = False

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
        self._check_logs()
        if is_current(self._connection, self._projectors):
            for projector in self._projectors:
                for table in projector.tables:
                    self._guard("row", table, lambda table=table: self._compare(table))
        elif self._projectors:
            self._say("row", self._folder, "the read models are of another version; run `kitaru store rebuild`")
        return Report(walker.events, self._executions, blobs, tuple(self._problems))

    def _walk(self, walker: Walker, progress: Progress | None, total: int) -> None:
        execute = self._connection.execute
        is_at_end = False
        while not is_at_end:
            before = walker.position
            for run in walker.slice(self._connection, _SLICE):
                if not isinstance(run, Run):
                    continue  # in one moment of the store nothing of a deleted execution was folded
                for projector in self._projectors:
                    projector.apply(execute, run.head, run.events)
                self._check_start(run)
                self._check_large_payloads(run)
                if run.is_last:
                    self._executions += 1
                    self._check_head(run)
            is_at_end = walker.position == before
            if progress is not None:
                progress(walker.events, total)
        self._damaged = walker.damaged
        self._is_folded = True

    def _check_start(self, run: Run) -> None:
        version, started = run.events[0]
        if version == 1 and isinstance(started, ExecutionStarted):
            row = self._connection.execute(schema.GET_WHOLE_HEAD, (run.head.number,)).fetchone()
            if row[2:4] != (started.flow_id, started.idempotency_key):
                self._say("head", run.head.exec_id, "the head row's flow or idempotency key differs from its first event")

    def _check_head(self, run: Run) -> None:
        number, exec_id, digest, state = run.head
        row = self._connection.execute(schema.GET_WHOLE_HEAD, (number,)).fetchone()
        if tuple(row[4:]) != columns(exec_id, digest, state):
            self._say("head", exec_id, "the head row differs from the fold of its events")

    def _check_large_payloads(self, run: Run) -> None:
        for version, event in run.events:
            for payload in _large_payloads(event):
                found = self._connection.execute(schema.FIND_USE, (run.head.number, version, payload.digest)).fetchone()
                if found is None and not self._is_erased(run.head.number, version):
                    self._say("blob", f"{run.head.exec_id} version {version}", f"its value {payload.digest} is missing")

    def _is_erased(self, number: int, version: int) -> bool:
        row = self._connection.execute(schema.GET_WHOLE_HEAD, (number,)).fetchone()
        return row is not None and cast("int", row[1]) >= version

    def _check_file(self) -> None:
        for (message,) in self._connection.execute("PRAGMA store.integrity_check").fetchall():
            if message != "ok":
                self._say("file", self._folder, str(message))

    def _check_blobs(self) -> int:
        count = last = 0
        while row := self._connection.execute(schema.NEXT_BLOB, (last,)).fetchone():
            last, digest, data = row
            count += 1
            if not isinstance(data, bytes) or digest_of(data) != digest:
                self._say("blob", str(digest), "its bytes do not fit its digest")
        return count

    def _check_heads_without_events(self) -> None:
        for (exec_id,) in self._connection.execute(schema.LIST_EMPTY_HEADS).fetchall():
            self._say("head", str(exec_id), "it has no events")

    def _check_logs(self) -> None:
        """They are no part of the record: what is wrong with them is told, and harms nothing else."""
        try:
            there = self._connection.execute(schema.FIND_LOGS_OF_STORE).fetchone()
            wrong = self._connection.execute(schema.CHECK_LINES).fetchone()[0] if there is not None else 0
        except DATABASE_ERRORS as error:
            self._say("logs", self._folder, f"the log table is not what it was ({error}); executions are not affected")
        else:
            if wrong:
                self._say("logs", self._folder, f"{wrong} log lines are not what was written; executions are not affected")

    def _compare(self, table: str) -> None:
        if not self._is_folded:
            return
        for template, what in ((_LOST_ROWS, "missing or changed; it should be"), (_WRONG_ROWS, "not what the events say:")):
            cursor = self._connection.execute(_named(template, table), (_MOST_ROWS_NAMED + len(self._damaged),))
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                named = dict(zip(names, row, strict=True))
                if named.get("number") not in self._damaged:
                    self._say("row", table, f"{what} {named}")
        expected, found = self._connection.execute(_named(_COUNTS, table)).fetchone()
        if expected != found and not self._damaged:
            self._say("row", table, f"{found} rows, and the events make {expected}")

    def _guard(self, kind: str, where: str, check: Callable[[], T]) -> T | None:
        """Whatever a damaged file does to a check is something to report, and no reason to stop."""
        try:
            return check()
        except DATABASE_ERRORS as error:
            self._say(kind, where, typed(error, self._folder).message)
        except (KitaruBackendError, TypeError, ValueError, IndexError) as error:
            self._say(kind, where, str(error))
        return None

    def _on_damage(self, error: KitaruBackendError) -> None:
        self._say("event", "", error.message)

    def _say(self, kind: str, where: str, message: str) -> None:
        self._problems.append(Problem(kind, where, message))


def _large_payloads(event: EventBase) -> list[Payload]:
    found: list[Payload] = []
    for field in type(event).payloads:
        payload: Payload | None = getattr(event, field)
        if payload is not None and payload.size > limits.INLINE_PAYLOAD_BYTES:
            found.append(payload)
    return found


def _named(template: str, table: str) -> str:
    """A statement on a table that a projector named; its name is part of this program."""
    assert _IDENTIFIER.fullmatch(table)
    return template.format(table=table)
