"""What the client reads of logs: what an execution's code printed and logged, and what its runners have to say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from kitaru.client.models import LogEntry
from kitaru.client.shown import moment
from kitaru.client.words import Words
from kitaru.domain.errors import KitaruLogRetrievalError, KitaruUsageError
from kitaru.domain.ids import call_id, parse_part
from kitaru.store.lines import StoredLine, Wanted, last_lines, read_lines

if TYPE_CHECKING:
    from kitaru.client.access import Access
    from kitaru.store.log import Recorded
    from kitaru.store.read import Reader

LOOK_SECONDS = 0.2
SOURCES = ("step", "runner")
Source = Literal["step", "runner"]


class LogTail:
    """The logs of one execution, and then what is new in them: nothing twice, nothing left out."""

    def __init__(self, access: Access, exec_id: str, checkpoint: str | None, source: str, limit: int | None) -> None:
        """Raises KitaruLogRetrievalError for an unknown source, KitaruUsageError for a limit that is none."""
        if source not in SOURCES:
            raise KitaruLogRetrievalError(
                f"logs have no source {source!r}; they come from {' or '.join(map(repr, SOURCES))}", code="log-source"
            )
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise KitaruUsageError(f"limit has to be a whole number from 0, not {limit!r}")
        self.exec_id = exec_id
        self._access = access
        self._source: Source = source
        self._limit = limit
        part = None if checkpoint is None else parse_part(checkpoint, "c")
        call = part[1] if part is not None and part[0] == exec_id else None
        number = self._reader().head(exec_id).number
        self._wanted = Wanted(number, source, checkpoint, call)
        self._row = 0
        self._version = 0
        self._words = Words(access.load)

    def read(self) -> list[LogEntry]:
        """What came since the last time, oldest first; the first time the newest `limit`. Raises KitaruBackendError."""
        with self._reader().snapshot() as reader:
            lines = self._lines(reader)
            found = self._told(lines, reader) if self._source == "runner" else [self._entry(line) for line in lines]
        if self._limit is not None:
            found, self._limit = found[len(found) - self._limit :] if self._limit < len(found) else found, None
        return found

    def _reader(self) -> Reader:
        return self._access.reader(f"execution {self.exec_id}")

    def _lines(self, reader: Reader) -> list[StoredLine]:
        if self._limit is None:
            lines = read_lines(reader, self._wanted, after=self._row)
        else:
            lines = last_lines(reader, self._wanted, max(self._limit, 1))
        if lines:
            self._row = lines[-1].row
        return lines

    def _entry(self, line: StoredLine) -> LogEntry:
        return LogEntry(
            timestamp=moment(line.at),
            level=line.level,
            message=line.message,
            source=self._source,
            checkpoint_name=line.checkpoint,
            invocation_id=line.invocation_id,
            call_id=None if line.call is None else call_id(self.exec_id, line.call),
            attempt=line.attempt,
            module=line.module,
            filename=line.filename,
            lineno=line.lineno,
        )

    def _told(self, lines: list[StoredLine], reader: Reader) -> list[LogEntry]:
        found = [self._entry(line) for line in lines]
        for recorded in reader.read(self.exec_id, after=self._version):
            self._version = recorded.version
            entry = self._told_of(recorded)
            if entry is not None:
                found.append(entry)
        return sorted(found, key=lambda entry: entry.timestamp)

    def _told_of(self, recorded: Recorded) -> LogEntry | None:
        told = self._words.tell(recorded.event)
        if told is None:
            return None
        level, message, call, attempt = told
        wanted = self._wanted
        invocation_id, name = self._words.name_of(call), self._words.checkpoint_of(call)
        if (
            wanted.checkpoint is not None
            and wanted.checkpoint not in (invocation_id, name)
            and (call is None or call != wanted.call)
        ):
            return None
        return LogEntry(
            timestamp=moment(recorded.event.at),
            level=level,
            message=message,
            source="runner",
            checkpoint_name=name,
            invocation_id=invocation_id,
            call_id=None if call is None else call_id(self.exec_id, call),
            attempt=attempt,
        )


def follow(tail: LogTail, access: Access) -> Iterator[LogEntry]:
    """The logs, waiting for more until the execution is finished."""
    reader = access.reader(f"execution {tail.exec_id}")
    while True:
        status = reader.head(tail.exec_id).state.status  # before the lines: what came with its end is among them
        yield from tail.read()
        if status is not None and status.is_finished:
            time.sleep(LOOK_SECONDS)  # what its end did not take along follows at once
            yield from tail.read()
            return
        time.sleep(LOOK_SECONDS)
