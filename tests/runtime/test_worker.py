"""Workers: what they take and leave, how many at once, and how they go. The command's own tests are tests/cli's."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow, sleep, wait, wait_async
from kitaru.domain.commands import Cancel, Retry
from kitaru.domain.events import ExecutionSuspended, RunnerClaimed
from kitaru.runtime import process, trust
from kitaru.runtime.flow import Flow
from kitaru.runtime.worker import Worker
from kitaru.store.log import EventLog
from kitaru.testing import FakeClock
from tests.runtime import scripts
from tests.runtime.crashing import PATIENCE, copy_of
from tests.runtime.records import events_of, of_type, types_of
from tests.runtime.targets import recorded_in, source
from tests.runtime.waiting import answer, pending, state_of, until

ran: list[Any] = []
gate = threading.Event()
at_once: list[int] = []
guard = threading.Lock()


@pytest.fixture(autouse=True)
def nothing_ran(store: Path) -> Iterator[None]:
    ran.clear()
    at_once.clear()
    gate.clear()
    yield
    gate.set()
    process.stop_all()


@checkpoint
def step(x: Any) -> Any:
    ran.append(x)
    return x


@checkpoint
def held(x: Any) -> Any:
    with guard:
        at_once.append((at_once[-1] if at_once else 0) + 1)
    gate.wait(PATIENCE)
    with guard:
        at_once.append(at_once[-1] - 1)
    ran.append(x)
    return x


@flow
def simple(x: int = 1) -> list[int]:
    return [step(x), step(x + 1)]


@flow
def asks() -> list[int]:
    return [step(0), wait(schema=int, name="n"), step(2)]


@flow
def sleeps() -> list[int]:
    first = step(1)
    sleep(3600)
    return [first, step(2)]


@flow
def holds(x: int = 1) -> list[int]:
    return [held(x), step(-x)]


@flow
def fails() -> None:
    raise ValueError("no")


@flow
async def two_branches() -> list[int]:
    async def asked(name: str) -> int:
        return await step.submit(await wait_async(schema=int, name=name))

    return list(await asyncio.gather(asked("a"), asked("b")))


def queued(log: EventLog, tried: Flow[..., Any], **inputs: Any) -> str:
    """As `run(stack="worker")` leaves it."""
    handle = tried.run(stack="worker", **inputs)
    assert state_of(log, handle.exec_id).runner is None
    return handle.exec_id


def turned(worker: Worker) -> int:
    """One look, and what it took run to its end, or to where it leaves."""
    taken = worker.turn()
    process.join_all()
    return taken


def waiting(log: EventLog) -> str:
    exec_id = queued(log, asks)
    assert turned(Worker(log, "default")) == 1
    return exec_id


def status(log: EventLog, exec_id: str) -> str:
    return str(state_of(log, exec_id).status)


@contextmanager
def working(worker: Worker) -> Iterator[threading.Thread]:
    """The worker in a thread, until the block ends."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield thread
    finally:
        worker.stop()
        gate.set()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the worker hangs"


# --- what it takes, and what it leaves -------------------------------------------------------------------------------


def answered(log: EventLog) -> str:
    exec_id = waiting(log)
    answer(log, exec_id, "n", 1)
    return exec_id


def due(log: EventLog, clock: FakeClock) -> str:
    exec_id = queued(log, sleeps)
    assert turned(Worker(log, "default")) == 1
    clock.advance(3600)
    return exec_id


def of_a_dead_process(log: EventLog) -> str:
    """Its first step is recorded, its runner's id is of a process that is no more."""
    done = queued(log, simple)
    turned(Worker(log, "default"))
    return copy_of(log, events_of(log, done)[:4])


def retried(log: EventLog) -> str:
    exec_id = queued(log, fails)
    turned(Worker(log, "default"))
    log.execute(exec_id, Retry("me", None), 1)
    return exec_id


def stopped(log: EventLog) -> str:
    """Suspended by Ctrl-C, between two steps."""
    done = queued(log, simple)
    turned(Worker(log, "default"))
    return copy_of(log, [*events_of(log, done)[:4], ExecutionSuspended(at=1)])


TAKEN: dict[str, Callable[..., str]] = {
    "queued": lambda log, clock: queued(log, simple),
    "answered": lambda log, clock: answered(log),
    "a due timer": due,
    "a dead runner": lambda log, clock: of_a_dead_process(log),
    "stopped": lambda log, clock: stopped(log),
    "retried for a worker": lambda log, clock: retried(log),
}


