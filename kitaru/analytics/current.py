"""What one process knows of a store's rows: a sandboxed DuckDB that follows the store from question to question."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import cast

from kitaru.analytics import tables
from kitaru.analytics.asking import TAIL, Scene, keys_of
from kitaru.analytics.connection import open_sandbox
from kitaru.analytics.grammar import Query
from kitaru.analytics.keys import Key, read_values
from kitaru.analytics.zones import QUARTER, YEAR_ONE, Shift, shifts_of
from kitaru.store.log import Reads

SLICE = 20_000
"""Executions that are read at once."""
MOST_KEYS = 24
"""Metadata keys whose values are kept."""

_NUMBERS = "SELECT number FROM executions ORDER BY number"
_CHANGED = "SELECT DISTINCT number FROM events WHERE position > ?"
_FLOWS = "SELECT flow_id FROM flows WHERE project = ? AND (flow_id = ? OR flow_name = ?)"
_SPAN = "SELECT min(quarter), max(quarter) FROM executions"
_FORGET = ("DELETE FROM executions", "DELETE FROM tags", "DELETE FROM key_values")


class Current:
    """A store's rows in DuckDB. `lock` is held by the thread that asks."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asking, self._filling = open_sandbox(None)
        for statement in tables.CREATE + tables.CREATE_TAIL:
            self._filling.execute(statement)
        self._position = 0
        self._numbers: set[int] = set()
        self._keys: dict[str, Key] = {}
        self._slots = 0

    def refresh(self, moment: Reads, query: Query, *, has_events: bool) -> Scene:
        """Take in what was committed since the last question, and say what a statement for this one has to know.

        `has_events`: the store can be asked which executions changed; without it all are read again.
        """
        position = moment.last_position()
        if position != self._position:
            if self._position == 0 or not has_events:
                self._forget()
                changed = moment.query(_NUMBERS)
            else:
                changed = moment.query(_CHANGED, (self._position,))
            self._take(moment, sorted(cast("int", row[0]) for row in changed))
            self._position = position
        keys = {key: self._key(moment, key) for key in keys_of(query)}
        return Scene(_flows(moment, query), self._shifts(query), keys, (TAIL,), None)

    def close(self) -> None:
        """Let go of DuckDB."""
        self._filling.close()
        self.asking.close()

    def _forget(self) -> None:
        for statement in _FORGET:
            self._filling.execute(statement)
        self._keys.clear()
        self._position = 0

    def _take(self, moment: Reads, numbers: Sequence[int]) -> None:
        """Read the rows of executions, in place of those that are here."""
        for place in range(0, len(numbers), SLICE):
            some = _array(numbers[place : place + SLICE])
            execute = self._filling.execute
            execute(tables.ARRIVE, (some,))
            if self._position:
                for statement in tables.CLEAR:
                    execute(statement)
            execute(tables.ADD_EXECUTIONS, moment.query(tables.READ_EXECUTIONS, (some,))[0])
            execute(tables.ADD_TAG_ROWS, moment.query(tables.READ_TAGS, (some,))[0])
            execute(tables.ADD_TAGS)
            if self._keys:
                execute(tables.CLEAR_VALUES)
                for key, found in self._keys.items():
                    read_values(moment.query, self._filling, key, found, some)
            for statement in tables.LEAVE:
                execute(statement)

    def _key(self, moment: Reads, key: str) -> Key:
        """A key whose values are here: those of all executions, kept current from now on."""
        found = self._keys.pop(key, None)
        if found is None:
            if len(self._keys) >= MOST_KEYS:
                self._filling.execute(tables.DROP_SLOT, (self._keys.pop(next(iter(self._keys))).slot,))
            self._slots += 1
            found = Key(self._slots)
            numbers = [cast("int", row[0]) for row in moment.query(_NUMBERS)]
            for place in range(0, len(numbers), SLICE):
                read_values(moment.query, self._filling, key, found, _array(numbers[place : place + SLICE]))
        self._keys[key] = found  # last: the first is the one that was not asked for the longest
        return found

    def _shifts(self, query: Query) -> tuple[Shift, ...]:
        if query.time is None or query.timezone == "UTC":
            return shifts_of("UTC", 0, 0)
        first, last = self._filling.execute(_SPAN).fetchall()[0]
        if first is None:
            return shifts_of("UTC", 0, 0)
        return shifts_of(query.timezone, first * QUARTER - YEAR_ONE, (last + 1) * QUARTER - YEAR_ONE)


def _flows(moment: Reads, query: Query) -> list[str]:
    """The ids that the flow of a filter means."""
    filters = query.filters
    if filters.flow is None:
        return []
    return [str(row[0]) for row in moment.query(_FLOWS, (filters.project, filters.flow, filters.flow))]


def _array(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"
