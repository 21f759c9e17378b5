"""Group commit: threads that append while another commits join its next transaction. No writer thread, no hand-off alone.

The first to come leads. Who comes meanwhile sleeps on a lock of its own and is woken once: with its result, or to lead the
next group. A group is frozen before BEGIN and holds one member a stream, all of one durability level (docs/decisions/0008).

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
from typing import Protocol

from kitaru.domain.errors import KitaruBackendError, KitaruError, KitaruUsageError
from kitaru.store.log import OutcomeUnknown
from kitaru.store.sqlite import forks, schema
from kitaru.store.sqlite.connection import database_path, open_writer, place_of
from kitaru.store.sqlite.failures import is_known_not_committed, is_of_one_member, is_of_the_disk, typed
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


class Riding(Protocol):
    """What goes along in a transaction of others, and is no reason for them to fail."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        ...

    def ride(self, connection: sqlite3.Connection) -> bool:
        """Write some of what waits; whether there was anything. Raises when the transaction is gone with it."""
        ...


class GroupCommit:
    """The one writer of a process and store: its persistent connection and the queue for it."""

    def __init__(self, folder: str, lock: WriteLock, connection: sqlite3.Connection, *, timeout: float) -> None:
        self._folder = folder
        self._lock = lock
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = connection
        self._path = database_path(folder)
        self._place = place_of(self._path)
        self._is_full = True
        self._refusal: KitaruUsageError | None = None
        self._is_closed = False
        self._gate = threading.Lock()
        self._leader: Member | None = None
        self._queue: deque[Member] = deque()
        self.on_commit: Callable[[], None] | None = None
        self.lines: Riding | None = None
        forks.watch(self, database_path(folder))

    def commit(self, member: Member) -> None:
        """Write `member` with whoever else is waiting. Raises its refusal, KitaruBackendError, OutcomeUnknown."""
        if self._refusal is not None:
            raise self._refusal
        self._take_part(member)
        if member.error is not None:
            raise member.error

    def is_in_place(self) -> bool:
        """Whether the open file is still the one at its path. Asks for its entry only: opening it would drop locks."""
        try:
            return place_of(self._path) == self._place
        except OSError:
            return False

    def close(self) -> None:
        """Close the connection after the last commit; later ones are refused."""
        if self._refusal is None:
            self._refusal = KitaruUsageError(f"the store {self._folder} is closed; open it again", code="store-closed")
            self._take_part(_Closing("", is_outcome=False))
            forks.unwatch(self)

    def forget(self) -> None:
        """In a forked child: never touch the parent's connection, not even to close it."""
        self._refusal = forks.refusal(self._folder)
        if self._connection is not None:
            forks.keep(self._connection)
        self._connection = None
        self._lock.close()  # a copy that outlived the parent would keep its lock

    # --- leading and following -----------------------------------------------------------------------------------------

    def _take_part(self, member: Member) -> None:
        """Lead a group with `member` in it, or wait until another has led one. Survives an interrupt at any place."""
        group: list[Member] | None = None
        try:
            with self._gate:
                if self._leader is None:
                    self._leader = member
                    group = [member]
                else:
                    member.wake = threading.Lock()
                    member.wake.acquire()
                    member.deadline = time.monotonic() + self._timeout
                    self._queue.append(member)
            if group is not None:
                self._run(group, self._timeout)
            else:
                member.wake.acquire()  # pyright: ignore[reportOptionalMemberAccess]
                if member.is_leader:
                    with self._gate:
                        group = self._take_group(member.is_outcome)
                    self._run(group, max(0.0, member.deadline - time.monotonic()))
        except BaseException:
            self._leave(member, group or ())
            raise
        if group is not None:
            try:
                self._pass_on(member, group)
            except BaseException:
                self._leave(member, group)
                raise

    def _take_group(self, is_outcome: bool) -> list[Member]:
        """Freeze the next group: in the order of their coming, one member a stream, of one level; who closes comes alone."""
        group: list[Member] = []
        streams: set[str] = set()
        later: list[Member] = []
        while self._queue and len(group) < GROUP_LIMIT:
            member = self._queue.popleft()
            is_closing = isinstance(member, _Closing)
            if member.stream in streams or (is_closing and group) or (member.is_outcome is not is_outcome):
                later.append(member)
                if is_closing:
                    break
            else:
                streams.add(member.stream)
                group.append(member)
                if is_closing:
                    break
        self._queue.extendleft(reversed(later))
        return group

    def _pass_on(self, leader: Member, group: Sequence[Member]) -> None:
        """Wake the next leader first, then those who have their result."""
        with self._gate:
            if self._leader is leader:
                self._leader = self._next_leader(leader.is_outcome)
                if self._leader is not None:
                    self._leader.is_leader = True
            following = self._leader
        if following is not None:
            _wake(following)
        for member in group:
            if member is not leader:
                _wake(member)

    def _next_leader(self, after_outcomes: bool) -> Member | None:
        """The levels take turns, so that what needs no sync does not wait for the others', and neither starves the other."""
        for member in self._queue:
            if isinstance(member, _Closing):
                break
            if member.is_outcome is not after_outcomes:
                return member
        return self._queue[0] if self._queue else None

    def _leave(self, member: Member, group: Sequence[Member]) -> None:
        """After an interrupt: nobody may wait for this member, nor for the group that it led."""
        with self._gate:
            if member in self._queue:
                self._queue.remove(member)
            led = self._leader is member
        if led:
            _fail_unknown([other for other in group if other.error is None and other is not member], "it was interrupted")
            self._lock.release()
        self._pass_on(member, group)

    # --- one transaction -----------------------------------------------------------------------------------------------

    def _run(self, group: list[Member], timeout: float) -> None:
        if self._is_closed:
            _fail(group, self._refusal)
            return
        if isinstance(group[0], _Closing):
            self._is_closed = True
            self._discard()
            self._lock.close()
            return
        try:
            self._lock.acquire(timeout)
        except KitaruBackendError as error:
            _fail(group, error)
            return
        try:
            if not self._transact(group):
                for member in group:
                    self._transact([member], carries=False)
        except BaseException:
            self._discard()
            _fail_unknown(group, "it was interrupted")
            raise
        finally:
            self._lock.release()
        if self.on_commit is not None:
            self.on_commit()

    def _transact(self, group: list[Member], *, carries: bool = True) -> bool:
        """One transaction; False when somebody spoiled it for the others: each member is to be tried alone.

        `carries`: log lines go along.
        """
        connection = self._connection
        is_committing = has_lines = False
        try:
            if connection is None:
                connection = self._connection = open_writer(self._folder)
                self._place = place_of(self._path)
                self._is_full = True
            elif not self.is_in_place():
                # What is written to a removed file is gone with it; a moved one is another store by now.
                raise KitaruBackendError(
                    f"the store {self._folder} was removed, moved or replaced while open; put it back, or run again",
                    code="store-gone",
                )
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
            if carries and self.lines:
                has_lines = True
                self.lines.ride(connection)
            is_committing = True
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            return self._take_back(group, error, was_committing=is_committing, had_lines=has_lines)
        except Exception as error:
            self._roll_back()
            if len(group) > 1:
                _reset(group)
                return False
            if isinstance(error, (UnicodeEncodeError, OverflowError)):
                group[0].error = KitaruUsageError(f"the store cannot hold that: {error}")
            else:
                group[0].error = error
        return True

    def _take_back(self, group: list[Member], error: sqlite3.Error, *, was_committing: bool, had_lines: bool) -> bool:
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
        elif had_lines or (len(group) > 1 and is_in_transaction and is_of_one_member(error)):
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
    """When it leads, everybody before it is done."""

    __slots__ = ()


def _reset(group: Sequence[Member]) -> None:
    for member in group:
        member.is_dirty = False
        member.error = None


def _fail(group: Sequence[Member], failure: KitaruError | None) -> None:
    """Each gets an error of its own: they are raised in different threads."""
    assert failure is not None
    for member in group:
        if member.error is None or member.is_dirty:
            own = type(failure)(failure.message, code=failure.code)
            own.__cause__ = failure.__cause__
            member.error = own


def _fail_unknown(group: Sequence[Member], reason: str) -> None:
    for member in group:
        if member.error is None:
            member.error = OutcomeUnknown(f"the append may or may not be on disk ({reason})")


def _wake(member: Member) -> None:
    if member.wake is not None and member.wake.locked():
        with contextlib.suppress(RuntimeError):  # somebody else was faster
            member.wake.release()
