"""All events of a store in the order of their positions, verified, folded, in runs of one stream: for rebuild and verify."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.events import EventBase
from kitaru.domain.state import ABSENT, ExecutionState
from kitaru.store.chain import GENESIS
from kitaru.store.heads import fold_head
from kitaru.store.log import Head
from kitaru.store.rows import DROPPED, corrupt, next_version, recorded
from kitaru.store.sqlite import schema

RUN_LIMIT = 1000


class Run(NamedTuple):
    """Consecutive events of one stream and the head after them. `is_last`: the head row ends there too."""

    head: Head
    events: list[tuple[int, EventBase]]
    is_last: bool


class Removal(NamedTuple):
    """A tombstone was met: what was folded of that execution is to go."""

    number: int
    exec_id: str


class _Place(NamedTuple):
    exec_id: str
    version: int
    digest: bytes
    state: ExecutionState


class Walker:
    """Goes through the store slice by slice; remembers where each unfinished stream stands.

    Without `on_damage` the first damaged event is raised; with it, it is told, and the rest of its stream is skipped.
    """

    def __init__(self, on_damage: Callable[[KitaruBackendError], None] | None = None) -> None:
        self.position = 0
        self.events = 0
        self.damaged: set[int] = set()
        self._places: dict[int, _Place] = {}
        self._on_damage = on_damage

    def slice(self, connection: sqlite3.Connection, limit: int) -> list[Run | Removal]:
        """The next `limit` events as runs; empty at the end."""
        rows = connection.execute(schema.WALK, (self.position, limit)).fetchall()
        runs: list[Run | Removal] = []
        start = 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or rows[end][8] != rows[start][8] or end - start == RUN_LIMIT or rows[end][1] == 0:
                self._run(connection, rows[start:end], runs)
                start = end
        if rows:
            self.position = rows[-1][0]
        return runs

    def _run(self, connection: sqlite3.Connection, rows: Sequence[Sequence[object]], runs: list[Run | Removal]) -> None:
        first = rows[0]
        number = cast("int", first[8])
        if first[1] == 0:
            self._places.pop(number, None)
            self.damaged.discard(number)
            runs.append(Removal(number, cast("str", first[4])))
            return
        if number in self.damaged:
            return
        try:
            runs.append(self._fold(connection, number, rows))
        except KitaruBackendError as error:
            if self._on_damage is None:
                raise
            self.damaged.add(number)
            self._places.pop(number, None)
            self._on_damage(error)

    def _fold(self, connection: sqlite3.Connection, number: int, rows: Sequence[Sequence[object]]) -> Run:
        first = rows[0]
        exec_id, erased, end = first[9], cast("int", first[10]), first[11]
        if not isinstance(exec_id, str):
            raise corrupt("?", cast("int", first[1]), first[0], "its execution is missing")
        place = self._places.get(number)
        if first[2] == DROPPED:
            place = _Place(exec_id, cast("int", first[1]) - 1, b"", ABSENT)
        elif place is None:
            place = _place_before(connection, number, exec_id, cast("int", first[1]), erased)
        _, version, digest, state = place
        events: list[tuple[int, EventBase]] = []
        for row in rows:
            version += 1
            event = recorded(row[:8], number, exec_id, version, digest, erased).event
            digest = cast("bytes", row[5])
            state = fold_head(state, version, event)
            events.append((version, event))
        state = state._replace(version=version)
        self.events += len(events)
        if version == end:
            self._places.pop(number, None)
        else:
            self._places[number] = _Place(exec_id, version, digest, state)
        return Run(Head(number, exec_id, digest, state), events, version == end)

    def unfinished(self) -> list[tuple[str, int]]:
        """Streams whose head row names later events than there are: (execution, last version found)."""
        return [(place.exec_id, place.version) for place in self._places.values()]


def _place_before(connection: sqlite3.Connection, number: int, exec_id: str, version: int, erased: int) -> _Place:
    """Where a stream stands before `version`, folded from its own events: it went on after it had seemed finished."""
    found, digest, state = 0, GENESIS, ABSENT
    while found < version - 1:
        rows = connection.execute(schema.READ_STREAM, (number, found, version - 1, RUN_LIMIT)).fetchall()
        if not rows:
            raise corrupt(exec_id, found + 1, "none", "it is missing")
        for row in rows:
            found = next_version(row, found)
            state = fold_head(state, found, recorded(row, number, exec_id, found, digest, erased).event)
            digest = row[5]
    return _Place(exec_id, found, digest, state)
