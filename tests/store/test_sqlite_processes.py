"""Several processes on one store: creating it, queueing, forking, waking; and no file of it opened past SQLite."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from kitaru.domain.errors import KitaruBackendError, KitaruUsageError
from kitaru.store.leases import FileLeases
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.testing import append, call, completed, start
from kitaru.testing.counts import EventCounts

Spawn = Callable[..., Any]

_HEADER = """
import sys, os, time
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.testing import append, call, completed, start
from kitaru.testing.counts import EventCounts
from kitaru.testing.counts import EventCounts
"""


def _say(child: Any, text: str = "go") -> None:
    child.stdin.write(text + "\n")
    child.stdin.flush()


def test_processes_that_create_one_store_at_once_all_succeed(folder: str, spawn: Spawn) -> None:
    code = (
        _HEADER
        + "sys.stdin.readline(); log = SQLiteLog(sys.argv[1], (EventCounts,)); start(log); print(log.store_id); log.close()"
    )
    children = [spawn(code, folder) for _ in range(6)]
    for child in children:
        _say(child)
    results = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0] * 6, results
    assert len({out for out, _ in results}) == 1
    log = SQLiteLog(folder, (EventCounts,))
    assert log.query("SELECT count(*) FROM event_counts") == [(6,)]
    log.close()


def test_writers_of_several_processes_lose_nothing(folder: str, spawn: Spawn) -> None:
    code = _HEADER + (
        "log = SQLiteLog(sys.argv[1]); head = start(log); print(head.exec_id, flush=True); sys.stdin.readline()\n"
        "for n in range(1, 51):\n"
        "    for event in call(n): head = append(log, head, event)\n"
        "log.close()"
    )
    children = [spawn(code, folder) for _ in range(4)]
    ids = [child.stdout.readline().strip() for child in children]
    for child in children:
        _say(child)
    results = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0] * 4, results
    log = SQLiteLog(folder)
    assert [[r.version for r in log.read(exec_id)] for exec_id in ids] == [list(range(1, 103))] * 4
    log.close()


def test_a_process_that_is_stopped_with_the_lock_does_not_hang_the_others(folder: str, spawn: Spawn) -> None:
    log = SQLiteLog(folder, lock_seconds=0.3)
    head = start(log)
    holder = spawn(
        "import fcntl, os, sys, time; fd = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.readline()",
        folder + "/write.lock",
    )
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGSTOP)
    for _ in range(2):
        before = time.monotonic()
        with pytest.raises(KitaruBackendError) as caught:
            append(log, head, *call(1))
        assert caught.value.code == "store-busy"
        assert time.monotonic() - before < 5
    os.kill(holder.pid, signal.SIGCONT)
    _say(holder)
    holder.wait(30)
    assert append(log, head, *call(1)).version == 4
    log.close()


def test_a_lock_that_comes_too_late_is_given_back(folder: str, spawn: Spawn) -> None:
    """The helper that went on waiting gets the lock in the end, and nobody waits for it."""
    log = SQLiteLog(folder, lock_seconds=0.2)
    head = start(log)
    holder = spawn(
        "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.readline()",
        folder + "/write.lock",
    )
    holder.stdout.readline()
    with pytest.raises(KitaruBackendError):
        append(log, head, *call(1))
    _say(holder)
    holder.wait(30)
    other = spawn(_HEADER + "log = SQLiteLog(sys.argv[1]); start(log); log.close()", folder)
    _, err = other.communicate(timeout=30)
    assert other.returncode == 0, err
    assert append(log, head, *call(1)).version == 4
    log.close()


def test_a_commit_of_another_process_wakes_who_waits(folder: str, spawn: Spawn) -> None:
    log = SQLiteLog(folder)
    child = spawn(
        _HEADER + "log = SQLiteLog(sys.argv[1]); print('open', flush=True); sys.stdin.readline(); start(log); log.close()",
        folder,
    )
    assert child.stdout.readline() == "open\n"
    token = log.changes.token()
    _say(child)
    assert log.changes.wait(token, 30) != token
    log.close()


def test_nobody_waits_and_no_thread_polls(folder: str) -> None:
    import threading

    log = SQLiteLog(folder)
    before = threading.active_count()
    log.changes.wait(log.changes.token(), 0.02)
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    log.close()


# --- forks -------------------------------------------------------------------------------------------------------------


def _in_child(act: Callable[[], bool]) -> bool:
    """What `act` says in a forked child, which then ends at once."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if act() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except KitaruUsageError as error:
        return error.code == "store-after-fork"
    return False


def test_a_forked_child_is_refused_in_everything(log: SQLiteLog) -> None:
    head = start(log)
    uses: list[Callable[[], object]] = [
        lambda: append(log, head, *call(1)),
        lambda: start(log),
        lambda: log.head(head.exec_id),
        lambda: log.read(head.exec_id),
        lambda: log.tail(),
        lambda: log.delete(head.exec_id),
        lambda: log.changes.token(),
        lambda: log.changes.wait(0, 0),
        lambda: log.query("SELECT 1"),
        lambda: SQLiteLog(log.location),
    ]
    assert [_in_child(lambda use=use: _refused(use)) for use in uses] == [True] * len(uses)
    assert append(log, head, *call(1)).version == 4


def test_closing_in_a_forked_child_closes_nothing_of_the_parents(log: SQLiteLog) -> None:
    head = start(log)

    def close() -> bool:
        log.close()
        return True

    assert _in_child(close)
    assert append(log, head, *call(1)).version == 4
    assert [r.version for r in log.read(head.exec_id)] == [1, 2, 3, 4]


