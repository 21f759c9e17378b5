"""The plain interface of the event log: what the runtime, the client and the projections see of a store.

Backends stand behind it: `kitaru.store.sqlite` for files, `kitaru.store.memory` for tests; a PostgreSQL one would be a
sibling of these. Nothing here imports a backend, `eventsourcing` or sqlite3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # what only lists needs none of the events' classes
    from kitaru.domain.commands import Command
    from kitaru.domain.events import EventBase
    from kitaru.domain.payload import Payload
    from kitaru.domain.state import ExecutionState
    from kitaru.store.lines import Lines
    from kitaru.store.outline import Outlined


class Head(NamedTuple):
    """Where a stream ends. `number` is the execution's dense integer in its store, `digest` the chain's last link.

    Read from the store, `state` holds what the head row knows: all but the calls. Kept by a runner, it is whole.
    """

    number: int
    exec_id: str
    digest: bytes
    state: ExecutionState

    @property
    def version(self) -> int:
        """Events in the stream."""
        return self.state.version


class Recorded(NamedTuple):
    """An event as it stands in the store; `position` rises through the whole store, with gaps."""

    position: int
    number: int
    exec_id: str
    version: int
    event_id: str
    event: EventBase


class Tombstone(NamedTuple):
    """An execution was deleted; `position` is of its own, behind everything before it."""

    position: int
    number: int
    exec_id: str


class AppendConflict(Exception):  # noqa: N818  (caught by the runner, never seen by a user)
    """The stream has moved on: nothing was appended. Read the tail, decide again."""


class OutcomeUnknown(Exception):  # noqa: N818  (caught by the runner, never seen by a user)
    """The append may or may not be on disk. Repeat it with the same event ids: it finds itself."""


class Reads(Protocol):
    """What can be asked of a store without writing: the log itself, a snapshot of it, a reader of a store's files."""

    @property
    def store_id(self) -> str:
        """A UUID made with the store; a copy keeps it."""
        ...

    @property
    def location(self) -> str:
        """For people: the folder, or a word."""
        ...

    def head(self, exec_id: str) -> Head:
        """Where the stream ends now. Raises KitaruNotFoundError."""
        ...

    def find_ids(self, prefix: str, limit: int = 10) -> list[str]:
        """Execution ids that begin with `prefix`, at most `limit`."""
        ...

    def read(self, exec_id: str, *, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """The stream's events after version `after`, each checked against the chain, in constant memory.

        Payloads up to the inline limit carry their bytes; for larger ones call `load`. Raises KitaruNotFoundError, and
        KitaruBackendError(code="store-corrupt") that names the event where the chain does not hold.
        """
        ...

    def outline(self, exec_id: str, *, limit: int | None = None) -> Iterator[list[Outlined]]:
        """The stream's first events as `read` gives them, those of its calls outlined, in batches.

        To go on with the execution. Raises what `read` raises.
        """
        ...

    def tail(self, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        """Events of all executions after a position, each checked against its own digest."""
        ...

    def tombstones(self, *, after: int = 0, limit: int = 1000) -> list[Tombstone]:
        """Executions deleted after a position."""
        ...

    def last_position(self) -> int:
        """The position of the newest event or tombstone; 0 in an empty store."""
        ...

    def load(self, payload: Payload) -> bytes:
        """The payload's bytes, checked against its digest. Raises KitaruNotFoundError when it was erased."""
        ...

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """The rows of one constant SELECT on the read models."""
        ...

    def snapshot(self) -> AbstractContextManager[Reads]:
        """One moment of the store, whatever is committed meanwhile; for one thread, and for a short time."""
        ...


class EventLog(Reads, Protocol):
    """An append-only log of executions' events, with read models written in the same transaction."""

    @property
    def leases(self) -> Leases:
        """The runners' leases of this store."""
        ...

    @property
    def changes(self) -> Changes:
        """How to learn that something was committed."""
        ...

    @property
    def lines(self) -> Lines:
        """Where log lines go: telemetry, beside the events."""
        ...

    def append(self, head: Head, events: Sequence[EventBase], state: ExecutionState, event_ids: Sequence[str]) -> Head:
        """Append a runner's events after `head`; `state` is head.state evolved by them. On disk when it returns if an
        outcome is among them. Raises AppendConflict, OutcomeUnknown, KitaruBackendError. Repeating it with the same
        ids after OutcomeUnknown succeeds if it had succeeded.
        """
        ...

    def execute(self, exec_id: str, command: Command, at: int) -> tuple[Head, tuple[EventBase, ...]]:
        """Decide a command from outside on the head row and append its events, in one transaction.

        A Start with an idempotency key whose flow has that key already gives the head of that execution and no events.
        Raises what `decide` raises, KitaruNotFoundError, KitaruBackendError.
        """
        ...

    def drop_histories(self, chosen: Sequence[tuple[str, int]], by: str, at: int) -> list[str]:
        """Drop the events and payloads of finished executions, given with their versions; the read models' rows stay.

        A stream begins with a HistoryDropped then. The ids of those whose events were dropped: one that has gone on, or is
        not finished, is left as it is. What was dropped is in the files until `shrink`.
        """
        ...

    def delete(self, exec_id: str) -> bool:
        """Remove a finished execution: events, payloads, rows; a tombstone takes a new position.

        False: somebody still reads what was before, and until `shrink` its bytes are in the files.
        Raises KitaruNotFoundError, and KitaruStateError when it is not finished.
        """
        ...

    def erase(self, exec_id: str, by: str, at: int) -> Head:
        """Forget the payloads of a finished execution: `execute` with Erase, and the bytes are off the disk as well."""
        ...

    def close(self) -> None:
        """Release files and connections; using the log afterwards is KitaruUsageError."""
        ...


class Leases(Protocol):
    """One lease a process. A runner is alive as long as its process holds the lease and keeps it fresh."""

    def acquire(self) -> str:
        """This process's runner id, made and locked at the first call."""
        ...

    def is_alive(self, runner: str) -> bool:
        """Whether the process behind a runner id lives and has kept its lease fresh."""
        ...

    def release(self) -> None:
        """Give the lease up: no execution runs here any more."""
        ...


class Changes(Protocol):
    """Wakes whoever waits for a commit, in this process or another."""

    def token(self) -> int:
        """A number that differs once something was committed after this call."""
        ...

    def wait(self, token: int, timeout: float | None) -> int:
        """Return the current token once it differs from `token`, or after `timeout` seconds."""
        ...


class Projector(Protocol):
    """A read model: its tables and how a batch of one stream's events changes their rows.

    Made per table prefix: "" for the live tables, "shadow_" during a rebuild. All SQL is constant once made.
    """

    name: str
    version: int
    tables: tuple[str, ...]

    def create(self, execute: Execute, generation: int) -> None:
        """Create the tables and their indexes; an index's name ends with `_g` and the generation."""
        ...

    def apply(self, execute: Execute, head: Head, events: Sequence[tuple[int, EventBase]]) -> None:
        """Fold events, given as (version, event), of the stream of `head` (its state after them) into the rows."""
        ...

    def remove(self, execute: Execute, number: int, exec_id: str) -> None:
        """Delete the rows of an execution."""
        ...

    def keep(self, execute: Execute, number: int) -> dict[str, object] | None:
        """What is to stay of an execution's rows when its events are dropped, as a tree of JSON; None: nothing.

        `apply` then gets a HistoryDropped that has it, after the other events or as the first, and makes the same rows.
        """
        ...


ProjectorFactory = Callable[[str], Projector]
"""Makes a projector whose tables begin with a prefix: "" for the live ones. A backend is handed these."""

Execute = Callable[[str, Sequence[object]], "Rows"]
"""Run one constant statement with its parameters inside the events' transaction."""


class Rows(Protocol):
    """What a statement returned."""

    @property
    def rowcount(self) -> int:
        """Rows that the statement changed."""
        ...

    def fetchone(self) -> tuple[object, ...] | None:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[tuple[object, ...]]:
        """All the rows left."""
        ...
