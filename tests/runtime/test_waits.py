"""Waits of plain flows: opened, answered, expired, given up, and what the body sees of it."""

from __future__ import annotations

import dataclasses
import enum
import getpass
import threading
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, model_validator

import kitaru
from kitaru import checkpoint, flow, wait
from kitaru.domain.errors import (
    KitaruContextError,
    KitaruError,
    KitaruExecutionError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruUserCodeError,
    KitaruWaitExpiredError,
    KitaruWaitValidationError,
)
from kitaru.domain.events import ExecutionFailed, WaitOpened, WaitResolved
from kitaru.domain.ids import wait_id
from kitaru.runtime import operations, process, recovery
from kitaru.runtime.handle import FlowHandle
from kitaru.store.log import EventLog
from kitaru.store.values import decode
from kitaru.testing import FakeClock
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import of_type, types_of
from tests.runtime.waiting import answer, asked, gone_on, pending, state_of, suspended, until

ran: list[Any] = []
gate = threading.Event()
begun = threading.Event()


@pytest.fixture(autouse=True)
def nothing_ran(store: Path) -> Iterator[None]:
    ran.clear()
    gate.clear()
    begun.clear()
    yield
    gate.set()
    process.stop_all()


@checkpoint
def add(x: int, y: int = 1) -> int:
    ran.append((x, y))
    return x + y


@checkpoint
def slow(x: int) -> int:
    begun.set()
    gate.wait(PATIENCE)
    ran.append(x)
    return x


# --- opening -----------------------------------------------------------------------------------------------------------


@flow
def asks() -> Any:
    return wait(schema=int, name="n", question="how many?", metadata={"team": "blue"})


def test_a_wait_makes_the_execution_waiting(log: EventLog) -> None:
    handle = asks.run()
    exec_id = asked(log, handle, "n")
    assert handle.status == "waiting"
    answer(log, exec_id, "n", 1)


def test_the_question_the_schema_and_the_metadata_are_recorded(log: EventLog) -> None:
    exec_id = asked(log, asks.run(), "n")
    (opened,) = of_type(log, exec_id, WaitOpened)
    texts = [opened.question, opened.json_schema, opened.metadata]
    assert [decode(text.data) for text in texts if text is not None and text.data is not None] == [
        "how many?",
        {"type": "integer"},
        {"team": "blue"},
    ]
    answer(log, exec_id, "n", 1)


def test_the_answer_comes_back(log: EventLog) -> None:
    handle = asks.run()
    answer(log, asked(log, handle, "n"), "n", 41)
    assert handle.wait(PATIENCE) == 41


def test_a_wait_without_a_name_is_named_wait(log: EventLog) -> None:
    @flow
    def nameless() -> Any:
        return wait(schema=int)

    handle = nameless.run()
    answer(log, asked(log, handle, "wait"), "wait", 2)
    assert handle.wait(PATIENCE) == 2


def test_the_same_name_again_is_name_2(log: EventLog) -> None:
    @flow
    def twice() -> Any:
        return [wait(schema=int, name="n"), wait(schema=int, name="n")]

    handle = twice.run()
    answer(log, asked(log, handle, "n"), "n", 1)
    answer(log, asked(log, handle, "n_2"), "n_2", 2)
    assert handle.wait(PATIENCE) == [1, 2]


def test_a_gate_gives_none_whatever_it_is_answered(log: EventLog) -> None:
    @flow
    def gated() -> Any:
        return [wait(name="gate")]

    handle = gated.run()
    answer(log, asked(log, handle, "gate"), "gate", "yes")
    assert handle.wait(PATIENCE) == [None]


def test_an_answer_records_who_gave_it_and_when(log: EventLog, clock: FakeClock) -> None:
    handle = asks.run()
    exec_id = asked(log, handle, "n")
    clock.advance(5)
    answer(log, exec_id, "n", 1, by="Ada")
    (resolved,) = of_type(log, exec_id, WaitResolved)
    assert (resolved.by, resolved.at) == ("Ada", clock.now())


def test_an_answer_is_by_the_user_of_the_system_when_nobody_is_named(log: EventLog) -> None:
    exec_id = asked(log, asks.run(), "n")
    answer(log, exec_id, "n", 1, by=None)
    assert of_type(log, exec_id, WaitResolved)[0].by == getpass.getuser()


