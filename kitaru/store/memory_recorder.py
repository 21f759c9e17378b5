"""The library's recorder of plain objects, with positions that are never used twice and room for our columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from eventsourcing.persistence import Notification, StoredEvent
from eventsourcing.popo import POPOApplicationRecorder

from kitaru.store.rows import StoredRow

_TOMBSTONE = "Tombstone"


@dataclass(frozen=True)
class MemoryEvent(StoredEvent):
    """A stored event with what our rows have besides."""

    v: int
    event_id: str
    digest: bytes
    payload: bytes | None


class MemoryRecorder(POPOApplicationRecorder):
    """The library's recorder, with positions that are never used twice and room for our columns."""

    def rows(self, exec_id: str, after: int, last: int) -> list[StoredRow]:
        """The rows of a stream after version `after`, up to `last`."""
        with self._database_lock:
            places = self._stored_events_index.get(exec_id, {})
            found = [(places[version] + 1, version) for version in range(after + 1, last + 1) if version in places]
            return [self._row(position) for position, _ in found]

    def tail(self, after: int, limit: int) -> list[tuple[StoredRow, str]]:
        """Rows of all streams after a position."""
        with self._database_lock:
            found: list[tuple[StoredRow, str]] = []
            for place in range(after, len(self._stored_events)):
                if len(found) == limit:
                    break
                event = self._stored_events[place]
                if isinstance(event, MemoryEvent):
                    found.append((self._row(place + 1), str(event.originator_id)))
            return found

    def forget(self, exec_id: str) -> int:
        """Remove a stream's events and put a tombstone behind everything; its position."""
        with self._database_lock:
            gone = StoredEvent(exec_id, 0, "", b"")
            for place in self._stored_events_index.pop(exec_id, {}).values():
                self._stored_events[place] = gone
            self._stored_events.append(StoredEvent(exec_id, 0, _TOMBSTONE, b""))
            return len(self._stored_events)

    def drop(self, exec_id: str, through: int) -> None:
        """Remove a stream's events up to a version."""
        with self._database_lock:
            places = self._stored_events_index.get(exec_id, {})
            for version in [version for version in places if version <= through]:
                self._stored_events[places.pop(version)] = StoredEvent(exec_id, 0, "", b"")

    def erase(self, exec_id: str, through: int) -> None:
        """Drop the payload bytes of a stream up to a version."""
        with self._database_lock:
            for version, place in self._stored_events_index.get(exec_id, {}).items():
                event = self._stored_events[place]
                if version <= through and isinstance(event, MemoryEvent):
                    self._stored_events[place] = replace(event, payload=None)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The library's, without the places of what was deleted."""
        with self._database_lock:
            wanted = topics or tuple({event.topic for event in self._stored_events} - {"", _TOMBSTONE})
            if not wanted:
                return []
            return super().select_notifications(start, limit, stop, wanted, inclusive_of_start=inclusive_of_start)

    def _row(self, position: int) -> StoredRow:
        event = self._stored_events[position - 1]
        assert isinstance(event, MemoryEvent)
        place = (position, event.originator_version, event.topic, event.v, event.event_id)
        return (*place, event.digest, event.state, event.payload)
