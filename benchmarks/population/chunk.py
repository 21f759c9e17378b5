"""A part of a population as a SQLite file of its own: the rows that the store will have, encoded and projected.

`python -m benchmarks.population.chunk SEED SIZE STORE_ID FOLDER` reads lines `FIRST LAST` from stdin and answers each with
the path of a finished file, so that two processes share the work and a third one only copies rows.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.population.draw import Population
from kitaru.compose import projectors
from kitaru.domain.events import ExecutionStarted
from kitaru.domain.state import ABSENT
from kitaru.store.batch import encode
from kitaru.store.chain import GENESIS
from kitaru.store.heads import columns, fold_head
from kitaru.store.log import Head, Projector
from kitaru.store.sqlite import schema

INSERT_HEAD = """INSERT INTO streams (number, exec_id, flow_id, idempotency_key, version, digest, status, epoch, runner,
    flags, waits, pending, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def write_chunk(path: Path, population: Population, first: int, last: int) -> None:
    """Executions `first` to `last`, their events one execution after the other."""
    connection = sqlite3.connect(path, isolation_level=None)
    live = tuple(make("") for make in projectors())
    try:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        for statement in schema.CREATE:
            if statement not in schema.INDEXES:
                connection.execute(statement)
        for projector in live:
            projector.create(_without_indexes(connection), 0)
        connection.execute("BEGIN")
        for number in range(first, last + 1):
            _write_execution(connection, population, number, live)
        connection.execute("COMMIT")
    finally:
        connection.close()


def _without_indexes(connection: sqlite3.Connection) -> Callable[..., sqlite3.Cursor]:
    def execute(sql: str, parameters: object = ()) -> sqlite3.Cursor:
        return connection.execute("SELECT 1" if sql.startswith("CREATE INDEX") else sql)

    return execute


def _write_execution(
    connection: sqlite3.Connection, population: Population, number: int, live: tuple[Projector, ...]
) -> None:
    exec_id, events, event_ids = population.execution(number)
    started = events[0]
    assert isinstance(started, ExecutionStarted)
    batch = encode(number, exec_id, 0, GENESIS, events, event_ids)
    assert not batch.blobs
    state = ABSENT
    numbered = list(enumerate(events, 1))
    for version, event in numbered:
        state = fold_head(state, version, event)
    state = state._replace(version=len(events))
    head = (number, exec_id, started.flow_id, None, *columns(exec_id, batch.digest, state))
    connection.execute(INSERT_HEAD, head)
    connection.executemany(schema.INSERT_EVENT, batch.rows)
    for projector in live:
        projector.apply(connection.execute, Head(number, exec_id, batch.digest, state), numbered)


def main() -> None:
    """Serve chunks until stdin ends."""
    seed, size, store_id, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    population = Population(seed, size, store_id)
    for line in sys.stdin:
        first, last = map(int, line.split())
        path = folder / f"{first}.part"
        write_chunk(path, population, first, last)
        print(path, flush=True)


if __name__ == "__main__":
    main()