@pytest.mark.parametrize("what", TAKEN)
def test_a_worker_takes_it_once_and_it_ends(log: EventLog, clock: FakeClock, what: str) -> None:
    exec_id = TAKEN[what](log, clock)
    ran.clear()
    worker = Worker(log, "default")
    assert turned(worker) == 1
    assert status(log, exec_id) == ("failed" if what == "retried for a worker" else "completed")
    assert len(ran) == {"queued": 2, "retried for a worker": 0}.get(what, 1)
    assert turned(worker) == 0


def cancelled(log: EventLog) -> str:
    exec_id = waiting(log)
    log.execute(exec_id, Cancel("me", None), 1)
    return exec_id


def undue(log: EventLog) -> str:
    exec_id = queued(log, sleeps)
    turned(Worker(log, "default"))
    return exec_id


def of_another_project(log: EventLog) -> str:
    kitaru.configure(project="other")
    return queued(log, simple)


def live_here(log: EventLog) -> str:
    handle = holds.run()
    until(log, lambda: bool(at_once))
    return handle.exec_id


def ended(log: EventLog, tried: Flow[..., Any]) -> str:
    exec_id = queued(log, tried)
    turned(Worker(log, "default"))
    return exec_id


LEFT: dict[str, Callable[[EventLog], str]] = {
    "waits for input": waiting,
    "sleeps": undue,
    "completed": lambda log: ended(log, simple),
    "failed": lambda log: ended(log, fails),
    "cancelled": cancelled,
    "of another project": of_another_project,
    "run by this process": live_here,
}


@pytest.mark.parametrize("what", LEFT)
def test_a_worker_leaves_it_alone(log: EventLog, what: str) -> None:
    exec_id = LEFT[what](log)
    before = state_of(log, exec_id)
    assert Worker(log, "default").turn() == 0
    assert state_of(log, exec_id) == before


SLOW_ONCE = """
    @checkpoint
    def long():
        note("began")
        if os.path.getsize(LEDGER) == len("began\\n"):
            time.sleep(60)

    @flow
    def slow():
        long()

    if __name__ == "__main__":
        slow.run().wait()
    """


