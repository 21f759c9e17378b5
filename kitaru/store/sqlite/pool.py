"""Connections that read, kept for the next one who reads: last in, first out, at most a few idle."""

from __future__ import annotations

import os
import sqlite3

from kitaru.domain.errors import KitaruUsageError
from kitaru.store.sqlite import forks
from kitaru.store.sqlite.connection import absent, database_path, open_reader, place_of

IDLE = 4


class ReaderPool:
    """A process's idle readers of one store."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._idle: list[sqlite3.Connection] = []
        self._all: set[sqlite3.Connection] = set()
        self._refusal: KitaruUsageError | None = None
        path = database_path(folder)
        if not os.path.exists(path):
            raise absent(folder)
        self._place = place_of(path)
        forks.check(path, folder)
        forks.watch(self, path)

    def is_in_place(self) -> bool:
        """Whether the file that is read is still the one at its path."""
        try:
            return place_of(database_path(self._folder)) == self._place
        except OSError:
            return False

    def take(self) -> sqlite3.Connection:
        """An idle connection, or a new one. Raises KitaruBackendError, and KitaruUsageError when closed."""
        if self._refusal is not None:
            raise self._refusal
        try:
            return self._idle.pop()
        except IndexError:
            connection = open_reader(self._folder)
            self._all.add(connection)
            return connection

    def give(self, connection: sqlite3.Connection) -> None:
        """Keep a connection for the next reader, or close it."""
        if len(self._idle) < IDLE and self._refusal is None:
            self._idle.append(connection)
        else:
            self._all.discard(connection)
            connection.close()
            if self._refusal is not None and not self._all:
                forks.unwatch(self)

    def close(self) -> None:
        """Close what is idle; connections in use are closed when they come back."""
        self._refusal = KitaruUsageError(f"the store {self._folder} is closed; open it again", code="store-closed")
        while self._idle:
            connection = self._idle.pop()
            self._all.discard(connection)
            connection.close()
        if not self._all:
            forks.unwatch(self)

    def forget(self) -> None:
        """In a forked child: never touch the parent's connections, not even to close them."""
        self._refusal = forks.refusal(self._folder)
        forks.keep(self._all)
        self._idle, self._all = [], set()
