"""Building the next generation of a base: `python -m kitaru.analytics.build STORE PLACE FAMILY...`, a child process.

What is built is the store at one position, the last when the builder began. But the rows are read in slices, each in a
moment of its own, so that no long read keeps the WAL from shrinking. That is correct, because an answer takes from a base
only executions that have no event after its position: of those all moments since show the same rows. Of the others the
base may hold anything, or nothing; they are read anew.

Most of it is copied from the generation before. One builder works at a time, by a lock that the kernel frees at its death;
what a killed one leaves the next one removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Generator, Mapping, Sequence

from kitaru.analytics import execution_rows, generations, keys, step_rows
from kitaru.analytics.connection import Duck, open_to_build
from kitaru.analytics.generations import FAMILIES, Family, Generation, Origin
from kitaru.analytics.keys import Key
from kitaru.analytics.statement import sentence
from kitaru.analytics.words import ADD_EXECUTIONS, CREATE_EXECUTIONS
from kitaru.store.log import Reads

_SLICES: Mapping[Family, int] = {"executions": 20_480, "steps": 4_096}
"""Executions that are read in one moment."""
_COMMITTED: Mapping[Family, int] = {"executions": 6, "steps": 12}
"""Slices in a transaction. Six are a whole row group of DuckDB's: part of one would be written again by each commit."""
_MOST_CHANGED = 0.4
"""What part of the executions may have changed for the rest to be worth copying."""
_LOCK = "build.lock"

_NUMBERS = "SELECT number FROM executions ORDER BY number"
_CHANGED = "SELECT DISTINCT +number AS n FROM events WHERE position > ? AND position <= ? ORDER BY n"
# The plus sign: by positions. Without it SQLite walks the whole index by number (0.4 s of 9 million events).

_FORGOTTEN = """SELECT 1 FROM events WHERE position > ? AND type IN ('Tombstone', 'PayloadErased', 'HistoryDropped')
    LIMIT 1"""

_CHANGES = "CREATE TEMP TABLE changes (number INTEGER NOT NULL)"
_CHANGE = "INSERT INTO changes SELECT unnest(from_json(?, '[\"INTEGER\"]'))"
_COPY_EXECUTIONS = (
    "CREATE TABLE executions AS FROM previous.executions ANTI JOIN changes USING (number)",
    "CREATE TABLE tags AS FROM previous.tags ANTI JOIN changes USING (number)",
    "CREATE TABLE details AS FROM previous.details ANTI JOIN changes USING (number)",
)
_COPY_STEPS = (
    "CREATE TABLE calls AS FROM previous.calls ANTI JOIN changes USING (number)",
    "CREATE TABLE usage AS FROM previous.usage ANTI JOIN changes USING (number)",
)
_PREVIOUS_KEYS = "SELECT slot, key, has_floats, has_big FROM previous.keys ORDER BY slot"
_BEGIN = "BEGIN"
_COMMIT = "COMMIT"
_CHECKPOINT = "CHECKPOINT"


def build(reads: Reads, place: str, family: Family, *, waits: bool = True) -> Generation | None:
    """Build what a store's base lacks, unless it lacks nothing; the newest generation, or None.

    None: another process builds and this one was not to wait, or the store was rebuilt, or something was deleted or erased
    meanwhile. Raises OSError.
    """
    with _building(place, waits=waits) as is_alone:
        if not is_alone:
            return None
        generations.remove_unfinished(place)
        with reads.snapshot() as moment:
            origin = generations.origin_of(moment)
            previous = generations.find(moment, place, family)
        if previous is not None and previous.origin.position == origin.position:
            return previous
        path = generations.new_path(place)
        made = Generation(family, origin, os.path.join(place, generations.name_of(family, origin)))
        try:
            _Builder(reads, origin, family).write(path, previous)
            os.rename(path, made.path)
        finally:
            generations.remove_unfinished(place)
        with reads.snapshot() as moment:
            is_fit = generations.fits(moment, origin) and not _has_forgotten(moment, origin.position)
            holds_more = previous is not None and _has_forgotten(moment, previous.origin.position)
        if not is_fit:
            generations.remove(made)
            return None
        generations.remove_old(place, made, kept=0 if holds_more else 1)
        return made


def _has_forgotten(moment: Reads, position: int) -> bool:
    """Whether something was deleted or erased after a position: what was read before may hold it.

    Who deletes removes all generations afterwards, so one that is made meanwhile goes either there or here.
    """
    return bool(moment.query(_FORGOTTEN, (position,)))


