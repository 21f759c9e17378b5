"""What a group's member writes: a runner's append, a command from outside, a deletion."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from kitaru.domain.commands import Claim, Command, Start
from kitaru.domain.decide import decide
from kitaru.domain.errors import KitaruNotFoundError, KitaruStateError
from kitaru.domain.events import Event, EventBase, PayloadErased
from kitaru.domain.state import ABSENT, ExecutionState, evolve
from kitaru.store.batch import BlobRow, encode
from kitaru.store.chain import GENESIS
from kitaru.store.heads import columns
from kitaru.store.keeping import history_dropped
from kitaru.store.log import AppendConflict, Head, Projector
from kitaru.store.read import find_head
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.writer import Member

Projectors = Sequence[Projector]


class Append(Member):
    """A runner's events after the head that it knows. All that can be computed is computed before any lock."""

    __slots__ = ("_batch", "_events", "_head", "_move", "_projectors", "result")

    def __init__(
        self, head: Head, events: Sequence[EventBase], state: ExecutionState, ids: Sequence[str], projectors: Projectors
    ) -> None:
        number, exec_id, digest, before = head
        batch = encode(number, exec_id, before.version, digest, events, ids)
        super().__init__(exec_id, batch.is_outcome)
        self._batch = batch
        self._head = head
        self._events = events
        self._projectors = projectors
        self._move = (*columns(exec_id, batch.digest, state), number, before.version, digest)
        self.result = Head(number, exec_id, batch.digest, state)

    def write(self, connection: sqlite3.Connection) -> None:
        """The head row decides; then the events, then the read models."""
        execute = connection.execute
        if execute(schema.MOVE_HEAD, self._move).rowcount != 1:
            self._find_itself(connection)
            return
        self.is_dirty = True
        batch = self._batch
        for row in batch.rows:
            execute(schema.INSERT_EVENT, row)
        if batch.blobs:
            write_blobs(connection, self.result.number, batch.blobs)
        if self._projectors:
            project(connection, self._projectors, self.result, self._head.version, self._events)

    def _find_itself(self, connection: sqlite3.Connection) -> None:
        """An append repeated after an unknown outcome has succeeded if its events stand where it would put them."""
        number, _, _, before = self._head
        rows = connection.execute(schema.READ_EVENT_IDS, (number, before.version, self.result.version)).fetchall()
        if [row[0] for row in rows] != [row[4] for row in self._batch.rows]:
            raise AppendConflict(f"execution {self.stream} has gone on past version {before.version}")


class Execute(Member):
    """A command from outside, decided on the head row inside the transaction."""

    __slots__ = ("_at", "_command", "_decided", "_ids", "_new_id", "_projectors", "result")

    def __init__(self, exec_id: str, command: Command, at: int, new_id: Callable[[], str], projectors: Projectors) -> None:
        super().__init__(exec_id, is_outcome=not isinstance(command, Claim))
        self._command = command
        self._at = at
        self._new_id = new_id
        self._ids: list[str] = []
        self._decided: tuple[EventBase, ...] = ()
        self._projectors = projectors
        self.result: tuple[Head, tuple[EventBase, ...]] | None = None

    def again(self) -> Execute:
        """The same command with the same event ids, after an unknown outcome."""
        other = Execute(self.stream, self._command, self._at, self._new_id, self._projectors)
        other._ids, other._decided = self._ids, self._decided
        return other

    def write(self, connection: sqlite3.Connection) -> None:
        """Decide on what stands there now."""
        stored = find_head(connection, self.stream)
        command = self._command
        if stored is None:
            if not isinstance(command, Start):
                raise KitaruNotFoundError(f"no execution {self.stream} in this store")
            head = Head(0, self.stream, GENESIS, ABSENT)
            if self._has_key_already(connection, command):
                return
        else:
            head = stored.head
            if self._ids and self._stands_already(connection, head):
                self.result = (head, self._decided)
                return
        events = decide(head.state, command, self._at)
        if not events:
            self.result = (head, ())
            return
        self._append(connection, head, events)

    def _has_key_already(self, connection: sqlite3.Connection, command: Start) -> bool:
        started = command.started
        if started.idempotency_key is None:
            return False
        row = connection.execute(schema.FIND_BY_KEY, (started.flow_id, started.idempotency_key)).fetchone()
        found = None if row is None else find_head(connection, row[0])
        if found is None:
            return False
        self.result = (found.head, ())
        return True

    def _stands_already(self, connection: sqlite3.Connection, head: Head) -> bool:
        return connection.execute(schema.FIND_EVENT, (head.number, self._ids[0])).fetchone() is not None

    def _append(self, connection: sqlite3.Connection, head: Head, events: tuple[Event, ...]) -> None:
        while len(self._ids) < len(events):
            self._ids.append(self._new_id())
        state = head.state
        for event in events:
            state = evolve(state, event)
        batch = encode(head.number, self.stream, head.version, head.digest, events, self._ids[: len(events)])
        after = Head(head.number, self.stream, batch.digest, state)
        moved = columns(self.stream, batch.digest, state)
        self._decided = events
        self.is_dirty = True
        if head.number == 0:
            after = after._replace(number=self._insert_head(connection, moved))
        else:
            connection.execute(schema.MOVE_HEAD, (*moved, head.number, head.version, head.digest))
        for row in batch.rows:
            connection.execute(schema.INSERT_EVENT, (after.number, *row[1:]))
        write_blobs(connection, after.number, batch.blobs)
        project(connection, self._projectors, after, head.version, events)
        for event in events:
            if isinstance(event, PayloadErased):
                erase_payloads(connection, after.number, event.through)
        self.result = (after, events)

    def _insert_head(self, connection: sqlite3.Connection, moved: Sequence[object]) -> int:
        assert isinstance(self._command, Start)
        started = self._command.started
        cursor = connection.execute(schema.INSERT_HEAD, (self.stream, started.flow_id, started.idempotency_key, *moved))
        assert cursor.lastrowid is not None
        return cursor.lastrowid


