"""How executions end: by value, by exception of any kind, by what was left un-awaited; and what the handle says of it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kitaru
from kitaru import FailureOrigin, checkpoint, flow
from kitaru.domain.commands import Cancel
from kitaru.domain.errors import KitaruContextError, KitaruStateError
from kitaru.domain.events import ExecutionFailed, ExecutionRetried
from kitaru.runtime.handle import FlowHandle
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import detail_of, of_type, types_of

gate = threading.Event()
ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    ran.clear()
    gate.clear()
    yield
    gate.set()


class Odd(BaseException):
    """Not an Exception."""


def raised_by(kind: str) -> None:
    match kind:
        case "ValueError":
            raise ValueError("v")
        case "sys.exit":
            sys.exit(3)
        case "BaseException":
            raise Odd("odd")
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "GeneratorExit":
            raise GeneratorExit
        case "StopIteration":
            raise StopIteration(4)
        case "StopAsyncIteration":
            raise StopAsyncIteration
        case "CancelledError":
            raise asyncio.CancelledError
        case "RecursionError":
            raised_by(kind)


KINDS = [
    "ValueError",
    "sys.exit",
    "BaseException",
    "KeyboardInterrupt",
    "GeneratorExit",
    "StopIteration",
    "StopAsyncIteration",
    "CancelledError",
    "RecursionError",
]
each_kind = pytest.mark.parametrize("kind", KINDS)
NAMES = {"sys.exit": "SystemExit", "BaseException": "Odd"}


@checkpoint
def step(x: int = 0) -> int:
    ran.append(x)
    return x + 1


@checkpoint
def raising_step(kind: str) -> None:
    raised_by(kind)


@checkpoint
async def raising_async_step(kind: str) -> None:
    raised_by(kind)


@flow
def body_raises(kind: str) -> None:
    step()
    raised_by(kind)


@flow
async def async_body_raises(kind: str) -> None:
    step()
    raised_by(kind)


@flow
async def async_helper_raises(kind: str) -> None:
    async def helper() -> None:
        await asyncio.sleep(0)
        raised_by(kind)

    await asyncio.gather(helper())


@flow
def step_raises(kind: str) -> None:
    raising_step(kind)


@flow
def submitted_step_raises(kind: str) -> None:
    raising_step.submit(kind).result()


@flow
async def async_step_raises(kind: str) -> None:
    await raising_async_step(kind)


@flow
async def gathered_step_raises(kind: str) -> None:
    await asyncio.gather(raising_async_step(kind), raising_async_step("ValueError"))


@each_kind
@pytest.mark.parametrize(
    "tried",
    [
        body_raises,
        async_body_raises,
        async_helper_raises,
        step_raises,
        submitted_step_raises,
        async_step_raises,
        gathered_step_raises,
    ],
    ids=lambda tried: tried.name,
)
@pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning")
def test_whatever_is_raised_the_execution_fails_and_says_what(log: EventLog, tried: Any, kind: str) -> None:
    handle = tried.run(kind)
    with pytest.raises(kitaru.KitaruUserCodeError) as raised:
        handle.wait(PATIENCE)
    assert raised.value.exec_id == handle.exec_id
    assert handle.status == "failed"
    recorded = of_type(log, handle.exec_id, ExecutionFailed)[0].exception_type
    python_says = {"StopIteration": "RuntimeError", "StopAsyncIteration": "RuntimeError"}  # PEP 479, in coroutines
    names = {NAMES.get(kind, kind), python_says.get(kind, "-"), "ValueError" if tried is gathered_step_raises else "-"}
    names |= {"KitaruError"} if kind == "CancelledError" else set()
    assert recorded.rpartition(".")[2] in names


@each_kind
def test_an_exception_of_a_checkpoint_reaches_the_flow_as_the_same_object(kind: str) -> None:
    seen: list[BaseException] = []
    made: list[BaseException] = []

    @checkpoint
    def bad() -> None:
        try:
            raised_by(kind)
        except BaseException as error:
            made.append(error)
            raise

    @flow
    def catching() -> int:
        try:
            bad()
        except BaseException as error:
            seen.append(error)
        return 1

    assert catching.run().wait(PATIENCE) == 1
    assert seen[0] is made[0]


def test_an_exit_in_an_async_body_lets_checkpoints_on_threads_finish_first(log: EventLog) -> None:
    @checkpoint
    def slow() -> int:
        gate.wait(PATIENCE)
        return 1

    @flow
    async def exits() -> None:
        slow.submit()
        asyncio.get_running_loop().call_later(0.05, gate.set)
        await asyncio.sleep(0)
        threading.Timer(0.05, gate.set).start()
        sys.exit(1)

    handle = exits.run()
    with pytest.raises(kitaru.KitaruUserCodeError, match="SystemExit"):
        handle.wait(PATIENCE)
    assert detail_of(log, handle.exec_id).calls[1].status == "completed"


# --- the error that the handle raises ----------------------------------------------------------------------------------


@flow
def fails() -> None:
    raise LookupError("gone", 5)


def test_a_failed_flow_raises_user_code_error_with_everything_on_it() -> None:
    handle = fails.run()
    with pytest.raises(kitaru.KitaruUserCodeError) as raised:
        handle.wait(PATIENCE)
    error = raised.value
    assert (error.exec_id, error.status, error.failure_origin) == (handle.exec_id, "failed", FailureOrigin.USER_CODE)
    assert isinstance(error.__cause__, LookupError)
    assert error.__cause__.args == ("gone", 5)


def test_get_raises_the_same_for_a_failed_execution() -> None:
    handle = fails.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait(PATIENCE)
    with pytest.raises(kitaru.KitaruUserCodeError, match="LookupError"):
        handle.get()


def cancelled_end(handle: FlowHandle[Any]) -> bool:
    """Whether waiting for it says that it was cancelled, and nothing else."""
    with pytest.raises(kitaru.KitaruExecutionError) as raised:
        handle.wait(PATIENCE)
    assert raised.value.code == "cancelled", raised.value
    return handle.status == "cancelled"


def test_a_cancelled_execution_raises_execution_error(log: EventLog) -> None:
    @flow
    def cancelled() -> None:
        gate.wait(PATIENCE)
        step()

    handle = cancelled.run()
    log.execute(handle.exec_id, Cancel("me", None), 1)
    gate.set()
    with pytest.raises(kitaru.KitaruExecutionError, match="cancelled") as raised:
        handle.wait(PATIENCE)
    assert (raised.value.status, raised.value.code, ran) == ("cancelled", "cancelled", [])


def test_a_cancel_between_two_checkpoints_stops_before_the_second(log: EventLog) -> None:
    @flow
    def cancelled() -> None:
        step(1)
        log.execute(kitaru.current_execution_id(), Cancel("me", None), 1)
        step(2)

    handle = cancelled.run()
    assert cancelled_end(handle)
    assert ran == [1]


def test_a_cancel_while_a_checkpoint_runs_keeps_its_result(log: EventLog) -> None:
    @checkpoint
    def cancels() -> int:
        log.execute(kitaru.current_execution_id(), Cancel("me", None), 1)
        return 5

    @flow
    def cancelled() -> None:
        cancels()
        step(2)

    handle = cancelled.run()
    assert cancelled_end(handle)
    assert types_of(log, handle.exec_id)[-2:] == ["CheckpointCompleted", "ExecutionCancelled"]


def test_a_flow_that_catches_everything_is_cancelled_all_the_same(log: EventLog) -> None:
    @flow
    def stubborn() -> int:
        log.execute(kitaru.current_execution_id(), Cancel("me", None), 1)
        for _ in range(3):
            try:
                step()
            except BaseException:
                pass
        return 1

    handle = stubborn.run()
    assert cancelled_end(handle)
    assert (ran, handle.status) == ([], "cancelled")


def test_a_cancel_after_the_last_checkpoint_of_a_flow_that_returns_does_not_lose_its_value(log: EventLog) -> None:
    @flow
    def returning() -> int:
        step(1)
        log.execute(kitaru.current_execution_id(), Cancel("me", None), 1)
        return 7

    handle = returning.run()
    assert handle.wait(PATIENCE) == 7


# --- waiting -----------------------------------------------------------------------------------------------------------


@flow
def waits() -> int:
    gate.wait(PATIENCE)
    return 1


def test_get_of_an_unfinished_execution_is_refused() -> None:
    handle = waits.run()
    with pytest.raises(KitaruStateError, match="running"):
        handle.get()


def test_a_wait_that_times_out_cancels_nothing() -> None:
    handle = waits.run()
    with pytest.raises(TimeoutError):
        handle.wait(0.01)
    gate.set()
    assert handle.wait(PATIENCE) == 1


def test_a_wait_of_no_time_at_all_times_out() -> None:
    with pytest.raises(TimeoutError):
        waits.run().wait(0)


def test_a_finished_execution_can_be_waited_for_again_and_again() -> None:
    handle = waits.run()
    gate.set()
    assert [handle.wait(PATIENCE), handle.wait(0), handle.get()] == [1, 1, 1]


def test_a_handle_can_be_awaited() -> None:
    async def main() -> int:
        handle = waits.run()
        gate.set()
        return await handle

    assert asyncio.run(main()) == 1


def test_many_threads_may_wait_for_one_execution() -> None:
    handle = waits.run()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(handle.wait(PATIENCE))) for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [1] * 5


def test_a_handle_sees_an_end_that_another_thread_made(log: EventLog) -> None:
    handle = waits.run()
    other = FlowHandle(log, handle.exec_id, waits, None)
    threading.Timer(0.05, gate.set).start()
    assert other.wait(PATIENCE) == 1


# --- what is not awaited -----------------------------------------------------------------------------------------------


@checkpoint
async def astep(x: int = 0) -> int:
    await asyncio.sleep(0)
    ran.append(x)
    return x + 1


def test_a_forgotten_await_fails_the_execution_and_names_the_call() -> None:
    @flow
    async def forgets() -> int:
        astep()  # type: ignore[unused-coroutine]
        return 1

    with pytest.raises(kitaru.KitaruUserCodeError, match=r"'astep'.*not awaited") as raised:
        forgets.run().wait(PATIENCE)
    assert isinstance(raised.value.__cause__, KitaruContextError)


def test_a_task_left_unawaited_with_a_call_in_flight_fails_the_execution() -> None:
    @checkpoint
    async def long() -> None:
        await asyncio.sleep(60)

    @flow
    async def leaves() -> int:
        task = asyncio.create_task(long())
        await asyncio.sleep(0.01)
        assert not task.done()
        return 1

    with pytest.raises(kitaru.KitaruUserCodeError, match=r"'long'.*not awaited"):
        leaves.run().wait(PATIENCE)


def test_a_task_left_unawaited_that_has_ended_is_no_failure() -> None:
    @flow
    async def leaves() -> int:
        task = asyncio.create_task(astep())
        await asyncio.sleep(0.05)
        return 1 if task.done() else 0

    assert leaves.run().wait(PATIENCE) == 1


def test_a_call_cancelled_before_it_began_is_no_forgotten_await() -> None:
    @flow
    async def cancels() -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(astep())
                raise ValueError("stop the group")
        except* ValueError:
            pass
        return "handled"

    assert cancels.run().wait(PATIENCE) == "handled"


def test_a_call_cancelled_by_a_timeout_of_the_flow_is_no_forgotten_await(log: EventLog) -> None:
    @checkpoint
    async def long() -> None:
        await asyncio.sleep(60)

    @flow
    async def gives_up() -> str:
        try:
            async with asyncio.timeout(0.01):
                await long()
        except TimeoutError:
            return "gave up"
        return "?"

    handle = gives_up.run()
    assert handle.wait(PATIENCE) == "gave up"
    assert types_of(log, handle.exec_id) == ["AttemptStarted", "AttemptFailed", "ExecutionCompleted"]


def test_futures_left_unasked_are_finished_before_the_end(log: EventLog) -> None:
    @flow
    def leaves() -> int:
        step.submit(1)
        step.map([2, 3])
        return 1

    handle = leaves.run()
    handle.wait(PATIENCE)
    assert sorted(ran) == [1, 2, 3]
    assert types_of(log, handle.exec_id)[-1] == "ExecutionCompleted"


def test_async_futures_left_unasked_are_finished_before_the_end(log: EventLog) -> None:
    @flow
    async def leaves() -> int:
        astep.submit(1)
        astep.map([2, 3])
        return 1

    handle = leaves.run()
    handle.wait(PATIENCE)
    assert sorted(ran) == [1, 2, 3]


# --- flow retries ------------------------------------------------------------------------------------------------------

body_runs: list[int] = []


@flow(retries=2)
def second_time_lucky(failures: int) -> int:
    body_runs.append(1)
    got = step(1)
    if len(body_runs) <= failures:
        raise ValueError("not yet")
    return step(got)


@pytest.fixture
def no_body_runs() -> None:
    body_runs.clear()


@pytest.mark.usefixtures("no_body_runs")
def test_flow_retries_run_the_body_again_and_reuse_completed_checkpoints() -> None:
    assert second_time_lucky.run(2).wait(PATIENCE) == 3
    assert (len(body_runs), ran) == (3, [1, 2])


@pytest.mark.usefixtures("no_body_runs")
def test_flow_retries_are_recorded_as_automatic(log: EventLog) -> None:
    handle = second_time_lucky.run(1)
    handle.wait(PATIENCE)
    assert [e.automatic for e in of_type(log, handle.exec_id, ExecutionRetried)] == [True]


@pytest.mark.usefixtures("no_body_runs")
def test_flow_retries_end(log: EventLog) -> None:
    handle = second_time_lucky.run(9)
    with pytest.raises(kitaru.KitaruUserCodeError, match="not yet"):
        handle.wait(PATIENCE)
    assert (len(body_runs), ran) == (3, [1])


@pytest.mark.usefixtures("no_body_runs")
def test_retries_given_to_run_win_over_the_flows() -> None:
    with pytest.raises(kitaru.KitaruUserCodeError):
        second_time_lucky.run(9, retries=0).wait(PATIENCE)
    assert len(body_runs) == 1


def test_a_flow_retry_runs_a_failed_checkpoint_again() -> None:
    @checkpoint
    def second_call_lucky() -> str:
        ran.append("tried")
        if len(ran) == 1:
            raise ConnectionError
        return "ok"

    @flow(retries=1)
    def retried() -> str:
        return second_call_lucky()

    assert retried.run().wait(PATIENCE) == "ok"


def test_a_flow_retry_of_an_async_flow_reuses_completed_checkpoints() -> None:
    @flow(retries=1)
    async def retried() -> list[int]:
        found = list(await asyncio.gather(astep(1), astep(10)))
        if len(body_runs) == 0:
            body_runs.append(1)
            raise ValueError
        return found

    body_runs.clear()
    assert retried.run().wait(PATIENCE) == [2, 11]
    assert sorted(ran) == [1, 10]


def test_an_exit_is_not_retried() -> None:
    body_runs.clear()

    @flow(retries=3)
    def exits() -> None:
        body_runs.append(1)
        sys.exit(1)

    with pytest.raises(kitaru.KitaruUserCodeError, match="SystemExit"):
        exits.run().wait(PATIENCE)
    assert len(body_runs) == 1


# --- is_replay ---------------------------------------------------------------------------------------------------------


@flow(retries=1)
def says_whether_replayed() -> list[bool]:
    ran.append(kitaru.is_replay())
    step()
    if len(ran) == 2:
        raise ValueError
    return [seen for seen in ran if isinstance(seen, bool)]


def test_is_replay_is_false_at_first_and_true_in_a_retry() -> None:
    assert says_whether_replayed.run().wait(PATIENCE) == [False, True]
