"""Log lines on their way into a store: in the transaction of the next append, or after a while in one of their own.

Adding one is an append to a deque: no lock, so that a line can come from anywhere, from a signal handler or a finalizer in
the midst of a commit too. What cannot be written is dropped: telemetry fails no flow.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from kitaru.domain.errors import KitaruError
from kitaru.store.log import OutcomeUnknown
from kitaru.store.sqlite import forks, schema
from kitaru.store.sqlite.connection import database_path
from kitaru.store.sqlite.writer import Member

if TYPE_CHECKING:
    from kitaru.store.lines import LogLine

FLUSH_SECONDS = 0.5
RIDE_LINES = 2000
RIDE_CHARS = 1_000_000
MAX_WAITING = 50_000
"""Lines that may wait; further ones are dropped until some are written."""
_IDLE_LOOKS = 6


class WaitingLines:
    """The lines of one process and store that are not written yet."""

    def __init__(self, folder: str, commit: Callable[[Member], None]) -> None:
        self._commit = commit
        self._waiting: deque[LogLine] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self.dropped = 0
        """Lines that came to nothing: too many waited, or they could not be written."""
        forks.watch(self, database_path(folder))

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, line: LogLine) -> None:
        """Keep a line with the next append, or in half a second."""
        if self._is_closed or len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(line)
        if self._thread is None:
            self._start()

    def ride(self, connection: sqlite3.Connection) -> bool:
        """Write some of what waits in the transaction that is open; whether there was anything.

        Raises sqlite3.Error only when the transaction is gone with it.
        """
        taken = self._take()
        if not taken:
            return False
        try:
            connection.executemany(schema.INSERT_LINE, taken)
        except (sqlite3.Error, ValueError, OverflowError):
            self.dropped += len(taken)
            if not connection.in_transaction:
                raise
        return True

    def flush(self) -> None:
        """Write what waits now. What fails is dropped, or waits on when the store is busy."""
        for _ in range(-(-len(self._waiting) // RIDE_LINES)):
            with suppress(KitaruError, OutcomeUnknown):
                self._commit(_Flush("logs", is_outcome=False))
            if not self._waiting:
                return

    def close(self) -> None:
        """Write what waits, for the last time, and let the thread end."""
        self._is_closed = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            with suppress(RuntimeError):  # it had no time to begin
                thread.join()
        while self._waiting:
            before = len(self._waiting)
            self.flush()
            if len(self._waiting) >= before:
                break
        forks.unwatch(self)

    def forget(self) -> None:
        """In a forked child: the lines are the parent's."""
        self._is_closed = True
        self._waiting = deque()
        self._thread = None

    def _take(self) -> list[LogLine]:
        taken: list[LogLine] = []
        size = 0
        while len(taken) < RIDE_LINES and size < RIDE_CHARS:
            try:
                line = self._waiting.popleft()
            except IndexError:
                break
            taken.append(line)
            size += len(line.message)
        return taken

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="kitaru-logs", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends: what waits is written when the store is closed
            self._thread = None

    def _run(self) -> None:
        idle = 0
        while not self._is_closed:
            self._wake.wait(FLUSH_SECONDS)
            if self._is_closed:
                return
            if self._waiting:
                idle = 0
                self.flush()
            else:
                idle += 1
            if idle == _IDLE_LOOKS:
                self._thread = None
                if not self._waiting:  # what came in between has seen no thread, and starts one
                    return
                self._thread = threading.current_thread()
                idle = 0


class _Flush(Member):
    """A transaction for nothing but the lines that ride in it."""

    __slots__ = ()

    def write(self, connection: sqlite3.Connection) -> None:
        self.is_dirty = True