class Delete(Member):
    """Removes a finished execution and leaves a tombstone."""

    __slots__ = ("_projectors", "_tombstone_digest")

    def __init__(self, exec_id: str, projectors: Projectors) -> None:
        super().__init__(exec_id, is_outcome=True)
        self._projectors = projectors

    def write(self, connection: sqlite3.Connection) -> None:
        """The tombstone first: the largest position has to stay."""
        stored = find_head(connection, self.stream)
        if stored is None:
            raise KitaruNotFoundError(f"no execution {self.stream} in this store")
        head = stored.head
        if head.state.status is None or not head.state.status.is_finished:
            raise KitaruStateError(
                f"execution {self.stream} is {head.state.status}; cancel it or let it end, then delete it"
            )
        self.is_dirty = True
        number = head.number
        connection.execute(schema.INSERT_TOMBSTONE, (number, self.stream, head.digest, b"{}"))
        connection.execute(schema.DELETE_EVENTS, (number,))
        release_blobs(connection, number, head.version)
        for projector in self._projectors:
            projector.remove(connection.execute, number, self.stream)
        connection.execute(schema.DELETE_HEAD, (number,))
        forget_lines(connection, number)


class DropHistories(Member):
    """Drops the events of finished executions; each stream begins with what is kept of them then."""

    __slots__ = ("_at", "_by", "_chosen", "_new_id", "_projectors", "dropped")

    def __init__(
        self, chosen: Sequence[tuple[str, int]], by: str, at: int, new_id: Callable[[], str], projectors: Projectors
    ) -> None:
        super().__init__("histories", is_outcome=True)
        self._chosen = chosen
        self._by = by
        self._at = at
        self._new_id = new_id
        self._projectors = projectors
        self.dropped: list[str] = []

    def write(self, connection: sqlite3.Connection) -> None:
        """One that has gone on is left as it is."""
        self.is_dirty = True
        self.dropped = []
        for exec_id, version in self._chosen:
            stored = find_head(connection, exec_id)
            if stored is None or stored.head.version != version:
                continue
            status = stored.head.state.status
            if status is not None and status.is_finished and self._drop(connection, stored.head):
                self.dropped.append(exec_id)

    def _drop(self, connection: sqlite3.Connection, head: Head) -> bool:
        """The new event first: the largest position has to stay. False: there is more to keep than an event holds."""
        number, exec_id, digest, state = head
        execute = connection.execute
        event = history_dropped(head, self._projectors, execute, self._by, self._at)
        if event is None:
            return False
        after = evolve(state, event)
        batch = encode(number, exec_id, state.version, digest, (event,), (self._new_id(),))
        execute(schema.MOVE_HEAD, (*columns(exec_id, batch.digest, after), number, state.version, digest))
        execute(schema.INSERT_EVENT, batch.rows[0])
        execute(schema.DELETE_EVENTS_UP_TO, (number, state.version))
        release_blobs(connection, number, state.version)
        write_blobs(connection, number, batch.blobs)
        execute(schema.SET_ERASED, (state.version, number))
        forget_lines(connection, number)
        project(connection, self._projectors, Head(number, exec_id, batch.digest, after), state.version, (event,))
        return True


def project(
    connection: sqlite3.Connection, projectors: Projectors, head: Head, version: int, events: Sequence[EventBase]
) -> None:
    """Bring the read models up to `head`; `version` is that before `events`."""
    numbered = [(version + n, event) for n, event in enumerate(events, 1)]
    for projector in projectors:
        projector.apply(connection.execute, head, numbered)


def write_blobs(connection: sqlite3.Connection, number: int, blobs: Sequence[BlobRow]) -> None:
    """Large payloads, shared by digest."""
    for version, digest, data in blobs:
        if data is not None:
            connection.execute(schema.INSERT_BLOB, (digest, data))
        if connection.execute(schema.USE_BLOB, (number, version, digest)).rowcount == 0:
            raise KitaruNotFoundError(
                f"the value {digest[:12]}… has been erased; it cannot be recorded again", code="erased"
            )


def erase_payloads(connection: sqlite3.Connection, number: int, through: int) -> None:
    """Forget the bytes of a stream's payloads up to a version; digests and events stay."""
    connection.execute(schema.ERASE_INLINE, (number, through))
    connection.execute(schema.SET_ERASED, (through, number))
    release_blobs(connection, number, through)
    forget_lines(connection, number)


def forget_lines(connection: sqlite3.Connection, number: int) -> None:
    """Remove an execution's log lines; a later one is refused by the statement that would write it."""
    if connection.execute(schema.FIND_LOGS).fetchone() is not None:
        connection.execute(schema.FORGET_LINES, (number,))


def release_blobs(connection: sqlite3.Connection, number: int, through: int) -> None:
    """Remove the blobs that nothing else uses."""
    used = connection.execute(schema.LIST_USED_BLOBS, (number, through)).fetchall()
    if used:
        connection.execute(schema.UNUSE_BLOBS, (number, through))
        for (blob,) in used:
            connection.execute(schema.DELETE_UNUSED_BLOB, (blob, blob))
