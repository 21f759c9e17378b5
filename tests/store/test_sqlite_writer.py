"""Group commit, and what an error does to a group."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kitaru.domain.commands import ChangeTags
from kitaru.domain.errors import KitaruBackendError, KitaruUsageError
from kitaru.domain.events import ArtifactSaved, EventBase
from kitaru.domain.payload import Payload
from kitaru.store.log import AppendConflict, Head, OutcomeUnknown
from kitaru.store.sqlite.connection import connect
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.store.sqlite.members import Append
from kitaru.store.sqlite.writer import Member
from kitaru.testing import append, call, completed, fold, new_id, start
from kitaru.testing.counts import EventCounts


class _Holding(Member):
    """Leads, and stays in its transaction until it is let go."""

    def __init__(self) -> None:
        super().__init__("holding", is_outcome=False)
        self.began = threading.Event()
        self.go_on = threading.Event()

    def write(self, connection: sqlite3.Connection) -> None:
        self.began.set()
        assert self.go_on.wait(30)


@contextmanager
def _held(log: SQLiteLog) -> Iterator[None]:
    """Until the block ends, whoever appends has to queue."""
    holding = _Holding()
    thread = threading.Thread(target=log.writer.commit, args=(holding,))
    thread.start()
    assert holding.began.wait(30)
    try:
        yield
    finally:
        holding.go_on.set()
        thread.join(30)


class _Results:
    """What each of several threads got."""

    def __init__(self) -> None:
        self.values: dict[int, object] = {}
        self._threads: list[threading.Thread] = []

    def run(self, log: SQLiteLog, act: Callable[[], object]) -> None:
        """Start a thread and wait until it stands in the queue."""
        place = len(self._threads)
        waiting = len(log.writer._queue)

        def target() -> None:
            try:
                self.values[place] = act()
            except BaseException as error:
                self.values[place] = error

        thread = threading.Thread(target=target)
        self._threads.append(thread)
        thread.start()
        _until(lambda: len(log.writer._queue) > waiting)

    def join(self) -> list[object]:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        return [self.values[place] for place in range(len(self._threads))]


def _until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _count(log: SQLiteLog, act: Callable[[], object], statement: str) -> int:
    seen: list[str] = []
    connection = log.writer._connection
    assert connection is not None
    connection.set_trace_callback(seen.append)
    act()
    connection.set_trace_callback(None)
    return seen.count(statement)


# --- groups ------------------------------------------------------------------------------------------------------------


def test_appends_that_wait_share_one_transaction(log: SQLiteLog) -> None:
    heads = [start(log) for _ in range(10)]
    results = _Results()

    def act() -> None:
        with _held(log):
            for head in heads:
                results.run(log, lambda head=head: append(log, head, *call(1)))
        results.join()

    assert _count(log, act, "COMMIT") == 2
    assert [log.head(head.exec_id).version for head in heads] == [4] * 10


def test_starts_share_it_too(log: SQLiteLog) -> None:
    results = _Results()

    def act() -> None:
        with _held(log):
            for _ in range(5):
                results.run(log, lambda: start(log))
        results.join()

    assert _count(log, act, "COMMIT") == 2
    assert sorted(log.head(exec_id).number for exec_id in log.find_ids("")) == [1, 2, 3, 4, 5]


def test_a_group_holds_one_batch_of_a_stream(log: SQLiteLog) -> None:
    one, other = start(log), start(log)
    results = _Results()

    def act() -> None:
        with _held(log):
            for name in ("a", "b"):
                results.run(log, lambda name=name: log.execute(one.exec_id, ChangeTags((name,), (), "me"), 2))
            results.run(log, lambda: append(log, other, *call(1)))
        results.join()

    assert _count(log, act, "COMMIT") == 3
    assert [r.event.add for r in log.read(one.exec_id, after=2)] == [("a",), ("b",)]  # type: ignore[attr-defined]


def test_what_needs_no_sync_does_not_wait_for_what_does(log: SQLiteLog) -> None:
    one, other = start(log), start(log)
    append(log, start(log), call(1)[0])
    results = _Results()

    def act() -> None:
        with _held(log):
            results.run(log, lambda: append(log, other, *call(1)))
            results.run(log, lambda: append(log, one, call(1)[0]))
        results.join()

    assert _count(log, act, "COMMIT") == 3
    assert log.writer._connection is not None


def test_one_who_conflicts_fails_alone(log: SQLiteLog) -> None:
    heads = [start(log) for _ in range(3)]
    append(log, heads[1], *call(1))
    results = _Results()
    with _held(log):
        for head in heads:
            results.run(log, lambda head=head: append(log, head, *call(1)))
    first, second, third = results.join()
    assert isinstance(first, Head)
    assert isinstance(second, AppendConflict)
    assert isinstance(third, Head)
    assert [log.head(head.exec_id).version for head in heads] == [4, 4, 4]


def test_one_who_spoils_the_transaction_fails_alone(folder: str) -> None:
    log = SQLiteLog(folder, (EventCounts,))
    heads = [start(log) for _ in range(3)]
    refused = ArtifactSaved(at=1, name="refuse", kind="blob", value=Payload.of(b"1", "k1"))
    results = _Results()
    with _held(log):
        for head, event in zip(heads, (call(1)[0], refused, call(1)[0]), strict=True):
            results.run(log, lambda head=head, event=event: append(log, head, event))
    assert [type(result) for result in results.join()] == [Head, RuntimeError, Head]
    assert log.query("SELECT events FROM event_counts ORDER BY number") == [(3,), (2,), (3,)]
    log.close()


def test_who_is_alone_commits_on_its_own_thread(log: SQLiteLog) -> None:
    class Where(Member):
        thread = 0

        def write(self, connection: sqlite3.Connection) -> None:
            self.thread = threading.get_ident()

    member, threads = Where("x", is_outcome=False), threading.active_count()
    log.writer.commit(member)
    assert (member.thread, threading.active_count()) == (threading.get_ident(), threads)


def test_who_waits_does_not_spin(log: SQLiteLog) -> None:
    results = _Results()
    heads = [start(log) for _ in range(64)]
    with _held(log):
        for head in heads:
            results.run(log, lambda head=head: append(log, head, *call(1)))
        used = time.process_time()
        time.sleep(0.3)
        used = time.process_time() - used
    results.join()
    assert used < 0.1


def test_an_interrupted_follower_stands_in_nobodys_way(log: SQLiteLog) -> None:
    heads = [start(log) for _ in range(3)]
    results = _Results()
    main = threading.get_ident()
    with _held(log):
        interrupting = threading.Thread(
            target=lambda: (
                _until(lambda: len(log.writer._queue) == 1),
                results.run(log, lambda: append(log, heads[1], *call(1))),
                signal.pthread_kill(main, signal.SIGINT),
            )
        )
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            append(log, heads[0], *call(1))
        interrupting.join()
    assert isinstance(results.join()[0], Head)
    assert append(log, heads[2], *call(1)).version == 4


def test_an_interrupted_leader_stands_in_nobodys_way(log: SQLiteLog) -> None:
    class Interrupted(Member):
        def write(self, connection: sqlite3.Connection) -> None:
            results.run(log, lambda: append(log, heads[0], *call(1)))
            raise KeyboardInterrupt

    heads = [start(log), start(log)]
    results = _Results()
    with pytest.raises(KeyboardInterrupt):
        log.writer.commit(Interrupted("x", is_outcome=False))
    assert isinstance(results.join()[0], Head)
    assert append(log, heads[1], *call(1)).version == 4


def test_closing_lets_those_before_it_finish_and_refuses_those_after_it(folder: str) -> None:
    log = SQLiteLog(folder)
    heads = [start(log), start(log)]
    results = _Results()
    with _held(log):
        results.run(log, lambda: append(log, heads[0], *call(1)))
        results.run(log, log.writer.close)
        with pytest.raises(KitaruUsageError):
            append(log, heads[1], *call(1))
    first, closed = results.join()
    assert isinstance(first, Head)
    assert closed is None
    log.close()


# --- errors ------------------------------------------------------------------------------------------------------------


class _Faulty(sqlite3.Connection):
    """Fails a COMMIT with `fault`, after having committed or not; `skips` come before it."""

    fault: int | None = None
    commits_first = False
    skips = 0

    def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.skips:
            self.skips -= 1
        elif sql == "COMMIT" and self.fault is not None:
            if self.commits_first:
                super().execute(sql)
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self.fault
            self.fault = None
            raise error
        return super().execute(sql, parameters)  # type: ignore[arg-type]


def _with_faulty_connection(log: SQLiteLog, fault: int, *, commits_first: bool) -> _Faulty:
    usual = log.writer._connection
    assert usual is not None
    usual.close()
    faulty = sqlite3.connect(f"{log.location}/kitaru.db", isolation_level=None, check_same_thread=False, factory=_Faulty)
    faulty.execute("PRAGMA foreign_keys = ON")
    faulty.fault, faulty.commits_first = fault, commits_first
    log.writer._connection = faulty
    return faulty


def _is_closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes  # noqa: B018
    except sqlite3.ProgrammingError:
        return True
    return False


@pytest.mark.parametrize("commits_first", [False, True])
def test_a_failed_sync_is_an_unknown_outcome_and_repeating_it_appends_once(log: SQLiteLog, commits_first: bool) -> None:
    head, ids = start(log), [new_id(), new_id()]
    faulty = _with_faulty_connection(log, sqlite3.SQLITE_IOERR_FSYNC, commits_first=commits_first)
    with pytest.raises(OutcomeUnknown):
        append(log, head, *call(1), ids=ids)
    assert _is_closed(faulty)
    assert append(log, head, *call(1), ids=ids).version == 4
    assert [r.version for r in log.read(head.exec_id)] == [1, 2, 3, 4]


@pytest.mark.parametrize("commits_first", [False, True])
def test_a_command_with_an_unknown_outcome_is_recorded_once(log: SQLiteLog, commits_first: bool) -> None:
    head = start(log)
    _with_faulty_connection(log, sqlite3.SQLITE_IOERR_FSYNC, commits_first=commits_first)
    after, events = log.execute(head.exec_id, ChangeTags(("t",), (), "me"), 2)
    assert (after.version, len(events)) == (3, 1)
    assert log.head(head.exec_id).version == 3


def test_a_start_with_an_unknown_outcome_starts_once(log: SQLiteLog) -> None:
    _with_faulty_connection(log, sqlite3.SQLITE_IOERR_FSYNC, commits_first=True)
    head = start(log)
    assert log.find_ids("") == [head.exec_id]
    assert log.head(head.exec_id) == head


@pytest.mark.parametrize("commits_first", [False, True])
def test_a_deletion_with_an_unknown_outcome_deletes_once(log: SQLiteLog, commits_first: bool) -> None:
    head = append(log, start(log), completed())
    _with_faulty_connection(log, sqlite3.SQLITE_IOERR_FSYNC, commits_first=commits_first)
    log.delete(head.exec_id)
    assert len(log.tombstones()) == 1


@pytest.mark.parametrize("commits_first", [False, True])
def test_every_member_of_a_group_learns_that_the_outcome_is_unknown(log: SQLiteLog, commits_first: bool) -> None:
    heads, ids = [start(log) for _ in range(3)], [new_id(), new_id()]
    _with_faulty_connection(log, sqlite3.SQLITE_IOERR_FSYNC, commits_first=commits_first).skips = 1
    results = _Results()
    with _held(log):
        for head in heads:
            results.run(log, lambda head=head: append(log, head, *call(1), ids=ids))
    assert [type(result) for result in results.join()] == [OutcomeUnknown] * 3
    assert [append(log, head, *call(1), ids=ids).version for head in heads] == [4] * 3
    assert [[r.version for r in log.read(head.exec_id)] for head in heads] == [[1, 2, 3, 4]] * 3


def test_a_commit_that_found_no_room_is_known_not_to_be_there(log: SQLiteLog) -> None:
    head = start(log)
    _with_faulty_connection(log, sqlite3.SQLITE_FULL, commits_first=False)
    with pytest.raises(KitaruBackendError) as caught:
        append(log, head, *call(1))
    assert caught.value.code == "disk-full"
    assert log.head(head.exec_id).version == 2
    assert append(log, head, *call(1)).version == 4


def test_a_store_without_room_refuses_all_of_a_group_keeps_reading_and_goes_on_when_there_is_room(log: SQLiteLog) -> None:
    heads = [start(log) for _ in range(3)]
    connection = log.writer._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    outputs = [b"1", b"x" * 40_000, b"1"]
    results = _Results()
    with _held(log):
        for head, output in zip(heads, outputs, strict=True):
            results.run(log, lambda head=head, output=output: append(log, head, *call(1, output)))
    got = results.join()
    assert [getattr(error, "code", None) for error in got] == ["disk-full"] * 3
    assert [[r.version for r in log.read(head.exec_id)] for head in heads] == [[1, 2]] * 3
    for head, output in zip(heads, outputs, strict=True):
        assert append(log, head, *call(1, output)).version == 4


def test_an_error_that_was_swallowed_inside_a_transaction_is_an_unknown_outcome(log: SQLiteLog) -> None:
    class EndsIt(Append):
        def write(self, connection: sqlite3.Connection) -> None:
            super().write(connection)
            connection.execute("ROLLBACK")

    head = start(log)
    events: tuple[EventBase, ...] = call(1)
    connection = log.writer._connection
    assert connection is not None
    with pytest.raises(OutcomeUnknown):
        log.writer.commit(EndsIt(head, events, fold(head.state, events), [new_id(), new_id()], ()))
    assert _is_closed(connection)
    assert append(log, head, *events).version == 4


def test_another_writer_in_the_way_is_busy_and_nothing_is_lost(log: SQLiteLog) -> None:
    head = start(log)
    assert log.writer._connection is not None
    log.writer._connection.execute("PRAGMA busy_timeout = 50")
    intruder = connect(log.location, "mode=rw")
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(KitaruBackendError) as caught:
        append(log, head, *call(1))
    intruder.close()
    assert caught.value.code == "store-busy"
    assert append(log, head, *call(1)).version == 4
