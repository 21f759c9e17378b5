"""Handles: the errors that they raise, what waiting is and what it is not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import kitaru
from kitaru import FailureOrigin, checkpoint, flow
from kitaru.domain.commands import Cancel
from kitaru.domain.errors import KitaruStateError
from kitaru.runtime.handle import FlowHandle
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import types_of

gate = threading.Event()
ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    ran.clear()
    gate.clear()
    yield
    gate.set()


@checkpoint
def step(x: int = 0) -> int:
    ran.append(x)
    return x + 1


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
            with suppress(BaseException):
                step()
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


def test_an_awaited_handle_that_is_given_up_leaves_no_thread_behind() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waits.run(), 0.01)

    began = time.monotonic()
    asyncio.run(main())  # it waits for the threads of its loop
    assert time.monotonic() - began < PATIENCE / 2


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
