"""What a store in memory has beside its events: the lease of the only process there is, and the log lines."""

from __future__ import annotations

import sqlite3
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from kitaru.store.sqlite import schema

if TYPE_CHECKING:
    from kitaru.store.lines import LogLine


class MemoryLines:
    """Log lines, written when somebody asks for them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: deque[LogLine] = deque()
        for statement in schema.CREATE_LOGS:
            connection.execute(statement)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, line: LogLine) -> None:
        """Keep a line."""
        self._waiting.append(line)

    def flush(self) -> None:
        """Nothing is lost that waits here."""

    def write(self, kept: set[int]) -> None:
        """Write what waits for the executions that keep their lines."""
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for line in lines:
            if line.number in kept:
                with suppress(OverflowError, UnicodeEncodeError):
                    self._connection.execute(schema.INSERT_ANY_LINE, line)

    def forget(self, number: int) -> None:
        """Remove an execution's lines."""
        self._connection.execute(schema.FORGET_LINES, (number,))


class MemoryLeases:
    """The lease of the only process there is."""

    def __init__(self) -> None:
        self._runner: str | None = None

    def acquire(self) -> str:
        """The runner id, made at the first call."""
        if self._runner is None:
            self._runner = str(uuid4())
        return self._runner

    def is_alive(self, runner: str) -> bool:
        """Whether it is this one."""
        return runner == self._runner

    def release(self) -> None:
        """Give it up."""
        self._runner = None