@contextlib.contextmanager
def _building(place: str, *, waits: bool) -> Generator[bool]:
    descriptor = os.open(os.path.join(place, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


class _Builder:
    def __init__(self, reads: Reads, origin: Origin, family: Family) -> None:
        self._reads = reads
        self._origin = origin
        self._is_of_executions = family == "executions"
        self._keys: dict[str, Key] = {}

    def write(self, path: str, previous: Generation | None) -> None:
        """Write a file of the store's rows, with what has not changed copied from the generation before."""
        with self._reads.snapshot() as moment:
            numbers = [int(str(row[0])) for row in moment.query(_NUMBERS)]
            changed = numbers if previous is None else self._changed(moment, previous)
            common = keys.common_keys(moment, len(numbers)) if self._is_of_executions else []
        if len(changed) > _MOST_CHANGED * len(numbers):
            previous = None
        duck = open_to_build(path, None if previous is None else previous.path)
        try:
            os.chmod(path, 0o600)
            if previous is not None and self._is_of_executions:
                self._keys = {row[1]: Key(row[0], row[0], row[2], row[3]) for row in duck.execute(_PREVIOUS_KEYS).fetchall()}
                if not self._keys.keys() >= set(common[: keys.MOST_COLUMNS // 2]):
                    previous = None
            if previous is None:
                self._keys = {key: Key(place, place) for place, key in enumerate(common)}
                self._create(duck)
                self._fill(duck, numbers, whole=True)
            else:
                self._copy(duck, changed)
                self._fill(duck, changed, whole=False)
            if self._is_of_executions:
                duck.execute(keys.CREATE_KEYS)
                keys.keep_keys(duck, self._keys)
            duck.execute(_CHECKPOINT)
        finally:
            duck.close()

    def _changed(self, moment: Reads, previous: Generation) -> list[int]:
        rows = moment.query(_CHANGED, (previous.origin.position, self._origin.position))
        return [int(str(row[0])) for row in rows]

    def _create(self, duck: Duck) -> None:
        duck.execute(execution_rows.CREATE_LANDING)
        duck.execute(step_rows.CREATE_LANDING)
        duck.execute(keys.CREATE_LANDED_VALUES)
        if self._is_of_executions:
            duck.execute(sentence(keys.with_columns(CREATE_EXECUTIONS, range(len(self._keys))).words))
            duck.execute(execution_rows.CREATE_TAGS)
            duck.execute(execution_rows.CREATE_DETAILS)
        else:
            for statement in step_rows.CREATE:
                duck.execute(statement)

    def _copy(self, duck: Duck, changed: Sequence[int]) -> None:
        duck.execute(execution_rows.CREATE_LANDING)
        duck.execute(step_rows.CREATE_LANDING)
        duck.execute(keys.CREATE_LANDED_VALUES)
        duck.execute(_CHANGES)
        duck.execute(_CHANGE, (execution_rows.array(changed),))
        if self._is_of_executions:
            for statement in _COPY_EXECUTIONS:
                duck.execute(statement)
        else:
            for statement in _COPY_STEPS:
                duck.execute(statement)

    def _fill(self, duck: Duck, numbers: Sequence[int], *, whole: bool) -> None:
        family: Family = "executions" if self._is_of_executions else "steps"
        size = _SLICES[family]
        duck.execute(_BEGIN)
        for place, start in enumerate(range(0, len(numbers), size), 1):
            with self._reads.snapshot() as moment:
                self._take(duck, moment, numbers[start : start + size], whole=whole)
            if place % _COMMITTED[family] == 0:
                duck.execute(_COMMIT)
                duck.execute(_BEGIN)
        duck.execute(_COMMIT)

    def _take(self, duck: Duck, moment: Reads, numbers: Sequence[int], *, whole: bool) -> None:
        some = execution_rows.array(numbers)
        if not self._is_of_executions:
            step_rows.add(moment, duck, some, has_events=True)
            return
        execution_rows.land(moment, duck, some)
        execution_rows.add_details(moment, duck, some)
        duck.execute(keys.CREATE_LANDED_VALUES)
        keys.read_values(moment, duck, self._keys, numbers, whole=whole)
        duck.execute(sentence(keys.with_columns(ADD_EXECUTIONS, range(len(self._keys))).words))


def main() -> None:
    """Build the bases of the families named. Exit code 1 when one of them could not be built."""
    from kitaru.store.read import open_store

    store, place, *families = sys.argv[1:]
    os.umask(0o077)
    reads = open_store(store)
    try:
        made = [build(reads, place, family) for family in FAMILIES if family in families]
    finally:
        reads.close()
    sys.exit(0 if all(made) else 1)


if __name__ == "__main__":
    main()
