"""Builds the store of a population: two processes draw, encode and project, this one copies their rows into the file.

The store is an ordinary one: made by the log, with the log's tables. Its indexes are dropped while it is filled and made
again from their own text.
"""

from __future__ import annotations

import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from benchmarks.population.draw import START
from benchmarks.rounds import ROOT, ContenderError, python
from kitaru.compose import projectors
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.connection import database_path
from kitaru.store.sqlite.log import SQLiteLog

CHUNK = 5_000
WORKERS = 2
_INDEXES = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY rowid"
_TABLES = (
    "SELECT name FROM part.sqlite_master WHERE type = 'table' AND name NOT IN ('meta', 'sqlite_sequence') ORDER BY rowid"
)
_SHIFTED = """INSERT INTO main.events SELECT position + ?, number, version, type, v, event_id, digest, body, payload
    FROM part.events ORDER BY position"""


def store_id_of(seed: int, size: int) -> str:
    """The id of a population's store: the same each time it is built."""
    return str(uuid5(NAMESPACE_URL, f"kitaru:population:{seed}:{size}"))


def build(folder: Path, seed: int, size: int) -> None:
    """Make the store of `size` executions in a new folder."""
    SQLiteLog(str(folder), projectors()).close()
    store_id = store_id_of(seed, size)
    with closing(sqlite3.connect(database_path(str(folder)), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF").fetchall()
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")
        connection.executemany(schema.PUT_META, [("store_id", store_id), ("created_at", str(START))])
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(f'DROP INDEX "{name}"')
        with tempfile.TemporaryDirectory(prefix="population-", dir=folder.parent) as parts:
            for part in _parts(seed, size, store_id, Path(parts)):
                _copy(connection, part)
                part.unlink()
        for _, sql in indexes:
            connection.execute(sql)
        connection.execute("PRAGMA journal_mode = WAL").fetchall()


def _parts(seed: int, size: int, store_id: str, folder: Path) -> Iterator[Path]:
    """The finished parts in order. Each worker has one part to make and one that waits to be copied."""
    command = python("benchmarks.population.chunk", seed, size, store_id, folder)
    with ExitStack() as stack:
        workers: list[subprocess.Popen[str]] = []
        for _ in range(min(WORKERS, -(-size // CHUNK))):
            worker = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            workers.append(stack.enter_context(worker))
            stack.callback(worker.kill)
        firsts = range(1, size + 1, CHUNK)
        for place, first in enumerate(firsts[: 2 * len(workers)]):
            _ask(workers[place % len(workers)], first, size)
        for place, _ in enumerate(firsts):
            worker = workers[place % len(workers)]
            assert worker.stdout is not None
            line = worker.stdout.readline()
            if not line:
                raise ContenderError(f"a part of the population was not made (exit code {worker.wait()})")
            yield Path(line.rstrip("\n"))
            after = place + 2 * len(workers)
            if after < len(firsts):
                _ask(worker, firsts[after], size)


def _ask(worker: subprocess.Popen[str], first: int, size: int) -> None:
    assert worker.stdin is not None
    worker.stdin.write(f"{first} {min(first + CHUNK - 1, size)}\n")
    worker.stdin.flush()


def _copy(connection: sqlite3.Connection, part: Path) -> None:
    execute = connection.execute
    execute("ATTACH ? AS part", (str(part),))
    execute("BEGIN")
    last = execute(schema.GET_LAST_POSITION).fetchone()[0] or 0
    for (table,) in execute(_TABLES).fetchall():
        if table == "events":
            execute(_SHIFTED, (last,))
        else:
            execute(f'INSERT OR IGNORE INTO main."{table}" SELECT * FROM part."{table}"')
    execute("COMMIT")
    execute("DETACH part")