@pytest.mark.usefixtures("loaded_modules")
def test_what_another_process_runs_is_left_to_it_as_long_as_it_lives(
    log: EventLog, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    child = scripts.start(scripts.write(tmp_path / "code" / "slow_once.py", SLOW_ONCE), store)
    try:
        until(log, lambda: scripts.ledger(store) == ["began"])
        worker = Worker(log, "default")
        assert worker.turn() == 0
    finally:
        child.kill()
        child.communicate()
    assert turned(worker) == 1
    assert scripts.ledger(store) == ["began", "began"]
    assert [log.head(str(row[0])).state.status for row in log.query("SELECT exec_id FROM executions")] == ["completed"]


# --- how many at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_run_at_once_than_it_was_told(log: EventLog, most: int) -> None:
    ids = [queued(log, holds, x=number) for number in range(1, 6)]
    with working(Worker(log, "default", concurrency=most)):
        until(log, lambda: len(at_once) == most, "as many as allowed to run")
        time.sleep(0.2)
        assert len(at_once) == most
        gate.set()
        until(log, lambda: all(status(log, exec_id) == "completed" for exec_id in ids), "all of them")
    assert max(at_once) <= most
    assert sorted(ran) == sorted([*range(1, 6), *(-number for number in range(1, 6))])


def test_the_oldest_is_taken_first(log: EventLog) -> None:
    for number in range(1, 4):
        queued(log, simple, x=10 * number)
    worker = Worker(log, "default", concurrency=1)
    assert [turned(worker), turned(worker), turned(worker), turned(worker)] == [1, 1, 1, 0]
    assert ran == [10, 11, 20, 21, 30, 31]


@pytest.mark.parametrize(("tried", "names"), [(asks, ["n"]), (two_branches, ["1/a", "2/b"])], ids=["plain", "async"])
def test_a_wait_holds_no_place(log: EventLog, tried: Flow[..., Any], names: list[str]) -> None:
    """The wait says that a runner stays for ten minutes. A worker does not: with one place it takes the next."""
    ids = [queued(log, tried) for _ in range(3)]
    with working(Worker(log, "default", concurrency=1)):
        until(log, lambda: all(state_of(log, exec_id).runner is None for exec_id in ids) and pending(log, ids[-1]) == names)
        assert [pending(log, exec_id) for exec_id in ids] == [names] * 3
        assert [types_of(log, exec_id)[-1] for exec_id in ids] == ["ExecutionSuspended"] * 3


def test_a_branch_that_was_answered_goes_on_before_the_other_is(log: EventLog) -> None:
    exec_id = queued(log, two_branches)
    with working(Worker(log, "default", concurrency=1)):
        for number, name in enumerate(["2/b", "1/a"]):
            until(log, lambda: bool(pending(log, exec_id)) and state_of(log, exec_id).runner is None)
            answer(log, exec_id, name, number)
            until(log, lambda number=number: number in ran, f"what comes after {name}")
        until(log, lambda: status(log, exec_id) == "completed")
    assert ran == [0, 1]


def test_an_answer_wakes_a_worker_at_once(log: EventLog) -> None:
    exec_id = waiting(log)
    with working(Worker(log, "default")):
        time.sleep(0.3)  # its first look, at the beginning, was the last for a second
        answer(log, exec_id, "n", 1)
        answered_at = time.monotonic()
        until(log, lambda: status(log, exec_id) == "completed")
        took = time.monotonic() - answered_at
    assert took < 0.6  # a look every second would come after 0.7


# --- how it goes ------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_stopped_lets_the_step_end_and_another_goes_on(log: EventLog) -> None:
    ids = [queued(log, holds, x=number) for number in (1, 2, 3)]
    first = Worker(log, "default", concurrency=2)
    with working(first) as thread:
        until(log, lambda: len(at_once) == 2)
        first.stop()
        time.sleep(0.1)
        assert thread.is_alive(), "it left a step that runs"
        gate.set()
        thread.join(PATIENCE)
    assert sorted(ran) == [1, 2]
    assert [types_of(log, exec_id)[-2:] for exec_id in ids[:2]] == [["CheckpointCompleted", "ExecutionSuspended"]] * 2
    assert state_of(log, ids[2]).epoch == 0
    assert turned(Worker(log, "default")) == 3
    assert [status(log, exec_id) for exec_id in ids] == ["completed"] * 3
    assert sorted(ran) == [-3, -2, -1, 1, 2, 3]


def test_a_worker_that_was_stopped_takes_nothing(log: EventLog) -> None:
    exec_id = queued(log, simple)
    worker = Worker(log, "default")
    worker.stop()
    worker.run()
    assert (worker.turn(), state_of(log, exec_id).epoch) == (0, 0)


# --- what cannot be taken ---------------------------------------------------------------------------------------------

NOT_LOADABLE = {
    "no file": "",
    "a syntax error": "def",
    "an import that fails": "import there_is_no_such_module",
    "an exit": "raise SystemExit(3)",
    "no such flow": "x = 1",
    "a run without a guard": "from kitaru import flow\n@flow\ndef doubled(x): ...\ndoubled.run(1)",
}


@pytest.mark.usefixtures("loaded_modules")
@pytest.mark.parametrize("what", NOT_LOADABLE)
def test_what_cannot_be_loaded_stays_as_it_was_and_keeps_no_other_back(
    log: EventLog, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "code" / f"broken_{list(NOT_LOADABLE).index(what)}.py"
    loads = tmp_path / "loads"
    source(file, f"with open({str(loads)!r}, 'a') as file:\n    file.write('.')\n{NOT_LOADABLE[what]}\n")
    if what == "no file":
        file.unlink()
    trust.trust_tree(log.store_id, str(tmp_path / "code"))
    broken, good = recorded_in(log, file), queued(log, simple)
    before = state_of(log, broken)
    worker = Worker(log, "default")
    with caplog.at_level(logging.WARNING, "kitaru"):
        assert [turned(worker) for _ in range(5)] == [1, 0, 0, 0, 0]
    assert (state_of(log, broken), status(log, good)) == (before, "completed")
    assert [record.message[:11] for record in caplog.records] == ["cannot take"]
    assert not loads.exists() or loads.read_text() == "."


@pytest.mark.usefixtures("loaded_modules")
def test_what_could_not_be_loaded_is_tried_again_later_and_complained_of_once(
    log: EventLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "code" / "mended_later.py"
    trust.trust_tree(log.store_id, str(tmp_path))
    exec_id = recorded_in(log, file)
    worker = Worker(log, "default", refused_seconds=0)
    with caplog.at_level(logging.WARNING, "kitaru"):
        assert [turned(worker) for _ in range(3)] == [0, 0, 0]
    assert len(caplog.records) == 1
    source(file)
    assert (turned(worker), status(log, exec_id)) == (1, "completed")


def test_an_execution_that_makes_no_sense_does_not_end_the_worker(log: EventLog) -> None:
    """Its first event is there, and what follows is of a call that was never opened."""
    done = queued(log, simple)
    turned(Worker(log, "default"))
    begun = events_of(log, done)
    copy_of(log, [*begun[:2], begun[3]])
    good = queued(log, simple)
    assert turned(Worker(log, "default")) == 1
    assert status(log, good) == "completed"


def test_a_worker_with_nothing_to_do_asks_seldom(log: EventLog) -> None:
    """Two statements a look, one look a second, whatever waits: and one that is refused is not asked about again."""
    for _ in range(3):
        waiting(log)
    asked: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def query(self, sql: str, parameters: Any = ()) -> Any:
            asked.append(sql)
            return log.query(sql, parameters)

        def head(self, exec_id: str) -> Any:
            asked.append(exec_id)
            return log.head(exec_id)

    worker = Worker(Counting(), "default")  # type: ignore[arg-type]
    with working(worker):
        time.sleep(1.5)
        assert 2 <= len(asked) <= 6


# --- several, in processes of their own -------------------------------------------------------------------------------

FLOWS = """
    from pathlib import Path

    @checkpoint
    def first(n):
        note(f"first {n}")
        time.sleep(0.02)
        return n

    @checkpoint
    def held(n, folder):
        note(f"held {n}")
        Path(folder, f"began-{n}").touch()
        deadline = time.monotonic() + 30
        while not Path(folder, "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return n

    @checkpoint
    def second(n):
        note(f"second {n}")
        return n

    @flow
    def short(n):
        return first(n) + second(n)

    @flow
    def long(n, folder):
        return held(n, folder) + second(n)
    """
WORKER = """
    import logging, os, signal, sys
    import kitaru
    from kitaru.compose import open_log
    from kitaru.runtime.worker import Worker
    from kitaru.settings import resolve_store

    logging.basicConfig(level=logging.INFO)
    worker = Worker(open_log(resolve_store()), "default", concurrency=int(sys.argv[1]))

    def stop(*_):
        worker.stop()
        os.write(1, b"stopping\\n")

    signal.signal(signal.SIGTERM, stop)
    print("working", flush=True)
    worker.run()
    """


@pytest.fixture
def workers(store: Path, tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Starts a worker in a process of its own, with so many places."""
    script = scripts.write(tmp_path / "elsewhere" / "work.py", WORKER, head=False)
    started: list[subprocess.Popen[str]] = []

    def start(places: int) -> subprocess.Popen[str]:
        started.append(scripts.start(script, store, str(places)))
        out = started[-1].stdout
        assert out is not None
        assert out.readline() == "working\n"
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.communicate()


def of_file(name: str, tmp_path: Path) -> Flow[..., Any]:
    from kitaru.runtime import code

    return code.load_flow(f"{scripts.write(tmp_path / 'code' / 'of_workers.py', FLOWS)}:{name}")


@pytest.mark.usefixtures("loaded_modules")
def test_several_workers_on_one_file_run_each_body_once(
    log: EventLog, store: Path, tmp_path: Path, workers: Callable[[int], subprocess.Popen[str]]
) -> None:
    short = of_file("short", tmp_path)
    ids = [queued(log, short, n=number) for number in range(10)]
    running = [workers(2) for _ in range(3)]
    ids += [queued(log, short, n=number) for number in range(10, 20)]
    until(log, lambda: all(status(log, exec_id) == "completed" for exec_id in ids), "all of them")
    assert sorted(scripts.ledger(store)) == sorted(f"{step} {n}" for step in ("first", "second") for n in range(20))
    assert [len(of_type(log, exec_id, RunnerClaimed)) for exec_id in ids] == [1] * 20
    for child in running:
        child.terminate()
    assert [child.wait(PATIENCE) for child in running] == [0, 0, 0]


@pytest.mark.usefixtures("loaded_modules")
def test_sigterm_hands_what_runs_to_another_worker(
    log: EventLog, store: Path, tmp_path: Path, workers: Callable[[int], subprocess.Popen[str]]
) -> None:
    exec_id = queued(log, of_file("long", tmp_path), n=1, folder=str(tmp_path))
    old = workers(1)
    until(log, (tmp_path / "began-1").exists)
    workers(1)
    old.send_signal(signal.SIGTERM)
    assert old.stdout is not None
    assert old.stdout.readline() == "stopping\n"  # before that, what it runs may well come to its end
    (tmp_path / "go").touch()
    assert old.wait(PATIENCE) == 0
    until(log, lambda: status(log, exec_id) == "completed")
    assert scripts.ledger(store) == ["held 1", "second 1"]
    assert [claimed.epoch for claimed in of_type(log, exec_id, RunnerClaimed)] == [1, 2]


@pytest.mark.usefixtures("loaded_modules")
def test_what_a_killed_worker_ran_another_goes_on_with(
    log: EventLog, store: Path, tmp_path: Path, workers: Callable[[int], subprocess.Popen[str]]
) -> None:
    exec_id = queued(log, of_file("long", tmp_path), n=1, folder=str(tmp_path))
    killed = workers(1)
    until(log, (tmp_path / "began-1").exists)
    workers(1)
    (tmp_path / "go").touch()
    killed.kill()
    until(log, lambda: status(log, exec_id) == "completed")
    assert scripts.ledger(store)[-1] == "second 1"
    assert scripts.ledger(store).count("second 1") == 1
