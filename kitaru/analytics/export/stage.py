"""One bucket of a store at a time, in a DuckDB that writes it out as Parquet and reaches nothing but the export's folder."""

from __future__ import annotations

import errno
from collections.abc import Collection
from typing import NamedTuple, cast

from kitaru.analytics.connection import Duck, duck_errors, open_to_write
from kitaru.analytics.export import shapes, staging
from kitaru.analytics.export.target import unwritable
from kitaru.analytics.generations import Generation, fits
from kitaru.domain.errors import KitaruBackendError, KitaruError, KitaruRuntimeError
from kitaru.domain.metadata import Tree, is_tree, merged
from kitaru.store.log import Reads
from kitaru.store.values.text import read, write

_EXECUTIONS_AT_ONCE = 10_000
_EVENTS_AT_ONCE = 20_000
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Selection(NamedTuple):
    """Which executions: those of a project that started from `since` and before `until`, microseconds since 1970."""

    project: str
    since: int
    until: int


class Stage:
    """Holds the rows of one bucket. `folder` is where it may write; `base` spares most of the reading of executions.

    `tables` are those that it can write. `duck` is another stage's, whose threads and memory limit it shares. For one
    thread at a time.
    """

    def __init__(
        self,
        folder: str,
        selection: Selection,
        tables: Collection[str],
        base: Generation | None = None,
        duck: Duck | None = None,
    ) -> None:
        self._folder = folder
        self._selection = selection
        self._tables = tables
        self._base = base
        self._duck = self._open() if duck is None else self._prepared(duck.cursor())

    def _open(self) -> Duck:
        if self._base is not None:
            try:
                return self._prepared(open_to_write(self._folder, self._base.path))
            except duck_errors():  # it has just been replaced by a newer one, or cannot be read
                self._base = None
        return self._prepared(open_to_write(self._folder))

    def _prepared(self, duck: Duck) -> Duck:
        """A connection with the tables and views of a stage."""
        try:
            for statement in staging.CREATE:
                duck.execute(statement)
            duck.execute(staging.WITHOUT_BASE if self._base is None else staging.WITH_BASE)
            for statement in shapes.VIEWS_OF_EXECUTIONS if _need_no_events(self._tables) else shapes.VIEWS:
                duck.execute(statement)
            duck.execute(staging.SET_PROJECT, (self._selection.project,))
            duck.execute(staging.SET_SINCE, (self._selection.since,))
            duck.execute(staging.SET_UNTIL, (self._selection.until,))
        except BaseException:
            duck.close()
            raise
        return duck

    def another(self) -> Stage:
        """A stage for another bucket, in the same DuckDB."""
        return Stage(self._folder, self._selection, self._tables, self._base, self._duck)

    def close(self) -> None:
        """Let go of DuckDB."""
        self._duck.close()

    def load(self, moment: Reads, numbers: tuple[int, int], tables: Collection[str]) -> None:
        """Read what some tables need of a bucket, given by its first and last number, from one moment of the store."""
        self.clear()
        first, last = numbers
        try:
            if self._base is not None and fits(moment, self._base.origin):
                self._set_bucket(*numbers)
                self._load_changed(moment, self._base.origin.position, numbers)
            else:
                self._load_executions(moment, first - 1, last)
                self._load_totals(moment, first - 1, last)
            if not _need_no_events(tables):
                self._load_events(moment, first, last)
            if "checkpoints" in tables:
                self._load_call_metadata(moment, first - 1, last)
        except Exception as error:
            raise self._typed(error, moment.location) from error

    def clear(self) -> None:
        """Forget the bucket."""
        for statement in staging.CLEAR:
            self._duck.execute(statement)
        self._set_bucket(1, 0)

    def write(self, table: str, partition_by: tuple[str, ...], path: str) -> int:
        """Write a table's rows to a file, or by partitions into a folder; how many there were."""
        try:
            copies = shapes.COPY_EXECUTIONS if table == "executions" else shapes.COPY_OTHERS
            return cast("int", self._duck.execute(_named(copies[partition_by], table), (path,)).fetchall()[0][0])
        except Exception as error:
            raise self._typed(error, self._folder) from error

    def write_empty(self, table: str, partition_by: tuple[str, ...], path: str) -> None:
        """Write a file with a table's columns and no rows."""
        has_status = table == "executions" and "status" not in partition_by
        try:
            self._duck.execute(_named(shapes.COPY_EMPTY[has_status], table), (path,)).fetchall()
        except Exception as error:
            raise self._typed(error, self._folder) from error

    def rows_in(self, path: str) -> int:
        """How many rows a file holds."""
        return cast("int", self._duck.execute(shapes.COUNT_IN_FILE, (path,)).fetchall()[0][0])

    def _load_executions(self, moment: Reads, after: int, last: int) -> None:
        while True:
            found = moment.query(staging.READ_EXECUTIONS, (after, last, *self._selection, _EXECUTIONS_AT_ONCE))[0]
            if not found[0]:
                return
            self._duck.execute(staging.ADD_EXECUTIONS, found[2:])
            after = cast("int", found[1])

    def _load_totals(self, moment: Reads, after: int, last: int) -> None:
        while True:
            found = moment.query(staging.READ_TOTALS, (after, last, _EXECUTIONS_AT_ONCE))[0]
            if not found[0]:
                return
            self._duck.execute(staging.ADD_TOTALS, found[2:])
            after = cast("int", found[1])

    def _load_changed(self, moment: Reads, position: int, numbers: tuple[int, int]) -> None:
        """What changed since the base."""
        rows = moment.query(staging.CHANGED_SINCE, (position, *numbers))
        changed = f"[{','.join(str(row[0]) for row in rows)}]"
        self._duck.execute(staging.ADD_CHANGED, (changed,))
        found = moment.query(staging.READ_SOME_EXECUTIONS, (changed, *self._selection))[0]
        if found[0]:
            self._duck.execute(staging.ADD_EXECUTIONS, found[2:])
        found = moment.query(staging.READ_SOME_TOTALS, (changed,))[0]
        if found[0]:
            self._duck.execute(staging.ADD_TOTALS, found[2:])

    def _set_bucket(self, first: int, last: int) -> None:
        """Which numbers are taken from the base."""
        self._duck.execute(staging.SET_FIRST, (first,))
        self._duck.execute(staging.SET_LAST, (last,))

    def _load_events(self, moment: Reads, first: int, last: int) -> None:
        place = first * staging.VERSIONS
        while True:
            after = divmod(place, staging.VERSIONS)
            found = moment.query(staging.READ_EVENTS, (*after, last, *self._selection, _EVENTS_AT_ONCE))[0]
            if not found[0]:
                return
            self._duck.execute(staging.ADD_EVENTS, found[2:])
            place = cast("int", found[1])

    def _load_call_metadata(self, moment: Reads, after: int, last: int) -> None:
        """Logged metadata adds up as `merged` says, which SQL cannot; few calls have any."""
        trees: dict[tuple[object, object], Tree] = {}
        for number, _, call, data in moment.query(staging.READ_CALL_METADATA, (after, last)):
            tree: object = read(data.encode()) if isinstance(data, str) else None
            if is_tree(tree):
                trees[number, call] = merged(trees.get((number, call), {}), cast("Tree", tree))
        if trees:
            columns = ([number for number, _ in trees], [call for _, call in trees], _texts(trees.values()))
            self._duck.execute(staging.ADD_CALL_METADATA, [write(column).decode() for column in columns])

    def _typed(self, error: Exception, location: str) -> KitaruError:
        """What an error of DuckDB means to whoever exports."""
        if isinstance(error, KitaruError):
            return error
        name = type(error).__name__
        reason = str(error).partition("\n")[0]
        if name in ("IOException", "PermissionException", "HTTPException"):
            full = next((number for number in _DISK_FULL if f'"errno":"{number}"' in str(error)), None)
            if full is None and ("No space left" in str(error) or "File too large" in str(error)):
                full = errno.ENOSPC
            return unwritable(self._folder, full, reason)
        if name == "OutOfMemoryException":
            return KitaruRuntimeError(
                f"the export needs more memory than it may take ({reason}); export fewer tables at once"
            )
        return KitaruBackendError(
            f"what is in the store {location} cannot be exported ({reason}); run `kitaru store verify`", code="store-corrupt"
        )


def _need_no_events(tables: Collection[str]) -> bool:
    return set(tables) <= {"executions"}


def _texts(trees: Collection[Tree]) -> list[str]:
    return [write(tree).decode() for tree in trees]


def _named(template: str, table: str) -> str:
    """A statement on one of the six tables; their names are part of this program."""
    assert table in shapes.TABLES
    return template.format(table=table)