def test_a_wait_is_answered_by_its_id(log: EventLog) -> None:
    handle = asks.run()
    exec_id = asked(log, handle, "n")
    answer(log, exec_id, wait_id(exec_id, 1), 7)
    assert handle.wait(PATIENCE) == 7


def test_the_first_answer_wins_and_the_second_is_refused(log: EventLog) -> None:
    handle = asks.run()
    exec_id = asked(log, handle, "n")
    answer(log, exec_id, "n", 1)
    with pytest.raises(KitaruStateError):
        answer(log, exec_id, "n", 2)
    assert handle.wait(PATIENCE) == 1


def test_an_answer_to_an_unknown_wait_lists_the_pending_ones(log: EventLog) -> None:
    exec_id = asked(log, asks.run(), "n")
    with pytest.raises(KitaruStateError, match="'n'"):
        answer(log, exec_id, "m", 2)
    answer(log, exec_id, "n", 1)


def test_an_answer_to_an_unknown_execution_is_not_found(log: EventLog) -> None:
    with pytest.raises(KitaruNotFoundError):
        answer(log, "00000000-0000-7000-8000-000000000000", "n", 2)


# --- answers as the declared type --------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    text: str
    count: int = 1


class Order(BaseModel):
    lines: list[Line]
    colour: Colour
    due: date | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


TYPED: list[tuple[Any, Any, Any]] = [
    (int, 3, 3),
    (float, 3, 3.0),
    (bool, False, False),
    (str, "yes", "yes"),
    (Colour, "blue", Colour.BLUE),
    (Literal["a", "b"], "b", "b"),
    (int | None, None, None),
    (int | Line, {"text": "x"}, Line(text="x")),
    (Point, {"x": 1}, Point(1)),
    (Point, Point(2, 1.5), Point(2, 1.5)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [1, 1, 2], {1, 2}),
    (dict[str, list[Line]], {"k": [{"text": "t", "count": 2}]}, {"k": [Line(text="t", count=2)]}),
    (date, "2024-02-29", date(2024, 2, 29)),
    (timedelta, "PT90S", timedelta(seconds=90)),
    (
        Order,
        {"lines": [{"text": "a"}], "colour": "red", "due": "2024-01-02"},
        Order(lines=[Line(text="a")], colour=Colour.RED, due=date(2024, 1, 2)),
    ),
    (Order, Order(lines=[], colour=Colour.RED), Order(lines=[], colour=Colour.RED)),
]
got: list[Any] = []


@pytest.mark.parametrize(("schema", "given", "expected"), TYPED, ids=[f"{number}" for number in range(len(TYPED))])
def test_an_answer_comes_back_as_the_declared_type(log: EventLog, schema: Any, given: Any, expected: Any) -> None:
    @flow
    def typed() -> None:
        got.append(wait(schema=schema, name="v"))

    got.clear()
    handle = typed.run()
    answer(log, asked(log, handle, "v"), "v", given)
    handle.wait(PATIENCE)
    assert (got, type(got[0])) == ([expected], type(expected))


def test_an_answer_is_the_same_when_it_is_read_again(log: EventLog) -> None:
    @flow
    def typed() -> None:
        got.append(wait(schema=Order, name="v", timeout=0))
        wait(name="then", timeout=0)

    got.clear()
    handle = typed.run()
    exec_id = suspended(log, handle, "v")
    answer(log, exec_id, "v", {"lines": [], "colour": "blue"})
    handle = FlowHandle(log, exec_id, typed, recovery.take_over(log, exec_id, typed))
    answer(log, suspended(log, handle, "then"), "then")
    handle.wait(PATIENCE)
    assert got == [Order(lines=[], colour=Colour.BLUE)] * 2


def test_an_answer_that_does_not_fit_is_refused_and_the_wait_stays_open(log: EventLog) -> None:
    handle = asks.run()
    exec_id = asked(log, handle, "n")
    version = log.head(exec_id).version
    with pytest.raises(KitaruWaitValidationError, match="'n'"):
        answer(log, exec_id, "n", "seven")
    assert (log.head(exec_id).version, pending(log, exec_id)) == (version, ["n"])
    answer(log, exec_id, "n", 7)
    assert handle.wait(PATIENCE) == 7


