"""The library's recorder on our tables: what `eventsourcing` can do with this store, and the cases it tests recorders with.

One persistent writer connection, BEGIN IMMEDIATE and group commit stand in for its pool, its nested contexts and its
deferred transactions (2 to 4 times slower, and a busy handler that starved a writer for 3.3 s). Topics are event type names.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Literal
from uuid import UUID, uuid4

from eventsourcing.persistence import IntegrityError, Notification, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from kitaru.domain.state import ExecutionState
from kitaru.store.chain import GENESIS, link
from kitaru.store.heads import columns
from kitaru.store.read import Reader, find_head
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.writer import GroupCommit, Member


class Datastore(SQLiteDatastore):
    """The library's datastore without its pool: transactions go to the writer's connection or to a reader's."""

    def __init__(self, originator_id_type: Literal["uuid", "text"]) -> None:
        self.originator_id_type = originator_id_type
        self.single_row_tracking = True

    def close(self) -> None:
        """The log closes what it opened."""


class Recorder(SQLiteApplicationRecorder):
    """Stored events of the library as events of this store."""

    def __init__(self, writer: GroupCommit, reader: Reader, originator_id_type: Literal["uuid", "text"] = "text") -> None:
        super().__init__(Datastore(originator_id_type), events_table_name="events")
        self._writer = writer
        self._reader = reader

    def construct_create_table_statements(self) -> list[str]:
        """The store makes its tables itself."""
        return []

    def insert_events(self, stored_events: Sequence[StoredEvent], **_: object) -> Sequence[int] | None:
        """Insert all or none. Raises the library's IntegrityError when a version is taken."""
        member = _Insert(stored_events)
        self._writer.commit(member)
        return member.positions

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of one stream."""
        statement = schema.SELECT_EVENTS_DESC if desc else schema.SELECT_EVENTS
        rows = self._reader.query(statement, (str(originator_id), gt, gt, lte, lte, -1 if limit is None else limit))
        return [
            StoredEvent(self.convert_originator_id(str(exec_id)), version, topic, state)  # pyright: ignore[reportArgumentType]
            for exec_id, version, topic, state in rows
        ]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The events of all streams by position."""
        first = 0 if start is None else start if inclusive_of_start else start + 1
        wanted = json.dumps(list(topics)) if topics else None
        rows = self._reader.query(schema.SELECT_NOTIFICATIONS, (first, stop, stop, wanted, wanted, limit))
        return [
            Notification(self.convert_originator_id(str(exec_id)), version, topic, state, position)  # pyright: ignore[reportArgumentType]
            for position, exec_id, version, topic, state in rows
        ]

    def max_notification_id(self) -> int | None:  # pyright: ignore[reportIncompatibleMethodOverride]  (so its base says)
        """The newest position, None in an empty store."""
        return self._reader.last_position() or None


class _Insert(Member):
    """The library's insert: streams are made when they first appear, and get a chain like any other."""

    __slots__ = ("_events", "positions")

    def __init__(self, events: Sequence[StoredEvent]) -> None:
        super().__init__(str(events[0].originator_id) if events else "", is_outcome=True)
        self._events = events
        self.positions: list[int] = []

    def write(self, connection: sqlite3.Connection) -> None:
        self.is_dirty = True
        self.positions = []
        start = 0
        for end in range(1, len(self._events) + 1):
            if end == len(self._events) or self._events[end].originator_id != self._events[start].originator_id:
                self._write_stream(connection, self._events[start:end])
                start = end

    def _write_stream(self, connection: sqlite3.Connection, events: Sequence[StoredEvent]) -> None:
        exec_id = str(events[0].originator_id)
        stored = find_head(connection, exec_id)
        if stored is None:
            empty = columns(exec_id, GENESIS, ExecutionState())
            number = connection.execute(schema.INSERT_HEAD, (exec_id, None, None, *empty)).lastrowid
            digest = GENESIS
        else:
            number, digest = stored.head.number, stored.head.digest
        try:
            for event in events:
                event_id = str(uuid4())
                digest = link(digest, exec_id, event.originator_version, event.topic, 1, event_id, event.state)
                row = (number, event.originator_version, event.topic, 1, event_id, digest, event.state, None)
                position = connection.execute(schema.INSERT_EVENT, row).lastrowid
                assert position is not None
                self.positions.append(position)
        except sqlite3.IntegrityError as error:
            raise IntegrityError(error) from error
        state = ExecutionState(version=events[-1].originator_version)
        connection.execute(schema.FORCE_HEAD, (*columns(exec_id, digest, state), number))
