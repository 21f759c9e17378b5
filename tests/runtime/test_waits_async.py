"""Waits of async flows: several at once, in branches; the body never sees the runner leave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow, sleep_async, wait, wait_async
from kitaru.domain.errors import KitaruContextError, KitaruExecutionError, KitaruUserCodeError, KitaruWaitExpiredError
from kitaru.domain.events import AttemptStarted, ExecutionSuspended, RunnerClaimed, WaitOpened
from kitaru.runtime import operations, process, recovery
from kitaru.runtime.flow import Flow
from kitaru.runtime.handle import FlowHandle
from kitaru.store.log import EventLog
from kitaru.testing import FakeClock
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import detail_of, of_type, types_of
from tests.runtime.waiting import answer, asked, gone_on, pending, state_of, suspended, until

ran: list[Any] = []
begun = threading.Event()
gate = threading.Event()


@pytest.fixture(autouse=True)
def nothing_ran(store: Path) -> Iterator[None]:
    ran.clear()
    gate.clear()
    begun.clear()
    yield
    gate.set()
    process.stop_all()


@checkpoint
async def add(x: int, y: int = 1) -> int:
    ran.append((x, y))
    await asyncio.sleep(0)
    return x + y


@checkpoint
def add_in_thread(x: int, y: int = 1) -> int:
    ran.append((x, y))
    return x + y


@checkpoint
async def paid(x: int) -> int:
    begun.set()
    while not gate.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    ran.append(x)
    return x


async def asks(name: str, timeout: float | None = 600) -> int:
    return await add(await wait_async(schema=int, name=name, timeout=timeout), 100)


@flow
async def one() -> Any:
    return await wait_async(schema=int, name="n")


@flow
async def under_gather(timeout: float = 600) -> list[int]:
    return list(await asyncio.gather(*(asks(f"q{number}", timeout) for number in range(3))))


@flow
async def under_task_group(timeout: float = 600) -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asks(f"q{number}", timeout)) for number in range(3)]
    return [task.result() for task in tasks]


SEVERAL = pytest.mark.parametrize("tried", [under_gather, under_task_group], ids=lambda tried: tried.name)
NAMES = ("1/q0", "2/q1", "3/q2")


def test_the_answer_comes_back(log: EventLog) -> None:
    handle = one.run()
    answer(log, asked(log, handle, "n"), "n", 7)
    assert handle.wait(PATIENCE) == 7


def test_the_answer_wakes_the_loop_at_once(log: EventLog) -> None:
    times: list[float] = []

    @flow
    async def timed() -> None:
        await wait_async(name="gate")
        times.append(time.monotonic())

    handle = timed.run()
    exec_id = asked(log, handle, "gate")
    time.sleep(0.3)
    answer(log, exec_id, "gate")
    answered = time.monotonic()
    handle.wait(PATIENCE)
    assert times[0] - answered < 0.15  # 20 ms, and much for a busy machine


@SEVERAL
def test_several_waits_are_open_at_once(log: EventLog, tried: Any) -> None:
    handle = tried.run()
    exec_id = asked(log, handle, *NAMES)
    for number in (2, 0, 1):
        answer(log, exec_id, NAMES[number], number)
    assert handle.wait(PATIENCE) == [100, 101, 102]


@SEVERAL
def test_a_wait_in_a_task_is_answered_by_the_name_that_it_was_given(log: EventLog, tried: Any) -> None:
    handle = tried.run()
    exec_id = asked(log, handle, *NAMES)
    for number in range(3):
        answer(log, exec_id, f"q{number}", number)
    assert handle.wait(PATIENCE) == [100, 101, 102]


@SEVERAL
def test_an_answered_branch_goes_on_while_the_others_wait(log: EventLog, tried: Any) -> None:
    handle = tried.run()
    exec_id = asked(log, handle, *NAMES)
    answer(log, exec_id, NAMES[1], 5)
    until(log, lambda: ran == [(5, 100)], "the branch to go on")
    assert pending(log, exec_id) == [NAMES[0], NAMES[2]]


@SEVERAL
def test_when_all_branches_wait_the_runner_leaves(log: EventLog, tried: Any) -> None:
    exec_id = suspended(log, tried.run(timeout=0), *NAMES)
    assert types_of(log, exec_id)[-1] == "ExecutionSuspended"


@SEVERAL
def test_each_branch_gets_its_own_answer_after_a_suspension(log: EventLog, tried: Any) -> None:
    exec_id = suspended(log, tried.run(timeout=0), *NAMES)
    for number in (1, 2, 0):
        answer(log, exec_id, NAMES[number], number)
    assert gone_on(log, tried, exec_id) == [100, 101, 102]


@SEVERAL
def test_a_suspended_execution_goes_on_with_one_answer_of_several(log: EventLog, tried: Any) -> None:
    handle = tried.run(timeout=0)
    exec_id = suspended(log, handle, *NAMES)
    answer(log, exec_id, NAMES[1], 5)
    runner = recovery.take_over(log, exec_id, tried)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    assert (ran, pending(log, exec_id)) == ([(5, 100)], [NAMES[0], NAMES[2]])
    for name in (NAMES[0], NAMES[2]):
        answer(log, exec_id, name, 1)
    assert gone_on(log, tried, exec_id) == [101, 105, 101]
    assert sorted(ran) == [(1, 100), (1, 100), (5, 100)]


# --- the body never sees it --------------------------------------------------------------------------------------------


@flow
async def returns_exceptions() -> list[Any]:
    return list(await asyncio.gather(asks("q", 0), asks("r", 0), return_exceptions=True))


@flow
async def catches_exceptions() -> Any:
    try:
        return await asks("q", 0)
    except Exception as error:
        return repr(error)


@flow
async def catches_all() -> Any:
    try:
        return await asks("q", 0)
    except BaseException as error:
        return repr(error)


@flow
async def returns_in_finally() -> Any:
    found: Any = "unwound"
    try:
        found = await asks("q", 0)
    finally:
        return found  # noqa: B012


@flow
async def calls_in_finally() -> Any:
    try:
        return await asks("q", 0)
    finally:
        await add(50)


@flow
async def in_a_task_that_nobody_awaits_yet() -> Any:
    task = asyncio.create_task(asks("q", 0))
    first = await add(1)
    return [first, await task]


@flow
async def sibling_that_catches_all() -> Any:
    async def other() -> Any:
        try:
            return await wait_async(schema=int, name="r", timeout=0)
        except BaseException as error:
            ran.append(error)
            raise

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asks("q", 0)), group.create_task(other())]
    return [task.result() for task in tasks]


UNSEEN: list[tuple[Flow[..., Any], tuple[str, ...], Any]] = [
    (returns_exceptions, ("1/q", "2/r"), [101, 101]),
    (catches_exceptions, ("q",), 101),
    (catches_all, ("q",), 101),
    (returns_in_finally, ("q",), 101),
    (calls_in_finally, ("q",), 101),
    (in_a_task_that_nobody_awaits_yet, ("1/q",), [2, 101]),
    (sibling_that_catches_all, ("1/q", "2/r"), [101, 1]),
]


@pytest.mark.parametrize(("tried", "names", "expected"), UNSEEN, ids=[tried.name for tried, _, _ in UNSEEN])
def test_the_body_never_sees_its_runner_leave(log: EventLog, tried: Any, names: tuple[str, ...], expected: Any) -> None:
    exec_id = suspended(log, tried.run(), *names)
    for name in names:
        answer(log, exec_id, name, 1)
    assert gone_on(log, tried, exec_id) == expected


def test_a_suspension_cancels_no_call_of_a_sibling(log: EventLog) -> None:
    @flow
    async def two() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asks("q", 0)), group.create_task(paid(5))]
        return [task.result() for task in tasks]

    handle = two.run()
    exec_id = asked(log, handle, "1/q")
    assert begun.wait(PATIENCE)
    time.sleep(0.05)
    assert state_of(log, exec_id).runner is not None, "it left while a call was in flight"
    gate.set()
    suspended(log, handle, "1/q")
    answer(log, exec_id, "q", 1)
    assert (gone_on(log, two, exec_id), ran) == ([101, 5], [5, (1, 100)])


def test_a_pause_before_a_retry_is_no_idleness(log: EventLog) -> None:
    @checkpoint(retries=1, retry_delay=0.05)
    async def flaky() -> int:
        ran.append("try")
        if len(ran) == 1:
            raise ConnectionError
        return 1

    @flow
    async def two() -> list[int]:
        return list(await asyncio.gather(flaky(), asks("q", 0)))

    handle = two.run()
    exec_id = suspended(log, handle, "2/q")
    assert ran == ["try", "try"]
    assert detail_of(log, exec_id).calls[1].status == "completed"


@pytest.mark.parametrize("how", ["sleep", "to_thread", "in a TaskGroup", "wait_for"])
def test_what_the_body_itself_awaits_is_no_idleness(log: EventLog, how: str) -> None:
    async def works() -> None:
        if how == "sleep":
            await asyncio.sleep(0.05)
        elif how == "to_thread":
            await asyncio.to_thread(time.sleep, 0.05)
        elif how == "wait_for":
            await asyncio.wait_for(asyncio.sleep(0.05), 5)
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0.05))

    @flow
    async def two() -> list[int]:
        async def worked() -> int:
            await works()
            return await add(1)

        return list(await asyncio.gather(worked(), asks("q", 0)))

    handle = two.run()
    exec_id = suspended(log, handle, "2/q")
    assert ran == [(1, 1)]
    answer(log, exec_id, "q", 1)
    assert gone_on(log, two, exec_id) == [2, 101]


@pytest.mark.parametrize("how", ["timeout", "Event", "Queue", "shield"])
def test_a_wait_inside_what_only_waits_for_tasks_lets_the_runner_leave(log: EventLog, how: str) -> None:
    @flow
    async def tried() -> int:
        if how == "timeout":
            async with asyncio.timeout(600):
                return await asks("q", 0)
        if how == "shield":
            return await asyncio.shield(asyncio.ensure_future(asks("q", 0)))
        event, queue = asyncio.Event(), asyncio.Queue[int]()

        async def tells() -> None:
            queue.put_nowait(await asks("q", 0))
            event.set()

        task = asyncio.create_task(tells())
        await (event.wait() if how == "Event" else queue.get())
        await task
        return 101

    handle = tried.run()
    name = "q" if how == "timeout" else "1/q"
    exec_id = suspended(log, handle, name)
    answer(log, exec_id, "q", 1)
    assert gone_on(log, tried, exec_id) == 101


def test_a_child_that_is_awaited_is_no_idleness(log: EventLog) -> None:
    @flow
    def child() -> int:
        begun.set()
        gate.wait(PATIENCE)
        return 3

    @flow
    async def parent() -> list[int]:
        async def chained() -> int:
            return await add(await child.run())

        return list(await asyncio.gather(chained(), asks("q", 0)))

    handle = parent.run()
    exec_id = asked(log, handle, "2/q")
    assert begun.wait(PATIENCE)
    time.sleep(0.05)
    gate.set()
    suspended(log, handle, "2/q")
    assert ran == [(3, 1)]
    answer(log, exec_id, "q", 1)
    assert gone_on(log, parent, exec_id) == [4, 101]


def test_a_wait_is_noticed_while_every_thread_is_busy(log: EventLog) -> None:
    @checkpoint
    def blocks() -> int:
        gate.wait(PATIENCE)
        return 1

    @flow
    async def busy() -> int:
        futures = [blocks.submit() for _ in range(40)]
        found = await asks("q")
        gate.set()
        return found + sum([await future for future in futures])

    handle = busy.run()
    answer(log, asked(log, handle, "q"), "q", 0)
    assert handle.wait(PATIENCE) == 140


def test_a_call_in_flight_in_a_thread_is_finished_before_the_suspension(log: EventLog) -> None:
    @checkpoint
    def in_thread() -> int:
        begun.set()
        gate.wait(PATIENCE)
        ran.append("thread")
        return 2

    @flow
    async def two() -> list[int]:
        return list(await asyncio.gather(asks("q", 0), in_thread.submit()))

    handle = two.run()
    exec_id = asked(log, handle, "1/q")
    assert begun.wait(PATIENCE)
    gate.set()
    suspended(log, handle, "1/q")
    answer(log, exec_id, "q", 1)
    assert (gone_on(log, two, exec_id), ran) == ([101, 2], ["thread", (1, 100)])


def test_a_wait_that_begins_while_the_runner_leaves_is_asked_later(log: EventLog) -> None:
    @flow
    async def chain() -> list[int]:
        async def paid_then_asks() -> int:
            await paid(1)
            return await asks("late", 0)

        return list(await asyncio.gather(asks("q", 0), paid_then_asks(), return_exceptions=True))  # type: ignore[arg-type]

    handle = chain.run()
    exec_id = asked(log, handle, "1/q")
    assert begun.wait(PATIENCE)
    process.stop_all()
    gate.set()
    until(log, lambda: not process.is_here(log.location, exec_id))
    assert types_of(log, exec_id)[-1] == "ExecutionSuspended"
    answer(log, exec_id, "q", 1)
    handle = FlowHandle(log, exec_id, chain, recovery.take_over(log, exec_id, chain))
    answer(log, suspended(log, handle, "2/late"), "late", 2)
    assert gone_on(log, chain, exec_id) == [101, 102]


def test_a_stopped_runner_of_a_waiting_execution_leaves_it_to_go_on_with_its_other_branch(log: EventLog) -> None:
    @flow
    async def two() -> list[int]:
        async def chained() -> int:
            return await add(await paid(1))

        return list(await asyncio.gather(asks("q"), chained()))

    handle = two.run()
    exec_id = asked(log, handle, "1/q")
    assert begun.wait(PATIENCE)
    process.stop_all()
    gate.set()
    until(log, lambda: not process.is_here(log.location, exec_id))
    assert recovery.lost_executions(log, "default") == [exec_id]
    runner = recovery.take_over(log, exec_id, two, stay_seconds=0)
    assert runner is not None
    runner.join()
    assert (ran, pending(log, exec_id)) == ([1, (1, 1)], ["1/q"])
    assert recovery.lost_executions(log, "default") == []


def test_a_stopped_runner_that_only_waited_leaves_nothing_to_go_on_with(log: EventLog) -> None:
    @flow
    async def two() -> list[int]:
        return list(await asyncio.gather(asks("q"), asks("r")))

    handle = two.run()
    exec_id = asked(log, handle, "1/q", "2/r")
    process.stop_all()
    until(log, lambda: not process.is_here(log.location, exec_id))
    assert types_of(log, exec_id)[-1] == "ExecutionSuspended"
    assert recovery.lost_executions(log, "default") == []


def test_an_answer_that_comes_while_the_runner_is_stopped_leaves_work(log: EventLog) -> None:
    """Between the last look and the record: the other wait is still open, and the answer's branch can go on."""

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def append(self, head: Any, events: Any, state: Any, ids: Any) -> Any:
            if isinstance(events[0], ExecutionSuspended) and len(state.pending) == 2:
                answer(log, head.exec_id, "1/q", 5)
            elif isinstance(events[0], WaitOpened) and events[0].wait == 2:
                process.stop_all()
            return log.append(head, events, state, ids)

    @flow
    async def two() -> list[int]:
        return list(await asyncio.gather(asks("q"), asks("r")))

    from tests.runtime.crashing import queue, run_on

    exec_id = queue(log, two)
    run_on(Late(), two, exec_id)
    assert (pending(log, exec_id), recovery.lost_executions(log, "default")) == (["2/r"], [exec_id])


