"""The read model of saved artifacts: where in its stream each name was saved, so that `load` reads one event, not all.

Results of checkpoints have no row: their events name them, and a row each was a tenth of a checkpoint's SQL. The key is
where the event stands, so an artifact's id leads to its row and to its bytes. Imports the domain and the store's protocol.
"""

from __future__ import annotations

from collections.abc import Sequence

from kitaru.domain.events import ArtifactSaved, EventBase, HistoryDropped, PayloadErased
from kitaru.store.log import Execute, Head

_CREATE = """CREATE TABLE {p}artifacts (
        number INTEGER NOT NULL,
        version INTEGER NOT NULL,
        call INTEGER,
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        size INTEGER NOT NULL,
        saved_at INTEGER NOT NULL,
        erased INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (number, version)
    ) WITHOUT ROWID"""
_SAVE = "INSERT INTO {p}artifacts (number, version, call, name, kind, size, saved_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ERASE = "UPDATE {p}artifacts SET erased = 1 WHERE number = ? AND version <= ?"
FIND = """SELECT a.version FROM artifacts a JOIN executions e ON e.number = a.number
    WHERE e.exec_id = ? AND a.name = ? ORDER BY a.version DESC LIMIT 1"""
"""The version of the event that saved a name last."""
_REMOVE = "DELETE FROM {p}artifacts WHERE number = ?"


class Artifacts:
    """Keeps the saved artifacts' rows."""

    name = "artifacts"
    version = 1

    def __init__(self, prefix: str) -> None:
        self.tables = (prefix + "artifacts",)
        self._create = _CREATE.replace("{p}", prefix)
        self._save = _SAVE.replace("{p}", prefix)
        self._erase = _ERASE.replace("{p}", prefix)
        self._remove = _REMOVE.replace("{p}", prefix)

    def create(self, execute: Execute, generation: int) -> None:
        """Create the table."""
        execute(self._create, ())

    def apply(self, execute: Execute, head: Head, events: Sequence[tuple[int, EventBase]]) -> None:
        """Fold a batch of one stream's events into its rows."""
        number = head.number
        for version, event in events:
            kind = type(event)
            if kind is ArtifactSaved:
                assert isinstance(event, ArtifactSaved)
                execute(self._save, (number, version, event.call, event.name, event.kind, event.value.size, event.at))
            elif kind is PayloadErased:
                assert isinstance(event, PayloadErased)
                execute(self._erase, (number, event.through))
            elif kind is HistoryDropped:
                execute(self._remove, (number,))

    def keep(self, execute: Execute, number: int) -> None:
        """Nothing: without the events the rows lead nowhere."""

    def remove(self, execute: Execute, number: int, exec_id: str) -> None:
        """Delete an execution's rows."""
        execute(self._remove, (number,))