class Even(BaseModel):
    n: int

    @model_validator(mode="after")
    def is_even(self) -> Even:
        if self.n % 2:
            raise ValueError("odd")
        return self


@flow
def asks_even() -> Any:
    return wait(schema=Even, name="even", timeout=0).n


@flow
def asks_even_here() -> Any:
    return wait(schema=Even, name="even").n


def test_where_the_flow_is_live_the_type_itself_checks_the_answer(log: EventLog) -> None:
    handle = asks_even_here.run()
    exec_id = asked(log, handle, "even")
    with pytest.raises(KitaruWaitValidationError, match="odd"):
        answer(log, exec_id, "even", {"n": 3})
    answer(log, exec_id, "even", {"n": 4})
    assert handle.wait(PATIENCE) == 4


def test_an_answer_that_only_the_type_refuses_never_comes_back_as_another_type(log: EventLog) -> None:
    exec_id = suspended(log, asks_even.run(), "even")
    answer(log, exec_id, "even", {"n": 3})
    with pytest.raises(KitaruUserCodeError, match="odd") as failed:
        gone_on(log, asks_even, exec_id)
    assert "KitaruWaitValidationError" in str(failed.value)


# --- staying and leaving -----------------------------------------------------------------------------------------------


def test_the_answer_wakes_the_runner_of_the_same_process_at_once(log: EventLog) -> None:
    times: list[float] = []

    @flow
    def timed() -> None:
        wait(name="gate")
        times.append(time.monotonic())

    handle = timed.run()
    exec_id = asked(log, handle, "gate")
    time.sleep(0.3)  # the runner is past its first look
    answer(log, exec_id, "gate")
    answered = time.monotonic()
    handle.wait(PATIENCE)
    assert times[0] - answered < 0.15  # 20 ms, and much for a busy machine


@flow
def leaves() -> list[int]:
    first = add(1)
    given = wait(schema=int, name="n", timeout=0)
    return [first, add(given)]


def test_past_its_timeout_the_runner_leaves(log: EventLog) -> None:
    handle = leaves.run()
    exec_id = suspended(log, handle, "n")
    assert types_of(log, exec_id)[-1] == "ExecutionSuspended"
    assert handle.status == "waiting"


def test_a_suspended_execution_has_no_thread(log: EventLog) -> None:
    handle = leaves.run()
    exec_id = suspended(log, handle, "n")
    until(log, lambda: not [thread for thread in threading.enumerate() if exec_id[-6:] in thread.name], "the thread to end")


def test_a_wait_of_another_process_goes_on_by_handle_wait(log: EventLog) -> None:
    handle = leaves.run()
    answer(log, suspended(log, handle, "n"), "n", 5)
    assert handle.wait(PATIENCE) == [2, 6]


def test_what_ran_before_the_wait_does_not_run_again(log: EventLog) -> None:
    handle = leaves.run()
    answer(log, suspended(log, handle, "n"), "n", 5)
    handle.wait(PATIENCE)
    assert ran == [(1, 1), (5, 1)]


def test_handle_wait_goes_on_waiting_while_nobody_answers(log: EventLog) -> None:
    handle = leaves.run()
    exec_id = suspended(log, handle, "n")
    with pytest.raises(TimeoutError):
        handle.wait(0.05)
    assert state_of(log, exec_id).runner is None


def test_handle_get_of_a_waiting_execution_is_refused(log: EventLog) -> None:
    handle = leaves.run()
    suspended(log, handle, "n")
    with pytest.raises(KitaruStateError, match="waiting"):
        handle.get()


def test_submitted_calls_are_drained_before_the_runner_leaves(log: EventLog) -> None:
    @flow
    def drains() -> list[int]:
        future = slow.submit(3)
        wait(name="gate", timeout=0)
        return [future.result()]

    handle = drains.run()
    exec_id = asked(log, handle, "gate")
    assert begun.wait(PATIENCE)
    assert state_of(log, exec_id).runner is not None
    gate.set()
    suspended(log, handle, "gate")
    assert types_of(log, exec_id)[-2:] == ["CheckpointCompleted", "ExecutionSuspended"]
    answer(log, exec_id, "gate")
    assert (gone_on(log, drains, exec_id), ran) == ([3], [3])


