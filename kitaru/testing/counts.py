"""A read model for tests of event logs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from kitaru.domain import events as e
from kitaru.store.log import Execute, Head


class EventCounts:
    """A read model for tests: how many events each execution has. Refuses artifacts named `refuse`, after having written."""

    name = "event_counts"
    version = 1

    def __init__(self, prefix: str) -> None:
        self.tables = (prefix + "event_counts",)
        self._table = prefix + "event_counts"

    def create(self, execute: Execute, generation: int) -> None:
        """The table."""
        execute("CREATE TABLE {t} (number INTEGER PRIMARY KEY, events INTEGER NOT NULL)".replace("{t}", self._table), ())

    def apply(self, execute: Execute, head: Head, events: Sequence[tuple[int, e.EventBase]]) -> None:
        """Count."""
        dropped = [event for _, event in events if isinstance(event, e.HistoryDropped)]
        if dropped:
            kept = cast("dict[str, dict[str, int]]", json.loads(dropped[-1].kept.data or b""))[self.name]
            self.remove(execute, head.number, head.exec_id)
            execute("INSERT INTO {t} VALUES (?, ?)".replace("{t}", self._table), (head.number, kept["events"]))
        sql = "INSERT INTO {t} VALUES (?1, ?2) ON CONFLICT (number) DO UPDATE SET events = events + ?2"
        execute(sql.replace("{t}", self._table), (head.number, len(events)))
        if any(isinstance(event, e.ArtifactSaved) and event.name == "refuse" for _, event in events):
            raise RuntimeError("refused by the projector")

    def keep(self, execute: Execute, number: int) -> dict[str, object] | None:
        """The count."""
        row = execute("SELECT events FROM {t} WHERE number = ?".replace("{t}", self._table), (number,)).fetchone()
        return None if row is None else {"events": row[0]}

    def remove(self, execute: Execute, number: int, exec_id: str) -> None:
        """Forget."""
        execute("DELETE FROM {t} WHERE number = ?".replace("{t}", self._table), (number,))
