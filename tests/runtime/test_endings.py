"""How executions end: by value, by exception of any kind, by what was left un-awaited; and what the handle says of it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.errors import KitaruContextError
from kitaru.domain.events import ExecutionFailed
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
