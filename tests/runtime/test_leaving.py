"""Runners that leave before the end: what was in flight is kept, nothing is recorded that did not happen, and it goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.commands import Claim
from kitaru.domain.errors import KitaruStateError
from kitaru.runtime import process, recovery
from kitaru.runtime.handle import FlowHandle
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE, queue, recovered
from tests.runtime.records import detail_of, ids_of, types_of

begun = threading.Event()
gate = threading.Event()
ran: list[Any] = []


@pytest.fixture(autouse=True)
def closed_gate() -> Iterator[None]:
    begun.clear()
    gate.clear()
    ran.clear()
    yield
    gate.set()


def stop(handle: FlowHandle[Any]) -> None:
    """Ask its runner to leave while it is where `begun` was set, then let everything go on."""
    assert begun.wait(PATIENCE)
    assert handle.exec_id in process.stop_all()
    gate.set()
    process.join_all()


def stopped_and_recovered(log: EventLog, handle: FlowHandle[Any], tried: Any) -> Any:
    stop(handle)
    assert (types_of(log, handle.exec_id)[-1], handle.status) == ("ExecutionSuspended", "running")
    return recovered(log, tried, handle.exec_id)


@checkpoint
def quick(x: int) -> int:
    ran.append(x)
    return x


@checkpoint
def slow(x: int) -> int:
    ran.append(x)
    begun.set()
    gate.wait(PATIENCE)
    kitaru.log(logged=x)
    return x


@checkpoint
async def aslow(x: int) -> int:
    ran.append(x)
    begun.set()
    while not gate.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    kitaru.log(logged=x)
    return x


@checkpoint
async def aquick(x: int) -> int:
    ran.append(x)
    await asyncio.sleep(0)
    return x


@flow
def sequence() -> list[int]:
    return [quick(1), slow(2), quick(3)]


@flow
def catches_all() -> list[int]:
    found = [slow(1)]
    for x in (2, 3):
        try:
            found.append(quick(x))
        except BaseException:
            found.append(0)
    return found


@flow
def many() -> list[int]:
    return slow.map(range(40)).result()


@flow
async def group() -> list[int]:
    async def two(x: int) -> int:
        return await aquick(await aslow(x))

    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(two(x)) for x in range(3)]
        made.append(tasks.create_task(late(3)))
    return [task.result() for task in made]


async def late(x: int) -> int:
    while not gate.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    kitaru.log(late=x)
    return await aquick(x)


@flow
async def gathers_exceptions() -> list[Any]:
    return list(await asyncio.gather(aslow(1), late(2), return_exceptions=True))


@flow
async def submits() -> list[int]:
    futures = aslow.map([1, 2])
    last = aquick.submit(futures[0])
    return [*(await futures), await last]


@flow
async def leaves_futures() -> int:
    aquick.submit(aslow.submit(1))
    return 5


@flow
async def async_catches_all() -> list[int]:
    found = []
    for call in (aslow, aquick, aquick):
        try:
            found.append(await call(len(found) + 1))
        except BaseException:
            found.append(0)
    return found


@flow
async def task_catches_all() -> list[int]:
    return list(await asyncio.gather(asyncio.create_task(async_catches_all.fn()), late(9), return_exceptions=True))


EVERY = [
    (async_catches_all, [1, 2, 3]),
    (task_catches_all, [[1, 2, 3], 9]),
    (sequence, [1, 2, 3]),
    (catches_all, [1, 2, 3]),
    (many, list(range(40))),
    (group, [0, 1, 2, 3]),
    (gathers_exceptions, [1, 2]),
    (submits, [1, 2, 1]),
    (leaves_futures, 5),
]
every_flow = pytest.mark.parametrize(("tried", "expected"), EVERY, ids=[tried.name for tried, _ in EVERY])


@every_flow
def test_a_stopped_execution_is_suspended_and_recovers_to_its_result(log: EventLog, tried: Any, expected: Any) -> None:
    assert stopped_and_recovered(log, tried.run(), tried) == expected


@every_flow
def test_what_was_in_flight_at_a_stop_is_finished_and_never_runs_again(log: EventLog, tried: Any, expected: Any) -> None:
    handle = tried.run()
    stopped_and_recovered(log, handle, tried)
    attempts = {call.invocation_id: len(call.attempts) for call in detail_of(log, handle.exec_id).calls.values()}
    assert set(attempts.values()) == {1}


def test_the_handle_of_a_stopped_execution_says_how_to_go_on() -> None:
    handle = sequence.run()
    stop(handle)
    with pytest.raises(KitaruStateError, match=f"kitaru recover {handle.exec_id}"):
        handle.wait(PATIENCE)


def test_after_a_stop_no_new_checkpoint_begins(log: EventLog) -> None:
    handle = sequence.run()
    stop(handle)
    assert (ran, ids_of(log, handle.exec_id)) == ([1, 2], ["quick", "slow"])


def test_a_pause_before_a_retry_ends_at_a_stop(log: EventLog) -> None:
    @checkpoint(retries=1, retry_delay=3600)
    def failing() -> int:
        begun.set()
        if ran:
            return 1
        ran.append(1)
        raise ConnectionError

    @flow
    def pausing() -> int:
        return failing()

    handle = pausing.run()
    assert begun.wait(PATIENCE)
    assert stopped_and_recovered(log, handle, pausing) == 1


def test_a_pause_before_a_retry_of_an_async_call_ends_at_a_stop(log: EventLog) -> None:
    @checkpoint(retries=1, retry_delay=3600)
    async def failing() -> int:
        begun.set()
        if ran:
            return 1
        ran.append(1)
        raise ConnectionError

    @flow
    async def pausing() -> int:
        return await failing()

    handle = pausing.run()
    assert begun.wait(PATIENCE)
    assert stopped_and_recovered(log, handle, pausing) == 1


# --- parents and children ----------------------------------------------------------------------------------------------


@flow
def child() -> list[int]:
    return [slow(2), quick(3)]


@flow
def parent() -> list[int]:
    return child.run().wait(PATIENCE)


@flow
async def async_parent() -> list[int]:
    handle = child.run()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(waited(handle))
        tasks.create_task(waited(handle))
    return waiting.result()


async def waited(handle: FlowHandle[list[int]]) -> list[int]:
    return await handle


@checkpoint
def child_in_a_step() -> list[int]:
    return child.options(idempotency_key="one").run().wait(PATIENCE)


@flow
def parent_by_step() -> list[int]:
    return child_in_a_step()


@pytest.mark.parametrize("tried", [parent, async_parent, parent_by_step], ids=lambda tried: tried.name)
def test_a_parent_that_waits_for_its_child_is_suspended_not_failed(log: EventLog, tried: Any) -> None:
    handle = tried.run()
    assert stopped_and_recovered(log, handle, tried) == [2, 3]
    assert ran == [2, 3]


# --- one runner --------------------------------------------------------------------------------------------------------


def test_an_execution_that_runs_here_is_not_taken_over(log: EventLog) -> None:
    handle = sequence.run()
    assert begun.wait(PATIENCE)
    with pytest.raises(KitaruStateError):
        recovery.take_over(log, handle.exec_id, sequence)
    gate.set()
    assert handle.wait(PATIENCE) == [1, 2, 3]


def test_an_execution_that_runs_here_is_not_lost(log: EventLog) -> None:
    handle = sequence.run()
    assert begun.wait(PATIENCE)
    assert not recovery.is_lost(log, log.head(handle.exec_id))


def test_a_finished_execution_is_not_taken_over(log: EventLog) -> None:
    gate.set()
    handle = sequence.run()
    handle.wait(PATIENCE)
    with pytest.raises(KitaruStateError, match="completed"):
        recovery.take_over(log, handle.exec_id, sequence)


def test_threads_that_take_over_at_once_give_one_runner(log: EventLog) -> None:
    gate.set()
    for _ in range(20):
        exec_id = queue(log, sequence)
        ran.clear()
        barrier = threading.Barrier(4)
        refused: list[KitaruStateError] = []

        def take(exec_id: str = exec_id, barrier: threading.Barrier = barrier, refused: Any = refused) -> None:
            barrier.wait(PATIENCE)
            try:
                recovery.take_over(log, exec_id, sequence)
            except KitaruStateError as error:
                refused.append(error)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        process.join_all()
        assert (len(refused), ran) == (3, [1, 2, 3])


def test_threads_that_wait_for_a_lost_execution_all_get_its_value(log: EventLog) -> None:
    gate.set()
    exec_id = queue(log, sequence)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(FlowHandle(log, exec_id, sequence, None).wait(PATIENCE)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (found, ran) == ([[1, 2, 3]] * 6, [1, 2, 3])


def test_a_runner_that_another_has_replaced_records_nothing_more(log: EventLog) -> None:
    handle = sequence.run()
    assert begun.wait(PATIENCE)
    log.execute(handle.exec_id, Claim("another runner", 1), 1)
    version = log.head(handle.exec_id).version
    gate.set()
    process.join_all()
    assert log.head(handle.exec_id).version == version
    assert ran == [1, 2]


def test_lost_executions_are_those_of_the_project_that_nobody_runs(log: EventLog) -> None:
    lost = queue(log, sequence)
    running = sequence.run()
    assert begun.wait(PATIENCE)
    assert recovery.lost_executions(log, "default") == [lost]
    assert recovery.lost_executions(log, "other") == []
    gate.set()
    running.wait(PATIENCE)
