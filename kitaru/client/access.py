"""How the client reaches a store: read-only as long as nothing is written, opened for writing by the first command."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kitaru import compose
from kitaru.domain.errors import KitaruBackendError, KitaruNotFoundError, KitaruUsageError
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES

if TYPE_CHECKING:
    from kitaru.domain.payload import Payload
    from kitaru.settings import StoreChoice
    from kitaru.store.leases import FileLeases
    from kitaru.store.log import EventLog
    from kitaru.store.read import Reader

_SHOWN_CANDIDATES = 10


class Access:
    """One store and one project in it."""

    def __init__(self, choice: StoreChoice, project: str) -> None:
        self.choice = choice
        self.project = project
        self._reader: Reader | None = None
        self._leases: FileLeases | None = None
        self._opening = threading.Lock()

    def find_reader(self) -> Reader | None:
        """The store's reader, or None when nothing was ever written there. Raises KitaruBackendError."""
        with self._opening:
            if self._reader is not None and not self._reader.is_in_place():
                self._reader.close()  # the store was removed; there may be another one by now
                self._reader = None
            if self._reader is None and compose.store_exists(self.choice):
                try:
                    self._reader = compose.open_reader(self.choice)
                    compose.make_current(self.choice, self._reader)
                except KitaruBackendError as error:
                    if error.code != "store-absent":
                        raise  # absent: another process is just making it, and has committed nothing
            return self._reader

    def reader(self, wanted: str) -> Reader:
        """The store's reader. Raises KitaruNotFoundError for what is `wanted` when nothing was ever written there."""
        found = self.find_reader()
        if found is None:
            raise self.not_found(wanted)
        return found

    @contextmanager
    def snapshot(self) -> Generator[Reader | None, None, None]:
        """One moment of the store."""
        reader = self.find_reader()
        if reader is None:
            yield None
        else:
            with reader.snapshot() as moment:
                yield moment

    def log(self) -> EventLog:
        """The event log, for commands."""
        return compose.open_log(self.choice)

    def is_alive(self, runner: str | None) -> bool:
        """Whether the process behind a runner id lives."""
        if runner is None:
            return False
        if self._leases is None:
            self._leases = compose.open_leases(self.choice)
        return self._leases.is_alive(runner)

    def resolve(self, text: str) -> str:
        """The execution id that begins with `text`. Raises KitaruNotFoundError, and KitaruUsageError when ambiguous."""
        if not isinstance(text, str) or not text.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise KitaruUsageError(f"{text!r} is no execution id; see: kitaru executions list")
        prefix = text.strip().lower()
        reader = self.reader(f"execution {text!r}")
        found = reader.find_ids(prefix, _SHOWN_CANDIDATES + 1) if _is_text(prefix) else []
        if not found:
            raise self.not_found(f"execution {text!r}")
        if len(found) > 1 and prefix not in found:
            more = " …" if len(found) > _SHOWN_CANDIDATES else ""
            candidates = ", ".join(found[:_SHOWN_CANDIDATES])
            raise KitaruUsageError(
                f"{text!r} begins several executions: {candidates}{more}; type more of the id; see: kitaru executions list",
                code="ambiguous-id",
            )
        return prefix if prefix in found else found[0]

    def not_found(self, wanted: str) -> KitaruNotFoundError:
        """The error for what is not there, naming the store and why it is this one."""
        return KitaruNotFoundError(
            f"no {wanted} in the store {self.choice.location} ({self.choice.why}); see: kitaru executions list"
        )

    def load(self, payload: Payload) -> bytes | None:
        """A payload's bytes, or None when they were erased."""
        if payload.data is not None or payload.size <= INLINE_PAYLOAD_BYTES:
            return payload.data
        try:
            return self.reader("value").load(payload)
        except KitaruNotFoundError:
            return None

    def close(self) -> None:
        """Close what this client opened; the process's event log stays."""
        with self._opening:
            if self._reader is not None:
                self._reader.close()
                self._reader = None


def _is_text(text: str) -> bool:
    """Whether SQLite takes it: no NUL, no lone surrogate."""
    return "\0" not in text and text.isprintable()
