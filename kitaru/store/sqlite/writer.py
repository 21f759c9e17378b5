"""Group commit: threads that append while another commits join its next transaction. No writer thread, no hand-off when alone.

The first to come leads. Who comes meanwhile sleeps on a lock of its own and is woken once: with its result, or to lead the
next group. A group is frozen before BEGIN, holds one member a stream, and is committed at its highest durability level.

Each member checks before it writes, so one that is refused has written nothing and fails alone, without a savepoint. Any
other error takes the transaction back for all of them.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from kitaru.domain.errors import KitaruBackendError, KitaruError, KitaruUsageError
from kitaru.store.log import OutcomeUnknown
from kitaru.store.sqlite import forks, schema
from kitaru.store.sqlite.connection import database_path, open_writer
from kitaru.store.sqlite.failures import is_known_not_committed, is_of_the_disk, typed
from kitaru.store.sqlite.write_lock import WriteLock

GROUP_LIMIT = 256
_FULL = "PRAGMA synchronous = FULL"
_NORMAL = "PRAGMA synchronous = NORMAL"


class Member:
    """One stream's write in a group. `write` sets `is_dirty` with its first change and refuses only before that."""

    __slots__ = ("deadline", "error", "is_dirty", "is_leader", "is_outcome", "stream", "wake")

    def __init__(self, stream: str, is_outcome: bool) -> None:
        self.stream = stream
        self.is_outcome = is_outcome
        self.is_dirty = False
        self.is_leader = False
        self.error: BaseException | None = None
        self.wake: threading.Lock | None = None
        self.deadline = 0.0

    def write(self, connection: sqlite3.Connection) -> None:
        """Check, then change; inside the group's transaction."""
        raise NotImplementedError


