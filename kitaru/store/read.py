"""Reading a store: heads, verified streams, the tail, payloads, and the rows of read models. Writes nothing, ever.

Imports no eventsourcing, and the events' classes only when events are read: what only lists needs neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

from kitaru.domain.errors import KitaruBackendError, KitaruNotFoundError, KitaruUsageError
from kitaru.store.sqlite import connection as opening
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.failures import DATABASE_ERRORS, typed
from kitaru.store.sqlite.pool import ReaderPool

if TYPE_CHECKING:
    from kitaru.domain.payload import Payload
    from kitaru.store.heads import StoredHead
    from kitaru.store.log import Head, Recorded, Tombstone
    from kitaru.store.outline import Outlined

T = TypeVar("T")
_Unfold = Callable[[Sequence[Sequence[object]], int, str, int, bytes, int], Generator[T, None, tuple[int, bytes]]]
SLICE = 1024
"""Rows of a stream that are in memory at once."""


def open_store(folder: str) -> Reader:
    """A reader of the store in `folder`. Raises KitaruBackendError: absent, empty, damaged, too new."""
    return Reader(folder, ReaderPool(folder))


class Reader:
    """Everything that can be asked of a store's file without writing. Threads may share it."""

    def __init__(self, folder: str, pool: ReaderPool) -> None:
        self._folder = folder
        self._pool = pool
        with self._reading() as connection:
            self.store_id = opening.store_id_of(connection, folder)

    @property
    def location(self) -> str:
        """The folder."""
        return self._folder

    def is_in_place(self) -> bool:
        """Whether the store is still where it was opened."""
        return self._pool.is_in_place()

    def close(self) -> None:
        """Close the connections; a reader that is closed cannot be used again."""
        self._pool.close()

    @contextmanager
    def snapshot(self) -> Generator[Reader]:
        """A reader that sees one moment of the store, whatever is committed meanwhile."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            try:
                yield _Snapshot(self._folder, connection, self.store_id)
            finally:
                if connection.in_transaction:  # an error of the disk has ended it already
                    connection.execute("ROLLBACK")

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """The rows of one constant SELECT, for read models."""
        with self._reading() as connection:
            return connection.execute(sql, cast("tuple[str]", parameters)).fetchall()

    def find_ids(self, prefix: str, limit: int = 10) -> list[str]:
        """Execution ids that begin with `prefix`, in order, at most `limit`."""
        after = prefix + "\U0010ffff"
        with self._reading() as connection:
            return [row[0] for row in connection.execute(schema.FIND_IDS, (prefix, after, limit))]

    def head(self, exec_id: str) -> Head:
        """Where the stream ends now. Raises KitaruNotFoundError."""
        with self._reading() as connection:
            return self._stored_head(connection, exec_id).head

    def read(self, exec_id: str, *, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """The stream's events after version `after`, each checked, in constant memory: those there are at the call."""
        with self._reading() as connection:
            end = self._stored_head(connection, exec_id).head
        from kitaru.store.rows import unfold

        last = end.version if limit is None else min(end.version, after + limit)
        return self._slices(end, after, last, unfold)

    def outline(self, exec_id: str, *, limit: int | None = None) -> Iterator[list[Outlined]]:
        """The stream's first events, each checked, those of its calls outlined, in constant memory."""
        with self._reading() as connection:
            end = self._stored_head(connection, exec_id).head
        from kitaru.store.outline import outline

        return self._slices(end, 0, end.version if limit is None else min(end.version, limit), outline)

    def tail(self, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        """Events of all executions after a position, each checked against its own digest."""
        from kitaru.store.rows import corrupt, recorded

        found: list[Recorded] = []
        digests: dict[tuple[object, int], bytes] = {}
        with self._transaction() as connection:
            for row in connection.execute(schema.READ_TAIL, (after, limit)).fetchall():
                position, version, number, exec_id, erased = row[0], row[1], row[8], row[9], row[10]
                if not isinstance(exec_id, str) or row[11] != position:
                    raise corrupt(str(exec_id), version, position, "its execution or its place is not what it was")
                previous = digests.get((number, version - 1)) or _digest_at(connection, number, version - 1)
                found.append(recorded(row[:8], number, exec_id, version, previous, erased))
                digests[number, version] = row[5]
        return found

    def tombstones(self, *, after: int = 0, limit: int = 1000) -> list[Tombstone]:
        """What was deleted after a position."""
        from kitaru.store.log import Tombstone

        with self._reading() as connection:
            return [Tombstone(*row) for row in connection.execute(schema.LIST_TOMBSTONES, (after, limit))]

    def last_position(self) -> int:
        """The position of the newest event or tombstone; 0 in an empty store."""
        with self._reading() as connection:
            return connection.execute(schema.GET_LAST_POSITION).fetchone()[0] or 0

    def load(self, payload: Payload) -> bytes:
        """The payload's bytes, checked against its digest. Raises KitaruNotFoundError when they were erased."""
        from kitaru.domain.payload import digest_of

        data = payload.data
        if data is None:
            with self._reading() as connection:
                row: tuple[bytes] | None = connection.execute(schema.GET_BLOB, (payload.digest,)).fetchone()
            if row is None:
                raise KitaruNotFoundError(
                    f"the value {payload.digest[:12]}… ({payload.size} bytes) has been erased", code="erased"
                )
            data = row[0]
        if type(data) is not bytes or digest_of(data) != payload.digest:
            raise KitaruBackendError(
                f"the value {payload.digest[:12]}… is damaged; run `kitaru store verify`, and restore a backup",
                code="store-corrupt",
            )
        return data

    def _slices(self, end: Head, after: int, last: int, unfold: _Unfold[T]) -> Iterator[T]:
        from kitaru.store.chain import GENESIS
        from kitaru.store.rows import DROPPED, corrupt

        version, digest = after, GENESIS
        while version < last:
            with self._transaction() as connection:
                stored = self._stored_head(connection, end.exec_id)
                if version == after:
                    digest = _digest_at(connection, end.number, after)
                rows = connection.execute(schema.READ_STREAM, (end.number, version, last, SLICE)).fetchall()
                first = None if rows else connection.execute(schema.GET_FIRST, (end.number,)).fetchone()
            if first is not None and first[1] == DROPPED and first[0] > last:
                return  # what was asked for was dropped
            if not rows:
                raise corrupt(end.exec_id, version + 1, "none", "it is missing")
            version, digest = yield from unfold(rows, end.number, end.exec_id, version, digest, stored.erased)
        if after < version == end.version and digest != end.digest:
            raise corrupt(end.exec_id, version, "of the head", "the head row names another event")

    def _stored_head(self, connection: sqlite3.Connection, exec_id: str) -> StoredHead:
        stored = find_head(connection, exec_id)
        if stored is None:
            raise KitaruNotFoundError(f"no execution {exec_id} in the store {self._folder}")
        return stored

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        connection = self._pool.take()
        try:
            yield connection
        except DATABASE_ERRORS as error:
            raise typed(error, self._folder) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise KitaruUsageError(f"the store cannot look that up: {error}") from None
        finally:
            self._pool.give(connection)

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:  # an error of the disk has ended it already
                    connection.execute("ROLLBACK")


class _Snapshot(Reader):
    """A reader inside one transaction of one connection, for one thread."""

    def __init__(self, folder: str, connection: sqlite3.Connection, store_id: str) -> None:
        self._folder = folder
        self._connection = connection
        self.store_id = store_id

    def close(self) -> None:
        """The one who opened the snapshot ends it."""

    @contextmanager
    def snapshot(self) -> Generator[Reader]:
        yield self

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        try:
            yield self._connection
        except DATABASE_ERRORS as error:
            raise typed(error, self._folder) from error

    _transaction = _reading


def find_head(connection: sqlite3.Connection, exec_id: str) -> StoredHead | None:
    """The head of a stream. Raises KitaruBackendError when its row or the event that it names is damaged."""
    from kitaru.store.heads import parse

    row = connection.execute(schema.GET_HEAD, (exec_id,)).fetchone()
    if row is None:
        return None
    stored = parse(exec_id, row[0], row[2], row[3:])
    if row[1] != stored.head.digest:
        from kitaru.store.rows import corrupt

        raise corrupt(exec_id, stored.head.version, "of the head", "it is missing, or not the one that the head row names")
    return stored


def _digest_at(connection: sqlite3.Connection, number: int, version: int) -> bytes:
    from kitaru.store.chain import GENESIS

    if version == 0:
        return GENESIS
    row: tuple[bytes] | None = connection.execute(schema.GET_DIGEST, (number, version)).fetchone()
    return b"" if row is None else row[0]