def test_a_task_that_nobody_awaits_does_not_keep_the_flow(log: EventLog) -> None:
    @flow
    async def forgets() -> int:
        task = asyncio.create_task(asks("q", 0))
        while not pending(log, kitaru.current_execution_id()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        del task
        return 5

    handle = forgets.run()
    assert handle.wait(PATIENCE) == 5
    assert pending(log, handle.exec_id) == []


def test_an_answer_while_the_runner_leaves_keeps_it(log: EventLog) -> None:
    """The answer comes between the decision to leave and its record: without an end it would be lost."""

    class Late:
        """A store whose answer comes right before the suspension is appended."""

        def __init__(self) -> None:
            self.answered = False

        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def append(self, head: Any, events: Any, state: Any, ids: Any) -> Any:
            if isinstance(events[0], ExecutionSuspended) and not self.answered:
                self.answered = True
                answer(log, head.exec_id, "2/q1", 5)
            return log.append(head, events, state, ids)

    from tests.runtime.crashing import queue, run_on

    exec_id = queue(log, under_gather, timeout=0)
    run_on(Late(), under_gather, exec_id)
    assert (ran, pending(log, exec_id)) == ([(5, 100)], ["1/q0", "3/q2"])
    assert types_of(log, exec_id).count("ExecutionSuspended") == 1


def test_in_a_plain_flow_an_answer_while_the_runner_leaves_keeps_it(log: EventLog) -> None:
    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def append(self, head: Any, events: Any, state: Any, ids: Any) -> Any:
            if isinstance(events[0], ExecutionSuspended):
                answer(log, head.exec_id, "n", 5)
            return log.append(head, events, state, ids)

    @flow
    def plain() -> Any:
        return [add_in_thread(1), wait(schema=int, name="n", timeout=0)]

    from tests.runtime.crashing import queue, run_on

    exec_id = queue(log, plain)
    run_on(Late(), plain, exec_id)
    assert (FlowHandle(log, exec_id, plain, None).get(), ran) == ([2, 5], [(1, 1)])
    assert len(of_type(log, exec_id, RunnerClaimed)) == 1


def test_a_cancel_while_the_runner_leaves_is_the_end(log: EventLog) -> None:
    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def append(self, head: Any, events: Any, state: Any, ids: Any) -> Any:
            if isinstance(events[0], ExecutionSuspended):
                operations.cancel(log, head.exec_id, "me")
            return log.append(head, events, state, ids)

    from tests.runtime.crashing import queue, run_on

    exec_id = queue(log, under_gather, timeout=0)
    run_on(Late(), under_gather, exec_id)
    assert state_of(log, exec_id).status == "cancelled"


# --- ends --------------------------------------------------------------------------------------------------------------


def test_a_wait_that_expires_raises_in_its_own_branch(log: EventLog, clock: FakeClock) -> None:
    @flow
    async def branches() -> list[Any]:
        async def falls_back() -> str:
            try:
                await wait_async(name="gate", expires_in=60)
            except KitaruWaitExpiredError:
                return "expired"
            return "answered"

        return list(await asyncio.gather(falls_back(), asks("q")))

    handle = branches.run()
    exec_id = asked(log, handle, "1/gate", "2/q")
    clock.advance(60)
    asked(log, handle, "2/q")
    answer(log, exec_id, "q", 1)
    assert handle.wait(PATIENCE) == ["expired", 101]


def test_an_aborted_wait_cancels_the_flow(log: EventLog) -> None:
    handle = under_gather.run()
    operations.abort_wait(log, asked(log, handle, *NAMES), "q1")
    with pytest.raises(KitaruExecutionError, match="cancelled"):
        handle.wait(PATIENCE)


def test_wait_async_in_a_plain_flow_names_wait() -> None:
    @flow
    def wrong() -> None:
        asyncio.run(wait_async(name="gate"))

    with pytest.raises(KitaruUserCodeError, match=r"use kitaru\.wait") as failed:
        wrong.run().wait(PATIENCE)
    assert isinstance(failed.value.__cause__, KitaruContextError)


def test_sleep_async_in_a_plain_flow_names_sleep() -> None:
    @flow
    def wrong() -> None:
        asyncio.run(sleep_async(1))

    with pytest.raises(KitaruUserCodeError, match=r"use kitaru\.sleep"):
        wrong.run().wait(PATIENCE)


def test_wait_async_outside_a_flow_is_a_context_error() -> None:
    with pytest.raises(KitaruContextError, match="outside a flow"):
        asyncio.run(wait_async(name="gate"))


def test_a_flow_retry_finds_the_wait_of_the_run_before(log: EventLog) -> None:
    @flow(retries=1)
    async def fails_first() -> list[Any]:
        async def fails() -> int:
            if ran:
                return 0
            while not pending(log, kitaru.current_execution_id()):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            ran.append(1)
            raise ValueError

        return list(await asyncio.gather(asks("q"), fails()))

    handle = fails_first.run()
    exec_id = asked(log, handle, "1/q")
    until(log, lambda: "ExecutionRetried" in types_of(log, exec_id))
    answer(log, exec_id, "q", 1)
    assert handle.wait(PATIENCE) == [101, 0]
    assert types_of(log, exec_id).count("WaitOpened") == 1


@pytest.mark.parametrize("seed", range(20))
def test_answers_in_any_order_with_any_suspensions_give_the_same_result(log: EventLog, seed: int) -> None:
    import random

    chance = random.Random(seed)

    @flow
    async def many() -> list[int]:
        async def two_steps(number: int) -> int:
            first = await asks(f"a{number}", 0)
            await asyncio.sleep(chance.random() / 500)
            return first + await asks(f"b{number}", 0)

        return list(await asyncio.gather(*(two_steps(number) for number in range(4))))

    handle = many.run()
    exec_id = handle.exec_id
    asked_once: set[str] = set()
    while True:
        until(log, lambda: bool(pending(log, exec_id)) or state_of(log, exec_id).status == "completed")
        if not pending(log, exec_id):
            break
        if chance.random() < 0.3:
            until(log, lambda: not process.is_here(log.location, exec_id))
        name = chance.choice(pending(log, exec_id))
        assert name not in asked_once
        asked_once.add(name)
        answer(log, exec_id, name, int(name[-1]) * 10)
        # A runner that has recorded its leaving is here for a moment longer.
        until(log, lambda: state_of(log, exec_id).runner is not None or not process.is_here(log.location, exec_id))
        if recovery.is_lost(log, log.head(exec_id)):
            handle = FlowHandle(log, exec_id, many, recovery.take_over(log, exec_id, many))
        if len(asked_once) == 8:
            handle.wait(PATIENCE)
    assert handle.get() == [200, 220, 240, 260]
    assert len(of_type(log, exec_id, AttemptStarted)) == len(ran) == 8