def test_a_runner_that_is_stopped_at_a_wait_leaves_nothing_to_go_on_with(log: EventLog) -> None:
    @flow
    def stays() -> list[Any]:
        future = slow.submit(3)
        return [wait(schema=int, name="n"), future.result()]

    handle = stays.run()
    exec_id = asked(log, handle, "n")
    assert begun.wait(PATIENCE)
    process.stop_all()
    gate.set()
    suspended(log, handle, "n")
    assert types_of(log, exec_id)[-2:] == ["CheckpointCompleted", "ExecutionSuspended"]
    assert recovery.lost_executions(log, "default") == []
    answer(log, exec_id, "n", 8)
    assert (gone_on(log, stays, exec_id), ran) == ([8, 3], [3])


def test_a_submitted_call_that_a_stopped_runner_did_not_begin_is_work_left_behind(log: EventLog) -> None:
    @flow
    def stays() -> list[Any]:
        chained = add.submit(slow.submit(3))
        return [wait(schema=int, name="n"), chained.result()]

    handle = stays.run()
    exec_id = asked(log, handle, "n")
    assert begun.wait(PATIENCE)
    process.stop_all()
    gate.set()
    suspended(log, handle, "n")
    assert recovery.lost_executions(log, "default") == [exec_id]
    runner = recovery.take_over(log, exec_id, stays, stay_seconds=0)
    assert runner is not None
    runner.join()
    assert (ran, recovery.lost_executions(log, "default")) == ([3, (3, 1)], [])


def test_an_answer_that_comes_while_calls_are_drained_keeps_the_runner(log: EventLog) -> None:
    @flow
    def drains() -> list[Any]:
        future = slow.submit(3)
        return [wait(schema=int, name="n", timeout=0), future.result()]

    handle = drains.run()
    exec_id = asked(log, handle, "n")
    assert begun.wait(PATIENCE)
    answer(log, exec_id, "n", 8)
    gate.set()
    assert handle.wait(PATIENCE) == [8, 3]
    assert "ExecutionSuspended" not in types_of(log, exec_id)


@flow
def swallows_everything() -> str:
    try:
        wait(name="gate", timeout=0)
    except BaseException:
        return "swallowed"
    return "answered"


@flow
def swallows_exceptions() -> str:
    try:
        wait(name="gate", timeout=0)
    except Exception:
        return "swallowed"
    return "answered"


@flow
def raises_another() -> str:
    try:
        wait(name="gate", timeout=0)
    except BaseException:
        raise ValueError("instead") from None
    return "answered"


@flow
def returns_in_finally() -> str:
    found = "unwound"
    try:
        wait(name="gate", timeout=0)
        found = "answered"
    finally:
        return found  # noqa: B012


@flow
def waits_in_finally() -> str:
    try:
        add(1)
    finally:
        wait(name="gate", timeout=0)
    return "answered"


@flow
def waits_while_handling() -> str:
    try:
        raise ValueError
    except ValueError:
        wait(name="gate", timeout=0)
    return "answered"


@flow
def calls_in_finally() -> str:
    try:
        wait(name="gate", timeout=0)
    finally:
        add(9)
    return "answered"


UNWOUND = [
    swallows_everything,
    swallows_exceptions,
    raises_another,
    returns_in_finally,
    waits_in_finally,
    waits_while_handling,
    calls_in_finally,
]


@pytest.mark.parametrize("tried", UNWOUND, ids=lambda tried: tried.name)
def test_whatever_the_unwound_body_returns_or_raises_is_discarded(log: EventLog, tried: Any) -> None:
    handle = tried.run()
    exec_id = suspended(log, handle, "gate")
    answer(log, exec_id, "gate")
    assert handle.wait(PATIENCE) == "answered"


def test_while_it_is_unwound_the_body_records_nothing(log: EventLog) -> None:
    @flow
    def records() -> None:
        try:
            wait(name="gate", timeout=0)
        finally:
            for attempt in (lambda: add(5), lambda: kitaru.log(x=1), lambda: wait(name="other"), lambda: kitaru.sleep(1)):
                with pytest.raises(BaseException, match="suspended"):
                    attempt()

    exec_id = suspended(log, records.run(), "gate")
    assert (types_of(log, exec_id), ran) == (["WaitOpened", "ExecutionSuspended"], [])