def test_a_child_that_ends_as_a_program_does_takes_nothing_along(folder: str, spawn: Spawn) -> None:
    """Its interpreter clears everything: a connection collected there would checkpoint and unlock."""
    child = spawn(
        _HEADER + "import gc, warnings\n"
        "log = SQLiteLog(sys.argv[1]); head = start(log); runner = log.leases.acquire()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    del log, head; gc.collect(); sys.exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), runner, head.exec_id, flush=True)\n"
        "sys.stdin.readline(); append(log, head, *call(1)); log.close()",
        folder,
    )
    code, runner, exec_id = child.stdout.readline().split()
    assert code == "0"
    assert FileLeases(folder).is_alive(runner)
    other = SQLiteLog(folder)
    other.close()  # not the last one: the parent's locks are still there, so the WAL stays
    assert os.path.getsize(folder + "/kitaru.db-wal") > 0
    _say(child)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    log = SQLiteLog(folder)
    assert log.head(exec_id).version == 4
    log.close()


def test_a_child_that_ends_in_the_middle_of_a_transaction_takes_nothing_back(folder: str, spawn: Spawn) -> None:
    """Its interpreter clears everything. A connection closed there would roll back what its parent has half written:
    the pages that are in the WAL already would be struck from the index that all processes share.
    """
    child = spawn(
        _HEADER + "from kitaru.store.sqlite.members import Append\n"
        "from kitaru.testing import fold, new_id\n"
        "class Forks(Append):\n"
        "    def write(self, connection):\n"
        "        connection.execute('PRAGMA cache_size = 10')\n"
        "        super().write(connection)\n"
        "        pid = os.fork()\n"
        "        if pid == 0: sys.exit(0)\n"
        "        os.waitpid(pid, 0)\n"
        "log = SQLiteLog(sys.argv[1]); head = start(log); events = (completed(os.urandom(1_000_000)),)\n"
        "log.writer.commit(Forks(head, events, fold(head.state, events), [new_id()], ()))\n"
        "print(head.exec_id); log.close()",
        folder,
    )
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    log = SQLiteLog(folder)
    (*_, last) = log.read(out.strip())
    assert len(log.load(last.event.output)) == 1_000_000  # type: ignore[attr-defined]
    log.close()


def test_a_child_may_use_a_store_that_was_closed_before_the_fork(folder: str) -> None:
    log = SQLiteLog(folder)
    log.close()

    def use() -> bool:
        mine = SQLiteLog(folder)
        start(mine)
        mine.close()
        return True

    assert _in_child(use)


def test_a_child_does_not_keep_the_write_lock_of_a_parent_that_died(folder: str, spawn: Spawn) -> None:
    parent = spawn(
        _HEADER + "import fcntl\n"
        "log = SQLiteLog(sys.argv[1]); log.writer._lock.acquire(1)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    print('forked', flush=True); time.sleep(60); os._exit(0)\n"
        "print(pid, flush=True); time.sleep(60)",
        folder,
    )
    said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
    child = int((said - {"forked"}).pop())
    parent.kill()
    parent.wait()
    try:
        log = SQLiteLog(folder, lock_seconds=5)
        start(log)
        log.close()
    finally:
        os.kill(child, signal.SIGKILL)


# --- one SQLite library ------------------------------------------------------------------------------------------------


def test_no_file_of_the_store_is_opened_past_sqlite(folder: str, spawn: Spawn) -> None:
    """A plain open and close drops every lock that the process has on the file."""
    child = spawn(
        "import sys, os\n"
        "opened = []\n"
        "def hook(name, args):\n"
        "    if name == 'open' and isinstance(args[0], str) and 'kitaru.db' in args[0]: opened.append(args)\n"
        "sys.addaudithook(hook)\n" + _HEADER + "from kitaru.store.sqlite.backup import backup\n"
        "from kitaru.store.sqlite.verify import verify\n"
        "from kitaru.store.read import open_store\n"
        "SQLiteLog(sys.argv[1], (EventCounts,)).close()\n"
        "opened.clear()  # the first one made the file\n"
        "log = SQLiteLog(sys.argv[1], (EventCounts,)); again = SQLiteLog(sys.argv[1], (EventCounts,))\n"
        "head = append(log, start(log), *call(1, b'x' * 50_000), completed())\n"
        "list(log.read(head.exec_id)); log.tail(); log.rebuild(); log.leases.acquire()\n"
        "log.changes.wait(log.changes.token(), 0.02)\n"
        "assert verify(sys.argv[1], (EventCounts,)).is_whole\n"
        "backup(sys.argv[1], sys.argv[1] + '-copy'); opened = [o for o in opened if '-copy' not in o[0]]\n"
        "reader = open_store(sys.argv[1]); reader.find_ids(''); reader.close()\n"
        "log.erase(head.exec_id, 'me', 9); log.delete(head.exec_id); log.close(); again.close()\n"
        "print([o for o in opened if not o[2] & os.O_EXCL])",
        folder,
    )
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (0, "[]\n"), err


def test_two_logs_in_a_process_and_another_process_keep_each_others_commits(folder: str, spawn: Spawn) -> None:
    first, second = SQLiteLog(folder), SQLiteLog(folder)
    head = start(first)
    second.close()  # closes descriptors of the same file in this process
    child = spawn(_HEADER + "log = SQLiteLog(sys.argv[1]); print(start(log).exec_id); log.close()", folder)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    head = append(first, head, *call(1), completed())
    assert first.head(out.strip()).version == 2
    assert first.head(head.exec_id).version == 5
    first.close()
