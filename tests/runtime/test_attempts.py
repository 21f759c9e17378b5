"""Tries of one call: how often, after which pause, for which exceptions, and how long each may take."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.events import AttemptFailed, AttemptStarted, CheckpointFailed
from kitaru.store.log import EventLog
from kitaru.testing import FakeClock
from tests.runtime.crashing import PATIENCE, copy_of, prefixes, recovered
from tests.runtime.records import detail_of, events_of, of_type, types_of

ran: list[Any] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def closed_gate() -> Iterator[None]:
    ran.clear()
    gate.clear()
    yield
    gate.set()


def failing(times: int, error: type[BaseException] = ConnectionError, **options: Any) -> Any:
    """A checkpoint that raises this often and then gives the number of its runs."""

    @checkpoint(**options)
    def unsteady() -> int:
        ran.append(len(ran))
        if len(ran) <= times:
            raise error(len(ran))
        return len(ran)

    return unsteady


def handle_of(call: Any) -> Any:
    handle = flow(lambda: call()).run()
    with suppress(kitaru.KitaruUserCodeError):
        handle.wait(PATIENCE)
    return handle


def seconds_between_attempts(log: EventLog, handle: Any) -> list[float]:
    starts = [event.at for event in of_type(log, handle.exec_id, AttemptStarted)]
    return [(later - before) / 1e6 for before, later in pairwise(starts)]


def test_a_try_that_succeeds_ends_the_call() -> None:
    assert flow(lambda: failing(2, retries=5)()).run().wait(PATIENCE) == 3
    assert len(ran) == 3


def test_without_retries_there_is_one_try() -> None:
    handle_of(failing(9))
    assert len(ran) == 1


def test_the_last_try_closes_the_call_with_its_exception(log: EventLog) -> None:
    handle = handle_of(failing(9, retries=2))
    assert len(ran) == 3
    assert types_of(log, handle.exec_id) == [*["AttemptStarted", "AttemptFailed"] * 3, "CheckpointFailed", "ExecutionFailed"]


def test_the_exception_of_the_last_try_reaches_the_flow() -> None:
    handle = flow(lambda: failing(9, retries=2)()).run()
    with pytest.raises(kitaru.KitaruUserCodeError) as raised:
        handle.wait(PATIENCE)
    assert raised.value.__cause__ is not None
    assert raised.value.__cause__.args == (3,)


def test_all_tries_are_attempts_of_one_call(log: EventLog) -> None:
    handle = handle_of(failing(1, retries=2))
    (call,) = detail_of(log, handle.exec_id).calls.values()
    assert [(a.number, a.status) for a in call.attempts] == [(1, "failed"), (2, "completed")]


def test_each_failed_try_has_its_own_failure_and_time(log: EventLog, clock: FakeClock) -> None:
    handle = handle_of(failing(2, retries=2, retry_delay=5))
    (call,) = detail_of(log, handle.exec_id).calls.values()
    failures = [attempt.failure for attempt in call.attempts]
    assert [failure and failure.exception_type for failure in failures] == [*["builtins.ConnectionError"] * 2, None]
    assert len({attempt.started_at for attempt in call.attempts}) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"retries": 3}, [0, 0, 0]),
        ({"retries": 3, "retry_delay": 2}, [2, 4, 8]),
        ({"retries": 3, "retry_delay": 2, "retry_backoff": 1}, [2, 2, 2]),
        ({"retries": 3, "retry_delay": 2, "retry_backoff": 0}, [2, 0, 0]),
        ({"retries": 3, "retry_delay": 0.5, "retry_backoff": 10}, [0.5, 5, 50]),
    ],
    ids=repr,
)
def test_pauses_grow_by_the_backoff(log: EventLog, clock: FakeClock, options: Any, expected: list[float]) -> None:
    handle = handle_of(failing(9, **options))
    assert seconds_between_attempts(log, handle) == expected


def test_the_pause_is_recorded_with_the_failure(log: EventLog, clock: FakeClock) -> None:
    handle = handle_of(failing(9, retries=2, retry_delay=3))
    assert [event.retry_after for event in of_type(log, handle.exec_id, AttemptFailed)] == [3, 6, None]


def test_a_huge_backoff_is_no_crash(log: EventLog, clock: FakeClock) -> None:
    handle = handle_of(failing(9, retries=4, retry_delay=1e8, retry_backoff=1e8))
    assert (handle.status, len(ran)) == ("failed", 5)


def test_pauses_of_async_calls_grow_by_the_backoff(log: EventLog, clock: FakeClock) -> None:
    @checkpoint(retries=2, retry_delay=3)
    async def unsteady() -> None:
        raise ConnectionError

    @flow
    async def body() -> None:
        await unsteady()

    handle = body.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait(PATIENCE)
    assert seconds_between_attempts(log, handle) == [3, 6]


@pytest.mark.parametrize(
    ("error", "runs"), [(ConnectionError, 3), (ConnectionResetError, 3), (TimeoutError, 3), (ValueError, 1)]
)
def test_only_exceptions_of_retry_on_are_tried_again(error: type[Exception], runs: int) -> None:
    handle_of(failing(9, error, retries=2, retry_on=(ConnectionError, TimeoutError)))
    assert len(ran) == runs


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_is_never_tried_again(error: type[BaseException]) -> None:
    handle_of(failing(9, error, retries=2))
    assert len(ran) == 1


def test_tries_that_a_crash_ended_do_not_use_up_retries(log: EventLog) -> None:
    unsteady = failing(1, retries=1)

    @flow
    def body() -> int:
        return unsteady()

    handle = body.run()
    assert handle.wait(PATIENCE) == 2
    events = events_of(log, handle.exec_id)
    exec_id = copy_of(log, events[:3])  # the first try had begun
    ran.clear()
    assert recovered(log, body, exec_id) == 2
    assert [e.attempt for e in of_type(log, exec_id, AttemptStarted)] == [1, 2, 3]


def test_retries_that_were_used_stay_used_after_a_crash(log: EventLog) -> None:
    unsteady = failing(10**6, retries=2)

    @flow
    def body() -> int:
        return unsteady()

    handle = body.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait(PATIENCE)
    for left in prefixes(events_of(log, handle.exec_id)):
        exec_id = copy_of(log, left)
        with pytest.raises(kitaru.KitaruUserCodeError):
            recovered(log, body, exec_id)
        assert len(of_type(log, exec_id, AttemptFailed)) == 3, f"after {len(left)} events"


def test_a_failed_call_is_not_tried_again_after_a_crash(log: EventLog) -> None:
    unsteady = failing(9)

    @flow
    def body() -> int:
        try:
            return unsteady()
        except ConnectionError:
            return -1

    handle = body.run()
    assert handle.wait(PATIENCE) == -1
    left = next(e for e in prefixes(events_of(log, handle.exec_id)) if isinstance(e[-1], CheckpointFailed))
    ran.clear()
    assert recovered(log, body, copy_of(log, left)) == -1
    assert ran == []


# --- timeouts ----------------------------------------------------------------------------------------------------------


@checkpoint(timeout=0.05)
def stuck() -> int:
    ran.append(1)
    gate.wait(PATIENCE)
    return 1


@checkpoint(timeout=0.05)
async def astuck() -> int:
    ran.append(1)
    await asyncio.sleep(PATIENCE)
    return 1


@flow
def with_stuck() -> int:
    return stuck()


@flow
async def with_astuck() -> int:
    return await astuck()


@flow
def with_submitted_astuck() -> int:
    return astuck.submit().result()


@flow
async def with_stuck_in_async() -> int:
    return await stuck.submit()


@pytest.mark.parametrize(
    "tried", [with_stuck, with_astuck, with_submitted_astuck, with_stuck_in_async], ids=lambda tried: tried.name
)
def test_a_try_past_its_timeout_fails_with_timeout_error(tried: Any) -> None:
    with pytest.raises(kitaru.KitaruUserCodeError, match="TimeoutError") as raised:
        tried.run().wait(PATIENCE)
    assert "more than its 0.05 seconds" in str(raised.value)


def test_the_error_of_a_plain_timeout_says_that_the_thread_goes_on() -> None:
    with pytest.raises(kitaru.KitaruUserCodeError, match="isolated"):
        with_stuck.run().wait(PATIENCE)


@pytest.mark.parametrize("runtime_async", [False, True], ids=["plain", "async"])
def test_a_timeout_is_tried_again(runtime_async: bool) -> None:
    @checkpoint(timeout=0.05, retries=1)
    def slow_once() -> int:
        ran.append(1)
        if len(ran) == 1:
            gate.wait(PATIENCE)
        return len(ran)

    @checkpoint(timeout=0.05, retries=1)
    async def aslow_once() -> int:
        ran.append(1)
        if len(ran) == 1:
            await asyncio.sleep(PATIENCE)
        return len(ran)

    @flow
    async def body() -> int:
        return await aslow_once() if runtime_async else slow_once()

    assert body.run().wait(PATIENCE) == 2


def test_a_body_within_its_timeout_is_as_without() -> None:
    @checkpoint(timeout=20)
    def fine(x: int) -> int:
        kitaru.log(x=x)
        return x

    assert flow(lambda: fine(3)).run().wait(PATIENCE) == 3


def test_an_exception_within_the_timeout_arrives_as_it_is() -> None:
    error = LookupError("gone")

    @checkpoint(timeout=20)
    def bad() -> None:
        raise error

    seen: list[BaseException] = []

    def body() -> None:
        try:
            bad()
        except LookupError as caught:
            seen.append(caught)

    flow(body).run().wait(PATIENCE)
    assert seen[0] is error


def test_a_timeout_error_of_the_body_itself_is_its_own() -> None:
    @checkpoint(timeout=20)
    async def bad() -> None:
        raise TimeoutError("mine")

    @flow
    async def body() -> None:
        await bad()

    with pytest.raises(kitaru.KitaruUserCodeError, match="mine"):
        body.run().wait(PATIENCE)


def test_what_a_thread_left_behind_logs_is_not_recorded(log: EventLog) -> None:
    late: list[BaseException] = []

    @checkpoint(timeout=0.05)
    def slow() -> None:
        gate.wait(PATIENCE)
        try:
            kitaru.log(late=True)
        except BaseException as error:
            late.append(error)

    @flow
    def body() -> int:
        try:
            slow()
        except TimeoutError:
            gate.set()
        for _ in range(1000):
            if late:
                break
            time.sleep(0.001)
        return 1

    handle = body.run()
    handle.wait(PATIENCE)
    assert "MetadataLogged" not in types_of(log, handle.exec_id)
    assert isinstance(late[0], kitaru.KitaruStateError)


def test_an_async_call_that_is_cancelled_by_its_flow_has_no_outcome_and_runs_again(log: EventLog) -> None:
    @checkpoint
    async def long() -> int:
        ran.append(1)
        if len(ran) == 1:
            await asyncio.sleep(PATIENCE)
        return 5

    @flow(retries=1)
    async def body() -> int:
        async with asyncio.timeout(0.02 if not ran else PATIENCE):
            return await long()

    handle = body.run()
    assert handle.wait(PATIENCE) == 5
    (call,) = detail_of(log, handle.exec_id).calls.values()
    assert [attempt.status for attempt in call.attempts] == ["failed", "completed"]