def test_an_answer_months_later_is_taken(log: EventLog, clock: FakeClock) -> None:
    handle = leaves.run()
    exec_id = suspended(log, handle, "n")
    clock.advance(timedelta(days=100).total_seconds())
    answer(log, exec_id, "n", 1)
    assert handle.wait(PATIENCE) == [2, 2]


def test_is_replay_is_true_after_a_wait_was_answered(log: EventLog) -> None:
    @flow
    def looks() -> bool:
        add(1)
        wait(name="gate", timeout=0)
        return kitaru.is_replay()

    handle = looks.run()
    answer(log, suspended(log, handle, "gate"), "gate")
    assert handle.wait(PATIENCE)


# --- expiry ------------------------------------------------------------------------------------------------------------


@flow
def expires() -> Any:
    return wait(schema=int, name="n", expires_in=60)


@flow
def defaults() -> Any:
    return wait(schema=Colour, name="n", expires_in=60, default="red").name


def test_a_wait_that_expires_gives_its_default(log: EventLog, clock: FakeClock) -> None:
    handle = defaults.run()
    asked(log, handle, "n")
    clock.advance(60)
    assert handle.wait(PATIENCE) == "RED"


def test_a_wait_that_expires_without_a_default_raises_in_the_body(log: EventLog, clock: FakeClock) -> None:
    handle = expires.run()
    asked(log, handle, "n")
    clock.advance(60)
    with pytest.raises(KitaruUserCodeError) as failed:
        handle.wait(PATIENCE)
    assert isinstance(failed.value.__cause__, KitaruWaitExpiredError)
    assert isinstance(failed.value.__cause__, TimeoutError)


def test_a_gate_that_expires_gives_its_default(log: EventLog, clock: FakeClock) -> None:
    @flow
    def gated() -> Any:
        return wait(name="gate", expires_in=timedelta(minutes=1), default="nobody")

    handle = gated.run()
    asked(log, handle, "gate")
    clock.advance(60)
    assert handle.wait(PATIENCE) == "nobody"


def test_a_default_of_none_is_a_default(log: EventLog, clock: FakeClock) -> None:
    @flow
    def gated() -> Any:
        return [wait(schema=int | None, name="n", expires_in=1, default=None)]

    handle = gated.run()
    asked(log, handle, "n")
    clock.advance(1)
    assert handle.wait(PATIENCE) == [None]


def test_a_suspended_wait_expires_too(log: EventLog, clock: FakeClock) -> None:
    @flow
    def gated() -> Any:
        return wait(schema=int, name="n", timeout=0, expires_in=60, default=4)

    handle = gated.run()
    exec_id = suspended(log, handle, "n")
    clock.advance(60)
    assert gone_on(log, gated, exec_id) == 4


def test_a_wait_that_has_expired_takes_no_answer(log: EventLog, clock: FakeClock) -> None:
    @flow
    def gated() -> Any:
        return wait(schema=int, name="n", timeout=0, expires_in=60, default=4)

    handle = gated.run()
    exec_id = suspended(log, handle, "n")
    clock.advance(60)
    with pytest.raises(KitaruStateError, match="expired"):
        answer(log, exec_id, "n", 1)
    assert handle.wait(PATIENCE) == 4


def test_an_answer_just_before_the_expiry_is_the_answer(log: EventLog, clock: FakeClock) -> None:
    @flow
    def gated() -> Any:
        return wait(schema=int, name="n", timeout=0, expires_in=60, default=4)

    handle = gated.run()
    exec_id = suspended(log, handle, "n")
    clock.advance(59.999999)
    answer(log, exec_id, "n", 1)
    clock.advance(10)
    assert handle.wait(PATIENCE) == 1


def test_a_wait_that_expired_raises_again_when_the_body_runs_again(log: EventLog, clock: FakeClock) -> None:
    @flow
    def falls_back() -> Any:
        try:
            value = wait(schema=int, name="n", timeout=0, expires_in=60)
        except KitaruWaitExpiredError:
            value = 0
        wait(name="gate", timeout=0)
        return value

    handle = falls_back.run()
    exec_id = suspended(log, handle, "n")
    clock.advance(60)
    handle = FlowHandle(log, exec_id, falls_back, recovery.take_over(log, exec_id, falls_back))
    answer(log, suspended(log, handle, "gate"), "gate")
    assert handle.wait(PATIENCE) == 0


