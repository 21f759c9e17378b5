"""The read model of pending waits and timers: a row while it is open, what the inbox shows of it.

Texts past the inline limit stand as NULL, and the row is not `whole`; the event at `version` has them. Imports the domain
and the store's protocol.
"""

from __future__ import annotations

from collections.abc import Sequence

from kitaru.domain.events import (
    EventBase,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    WaitAborted,
    WaitExpired,
    WaitOpened,
    WaitResolved,
)
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES
from kitaru.domain.payload import Payload
from kitaru.store.log import Execute, Head

_CREATE = """CREATE TABLE {p}pending_waits (
        number INTEGER NOT NULL,
        wait INTEGER NOT NULL,
        version INTEGER NOT NULL,
        kind TEXT NOT NULL,
        invocation_id TEXT NOT NULL,
        name TEXT NOT NULL,
        question BLOB,
        json_schema BLOB,
        metadata BLOB,
        whole INTEGER NOT NULL,
        opened_at INTEGER NOT NULL,
        expires_at INTEGER,
        PRIMARY KEY (number, wait)
    ) WITHOUT ROWID"""
_INDEX = "CREATE INDEX {p}pending_waits_due{g} ON {p}pending_waits (expires_at) WHERE expires_at IS NOT NULL"
_OPEN = """INSERT INTO {p}pending_waits (number, wait, version, kind, invocation_id, name, question, json_schema, metadata,
    whole, opened_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_CLOSE = "DELETE FROM {p}pending_waits WHERE number = ? AND wait = ?"
_CLOSE_ALL = "DELETE FROM {p}pending_waits WHERE number = ?"


class PendingWaits:
    """Keeps the pending waits' rows."""

    name = "pending_waits"
    version = 2

    def __init__(self, prefix: str) -> None:
        self.tables = (prefix + "pending_waits",)
        self._create = _CREATE.replace("{p}", prefix)
        self._index = _INDEX.replace("{p}", prefix)
        self._open = _OPEN.replace("{p}", prefix)
        self._close = _CLOSE.replace("{p}", prefix)
        self._close_all = _CLOSE_ALL.replace("{p}", prefix)

    def create(self, execute: Execute, generation: int) -> None:
        """Create the table and its index."""
        execute(self._create, ())
        execute(self._index.replace("{g}", f"_g{generation}"), ())

    def apply(self, execute: Execute, head: Head, events: Sequence[tuple[int, EventBase]]) -> None:
        """Fold a batch of one stream's events into its rows."""
        for version, event in events:
            kind = type(event)
            if kind is WaitOpened:
                assert isinstance(event, WaitOpened)
                given = (event.question, event.json_schema, event.metadata)
                whole = int(not any(payload is not None and payload.size > INLINE_PAYLOAD_BYTES for payload in given))
                name = (event.kind, event.invocation_id, event.name)
                what = (*name, *map(_inline, given), whole)
                execute(self._open, (head.number, event.wait, version, *what, event.at, event.expires_at))
            elif kind in _CLOSES:
                assert isinstance(event, (WaitResolved, WaitAborted, WaitExpired))
                execute(self._close, (head.number, event.wait))
            elif kind in _ENDS:
                execute(self._close_all, (head.number,))

    def keep(self, execute: Execute, number: int) -> None:
        """Nothing: without the events the rows lead nowhere."""

    def remove(self, execute: Execute, number: int, exec_id: str) -> None:
        """Delete an execution's rows."""
        execute(self._close_all, (number,))


_CLOSES = (WaitResolved, WaitAborted, WaitExpired)
_ENDS = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled)


def _inline(payload: Payload | None) -> bytes | None:
    """The bytes that stand beside the event: a larger payload's would not be here in a rebuild."""
    return payload.data if payload is not None and payload.size <= INLINE_PAYLOAD_BYTES else None
