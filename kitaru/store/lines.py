"""Log lines of executions: telemetry beside the events, in a table of its own, read from any store that has one.

A store that an earlier version made has no such table until somebody writes to it again: then there are no lines.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, cast

from kitaru.domain.errors import KitaruBackendError, KitaruLogRetrievalError
from kitaru.store.log import Reads
from kitaru.store.sqlite import schema


class LogLine(NamedTuple):
    """A line to be kept, in the order of the table's columns. `at` is microseconds since 1970.

    source: `step` (a checkpoint or the flow's body) or `runner`. call, attempt, checkpoint, invocation_id: None in the
    body, whose lines have the `path` of their task and an `ordinal` in it, so that a body that runs again knows them.
    """

    number: int
    at: int
    source: str
    level: str
    message: str
    module: str | None = None
    filename: str | None = None
    lineno: int | None = None
    checkpoint: str | None = None
    invocation_id: str | None = None
    call: int | None = None
    attempt: int | None = None
    path: str | None = None
    ordinal: int | None = None


class StoredLine(NamedTuple):
    """A line that was kept; `row` rises in the order in which they were."""

    row: int
    at: int
    level: str
    message: str
    module: str | None
    filename: str | None
    lineno: int | None
    checkpoint: str | None
    invocation_id: str | None
    call: int | None
    attempt: int | None


class Lines(Protocol):
    """Where an open log takes lines. Adding one neither writes nor waits; what is lost is never an error."""

    def add(self, line: LogLine) -> None:
        """Keep a line with the next append of this process, or half a second later."""
        ...

    def flush(self) -> None:
        """Write what waits."""
        ...


class Wanted(NamedTuple):
    """Which lines of an execution. `checkpoint`: a name or an invocation id; `call`: the ordinal that it may mean, too."""

    number: int
    source: str
    checkpoint: str | None = None
    call: int | None = None


def read_lines(reads: Reads, wanted: Wanted, *, after: int = 0, limit: int = -1) -> list[StoredLine]:
    """The lines of an execution after a row, oldest first, at most `limit`. Raises KitaruLogRetrievalError."""
    number, source, *chosen = wanted
    with _retrieving(reads) as has_logs:
        return _lines(reads.query(schema.LIST_LINES, (number, after, source, *chosen, limit)) if has_logs else ())


def last_lines(reads: Reads, wanted: Wanted, limit: int) -> list[StoredLine]:
    """The newest lines of an execution, oldest first, at most `limit`. Raises KitaruLogRetrievalError."""
    number, source, *chosen = wanted
    with _retrieving(reads) as has_logs:
        return _lines(reads.query(schema.LAST_LINES, (number, 0, source, *chosen, limit))[::-1] if has_logs else ())


def repeated_of(reads: Reads, number: int) -> dict[str, int]:
    """How many lines of each of the body's tasks were kept by earlier runs. Raises KitaruLogRetrievalError."""
    with _retrieving(reads) as has_logs:
        rows = reads.query(schema.LIST_ORDINALS, (number,)) if has_logs else ()
        return {str(path): int(cast("int", last)) for path, last in rows}


def _lines(rows: Sequence[tuple[object, ...]]) -> list[StoredLine]:
    found: list[StoredLine] = []
    for row in rows:
        if type(row[1]) is not int or not isinstance(row[2], str) or not isinstance(row[3], str):
            raise ValueError("a row is not what was written")
        found.append(StoredLine(*cast("tuple[int, int, str, str]", row[:4]), *cast("Sequence[None]", row[4:])))
    return found


@contextmanager
def _retrieving(reads: Reads) -> Generator[bool]:
    """Whether the store has logs at all; whatever is wrong with them is one error."""
    try:
        yield bool(reads.query(schema.FIND_LOGS))
    except (KitaruBackendError, TypeError, ValueError) as error:
        raise KitaruLogRetrievalError(
            f"the logs in {reads.location} cannot be read ({error.__cause__ or error}); executions and events are not "
            "affected: run `kitaru store verify`"
        ) from error
