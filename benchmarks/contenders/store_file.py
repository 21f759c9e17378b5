"""Finds the SQLite file of a store, for the baselines that read its rows without Kitaru."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_MAGIC = b"SQLite format 3\x00"
_HAS_EVENTS = "SELECT count(*) FROM sqlite_master WHERE name IN ('events', 'streams')"


def open_raw(store: Path) -> sqlite3.Connection:
    """A connection to the file that holds the events. Read it only; never in a process that has the store open."""
    for path in sorted(store.iterdir()):
        if path.is_file() and _starts_as_sqlite(path):
            connection = sqlite3.connect(path)
            if connection.execute(_HAS_EVENTS).fetchone()[0] == 2:
                return connection
            connection.close()
    raise FileNotFoundError(f"no SQLite file with events in {store.name}")


def _starts_as_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
