"""Durable sleeps and the clock: long ones cost no time and no thread, and no clock that jumps breaks an order."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kitaru import checkpoint, flow, sleep, sleep_async, wait
from kitaru.client import KitaruClient
from kitaru.domain.errors import KitaruStateError, KitaruUserCodeError
from kitaru.domain.events import WaitExpired, WaitOpened
from kitaru.runtime import operations, process, recovery
from kitaru.runtime.handle import FlowHandle
from kitaru.runtime.worker import Worker
from kitaru.store.log import EventLog
from kitaru.testing import FakeClock
from tests.runtime import scripts
from tests.runtime.crashing import PATIENCE, queue
from tests.runtime.records import events_of, of_type, types_of
from tests.runtime.waiting import answer, asked, gone_on, pending, until

DAY = 24 * 3600.0
MONTH = 30 * DAY
YEAR = 365 * DAY
ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_left(store: Path) -> Iterator[None]:
    ran.clear()
    yield
    process.stop_all()


@checkpoint
def step(x: int) -> int:
    ran.append(x)
    return x


@flow
def sleeps(seconds: float = MONTH) -> list[int]:
    first = step(1)
    sleep(seconds)
    return [first, step(2)]


def run_and_leave(log: EventLog, flow: Any, *, stay: float = 0.0, **inputs: Any) -> str:
    """Run it as a worker does, which stays for nothing."""
    exec_id = queue(log, flow, **inputs)
    runner = recovery.take_over(log, exec_id, flow, stay_seconds=stay)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    until(log, lambda: not process.is_here(log.location, exec_id))
    return exec_id


def test_a_sleep_is_waiting_without_a_wait_to_answer(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    assert FlowHandle(log, exec_id, sleeps, None).status == "waiting"
    with pytest.raises(KitaruStateError, match="none"):
        answer(log, exec_id, "sleep")


def test_a_sleep_of_30_days_costs_no_time(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    clock.advance(MONTH)
    assert gone_on(log, sleeps, exec_id) == [1, 2]
    assert ran == [1, 2]


def test_a_sleep_survives_restarts(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    for _ in range(29):
        clock.advance(DAY)
        assert not recovery.is_lost(log, log.head(exec_id))
    clock.advance(DAY)
    assert recovery.is_lost(log, log.head(exec_id))
    assert gone_on(log, sleeps, exec_id) == [1, 2]
    assert types_of(log, exec_id).count("WaitOpened") == 1


def test_one_microsecond_before_its_time_a_sleeper_is_not_due(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    clock.advance(MONTH - 1e-6)
    with pytest.raises(KitaruStateError, match="not due"):
        recovery.take_over(log, exec_id, sleeps)
    clock.advance(1e-6)
    assert gone_on(log, sleeps, exec_id) == [1, 2]


def test_a_live_sleeper_goes_on_when_its_time_has_come(log: EventLog, clock: FakeClock) -> None:
    handle = sleeps.run()
    asked(log, handle, "sleep")
    clock.advance(MONTH)
    assert handle.wait(PATIENCE) == [1, 2]


def test_a_short_sleep_takes_its_time() -> None:
    import time

    before = time.monotonic()
    assert sleeps.run(0.05).wait(PATIENCE) == [1, 2]
    assert time.monotonic() - before >= 0.05


@pytest.mark.parametrize("seconds", [0, 0.0, timedelta(0)])
def test_a_sleep_of_nothing_is_over_at_once(log: EventLog, seconds: Any) -> None:
    @flow
    def naps() -> int:
        sleep(seconds)
        return 1

    assert gone_on(log, naps, queue(log, naps)) == 1


def test_a_sleep_takes_a_timedelta(log: EventLog, clock: FakeClock) -> None:
    @flow
    def naps() -> int:
        sleep(timedelta(days=1))
        return 1

    exec_id = run_and_leave(log, naps)
    (opened,) = of_type(log, exec_id, WaitOpened)
    assert opened.expires_at == opened.at + 24 * 3600 * 1_000_000


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e300, "long", None, timedelta(seconds=-1)], ids=repr)
def test_a_time_that_is_none_is_refused(log: EventLog, seconds: Any) -> None:
    @flow
    def naps() -> None:
        sleep(seconds)

    with pytest.raises(KitaruUserCodeError, match="time to sleep"):
        naps.run().wait(PATIENCE)


def test_a_due_sleeper_goes_on_by_handle_wait(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    handle = FlowHandle(log, exec_id, sleeps, None)
    clock.advance(MONTH)
    assert handle.wait(PATIENCE) == [1, 2]


def test_a_due_sleeper_goes_on_by_recover(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    assert recovery.lost_executions(log, "default") == []
    clock.advance(MONTH)
    assert recovery.lost_executions(log, "default") == [exec_id]
    (runner,) = recovery.recover(log, [exec_id])
    runner.join()
    assert FlowHandle(log, exec_id, sleeps, None).get() == [1, 2]


def test_a_due_sleeper_goes_on_by_resume(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    clock.advance(MONTH)
    runner = operations.resume(log, exec_id)
    assert runner is not None
    runner.join()
    assert FlowHandle(log, exec_id, sleeps, None).get() == [1, 2]


def test_a_due_sleeper_goes_on_by_a_worker(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    worker = Worker(log, "default")
    assert worker.turn() == 0
    clock.advance(MONTH)
    assert worker.turn() == 1
    until(log, lambda: log.head(exec_id).state.status == "completed")


def test_several_sleepers_are_due_each_at_its_own_time(log: EventLog, clock: FakeClock) -> None:
    ids = [run_and_leave(log, sleeps, seconds=days * DAY) for days in (3, 1, 2)]
    found = []
    for _ in range(3):
        clock.advance(DAY)
        lost = recovery.lost_executions(log, "default")
        found.append([ids.index(exec_id) for exec_id in lost])
        for exec_id in lost:
            gone_on(log, sleeps, exec_id)
    assert found == [[1], [2], [0]]


def test_branches_sleep_at_the_same_time(log: EventLog, clock: FakeClock) -> None:
    @flow
    async def branches() -> list[int]:
        async def nap(days: int) -> int:
            await sleep_async(days * DAY)
            ran.append(days)
            return days

        return list(await asyncio.gather(*(nap(days) for days in (3, 1, 2))))

    exec_id = run_and_leave(log, branches)
    assert sorted(pending(log, exec_id)) == ["1/sleep", "2/sleep", "3/sleep"]
    for days in (1, 2):
        clock.advance(DAY)
        runner = recovery.take_over(log, exec_id, branches, stay_seconds=0)
        assert runner is not None
        assert runner.done.wait(PATIENCE)
        assert len(pending(log, exec_id)) == 3 - days
    clock.advance(DAY)
    assert gone_on(log, branches, exec_id) == [3, 1, 2]


def test_a_sleeper_beside_a_wait_goes_on_alone(log: EventLog, clock: FakeClock) -> None:
    from kitaru import wait_async

    @flow
    async def both() -> list[Any]:
        async def nap() -> str:
            await sleep_async(DAY)
            ran.append("woke")
            return "slept"

        return list(await asyncio.gather(wait_async(schema=int, name="n"), nap()))

    exec_id = run_and_leave(log, both)
    clock.advance(DAY)
    runner = recovery.take_over(log, exec_id, both, stay_seconds=0)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    assert (ran, pending(log, exec_id)) == (["woke"], ["1/n"])
    answer(log, exec_id, "n", 5)
    assert gone_on(log, both, exec_id) == [5, "slept"]


def test_a_sleep_that_is_over_is_not_slept_again(log: EventLog, clock: FakeClock) -> None:
    @flow
    def fails_after() -> int:
        sleep(DAY)
        if not ran:
            ran.append(1)
            raise ValueError
        return 1

    exec_id = run_and_leave(log, fails_after)
    clock.advance(DAY)
    with pytest.raises(KitaruUserCodeError):
        gone_on(log, fails_after, exec_id)
    runner = operations.retry(log, exec_id, flow=fails_after)
    assert runner is not None
    runner.join()
    assert types_of(log, exec_id).count("WaitOpened") == 1
    assert FlowHandle(log, exec_id, fails_after, None).get() == 1


def test_a_sleeper_is_cancelled_at_once(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    operations.cancel(log, exec_id)
    assert log.head(exec_id).state.status == "cancelled"
    clock.advance(MONTH)
    assert recovery.lost_executions(log, "default") == []


def test_a_suspended_sleeper_has_no_thread(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    until(log, lambda: not [thread for thread in threading.enumerate() if exec_id[-6:] in thread.name])


# --- the clock jumps (R30) ---------------------------------------------------------------------------------------------


@flow
def jumps() -> list[Any]:
    first = step(1)
    second = wait(schema=int, name="n", timeout=0)
    sleep(3600)
    return [first, second, step(3)]


@pytest.mark.parametrize("jump", [10 * YEAR, -10 * YEAR, -1.0, 3600.0, -3600.0], ids=["+10y", "-10y", "-1s", "DST", "-DST"])
def test_a_clock_that_jumps_changes_no_result(log: EventLog, clock: FakeClock, jump: float) -> None:
    exec_id = run_and_leave(log, jumps)
    clock.advance(jump)
    answer(log, exec_id, "n", 2)
    runner = recovery.take_over(log, exec_id, jumps, stay_seconds=0)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    clock.advance(-jump)
    clock.advance(max(0.0, jump) + 3600)
    assert gone_on(log, jumps, exec_id) == [1, 2, 3]


@pytest.mark.parametrize("jump", [10 * YEAR, -10 * YEAR, -1.0], ids=["+10y", "-10y", "-1s"])
def test_a_clock_that_jumps_gives_no_negative_duration(log: EventLog, clock: FakeClock, store: Path, jump: float) -> None:
    exec_id = run_and_leave(log, jumps)
    clock.advance(jump)
    answer(log, exec_id, "n", 2)
    run = recovery.take_over(log, exec_id, jumps, stay_seconds=0)
    assert run is not None
    assert run.done.wait(PATIENCE)
    clock.advance(3600)
    gone_on(log, jumps, exec_id)
    with KitaruClient(store) as client:
        found = client.executions.get(exec_id)
        listed = client.executions.list()[0]
    assert found.duration is not None
    assert found.duration >= 0
    assert listed.duration == found.duration
    times = [(each.started_at, each.ended_at) for each in found.checkpoints or ()]
    times += [(each.entered_waiting_at, each.closed_at) for each in found.waits]
    assert all(begun <= ended for begun, ended in times if ended is not None)


def test_events_stand_in_the_order_in_which_they_happened_whatever_the_clock_says(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, jumps)
    clock.advance(-10 * YEAR)
    answer(log, exec_id, "n", 2)
    kinds = [type(event).__name__ for event in events_of(log, exec_id)]
    assert kinds == [
        "ExecutionStarted",
        "RunnerClaimed",
        "AttemptStarted",
        "CheckpointCompleted",
        "WaitOpened",
        "ExecutionSuspended",
        "WaitResolved",
    ]
    times = [event.at for event in events_of(log, exec_id)]
    assert times[-1] < times[0]


def test_a_clock_set_back_does_not_wake_a_sleeper(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps, seconds=60)
    clock.advance(-10 * YEAR)
    assert not recovery.is_lost(log, log.head(exec_id))
    clock.advance(10 * YEAR + 60)
    assert gone_on(log, sleeps, exec_id) == [1, 2]


def test_a_clock_set_forward_makes_a_sleeper_due(log: EventLog, clock: FakeClock) -> None:
    exec_id = run_and_leave(log, sleeps)
    clock.advance(10 * YEAR)
    assert gone_on(log, sleeps, exec_id) == [1, 2]
    (expired,) = of_type(log, exec_id, WaitExpired)
    assert expired.at == clock.now()


# --- processes that come and go ---------------------------------------------------------------------------------------

SLEEPER = """
    @checkpoint
    def step(x):
        note(f"step {x}")
        return x

    @flow
    def sleeps():
        first = step(1)
        kitaru.sleep(30 * 24 * 3600)
        return [first, step(2)]

    if __name__ == "__main__":
        print(sleeps.run().wait())
    """
LATER = """
    import sys
    from kitaru.compose import open_log
    from kitaru.runtime import process
    from kitaru.runtime.clock import SystemClock, install
    from kitaru.runtime.worker import Worker
    from kitaru.settings import resolve_store

    class Later(SystemClock):
        def now(self):
            return super().now() + int(sys.argv[1]) * 24 * 3600 * 1_000_000

    install(Later())
    log = open_log(resolve_store())
    taken = Worker(log, "default").turn()
    process.join_all()
    (row,) = log.query("SELECT exec_id FROM executions")
    print(taken, log.head(row[0]).state.status)
    """
"""A process some days later: it takes what a worker takes, and says how many, and how it stands then."""


@pytest.mark.parametrize(("ended_by", "taken_at_once"), [(signal.SIGINT, 0), (signal.SIGKILL, 1)])
def test_a_sleep_of_30_days_survives_processes_that_come_and_go(
    log: EventLog, store: Path, tmp_path: Path, ended_by: signal.Signals, taken_at_once: int
) -> None:
    later = scripts.write(tmp_path / "elsewhere" / "later.py", LATER, head=False)
    first = scripts.start(scripts.write(tmp_path / "code" / "long_sleeper.py", SLEEPER), store)
    try:
        until(log, lambda: log.query("SELECT kind FROM pending_waits") == [("timer",)], "the sleep")
        first.send_signal(ended_by)
        first.communicate(timeout=PATIENCE)
    finally:
        first.kill()
    said = []
    for days in (15, 15, 29, 31, 32):
        ran = scripts.run(later, store, str(days))
        assert ran.returncode == 0, ran.stderr
        said.append(ran.stdout.strip())
    assert said == [f"{taken_at_once} waiting", "0 waiting", "0 waiting", "1 completed", "0 completed"]
    assert scripts.ledger(store) == ["step 1", "step 2"]
