"""What one process knows of a store's rows: bases, and a tail in memory that follows the store from question to question.

The tail holds the rows of the executions that changed since the base; `changed_executions` and `changed_steps` name them,
the deleted ones too, and an answer takes from a base only what they do not name: by a join, or by taking the rows of these,
as the base has them (`gone_executions` and the like), off what it finds in the whole base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from kitaru.analytics import execution_rows, generations, keys, step_rows
from kitaru.analytics.asking import BASE, GONE, TAIL, Part, Scene, can_take_off, keys_of, metadata_of
from kitaru.analytics.connection import open_sandbox
from kitaru.analytics.generations import FAMILIES, Family, Generation, Origin
from kitaru.analytics.grammar import Query
from kitaru.analytics.keys import Key
from kitaru.analytics.zones import QUARTER, YEAR_ONE, Shift, shifts_of
from kitaru.store.log import Reads

WORN = 50_000
"""Rows of the tail that were replaced: DuckDB keeps the room of what is deleted in memory, so it is read anew."""
MOST_KEYS = 24
"""Metadata keys whose values are kept in the tail, besides those of the last question."""

_NUMBERS = "SELECT number FROM executions ORDER BY number"
_CHANGED = "SELECT DISTINCT +number AS n FROM events WHERE position > ? ORDER BY n"
# The plus sign: by positions. Without it SQLite walks the whole index by number (0.4 s of 9 million events).
_FLOWS = "SELECT flow_id FROM flows WHERE project = ? AND (flow_id = ? OR flow_name = ?)"

_CREATE_CHANGED = (
    "CREATE TABLE changed_executions (number INTEGER NOT NULL)",
    "CREATE TABLE changed_steps (number INTEGER NOT NULL)",
)
_CHANGE: Mapping[Family, str] = {
    "executions": "INSERT INTO changed_executions SELECT unnest(from_json(?, '[\"INTEGER\"]'))",
    "steps": "INSERT INTO changed_steps SELECT unnest(from_json(?, '[\"INTEGER\"]'))",
}
_CREATE_GONE: Mapping[Family, tuple[str, ...]] = {
    "executions": (
        "CREATE TABLE gone_executions AS FROM base.executions LIMIT 0",
        "CREATE TABLE gone_tags AS FROM base.tags LIMIT 0",
    ),
    "steps": ("CREATE TABLE gone_calls AS FROM steps.calls LIMIT 0", "CREATE TABLE gone_usage AS FROM steps.usage LIMIT 0"),
}
_TAKE: Mapping[Family, tuple[str, ...]] = {
    "executions": (
        "INSERT INTO gone_executions FROM base.executions WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
        "INSERT INTO gone_tags FROM base.tags WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
    ),
    "steps": (
        "INSERT INTO gone_calls FROM steps.calls WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
        "INSERT INTO gone_usage FROM steps.usage WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
    ),
}
_LAST: Mapping[Family, str] = {
    "executions": "SELECT max(number) FROM base.executions",
    "steps": "SELECT greatest((SELECT max(number) FROM steps.calls), (SELECT max(number) FROM steps.usage))",
}
_LEAST_PART = 4
"""What part of a base has to be before everything that changed, to be counted by itself."""
_LAST_PART = 8
"""Behind which part of a base what changed is found by a join, though it could be taken off."""
_NO_NUMBER = 2**62
_SPANS: Mapping[str, tuple[str, str]] = {
    "executions": (
        "SELECT min(quarter), max(quarter) FROM base.executions",
        "SELECT min(quarter), max(quarter) FROM tail.executions",
    ),
    "checkpoints": (
        "SELECT min(quarter), max(quarter) FROM steps.calls",
        "SELECT min(quarter), max(quarter) FROM tail.calls",
    ),
    "llm_usage": (
        "SELECT min(quarter), max(quarter) FROM steps.usage",
        "SELECT min(quarter), max(quarter) FROM tail.usage",
    ),
}


class Current:
    """A store's rows in DuckDB, for one thread at a time. `origin` is the store as it was when it was looked at last.

    After an error, or an interruption, it is of no more use: what came in was not all noted.
    """

    def __init__(self, bases: Mapping[Family, Generation], at_once: int, *, has_events: bool) -> None:
        self.bases = bases
        self._at_once = at_once
        self._has_events = has_events
        self.asking, self._filling = open_sandbox({family: base.path for family, base in bases.items()})
        self._create()
        self.origin: Origin | None = None
        self._positions: dict[Family, int] = {
            family: bases[family].origin.position if family in bases else 0 for family in FAMILIES
        }
        self._changed: dict[Family, set[int]] = {family: set() for family in FAMILIES}
        self._lowest: dict[Family, int] = dict.fromkeys(FAMILIES, _NO_NUMBER)
        self._last: dict[Family, int] = {
            family: self.asking.execute(_LAST[family]).fetchall()[0][0] or 0 for family in bases
        }
        self._to_take: dict[Family, list[int]] = {family: [] for family in FAMILIES}
        self._base_keys = keys.keys_of_base(self.asking) if "executions" in bases else {}
        self._keys: dict[str, Key] = {}
        self._slots = keys.MOST_COLUMNS
        self._replaced = 0

    def _create(self) -> None:
        execute = self._filling.execute
        execute(execution_rows.CREATE_LANDING)
        for statement in step_rows.CREATE + _CREATE_CHANGED:
            execute(statement)
        for family in self.bases:
            for statement in _CREATE_GONE[family]:
                execute(statement)
        for statement in (execution_rows.CREATE, execution_rows.CREATE_TAGS, keys.CREATE_VALUES, step_rows.CREATE_LANDING):
            execute(statement)

    def close(self) -> None:
        """Let go of DuckDB."""
        self._filling.close()
        self.asking.close()

    def tail_size(self, family: Family) -> int:
        """How many executions were read since the base, or in all without one."""
        return len(self._changed[family])

    def position(self, family: Family) -> int:
        """Up to where the rows of a family are known."""
        return self._positions[family]

    @property
    def is_worn(self) -> bool:
        """Whether more of the tail was replaced than is good."""
        return self._replaced > max(WORN, 4 * sum(map(len, self._changed.values())))

    def is_of(self, moment: Reads) -> bool:
        """Whether the store still has the history that these rows are of."""
        seen = [base.origin for base in self.bases.values()] if self.origin is None else [self.origin]
        return all(generations.fits(moment, origin) for origin in seen)

    def is_before(self, base: Generation) -> bool:
        """Whether a base is newer than the one here."""
        own = self.bases.get(base.family)
        return own is None or own.origin.position < base.origin.position

    def refresh(self, moment: Reads, query: Query) -> Scene:
        """Take in what was committed since the last question, and say what a statement for this one has to know."""
        asked = families_of(query)
        position = moment.last_position()
        for family in asked:
            if position != self._positions[family]:
                self._follow(moment, family, position)
        if self._has_events:
            self.origin = generations.origin_of(moment)
        found = {key: self._key(moment, key) for key in keys_of(query)}
        for key in [key for key in self._keys if key not in found][: max(0, len(self._keys) - MOST_KEYS)]:
            self._filling.execute(keys.DROP_SLOT, (self._keys.pop(key).slot,))
        own = asked[-1]
        parts = self._parts(own, can_take_off=can_take_off(query, found))
        return Scene(_flows(moment, query), self._shifts(query, parts), found, parts, "executions" in self.bases)

    def _parts(self, family: Family, *, can_take_off: bool) -> list[Part]:
        """Where the rows of a family are. A join takes ten times as long as what is counted by itself: what changed is taken
        off where that is exact, and is looked for among the last rows only where nothing before them has changed.
        """
        tail = [Part(TAIL)] if self._changed[family] or family not in self.bases else []
        if family not in self.bases:
            return tail
        lowest, last = self._lowest[family], self._last[family]
        if lowest > last:
            return [Part(BASE), *tail]
        if can_take_off and lowest < last - last // _LAST_PART:
            self._take(family)
            return [Part(BASE), Part(GONE), *tail]
        if lowest < last // _LEAST_PART:
            return [Part(BASE, has_changed=True), *tail]
        return [Part(BASE, until=lowest), Part(BASE, since=lowest, has_changed=True), *tail]

    def _take(self, family: Family) -> None:
        """Have all in `gone` of what the base holds of the executions that have changed."""
        if self._to_take[family]:
            numbers = execution_rows.array(self._to_take[family])
            for statement in _TAKE[family]:
                self._filling.execute(statement, (numbers,))
            self._to_take[family].clear()

    def _follow(self, moment: Reads, family: Family, position: int) -> None:
        if self._positions[family] == 0 or not self._has_events:
            rows = moment.query(_NUMBERS)
        else:
            rows = moment.query(_CHANGED, (self._positions[family],))
        numbers = [cast("int", row[0]) for row in rows]
        gone = [] if self._has_events else sorted(self._changed[family] - set(numbers))
        is_first = not self._changed[family]
        for place in range(0, len(numbers), self._at_once):
            some = execution_rows.array(numbers[place : place + self._at_once])
            if not is_first or (self._keys and family == "executions"):  # a key's values may be those of the base, too
                self._clear(family, some)
                self._replaced += len(numbers[place : place + self._at_once])
            if family == "executions":
                execution_rows.land(moment, self._filling, some)
                self._filling.execute(execution_rows.ADD)
                keys.read_values(moment, self._filling, self._keys, numbers[place : place + self._at_once])
            else:
                step_rows.add(moment, self._filling, some, has_events=self._has_events)
        if gone:
            self._clear(family, execution_rows.array(gone))
        fresh = [number for number in numbers if number not in self._changed[family]]
        self._changed[family].update(fresh)
        self._lowest[family] = min([self._lowest[family], *fresh[:1]])
        self._changed[family].difference_update(gone)
        if family in self.bases:
            self._filling.execute(_CHANGE[family], (execution_rows.array(fresh),))
            self._to_take[family] += [number for number in fresh if number <= self._last[family]]
        self._positions[family] = position

    def _clear(self, family: Family, numbers: str) -> None:
        if family == "steps":
            for statement in step_rows.CLEAR:
                self._filling.execute(statement, (numbers,))
            return
        for statement in execution_rows.CLEAR:
            self._filling.execute(statement, (numbers,))
        if self._keys:
            self._filling.execute(keys.CLEAR_VALUES, (numbers,))

    def _key(self, moment: Reads, key: str) -> Key:
        """A key whose values are here from now on: of a key of the base those that changed, of another all."""
        found = self._keys.pop(key, None)
        if found is None:
            self._slots += 1
            of_base = self._base_keys.get(key)
            if of_base is None:
                found = Key(self._slots)
                numbers = [cast("int", row[0]) for row in moment.query(_NUMBERS)]
            else:
                found = Key(self._slots, of_base.column, of_base.has_floats, of_base.has_big)
                numbers = sorted(self._changed["executions"])
            for place in range(0, len(numbers), self._at_once):
                some = numbers[place : place + self._at_once]
                keys.read_values(moment, self._filling, {key: found}, some, whole=of_base is None)
        self._keys[key] = found  # last: the first is the one that was not asked for the longest
        return found

    def _shifts(self, query: Query, parts: Sequence[Part]) -> tuple[Shift, ...]:
        if query.time is None or query.timezone == "UTC":
            return shifts_of("UTC", 0, 0)
        statements = _SPANS[query.subject]
        spans = [self.asking.execute(statements[place]).fetchall()[0] for place in {part.place for part in parts} - {GONE}]
        first = min((span[0] for span in spans if span[0] is not None), default=None)
        last = max((span[1] for span in spans if span[1] is not None), default=None)
        if first is None or last is None:
            return shifts_of("UTC", 0, 0)
        return shifts_of(query.timezone, first * QUARTER - YEAR_ONE, (last + 1) * QUARTER - YEAR_ONE)


def families_of(query: Query) -> tuple[Family, ...]:
    """The families of rows that a question is about: its subject's own last."""
    if query.subject == "executions":
        return ("executions",)
    is_of_both = (
        bool(metadata_of(query)) or any(each.dimension == "tag" for each in query.groupings) or bool(query.filters.tags)
    )
    return ("executions", "steps") if is_of_both else ("steps",)


def _flows(moment: Reads, query: Query) -> list[str]:
    """The ids that the flow of a filter means."""
    filters = query.filters
    if filters.flow is None:
        return []
    return [str(row[0]) for row in moment.query(_FLOWS, (filters.project, filters.flow, filters.flow))]