class GroupCommit:
    """The one writer of a process and store: its persistent connection and the queue for it."""

    def __init__(self, folder: str, lock: WriteLock, connection: sqlite3.Connection, *, timeout: float) -> None:
        self._folder = folder
        self._lock = lock
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = connection
        self._is_full = True
        self._refusal: KitaruError | None = None
        self._gate = threading.Lock()
        self._is_busy = False
        self._queue: deque[Member] = deque()
        self.on_commit: Callable[[], None] | None = None
        forks.watch(self, database_path(folder))

    def commit(self, member: Member) -> None:
        """Write `member` with whoever else is waiting. Raises what it was refused with, KitaruBackendError, OutcomeUnknown."""
        if self._refusal is not None:
            raise self._refusal
        with self._gate:
            leads = not self._is_busy
            if leads:
                self._is_busy = True
            else:
                member.wake = threading.Lock()
                member.wake.acquire()
                member.deadline = time.monotonic() + self._timeout
                self._queue.append(member)
        if leads:
            self._lead([member], self._timeout)
        else:
            self._follow(member)
        if member.error is not None:
            raise member.error

    def close(self) -> None:
        """Close the connection after the last commit; later ones are refused."""
        self._end(KitaruUsageError(f"the store {self._folder} is closed; open it again", code="store-closed"))

    def forget(self) -> None:
        """In a forked child: never touch the parent's connection, not even to close it."""
        self._refusal = forks.refusal(self._folder)
        if self._connection is not None:
            forks.keep(self._connection)
        forks.keep(self._lock)
        self._connection = None

    def _end(self, refusal: KitaruError) -> None:
        if self._refusal is None:
            closing = _Closing()
            with contextlib.suppress(KitaruBackendError):
                self.commit(closing)  # waits for its turn
            self._refusal = refusal
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._lock.close()
            forks.unwatch(self)

    # --- leading and following -----------------------------------------------------------------------------------------

    def _follow(self, member: Member) -> None:
        assert member.wake is not None
        try:
            member.wake.acquire()
        except BaseException:
            self._leave(member)
            raise
        if member.is_leader:
            with self._gate:
                group = self._take_group()
            self._lead(group, max(0.0, member.deadline - time.monotonic()))

    def _leave(self, member: Member) -> None:
        """An interrupted follower: whoever waits behind it must not wait for it."""
        with self._gate:
            if member in self._queue:
                self._queue.remove(member)
            following = self._next_leader() if member.is_leader else None
        if following is not None:
            following.release()

    def _take_group(self) -> list[Member]:
        group: list[Member] = []
        streams: set[str] = set()
        later: list[Member] = []
        while self._queue and len(group) < GROUP_LIMIT:
            member = self._queue.popleft()
            if member.stream in streams:
                later.append(member)
            else:
                streams.add(member.stream)
                group.append(member)
        self._queue.extendleft(reversed(later))
        return group

    def _lead(self, group: list[Member], timeout: float) -> None:
        leader = group[0]
        try:
            self._run(group, timeout)
        finally:
            with self._gate:
                following = self._next_leader()
            if following is not None:
                following.release()
            for member in group:
                if member is not leader and member.wake is not None:
                    member.wake.release()

    def _next_leader(self) -> threading.Lock | None:
        if not self._queue:
            self._is_busy = False
            return None
        self._queue[0].is_leader = True
        return self._queue[0].wake

    # --- one transaction -----------------------------------------------------------------------------------------------

    def _run(self, group: list[Member], timeout: float) -> None:
        try:
            self._lock.acquire(timeout)
        except KitaruBackendError as error:
            _fail(group, error)
            return
        try:
            if not self._transact(group):
                for member in group:
                    self._transact([member])
        except BaseException:
            self._discard()
            _fail_unknown(group, "it was interrupted")
            raise
        finally:
            self._lock.release()
        if self.on_commit is not None:
            self.on_commit()

    def _transact(self, group: list[Member]) -> bool:
        """One transaction; False when a member spoiled it for the others, which are to be tried one by one."""
        connection = self._connection
        is_committing = False
        try:
            if connection is None:
                connection = self._connection = open_writer(self._folder)
                self._is_full = True
            is_full = False
            for member in group:
                if member.is_outcome:
                    is_full = True
            if is_full is not self._is_full:
                connection.execute(_FULL if is_full else _NORMAL)
                self._is_full = is_full
            connection.execute("BEGIN IMMEDIATE")
            for member in group:
                try:
                    member.write(connection)
                except sqlite3.Error:
                    raise
                except Exception as error:
                    if member.is_dirty:
                        raise
                    member.error = error
            is_committing = True
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            return self._take_back(group, error, is_committing)
        except Exception as error:
            self._roll_back()
            if len(group) > 1:
                _reset(group)
                return False
            group[0].error = error
        return True

    def _take_back(self, group: list[Member], error: sqlite3.Error, was_committing: bool) -> bool:
        failure = typed(error, self._folder)
        failure.__cause__ = error
        is_in_transaction = self._connection is not None and self._connection.in_transaction
        is_unknown = was_committing and not is_known_not_committed(error)
        if is_in_transaction:
            self._roll_back()
        if is_unknown or not is_in_transaction or is_of_the_disk(error):
            self._discard()
        if is_unknown:
            _fail_unknown(group, str(error))
        elif len(group) > 1 and isinstance(error, sqlite3.IntegrityError):
            _reset(group)
            return False
        else:
            _fail(group, failure)
        return True

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute(schema.ROLLBACK)
            except sqlite3.Error:
                self._discard()

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class _Closing(Member):
    """Writes nothing: when it is done, everybody before it is."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("", is_outcome=False)

    def write(self, connection: sqlite3.Connection) -> None:
        pass


def _reset(group: Sequence[Member]) -> None:
    for member in group:
        member.is_dirty = False
        member.error = None


def _fail(group: Sequence[Member], failure: KitaruBackendError) -> None:
    """Each gets an error of its own: they are raised in different threads."""
    for member in group:
        if member.error is None or member.is_dirty:
            own = KitaruBackendError(failure.message, code=failure.code)
            own.__cause__ = failure.__cause__
            member.error = own


def _fail_unknown(group: Sequence[Member], reason: str) -> None:
    for member in group:
        if member.error is None:
            member.error = OutcomeUnknown(f"the append may or may not be on disk ({reason})")
