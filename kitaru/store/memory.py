"""The event log in memory, for tests: events in the library's plain-object recorder, read models by the same SQL.

Importing it imports eventsourcing. One lock stands for the transaction; what is not written cannot be lost, so there is no
durability to speak of.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from kitaru.domain.commands import Command, Erase, Start
from kitaru.domain.decide import decide
from kitaru.domain.errors import KitaruBackendError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.domain.events import EventBase, PayloadErased
from kitaru.domain.payload import Payload, digest_of
from kitaru.domain.state import ABSENT, ExecutionState, evolve
from kitaru.store.batch import Batch, encode
from kitaru.store.chain import GENESIS
from kitaru.store.changes import CommitSignal
from kitaru.store.heads import known
from kitaru.store.in_memory import MemoryLeases, MemoryLines
from kitaru.store.keeping import history_dropped
from kitaru.store.log import AppendConflict, Head, ProjectorFactory, Recorded, Tombstone
from kitaru.store.memory_recorder import MemoryEvent, MemoryRecorder
from kitaru.store.outline import Outlined, outline
from kitaru.store.rows import recorded, unfold
from kitaru.store.sqlite.failures import typed


@dataclass
class _Stream:
    head: Head
    erased: int = 0


class MemoryLog:
    """A store that lives as long as this object."""

    def __init__(self, projectors: Sequence[ProjectorFactory] = ()) -> None:
        self.recorder = MemoryRecorder()
        self._store_id = str(uuid4())
        self._lock = threading.RLock()
        self._streams: dict[str, _Stream] = {}
        self._keys: dict[tuple[str, str | None], str] = {}
        self._blobs: dict[str, bytes] = {}
        self._uses: dict[str, dict[int, list[str]]] = {}
        self._tombstones: list[Tombstone] = []
        self._numbers = 0
        self._is_closed = False
        self._leases = MemoryLeases()
        self._changes = CommitSignal()
        self._models = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._projectors = tuple(make("") for make in projectors)
        for projector in self._projectors:
            projector.create(self._models.execute, 1)
        self._lines = MemoryLines(self._models)
        self._models.execute("PRAGMA query_only = ON")

    @property
    def store_id(self) -> str:
        """A UUID made with the store."""
        return self._store_id

    @property
    def location(self) -> str:
        """A word."""
        return "memory"

    @property
    def leases(self) -> MemoryLeases:
        """The leases, all of this process."""
        return self._leases

    @property
    def changes(self) -> CommitSignal:
        """How to learn that something was committed."""
        return self._changes

    @property
    def lines(self) -> MemoryLines:
        """Where log lines go."""
        return self._lines

    # --- writing -------------------------------------------------------------------------------------------------------

    def append(self, head: Head, events: Sequence[EventBase], state: ExecutionState, event_ids: Sequence[str]) -> Head:
        """Append a runner's events after `head`. See EventLog.append."""
        batch = encode(head.number, head.exec_id, head.version, head.digest, events, event_ids)
        after = Head(head.number, head.exec_id, batch.digest, state)
        with self._writing():
            stream = self._streams.get(head.exec_id)
            if stream is None or (stream.head.version, stream.head.digest) != (head.version, head.digest):
                stored = self.recorder.rows(head.exec_id, head.version, after.version)
                if not stored or [row[4] for row in stored] != list(event_ids):
                    raise AppendConflict(f"execution {head.exec_id} has gone on past version {head.version}")
                return after
            self._write(after, head.version, events, batch)
        return after

    def execute(self, exec_id: str, command: Command, at: int) -> tuple[Head, tuple[EventBase, ...]]:
        """Decide a command from outside and append its events. See EventLog.execute."""
        with self._writing():
            stream = self._streams.get(exec_id)
            if stream is not None:
                head = stream.head
            elif isinstance(command, Start):
                started = command.started
                found = self._keys.get((started.flow_id, started.idempotency_key))
                if found is not None:
                    return self._streams[found].head, ()
                head = Head(self._numbers + 1, exec_id, GENESIS, ABSENT)
            else:
                raise KitaruNotFoundError(f"no execution {exec_id} in this store")
            events = decide(head.state, command, at)
            if not events:
                return head, ()
            state = head.state
            for event in events:
                state = evolve(state, event)
            ids = [str(uuid4()) for _ in events]
            batch = encode(head.number, exec_id, head.version, head.digest, events, ids)
            after = Head(head.number, exec_id, batch.digest, state)
            self._write(after, head.version, events, batch)
            if isinstance(command, Start):
                self._numbers = max(self._numbers, head.number)
                if command.started.idempotency_key is not None:
                    self._keys[command.started.flow_id, command.started.idempotency_key] = exec_id
            return after, events

    def erase(self, exec_id: str, by: str, at: int) -> Head:
        """Forget the payloads of a finished execution. See EventLog.erase."""
        return self.execute(exec_id, Erase(by), at)[0]

    def drop_histories(self, chosen: Sequence[tuple[str, int]], by: str, at: int) -> list[str]:
        """Drop the events of finished executions. See EventLog.drop_histories."""
        dropped: list[str] = []
        with self._writing():
            for exec_id, version in chosen:
                stream = self._streams.get(exec_id)
                if stream is None or stream.head.version != version:
                    continue
                head = stream.head
                if head.state.status is None or not head.state.status.is_finished:
                    continue
                event = history_dropped(head, self._projectors, self._models.execute, by, at)
                if event is None:
                    continue
                batch = encode(head.number, exec_id, version, head.digest, (event,), (str(uuid4()),))
                self._write(Head(head.number, exec_id, batch.digest, evolve(head.state, event)), version, (event,), batch)
                self._forget_through(stream, version)
                self.recorder.drop(exec_id, version)
                dropped.append(exec_id)
        return dropped

    def delete(self, exec_id: str) -> bool:
        """Remove a finished execution. See EventLog.delete."""
        with self._writing():
            head = self._stream(exec_id).head
            if head.state.status is None or not head.state.status.is_finished:
                raise KitaruStateError(
                    f"execution {exec_id} is {head.state.status}; cancel it or let it end, then delete it"
                )
            with self._projecting():
                for projector in self._projectors:
                    projector.remove(self._models.execute, head.number, exec_id)
                self._lines.forget(head.number)
            self._tombstones.append(Tombstone(self.recorder.forget(exec_id), head.number, exec_id))
            self._release(exec_id, head.version)
            del self._streams[exec_id]
            self._keys = {key: value for key, value in self._keys.items() if value != exec_id}
        return True

    def close(self) -> None:
        """Using the log afterwards is KitaruUsageError."""
        self._is_closed = True
        self._changes.close()
        self._models.close()

    # --- reading -------------------------------------------------------------------------------------------------------

    def head(self, exec_id: str) -> Head:
        """Where the stream ends now: all but the calls, as a head row knows it."""
        with self._using():
            return self._stream(exec_id).head

    def find_ids(self, prefix: str, limit: int = 10) -> list[str]:
        """Execution ids that begin with `prefix`. See Reads.find_ids."""
        with self._using():
            return sorted(exec_id for exec_id in self._streams if exec_id.startswith(prefix))[:limit]

    def read(self, exec_id: str, *, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """The stream's events after a version. See Reads.read."""
        with self._using():
            stream = self._stream(exec_id)
            end = stream.head.version if limit is None else min(stream.head.version, after + limit)
            before = self.recorder.rows(exec_id, after - 1, after)
            rows = self.recorder.rows(exec_id, after, end)
            return unfold(rows, stream.head.number, exec_id, after, before[0][5] if before else GENESIS, stream.erased)

    def outline(self, exec_id: str, *, limit: int | None = None) -> Iterator[list[Outlined]]:
        """The stream's first events, those of its calls outlined. See Reads.outline."""
        with self._using():
            stream = self._stream(exec_id)
            end = stream.head.version if limit is None else min(stream.head.version, limit)
            return outline(self.recorder.rows(exec_id, 0, end), stream.head.number, exec_id, 0, GENESIS, stream.erased)

    def tail(self, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        """Events of all executions after a position. See Reads.tail."""
        found: list[Recorded] = []
        with self._using():
            for row, exec_id in self.recorder.tail(after, limit):
                stream = self._streams[exec_id]
                before = self.recorder.rows(exec_id, row[1] - 2, row[1] - 1)
                digest = before[0][5] if before else GENESIS
                found.append(recorded(row, stream.head.number, exec_id, row[1], digest, stream.erased))
        return found

    def tombstones(self, *, after: int = 0, limit: int = 1000) -> list[Tombstone]:
        """Executions deleted after a position. See Reads.tombstones."""
        with self._using():
            return [tombstone for tombstone in self._tombstones if tombstone.position > after][:limit]

    def last_position(self) -> int:
        """The position of the newest event or tombstone. See Reads.last_position."""
        with self._using():
            return self.recorder.max_notification_id() or 0

    def load(self, payload: Payload) -> bytes:
        """The payload's bytes. See Reads.load."""
        with self._using():
            data = payload.data if payload.data is not None else self._blobs.get(payload.digest)
        if data is None:
            raise KitaruNotFoundError(
                f"the value {payload.digest[:12]}… ({payload.size} bytes) has been erased", code="erased"
            )
        if digest_of(data) != payload.digest:
            raise KitaruBackendError(f"the value {payload.digest[:12]}… is damaged", code="store-corrupt")
        return data

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """The rows of one constant SELECT. See Reads.query."""
        with self._using():
            self._keep_lines()
            try:
                return self._models.execute(sql, tuple(parameters)).fetchall()
            except sqlite3.Error as error:
                raise typed(error, self.location) from error

    @contextmanager
    def snapshot(self) -> Generator[MemoryLog]:
        """One moment: nothing is written meanwhile."""
        with self._using():
            yield self

    # --- under the lock ------------------------------------------------------------------------------------------------

    @contextmanager
    def _using(self) -> Generator[None]:
        if self._is_closed:
            raise KitaruUsageError("the store in memory is closed", code="store-closed")
        with self._lock:
            yield

    @contextmanager
    def _writing(self) -> Generator[None]:
        with self._using():
            yield
        self._changes.committed()

    @contextmanager
    def _projecting(self) -> Generator[None]:
        execute = self._models.execute
        execute("PRAGMA query_only = OFF")
        execute("BEGIN")
        try:
            yield
            execute("COMMIT")
        finally:
            if self._models.in_transaction:
                execute("ROLLBACK")
            execute("PRAGMA query_only = ON")

    def _keep_lines(self) -> None:
        if self._lines:
            kept = {stream.head.number for stream in self._streams.values() if not stream.erased}
            with self._projecting():
                self._lines.write(kept)

    def _stream(self, exec_id: str) -> _Stream:
        stream = self._streams.get(exec_id)
        if stream is None:
            raise KitaruNotFoundError(f"no execution {exec_id} in this store")
        return stream

    def _write(self, after: Head, version: int, events: Sequence[EventBase], batch: Batch) -> None:
        exec_id = after.exec_id
        for _, digest, data in batch.blobs:
            if data is None and digest not in self._blobs:
                raise KitaruNotFoundError(
                    f"the value {digest[:12]}… has been erased; it cannot be recorded again", code="erased"
                )
        numbered = [(version + n, event) for n, event in enumerate(events, 1)]
        with self._projecting():
            for projector in self._projectors:
                projector.apply(self._models.execute, after, numbered)
        self.recorder.insert_events(
            [MemoryEvent(exec_id, row[1], row[2], row[6], row[3], row[4], row[5], row[7]) for row in batch.rows]
        )
        uses = self._uses.setdefault(exec_id, {})
        for used_at, digest, data in batch.blobs:
            if data is not None:
                self._blobs[digest] = data
            uses.setdefault(used_at, []).append(digest)
        head = after._replace(state=known(after.state))
        self._streams.setdefault(exec_id, _Stream(head)).head = head
        for event in events:
            if isinstance(event, PayloadErased):
                self._forget_through(self._streams[exec_id], event.through)
                self.recorder.erase(exec_id, event.through)

    def _forget_through(self, stream: _Stream, through: int) -> None:
        """The values up to a version, and the log lines, are gone."""
        stream.erased = through
        with self._projecting():
            self._lines.forget(stream.head.number)
        self._release(stream.head.exec_id, through)

    def _release(self, exec_id: str, through: int) -> None:
        uses = self._uses.get(exec_id, {})
        for version in [version for version in uses if version <= through]:
            del uses[version]
        used = {digest for stream in self._uses.values() for digests in stream.values() for digest in digests}
        self._blobs = {digest: data for digest, data in self._blobs.items() if digest in used}
