"""The reuse index: which recorded results may serve again under a reuse key.

Every result keeps its row, so that deleting the newest uncovers the one before; the newest is the one of the youngest
execution. Only events with a reuse key cost anything. Imports the domain and the store's protocol only.
"""

from __future__ import annotations

from collections.abc import Sequence

from kitaru.domain.events import CheckpointCompleted, EventBase, HistoryDropped, PayloadErased
from kitaru.store.log import Execute, Head

_CREATE = (
    """CREATE TABLE {p}reuse (
        reuse_key TEXT NOT NULL,
        number INTEGER NOT NULL,
        version INTEGER NOT NULL,
        exec_id TEXT NOT NULL,
        PRIMARY KEY (reuse_key, number, version)
    ) WITHOUT ROWID""",
    "CREATE INDEX {p}reuse_by_number{g} ON {p}reuse (number)",
)
_ADD = "INSERT INTO {p}reuse (reuse_key, number, version, exec_id) VALUES (?, ?, ?, ?)"
_ERASE = "DELETE FROM {p}reuse WHERE number = ? AND version <= ?"
_REMOVE = "DELETE FROM {p}reuse WHERE number = ?"

FIND = "SELECT exec_id, version FROM reuse WHERE reuse_key = ? ORDER BY number DESC, version DESC LIMIT 1"
"""(exec_id, version of the CheckpointCompleted) of the newest result with a reuse key."""


class ReuseIndex:
    """Keeps the reuse index."""

    name = "reuse"
    version = 1

    def __init__(self, prefix: str) -> None:
        self.tables = (prefix + "reuse",)
        self._create = tuple(sql.replace("{p}", prefix) for sql in _CREATE)
        self._add = _ADD.replace("{p}", prefix)
        self._erase = _ERASE.replace("{p}", prefix)
        self._remove = _REMOVE.replace("{p}", prefix)

    def create(self, execute: Execute, generation: int) -> None:
        """Create the table and its index."""
        for sql in self._create:
            execute(sql.replace("{g}", f"_g{generation}"), ())

    def apply(self, execute: Execute, head: Head, events: Sequence[tuple[int, EventBase]]) -> None:
        """Fold a batch of one stream's events into its rows."""
        for version, event in events:
            kind = type(event)
            if kind is CheckpointCompleted:
                assert isinstance(event, CheckpointCompleted)
                if event.reuse_key is not None:
                    execute(self._add, (event.reuse_key, head.number, version, head.exec_id))
            elif kind is PayloadErased:
                assert isinstance(event, PayloadErased)
                execute(self._erase, (head.number, event.through))
            elif kind is HistoryDropped:
                execute(self._remove, (head.number,))

    def keep(self, execute: Execute, number: int) -> None:
        """Nothing: without the events the rows lead nowhere."""

    def remove(self, execute: Execute, number: int, exec_id: str) -> None:
        """Delete an execution's rows."""
        execute(self._remove, (number,))
