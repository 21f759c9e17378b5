"""Checkpoint calls: their ids, where they may be made, what they take, and how their exceptions travel."""

from __future__ import annotations

import asyncio
import threading
from types import ModuleType
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.errors import KitaruContextError, KitaruUsageError
from kitaru.domain.events import AttemptStarted
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import ids_of, of_type

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@checkpoint
def step(x: object = 0, y: object = 1) -> object:
    ran.append(x)
    return x


@checkpoint
def forgets(x: object, y: object = 1) -> None: ...


@checkpoint
async def astep(x: object = 0) -> object:
    return x


@checkpoint(type="tool_call")
def typed() -> None: ...


@checkpoint
def takes_id(id: str) -> str:
    return id


def value_of(body: Any) -> Any:
    """The value of a flow with this body."""
    return flow(body).run().wait(PATIENCE)


def cause_of(body: Any) -> BaseException:
    """What a flow with this body raises."""
    with pytest.raises(kitaru.KitaruExecutionError) as raised:
        value_of(body)
    assert raised.value.__cause__ is not None
    return raised.value.__cause__


def ids_made(log: EventLog, body: Any) -> list[str]:
    handle = flow(body).run()
    handle.wait(PATIENCE)
    return ids_of(log, handle.exec_id)


# --- ids ---------------------------------------------------------------------------------------------------------------


def test_ids_are_the_name_and_then_numbered_from_two(log: EventLog) -> None:
    def body() -> None:
        step(), step(), typed(), step()

    assert ids_made(log, body) == ["step", "step_2", "typed", "step_3"]


def test_an_id_can_be_pinned(log: EventLog) -> None:
    def body() -> None:
        step(id="mine"), step(), step(id="step_2"), step()

    assert ids_made(log, body) == ["mine", "step", "step_2", "step_3"]


def test_a_pinned_id_can_be_submitted(log: EventLog) -> None:
    def body() -> None:
        step.submit(1, id="mine").result()

    assert ids_made(log, body) == ["mine"]


def test_a_pinned_id_that_is_taken_is_refused() -> None:
    def body() -> None:
        step()
        step(id="step")

    assert isinstance(cause_of(body), KitaruUsageError)


@pytest.mark.parametrize("ident", ["", "a/b", 5, None, "a\nb", "x" * 300], ids=repr)
def test_a_pinned_id_that_is_no_id_is_refused(ident: Any) -> None:
    def body() -> None:
        step(id=ident)

    assert isinstance(cause_of(body), KitaruUsageError)


def test_a_parameter_named_id_is_a_parameter(log: EventLog) -> None:
    assert value_of(lambda: takes_id(id="x")) == "x"


def test_checkpoints_of_one_name_in_two_modules_count_together(log: EventLog) -> None:
    others = []
    for name in ("one", "two"):
        module = ModuleType(name)
        exec("def step(): return __name__", module.__dict__)
        others.append(checkpoint(module.step))
    one, two = others

    def body() -> list[str]:
        return [one(), two(), one()]

    handle = flow(body).run()
    assert handle.wait(PATIENCE) == ["one", "two", "one"]
    assert ids_of(log, handle.exec_id) == ["step", "step_2", "step_3"]


def test_ids_are_taken_when_a_call_is_made_not_when_it_runs() -> None:
    async def body() -> list[str]:
        calls = [astep(x) for x in "abc"]
        futures = [astep.submit("d")]
        values = [await call for call in reversed(calls)]
        return [*values, await futures[0]]

    handle = flow(body).run()
    assert handle.wait(PATIENCE) == ["c", "b", "a", "d"]


def test_calls_in_tasks_carry_the_tasks_path(log: EventLog) -> None:
    async def body() -> None:
        async def branch() -> None:
            await astep()
            await asyncio.gather(astep(), astep())

        await astep()
        await asyncio.gather(branch(), branch())

    assert sorted(ids_made(log, body)) == sorted(
        ["astep", "1/astep", "2/astep", "1/astep_2", "1/astep_3", "2/astep_2", "2/astep_3"]
    )


def test_a_checkpoint_type_is_recorded(log: EventLog) -> None:
    handle = flow(lambda: typed()).run()
    handle.wait(PATIENCE)
    assert of_type(log, handle.exec_id, AttemptStarted)[0].checkpoint_type == "tool_call"


# --- where -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call", [lambda: step(), lambda: step.submit(), lambda: step.map([1]), lambda: step.product([1]), lambda: astep()]
)
def test_outside_a_flow_a_call_is_refused(call: Any) -> None:
    with pytest.raises(KitaruContextError, match="outside a flow") as raised:
        call()
    assert raised.value.code == "outside-flow"


def test_inside_another_checkpoint_a_call_is_refused() -> None:
    @checkpoint
    def outer() -> None:
        step()

    error = cause_of(lambda: outer())
    assert (type(error), getattr(error, "code", "")) == (KitaruContextError, "inside-checkpoint")


def test_in_a_thread_of_ones_own_a_call_is_refused_and_says_submit() -> None:
    found: list[BaseException] = []

    def call() -> None:
        try:
            step()
        except BaseException as error:
            found.append(error)

    def body() -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    value_of(body)
    assert isinstance(found[0], KitaruContextError)
    assert "submit" in str(found[0])