def test_a_retry_asks_again_what_nobody_answered_in_time(log: EventLog, clock: FakeClock) -> None:
    handle = expires.run()
    exec_id = asked(log, handle, "n")
    clock.advance(60)
    with pytest.raises(KitaruUserCodeError):
        handle.wait(PATIENCE)
    operations.retry(log, exec_id, flow=expires)
    answer(log, asked(log, handle, "n"), "n", 6)
    assert handle.wait(PATIENCE) == 6


def test_a_retry_keeps_an_answer(log: EventLog) -> None:
    @flow
    def fails_once() -> int:
        value = wait(schema=int, name="n")
        if not ran:
            ran.append(1)
            raise ValueError
        return value

    handle = fails_once.run()
    exec_id = asked(log, handle, "n")
    answer(log, exec_id, "n", 3)
    with pytest.raises(KitaruUserCodeError):
        handle.wait(PATIENCE)
    operations.retry(log, exec_id, flow=fails_once)
    assert handle.wait(PATIENCE) == 3


# --- giving up ---------------------------------------------------------------------------------------------------------


def test_an_aborted_wait_cancels_the_live_execution(log: EventLog) -> None:
    handle = asks.run()
    operations.abort_wait(log, asked(log, handle, "n"), "n")
    with pytest.raises(KitaruExecutionError, match="cancelled"):
        handle.wait(PATIENCE)
    assert handle.status == "cancelled"


def test_an_aborted_wait_cancels_the_suspended_execution_at_once(log: EventLog) -> None:
    handle = leaves.run()
    exec_id = suspended(log, handle, "n")
    operations.abort_wait(log, exec_id, "n", by="Ada")
    assert types_of(log, exec_id)[-3:] == ["WaitAborted", "CancelRequested", "ExecutionCancelled"]


def test_an_abort_is_never_seen_by_the_body(log: EventLog) -> None:
    @flow
    def catches() -> None:
        try:
            wait(name="gate")
        except Exception as error:
            ran.append(error)

    handle = catches.run()
    operations.abort_wait(log, asked(log, handle, "gate"), "gate")
    with pytest.raises(KitaruExecutionError):
        handle.wait(PATIENCE)
    assert ran == []


# --- where it may be called, and with what -----------------------------------------------------------------------------


def test_wait_in_an_async_flow_names_wait_async() -> None:
    @flow
    async def wrong() -> None:
        wait(name="gate")

    with pytest.raises(KitaruUserCodeError, match=r"use kitaru\.wait_async") as failed:
        wrong.run().wait(PATIENCE)
    assert isinstance(failed.value.__cause__, KitaruContextError)


def test_sleep_in_an_async_flow_names_sleep_async() -> None:
    @flow
    async def wrong() -> None:
        kitaru.sleep(1)

    with pytest.raises(KitaruUserCodeError, match=r"use kitaru\.sleep_async"):
        wrong.run().wait(PATIENCE)


def test_wait_outside_a_flow_is_a_context_error() -> None:
    with pytest.raises(KitaruContextError, match="outside a flow"):
        wait(name="gate")


def test_wait_inside_a_checkpoint_is_a_context_error() -> None:
    @checkpoint
    def waits() -> None:
        wait(name="gate")

    @flow
    def tried() -> None:
        waits()

    with pytest.raises(KitaruUserCodeError, match="inside the checkpoint") as failed:
        tried.run().wait(PATIENCE)
    assert isinstance(failed.value.__cause__, KitaruContextError)


WRONG: list[dict[str, Any]] = [
    {"name": ""},
    {"name": "a/b"},
    {"name": 5},
    {"name": "x" * 300},
    {"schema": 5},
    {"schema": object()},
    {"schema": "NoSuchType"},
    {"schema": threading.Lock},
    {"timeout": -1},
    {"timeout": float("nan")},
    {"timeout": "soon"},
    {"expires_in": -1},
    {"expires_in": float("inf")},
    {"expires_in": 1e300},
    {"default": 1},
    {"schema": int, "default": "one", "expires_in": 1},
    {"question": threading.Lock()},
    {"metadata": {"lock": threading.Lock()}},
]


