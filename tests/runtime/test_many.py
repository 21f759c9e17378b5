"""Calls beside the flow's body: submit, map and product, in plain and in async flows."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.errors import KitaruContextError, KitaruUsageError
from kitaru.domain.events import AttemptStarted
from kitaru.runtime.futures import CheckpointFuture, FutureList
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import detail_of, events_of, ids_of, of_type


@checkpoint
def add(x: Any, y: Any = 0) -> Any:
    return x + y


@checkpoint
async def aadd(x: Any, y: Any = 0) -> Any:
    await asyncio.sleep(0)
    return x + y


@checkpoint
def slower_first(x: int) -> int:
    time.sleep(0.02 if x == 0 else 0)
    return x


@checkpoint
def total(values: list[int]) -> int:
    return sum(values)


@checkpoint
def odd_fails(x: int) -> int:
    if x % 2:
        raise ValueError(x)
    return x


def value_of(body: Any) -> Any:
    return flow(body).run().wait(PATIENCE)


def cause_of(body: Any) -> BaseException:
    with pytest.raises(kitaru.KitaruExecutionError) as raised:
        value_of(body)
    assert raised.value.__cause__ is not None
    return raised.value.__cause__


# --- submit ------------------------------------------------------------------------------------------------------------


def test_submit_gives_a_future_with_the_value() -> None:
    def body() -> list[Any]:
        future = add.submit(1, y=2)
        assert isinstance(future, CheckpointFuture)
        return [future.result(), future.load(), future.wait(), future.done()]

    assert value_of(body) == [3, 3, True, True]


def test_submitted_calls_run_at_the_same_time() -> None:
    together = threading.Barrier(4)

    @checkpoint
    def meets() -> int:
        return together.wait(PATIENCE) * 0

    assert value_of(lambda: [f.result() for f in [meets.submit() for _ in range(4)]]) == [0] * 4


def test_a_result_that_is_not_there_in_time_is_a_timeout_error_that_cancels_nothing() -> None:
    opened = threading.Event()

    @checkpoint
    def waits() -> int:
        opened.wait(PATIENCE)
        return 4

    def body() -> list[Any]:
        future = waits.submit()
        found: list[Any] = [future.wait(0.01)]
        try:
            future.result(0.01)
        except TimeoutError:
            found.append("timeout")
        opened.set()
        return [*found, future.result()]

    assert value_of(body) == [False, "timeout", 4]


def test_a_futures_exception_is_raised_as_it_was_and_as_often_as_it_is_asked() -> None:
    def body() -> list[str]:
        future = odd_fails.submit(1)
        found = []
        for _ in range(2):
            try:
                future.result()
            except ValueError as error:
                found.append(repr(error))
        return found

    assert value_of(body) == ["ValueError(1)"] * 2


def test_an_async_checkpoint_may_be_submitted_in_a_plain_flow() -> None:
    assert value_of(lambda: aadd.submit(1, 2).result()) == 3


# --- map and product ---------------------------------------------------------------------------------------------------


def test_map_zips_and_gives_results_in_input_order() -> None:
    assert value_of(lambda: slower_first.map(range(5)).result()) == [0, 1, 2, 3, 4]


def test_map_takes_several_iterables_and_constants() -> None:
    assert value_of(lambda: [add.map([1, 2], [10, 20]).result(), add.map([1, 2], y=5).load()]) == [[11, 22], [6, 7]]


def test_map_takes_any_iterable_once() -> None:
    assert value_of(lambda: add.map(iter("ab"), y="!").result()) == ["a!", "b!"]


def test_map_of_nothing_is_nothing() -> None:
    assert value_of(lambda: add.map([]).result()) == []


def test_product_moves_the_last_iterable_fastest() -> None:
    assert value_of(lambda: add.product("ab", "xyz").result()) == ["ax", "ay", "az", "bx", "by", "bz"]


def test_map_gives_a_list_of_futures_that_can_be_indexed_sliced_and_counted() -> None:
    def body() -> list[Any]:
        many = add.map([1, 2, 3])
        assert isinstance(many[1:], FutureList)
        return [len(many), many[0].result(), many[-1].result(), many[1:].result(), [f.result() for f in many], many.wait()]

    assert value_of(body) == [3, 1, 3, [2, 3], [1, 2, 3], True]


def test_map_takes_its_ids_in_input_order(log: EventLog) -> None:
    def body() -> list[str]:
        return [future.invocation_id for future in add.map([1, 2, 3])]

    assert value_of(body) == ["add", "add_2", "add_3"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: add.map([1], [1, 2]), "unequal"),
        (lambda: add.map(), "at least one"),
        (lambda: add.product(), "at least one"),
        (lambda: add.map(5), "iterables"),
        (lambda: add.map(range(10_001)), "10000"),
        (lambda: add.product(range(101), range(100)), "10000"),
        (lambda: add.map(iter(int, 1)), "10000"),
        (lambda: add.map([1, 2], id="mine"), "id"),
        (lambda: add.product([1, 2], id="mine"), "id"),
    ],
    ids=[
        "unequal",
        "map-nothing",
        "product-nothing",
        "no-iterable",
        "many",
        "many-product",
        "endless",
        "map-id",
        "product-id",
    ],
)
def test_wrong_maps_are_refused_before_anything_starts(log: EventLog, call: Any, says: str) -> None:
    handle = flow(lambda: call() and None).run()
    with pytest.raises(kitaru.KitaruUserCodeError, match=says) as raised:
        handle.wait(PATIENCE)
    assert isinstance(raised.value.__cause__, KitaruUsageError)
    assert ids_of(log, handle.exec_id) == []


def test_a_map_of_10_000_is_allowed() -> None:
    handle = flow(lambda: sum(add.map(range(10_000)).result())).run()
    assert handle.wait(60) == sum(range(10_000))


def test_the_first_exception_in_input_order_is_raised() -> None:
    error = cause_of(lambda: odd_fails.map([2, 5, 4, 3]).result())
    assert repr(error) == "ValueError(5)"


def test_the_other_calls_of_a_map_end_although_one_failed(log: EventLog) -> None:
    handle = flow(lambda: odd_fails.map([1, 2, 3, 4]).result()).run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait(PATIENCE)
    assert sorted(call.status for call in detail_of(log, handle.exec_id).calls.values()) == [
        *["completed"] * 2,
        *["failed"] * 2,
    ]


# --- futures as arguments ----------------------------------------------------------------------------------------------


def parents_of(log: EventLog, exec_id: str, invocation_id: str) -> list[str]:
    opened = {e.call: e for e in of_type(log, exec_id, AttemptStarted) if e.invocation_id is not None}
    (call,) = [e for e in opened.values() if e.invocation_id == invocation_id]
    return [str(opened[parent].invocation_id) for parent in call.parents]


def test_a_future_as_an_argument_is_awaited_and_becomes_a_parent(log: EventLog) -> None:
    def body() -> int:
        first = add.submit(1)
        return add.submit(first, y=add.submit(5)).result()

    handle = flow(body).run()
    assert handle.wait(PATIENCE) == 6
    assert parents_of(log, handle.exec_id, "add_3") == ["add", "add_2"]


def test_a_list_of_futures_as_an_argument_is_the_list_of_values(log: EventLog) -> None:
    handle = flow(lambda: total(add.map([1, 2, 3]))).run()
    assert handle.wait(PATIENCE) == 6
    assert sorted(parents_of(log, handle.exec_id, "total")) == ["add", "add_2", "add_3"]


def test_mapping_over_futures_gives_each_call_its_own_parent(log: EventLog) -> None:
    handle = flow(lambda: aadd.map(add.map([1, 2]), y=10).result()).run()
    assert handle.wait(PATIENCE) == [11, 12]
    assert [parents_of(log, handle.exec_id, ident) for ident in ("aadd", "aadd_2")] == [["add"], ["add_2"]]


def test_a_future_given_twice_is_one_parent(log: EventLog) -> None:
    def body() -> int:
        first = add.submit(1)
        return add(first, first)

    handle = flow(body).run()
    assert handle.wait(PATIENCE) == 2
    assert parents_of(log, handle.exec_id, "add_2") == ["add"]


def test_a_failed_future_as_an_argument_fails_the_call_before_it_begins(log: EventLog) -> None:
    handle = flow(lambda: add(odd_fails.submit(1))).run()
    with pytest.raises(kitaru.KitaruUserCodeError, match="ValueError"):
        handle.wait(PATIENCE)
    assert ids_of(log, handle.exec_id) == ["odd_fails"]


def test_a_long_chain_of_futures_does_not_use_up_the_threads() -> None:
    def body() -> int:
        last = add.submit(0, 1)
        for _ in range(200):
            last = add.submit(last, 1)
        return last.result()

    assert value_of(body) == 201


def test_the_digest_of_a_call_with_futures_is_that_of_their_values(log: EventLog) -> None:
    def with_future() -> int:
        return add(total.submit([1, 2]))

    def with_value() -> int:
        return add(total([1, 2]))

    digests = set()
    for body in (with_future, with_value):
        handle = flow(body).run()
        handle.wait(PATIENCE)
        digests.add(next(e.input_digest for e in of_type(log, handle.exec_id, AttemptStarted) if e.name == "add"))
    assert len(digests) == 1


# --- load --------------------------------------------------------------------------------------------------------------


def test_results_keep_their_places_under_load(log: EventLog) -> None:
    def body() -> list[list[int]]:
        return [add.map(range(100), y=offset).result() for offset in range(0, 1000, 100)]

    handle = flow(body).run()
    assert handle.wait(PATIENCE) == [list(range(o, o + 100)) for o in range(0, 1000, 100)]
    assert len(events_of(log, handle.exec_id)) == 2003


def test_several_flows_at_once_keep_their_results_apart() -> None:
    @flow
    def body(offset: int) -> list[int]:
        return add.map(range(20), y=offset).result()

    handles = [body.run(offset * 100) for offset in range(8)]
    assert [handle.wait(PATIENCE) for handle in handles] == [[o * 100 + i for i in range(20)] for o in range(8)]


# --- async flows -------------------------------------------------------------------------------------------------------


def test_in_an_async_flow_maps_and_futures_are_awaited() -> None:
    async def body() -> list[Any]:
        many = aadd.map([1, 2, 3])
        single = add.submit(4)
        return [await many, await single, await add.map([5, 6])]

    assert value_of(body) == [[1, 2, 3], 4, [5, 6]]


@pytest.mark.parametrize("verb", ["result", "wait", "load"])
def test_in_an_async_flow_blocking_on_a_running_future_is_refused(verb: str) -> None:
    async def body() -> None:
        getattr(aadd.submit(1), verb)()

    error = cause_of(body)
    assert isinstance(error, KitaruContextError)
    assert "await" in str(error)


def test_in_an_async_flow_a_future_that_is_done_may_be_asked() -> None:
    async def body() -> int:
        future = aadd.submit(1)
        await future
        return future.result()

    assert value_of(body) == 1


def test_in_an_async_flow_futures_as_arguments_are_awaited(log: EventLog) -> None:
    async def body() -> list[Any]:
        first = aadd.submit(1)
        thread = add.submit(2)
        return [await aadd(first, thread), await aadd.map([first, thread], y=10), await add.submit(first, y=thread)]

    assert value_of(body) == [3, [11, 12], 3]


def test_async_submitted_calls_run_at_the_same_time() -> None:
    here: list[int] = []

    @checkpoint
    async def meets() -> int:
        here.append(1)
        while len(here) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return 1

    async def body() -> list[int]:
        return [await future for future in [meets.submit() for _ in range(4)]]

    assert value_of(body) == [1] * 4


def test_a_futures_exception_rises_where_it_is_awaited() -> None:
    async def body() -> list[str]:
        found = []
        for future in odd_fails.map([1, 2, 3]):
            try:
                await future
            except ValueError as error:
                found.append(repr(error))
        return found

    assert value_of(body) == ["ValueError(1)", "ValueError(3)"]