def test_in_to_thread_a_call_is_refused_and_says_submit() -> None:
    async def body() -> None:
        await asyncio.to_thread(step)

    error = cause_of(body)
    assert (type(error), getattr(error, "code", "")) == (KitaruContextError, "foreign-thread")
    assert "submit" in str(error)


def test_an_async_checkpoint_called_in_a_plain_flow_is_refused_and_says_submit() -> None:
    error = cause_of(lambda: astep())
    assert isinstance(error, KitaruContextError)
    assert "astep.submit" in str(error)


def test_a_checkpoint_on_a_method_is_refused_where_it_is_called() -> None:
    class Tool:
        @checkpoint
        def use(self) -> None: ...

    assert isinstance(cause_of(lambda: Tool().use()), KitaruUsageError)


def test_a_plain_checkpoint_may_be_called_in_an_async_flow() -> None:
    async def body() -> object:
        return step(5)

    assert value_of(body) == 5


# --- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": 1.0},
        {"retries": True},
        {"retry_delay": -1},
        {"retry_delay": float("nan")},
        {"retry_delay": "1"},
        {"retry_backoff": -1},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"retry_on": "ValueError"},
        {"retry_on": (ValueError, 5)},
        {"retry_on": BaseException},
        {"cache": 1},
        {"type": ""},
        {"runtime": "moon"},
        {"runtime": None},
    ],
    ids=repr,
)
def test_wrong_options_are_refused_when_decorated(options: Any) -> None:
    with pytest.raises(KitaruUsageError):
        checkpoint(**options)(lambda: None)


@pytest.mark.parametrize("thing", [5, int, "text", print])
def test_only_a_function_becomes_a_checkpoint(thing: Any) -> None:
    with pytest.raises(KitaruUsageError, match="function"):
        checkpoint(thing)


def test_a_lambda_with_a_slash_in_its_name_is_refused() -> None:
    def named() -> None: ...

    named.__name__ = "a/b"
    with pytest.raises(KitaruUsageError):
        checkpoint(named)


# --- arguments ---------------------------------------------------------------------------------------------------------


def digest_of_call(log: EventLog, body: Any) -> str:
    handle = flow(body).run()
    handle.wait(PATIENCE)
    digest = of_type(log, handle.exec_id, AttemptStarted)[0].input_digest
    assert digest is not None
    return digest


def test_the_input_digest_is_the_same_however_the_arguments_are_written(log: EventLog) -> None:
    calls = [lambda: step(1), lambda: step(1, 1), lambda: step(x=1), lambda: step(y=1, x=1), lambda: step(1, y=1)]
    assert len({digest_of_call(log, call) for call in calls}) == 1


def test_the_input_digest_differs_by_value_and_by_type(log: EventLog) -> None:
    values: list[Any] = [1, 1.0, True, "1", b"1", [1], (1,), {1}, {"1": 1}, {1: 1}, None]
    assert len({digest_of_call(log, lambda value=value: step(value)) for value in values}) == len(values)


@pytest.mark.parametrize("args", [(1, 2, 3), ()], ids=["too-many", "missing"])
def test_arguments_that_do_not_bind_are_a_type_error_in_the_flow(args: Any) -> None:
    @checkpoint
    def one(x: int) -> int:
        return x

    assert isinstance(cause_of(lambda: one(*args)), TypeError)


def test_an_argument_that_does_not_encode_is_recorded_as_opaque(log: EventLog) -> None:
    handle = flow(lambda: forgets(threading.Lock(), 5)).run()
    handle.wait(PATIENCE)
    assert of_type(log, handle.exec_id, AttemptStarted)[0].opaque == ("x",)


def test_an_opaque_argument_reaches_the_body_as_it_is() -> None:
    lock = threading.Lock()

    @checkpoint
    def same(it: object) -> bool:
        return it is lock

    assert value_of(lambda: same(lock)) is True


def test_an_opaque_argument_stands_in_the_digest_by_its_type(log: EventLog) -> None:
    locks = {digest_of_call(log, lambda: forgets(threading.Lock())) for _ in range(2)}
    events = {digest_of_call(log, lambda: forgets(threading.Event()))}
    assert (len(locks), len(locks | events)) == (1, 2)


def test_an_argument_changed_by_the_body_does_not_change_the_digest(log: EventLog) -> None:
    @checkpoint
    def grows(items: list[int]) -> list[int]:
        items.append(1)
        return items

    def body() -> list[int]:
        return grows([0])

    handle = flow(body).run()
    handle.wait(PATIENCE)
    first = of_type(log, handle.exec_id, AttemptStarted)[0].input_digest
    assert first == digest_of_call(log, body)


# --- what comes back ---------------------------------------------------------------------------------------------------


@checkpoint(retries=3)
def returns_a_lock() -> object:
    ran.append(1)
    return {"client": threading.Lock()}


def test_a_result_that_does_not_encode_is_refused_with_type_and_path() -> None:
    error = cause_of(lambda: returns_a_lock())
    assert "_thread.lock at $.client" in str(error)


def test_a_result_that_does_not_encode_is_not_tried_again() -> None:
    cause_of(lambda: returns_a_lock())
    assert ran == [1]


def test_a_result_of_a_gigabyte_fails_the_call_and_says_what_to_do() -> None:
    @checkpoint
    def huge() -> bytes:
        return bytes(1_000_000_000)

    assert "write it to a file" in str(cause_of(lambda: huge()))