@pytest.mark.parametrize("given", WRONG, ids=[f"{number}-{'-'.join(given)}" for number, given in enumerate(WRONG)])
def test_wrong_arguments_are_refused_and_open_nothing(log: EventLog, given: dict[str, Any]) -> None:
    @flow
    def wrong() -> None:
        wait(**given)

    handle = wrong.run()
    with pytest.raises(KitaruUserCodeError) as failed:
        handle.wait(PATIENCE)
    assert isinstance(failed.value.__cause__, ValueError), repr(failed.value.__cause__)
    assert types_of(log, handle.exec_id) == ["ExecutionFailed"]


def test_waiting_for_as_long_as_it_takes(log: EventLog) -> None:
    @flow
    def patient() -> list[Any]:
        return [wait(schema=int, name="a", timeout=None), wait(schema=int, name="b", timeout=float("inf"))]

    handle = patient.run()
    for name in ("a", "b"):
        answer(log, asked(log, handle, name), name, 1)
    assert handle.wait(PATIENCE) == [1, 1]


# --- what the store does to it -----------------------------------------------------------------------------------------


def test_a_wait_whose_store_fails_never_raises_into_the_body(log: EventLog) -> None:
    from kitaru.domain.errors import KitaruBackendError

    class Failing:
        def __init__(self) -> None:
            self.fails = False

        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def head(self, exec_id: str) -> Any:
            if self.fails:
                raise KitaruBackendError("the disk is gone")
            return log.head(exec_id)

    @flow
    def catches() -> None:
        try:
            wait(name="gate")
        except Exception as error:
            ran.append(error)

    from tests.runtime.crashing import queue

    failing: Any = Failing()
    exec_id = queue(log, catches)
    runner = recovery.take_over(failing, exec_id, catches)
    assert runner is not None
    until(log, lambda: pending(log, exec_id) == ["gate"])
    failing.fails = True
    log.execute(exec_id, _tagged(), 1)
    assert runner.done.wait(PATIENCE)
    assert (ran, isinstance(runner.error, KitaruError)) == ([], True)


def _tagged() -> Any:
    from kitaru.domain.commands import ChangeTags

    return ChangeTags(("x",), (), "me")


def test_a_question_longer_than_what_stands_inline_is_kept(log: EventLog) -> None:
    @flow
    def long() -> Any:
        return wait(schema=int, name="n", question="q" * 100_000)

    handle = long.run()
    exec_id = asked(log, handle, "n")
    (opened,) = of_type(log, exec_id, WaitOpened)
    assert opened.question is not None
    assert decode(log.load(opened.question)) == "q" * 100_000
    answer(log, exec_id, "n", 1)
    assert handle.wait(PATIENCE) == 1


def test_a_large_answer_comes_back(log: EventLog) -> None:
    @flow
    def large() -> int:
        return len(wait(schema=str, name="text"))

    handle = large.run()
    answer(log, asked(log, handle, "text"), "text", "x" * 1_000_000)
    assert handle.wait(PATIENCE) == 1_000_000


def test_an_answer_past_the_payload_limit_is_refused_and_the_wait_stays(log: EventLog) -> None:
    @flow
    def large() -> int:
        return len(wait(schema=str, name="text"))

    handle = large.run()
    exec_id = asked(log, handle, "text")
    with pytest.raises(KitaruUsageError):
        answer(log, exec_id, "text", "x" * (64 * 1024 * 1024 + 1))
    answer(log, exec_id, "text", "")
    assert handle.wait(PATIENCE) == 0


def test_a_failure_while_a_wait_is_open_closes_it(log: EventLog) -> None:
    @flow
    async def fails() -> None:
        import asyncio

        task = asyncio.ensure_future(kitaru.wait_async(name="gate"))
        while not task.done() and not pending(log, kitaru.current_execution_id()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        raise ValueError("meanwhile")

    handle = fails.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait(PATIENCE)
    assert pending(log, handle.exec_id) == []
    assert len(of_type(log, handle.exec_id, ExecutionFailed)) == 1
    with pytest.raises(KitaruStateError):
        answer(log, handle.exec_id, "gate")


def test_a_process_that_only_waits_knows_what_it_waits_for(log: EventLog) -> None:
    handle = asks.run()
    exec_id = asked(log, handle, "n")
    assert process.find(log.location, exec_id) is not None
    answer(log, exec_id, "n", 1)
