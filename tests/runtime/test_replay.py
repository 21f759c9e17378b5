"""Replay: what is taken over from the old execution, what runs again, and what is no replay at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow, wait, wait_async
from kitaru.domain.errors import (
    KitaruDivergenceError,
    KitaruError,
    KitaruNotFoundError,
    KitaruRuntimeError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.domain.events import CheckpointReused, ExecutionStarted
from kitaru.domain.ids import call_id
from kitaru.domain.limits import MAX_TAGS
from kitaru.runtime import operations, process, recovery
from kitaru.runtime.handle import FlowHandle
from kitaru.runtime.replaying import replay
from kitaru.store.log import EventLog
from kitaru.store.values import decode
from kitaru.testing import FakeClock
from tests.runtime.crashing import PATIENCE, CrashingLog, copy_of, prefixes, run_on
from tests.runtime.records import events_of, ids_of, of_type, types_of
from tests.runtime.waiting import answer, asked, gone_on, pending, suspended

ran: list[Any] = []
changed: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def nothing_left(store: Path) -> Iterator[None]:
    ran.clear()
    changed.clear()
    yield
    process.stop_all()


@checkpoint
def add(x: int, y: int = 1) -> int:
    ran.append(("add", x, y))
    return x + y


@checkpoint
def mul(x: int, y: int) -> int:
    ran.append(("mul", x, y))
    return x * y


@checkpoint
def opaque(client: Any) -> str:
    ran.append(("opaque",))
    return "called"


@flow
def three(n: int) -> list[int]:
    a = add(n)
    b = mul(a, 3)
    return [a, b, add(b, 100)]


@pytest.fixture
def old(log: EventLog) -> str:
    """A completed execution of `three`, whose calls are add, mul and add_2."""
    handle = three.run(1)
    assert handle.wait(PATIENCE) == [2, 6, 106]
    ran.clear()
    return handle.exec_id


# --- beside the cache ----------------------------------------------------------------------------------------------------


@checkpoint(cache=True)
def drawn(x: int) -> int:
    ran.append(("drawn", x))
    return x + len(ran)


@flow
def draws(n: int) -> list[int]:
    return [drawn(n), *([drawn(n + 1)] if n else [])]


def test_the_chosen_call_runs_although_its_result_is_cached(log: EventLog) -> None:
    old = draws.run(0)
    assert old.wait(PATIENCE) == [1]
    assert draws.replay(old.exec_id, from_="drawn").wait(PATIENCE) == [2]
    assert ran == [("drawn", 0), ("drawn", 0)]


def test_an_override_outranks_a_cached_result(log: EventLog) -> None:
    old = draws.run(0)
    assert old.wait(PATIENCE) == [1]
    replayed = draws.replay(old.exec_id, from_="drawn", overrides={"checkpoint.drawn": 70})
    assert replayed.wait(PATIENCE) == [70]


def test_a_call_that_the_old_execution_never_made_may_be_cached(log: EventLog) -> None:
    assert draws.run(1).wait(PATIENCE) == [2, 4]
    old = draws.run(0)
    old.wait(PATIENCE)
    ran.clear()
    assert draws.replay(old.exec_id, from_="drawn", n=1).wait(PATIENCE) == [2, 4]
    assert ran == [("drawn", 1)]


# --- where it begins -----------------------------------------------------------------------------------------------------


def test_what_was_called_before_is_taken_over_and_the_rest_runs(log: EventLog, old: str) -> None:
    handle = three.replay(old, from_="mul")
    assert handle.wait(PATIENCE) == [2, 6, 106]
    assert ran == [("mul", 2, 3), ("add", 6, 100)]


@pytest.mark.parametrize("selector", ["mul", "{}.c2"])
def test_a_call_is_named_by_its_name_or_its_call_id(old: str, selector: str) -> None:
    assert three.replay(old, from_=selector.format(old)).wait(PATIENCE) == [2, 6, 106]
    assert ran == [("mul", 2, 3), ("add", 6, 100)]


def test_a_call_is_named_by_its_invocation_id(old: str) -> None:
    assert three.replay(old, from_="add_2").wait(PATIENCE) == [2, 6, 106]
    assert ran == [("add", 6, 100)]


def test_from_the_first_call_everything_runs(old: str) -> None:
    three.replay(old, from_=call_id(old, 1)).wait(PATIENCE)
    assert len(ran) == 3


def test_a_name_of_several_calls_asks_for_a_call_id(log: EventLog, old: str) -> None:
    before = log.last_position()
    with pytest.raises(KitaruStateError, match=f"{old}.c1, {old}.c3"):
        three.replay(old, from_="add")
    assert log.last_position() == before


@pytest.mark.parametrize("selector", ["sub", "add_3", "{}.c4", "{}.c0", "", "x.c1"])
def test_an_unknown_call_is_refused_with_the_names(log: EventLog, old: str, selector: str) -> None:
    before = log.last_position()
    with pytest.raises(KitaruStateError, match="'add', 'mul', 'add_2'"):
        three.replay(old, from_=selector.format(old))
    assert log.last_position() == before


def test_an_unknown_execution_is_not_found() -> None:
    with pytest.raises(KitaruNotFoundError):
        three.replay("00000000-0000-7000-8000-000000000000", from_="add")


def test_a_flow_of_another_name_is_refused_with_both_names(log: EventLog, old: str) -> None:
    before = log.last_position()
    with pytest.raises(KitaruUsageError, match=r"of the flow 'three', not of 'draws'.*three\.replay.*name='three'"):
        draws.replay(old, from_="add_2")
    assert log.last_position() == before


@pytest.mark.parametrize("from_", [3, None, b"mul", add])
def test_a_from_that_is_no_text_is_refused(log: EventLog, old: str, from_: Any) -> None:
    before = log.last_position()
    with pytest.raises(KitaruUsageError, match="from_ has to be a checkpoint's name, invocation id or call id"):
        three.replay(old, from_=from_)
    assert log.last_position() == before


def test_a_handle_in_place_of_its_id_is_refused(log: EventLog, old: str) -> None:
    handle: Any = three.replay(old, from_="mul")
    handle.wait(PATIENCE)
    before = log.last_position()
    with pytest.raises(KitaruUsageError, match=r"handle\.exec_id"):
        three.replay(handle, from_="mul")
    assert log.last_position() == before


@pytest.mark.parametrize("exec_id", [3, None, b"x", "", "\ud800", "\0"])
def test_what_cannot_be_an_execution_id_is_refused(exec_id: Any) -> None:
    with pytest.raises(KitaruUsageError, match="exec_id has to be the id of an execution"):
        three.replay(exec_id, from_="mul")


@pytest.mark.parametrize("overrides", [["checkpoint.mul"], "checkpoint.mul", {3: 1}, {None: 1}])
def test_overrides_of_another_shape_are_refused(log: EventLog, old: str, overrides: Any) -> None:
    before = log.last_position()
    with pytest.raises(KitaruUsageError, match="checkpoint"):
        three.replay(old, from_="mul", overrides=overrides)
    assert log.last_position() == before


def test_the_new_execution_names_the_old_one(log: EventLog, old: str) -> None:
    handle = three.replay(old, from_="mul")
    handle.wait(PATIENCE)
    (started,) = of_type(log, handle.exec_id, ExecutionStarted)
    assert (started.original_exec_id, started.replay_from, handle.exec_id != old) == (old, 2, True)


def test_the_old_execution_is_not_touched(log: EventLog, old: str) -> None:
    before = log.head(old)
    three.replay(old, from_="mul").wait(PATIENCE)
    assert log.head(old) == before


def test_a_call_taken_over_names_the_call_that_it_was_recorded_for(log: EventLog, old: str) -> None:
    handle = three.replay(old, from_="add_2")
    handle.wait(PATIENCE)
    assert [event.original_call_id for event in of_type(log, handle.exec_id, CheckpointReused)] == [
        call_id(old, 1),
        call_id(old, 2),
    ]


def test_options_tags_and_metadata_are_the_old_ones(log: EventLog) -> None:
    handle = three.options(tags=["nightly"], metadata={"tier": "gold"}, idempotency_key="k").run(1)
    handle.wait(PATIENCE)
    again = three.replay(handle.exec_id, from_="mul")
    again.wait(PATIENCE)
    (before,), (after,) = (of_type(log, each, ExecutionStarted) for each in (handle.exec_id, again.exec_id))
    assert (after.tags, after.metadata, after.options) == (before.tags, before.metadata, before.options)
    assert after.idempotency_key is None


def started_by(log: EventLog, handle: FlowHandle[Any]) -> ExecutionStarted:
    handle.wait(PATIENCE)
    return of_type(log, handle.exec_id, ExecutionStarted)[0]


@flow(tags=["own"])
def tagged(n: int) -> int:
    return add(n)


def test_options_given_to_a_replay_are_put_on_the_old_ones(log: EventLog) -> None:
    first = tagged.options(tags=["a"], metadata={"k": 1, "in": {"x": 1}}, max_cost_usd=1, max_tokens=10).run(1)
    first.wait(PATIENCE)
    given = tagged.options(tags=["b", "a"], metadata={"l": 2, "in": {"y": 2}}, idempotency_key="again", max_cost_usd=3)
    after = started_by(log, given.replay(first.exec_id, from_="add"))
    assert after.tags == ("own", "a", "b")
    assert after.metadata is not None
    assert decode(log.load(after.metadata)) == {"k": 1, "in": {"x": 1, "y": 2}, "l": 2}
    assert (after.options.max_cost_usd, after.options.max_tokens) == (3, 10)
    assert after.idempotency_key == "again"


def test_options_are_put_on_an_execution_that_has_none(log: EventLog) -> None:
    first = tagged.run(1)
    first.wait(PATIENCE)
    after = started_by(log, tagged.options(metadata={"k": 1}, max_tokens=5).replay(first.exec_id, from_="add"))
    assert after.metadata is not None
    assert decode(log.load(after.metadata)) == {"k": 1}
    assert (after.options.max_cost_usd, after.options.max_tokens) == (None, 5)


def test_a_tag_that_the_flow_was_given_since_is_not_put_on_a_replay(log: EventLog) -> None:
    @flow
    def grows(n: int) -> int:
        return add(n)

    first = grows.run(1)
    first.wait(PATIENCE)
    edited = flow(name="grows", tags=["since"])(grows.fn)
    assert started_by(log, edited.replay(first.exec_id, from_="add")).tags == ()
    assert started_by(log, edited.options(tags=["since"]).replay(first.exec_id, from_="add")).tags == ("since",)


def test_more_tags_than_are_allowed_start_no_replay(log: EventLog) -> None:
    with pytest.raises(KitaruUsageError, match="tags were given"):
        tagged.options(tags=[str(n) for n in range(MAX_TAGS - 1)]).options(tags=["x"])
    many = tagged.options(tags=[str(n) for n in range(MAX_TAGS - 1)])
    other = tagged.options(tags=["other"]).run(1)
    other.wait(PATIENCE)
    before = log.last_position()
    with pytest.raises(KitaruUsageError, match="tags were given"):
        many.replay(other.exec_id, from_="add")
    assert log.last_position() == before


def test_a_key_gives_the_same_replay_again(log: EventLog, old: str) -> None:
    keyed = three.options(idempotency_key="once")
    first, second = (keyed.replay(old, from_="mul", overrides={"checkpoint.mul": 9}) for _ in range(2))
    assert first.exec_id == second.exec_id
    assert second.wait(PATIENCE) == [2, 9, 109]


@pytest.mark.parametrize(
    "again",
    [
        lambda keyed, old: keyed.replay(old, from_="add_2"),
        lambda keyed, old: keyed.replay(old, from_="mul", overrides={"checkpoint.mul": 9}),
        lambda keyed, old: keyed.replay(old, from_="mul", n=2),
        lambda keyed, old: keyed.run(1),
    ],
    ids=["another call", "an override", "another input", "a run"],
)
def test_a_key_of_a_replay_is_refused_for_anything_else(log: EventLog, old: str, again: Any) -> None:
    keyed = three.options(idempotency_key="once")
    keyed.replay(old, from_="mul").wait(PATIENCE)
    before = log.last_position()
    with pytest.raises(KitaruStateError, match="use another key"):
        again(keyed, old)
    assert log.last_position() == before


def test_a_key_of_a_run_is_refused_for_its_replay(log: EventLog) -> None:
    keyed = three.options(idempotency_key="once")
    first = keyed.run(1)
    first.wait(PATIENCE)
    with pytest.raises(KitaruStateError, match="use another key"):
        keyed.replay(first.exec_id, from_="mul")


def test_a_failed_call_before_the_chosen_one_runs_again(log: EventLog) -> None:
    @flow
    def falls_back() -> list[int]:
        try:
            first = breaks()
        except LookupError:
            first = add(0)
        return [first, mul(first, 5)]

    @checkpoint
    def breaks() -> int:
        ran.append(("breaks",))
        if not changed:
            raise LookupError
        return 7

    handle = falls_back.run()
    assert handle.wait(PATIENCE) == [1, 5]
    ran.clear()
    changed["mended"] = True
    assert falls_back.replay(handle.exec_id, from_="mul").wait(PATIENCE) == [7, 35]
    assert ran == [("breaks",), ("mul", 7, 5)]


# --- inputs and overrides ------------------------------------------------------------------------------------------------


def test_an_input_given_anew_runs_what_depends_on_it(old: str) -> None:
    assert three.replay(old, from_="add_2", n=7).wait(PATIENCE) == [8, 24, 124]
    assert ran == [("add", 7, 1), ("mul", 8, 3), ("add", 24, 100)]


def test_a_call_whose_inputs_did_not_change_is_taken_over_behind_one_whose_did(log: EventLog) -> None:
    @flow
    def two(n: int) -> list[int]:
        return [add(n), mul(2, 3), add(0)]

    handle = two.run(1)
    handle.wait(PATIENCE)
    ran.clear()
    assert two.replay(handle.exec_id, from_="add_2", n=5).wait(PATIENCE) == [6, 6, 1]
    assert ran == [("add", 5, 1), ("add", 0, 1)]


def test_an_override_stands_in_for_a_result(old: str) -> None:
    assert three.replay(old, from_="add_2", overrides={"checkpoint.mul": 50}).wait(PATIENCE) == [2, 50, 150]
    assert ran == [("add", 50, 100)]


def test_an_override_holds_behind_the_chosen_call_too(old: str) -> None:
    overrides = {f"checkpoint.{call_id(old, 1)}": 10, "checkpoint.mul": 20, "checkpoint.add_2": 30}
    assert three.replay(old, from_=call_id(old, 1), overrides=overrides).wait(PATIENCE) == [10, 20, 30]
    assert ran == []


@pytest.mark.parametrize("key", ["mul", "wait.mul", "checkpoint", "checkpoint.", ".mul", ""])
def test_an_override_of_another_prefix_is_refused(log: EventLog, old: str, key: str) -> None:
    before = log.last_position()
    with pytest.raises(KitaruUsageError, match="checkpoint"):
        three.replay(old, from_="mul", overrides={key: 1})
    assert log.last_position() == before


def test_an_override_of_an_unknown_call_is_refused(old: str) -> None:
    with pytest.raises(KitaruStateError, match="'mul'"):
        three.replay(old, from_="mul", overrides={"checkpoint.sub": 1})


def test_an_ambiguous_override_is_refused(old: str) -> None:
    with pytest.raises(KitaruStateError, match="call id"):
        three.replay(old, from_="mul", overrides={"checkpoint.add": 1})


def test_an_override_that_does_not_encode_is_refused(log: EventLog, old: str) -> None:
    before = log.last_position()
    with pytest.raises(KitaruUsageError):
        three.replay(old, from_="mul", overrides={"checkpoint.mul": threading.Lock()})
    assert log.last_position() == before


@pytest.mark.parametrize("given", [{"m": 1}, {"n": threading.Lock()}], ids=["unknown", "not encodable"])
def test_wrong_inputs_are_refused(log: EventLog, old: str, given: dict[str, Any]) -> None:
    before = log.last_position()
    with pytest.raises(KitaruUsageError):
        three.replay(old, from_="mul", **given)
    assert log.last_position() == before


def test_an_override_keeps_its_type(old: str) -> None:
    @flow
    def told() -> Any:
        return [typed()]

    @checkpoint
    def typed() -> tuple[int, ...]:
        return (1,)

    handle = told.run()
    handle.wait(PATIENCE)
    assert told.replay(handle.exec_id, from_="typed", overrides={"checkpoint.typed": (1, 2)}).wait(PATIENCE) == [(1, 2)]


def test_a_call_with_an_argument_that_does_not_encode_runs_again(log: EventLog) -> None:
    @flow
    def uses() -> list[Any]:
        return [opaque(threading.Lock()), add(1)]

    handle = uses.run()
    handle.wait(PATIENCE)
    ran.clear()
    assert uses.replay(handle.exec_id, from_="add").wait(PATIENCE) == ["called", 2]
    assert ran == [("opaque",), ("add", 1, 1)]


def test_a_result_used_for_other_inputs_counts_for_those_it_was_computed_from(log: EventLog) -> None:
    @flow
    def edited(n: int) -> list[int]:
        first = add(n * 5 if changed else n)
        if not changed:
            raise ValueError
        return [first, mul(first, 2)]

    handle = edited.run(1)
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    changed["edited"] = True
    runner = operations.retry(log, handle.exec_id, flow=edited)
    assert runner is not None
    runner.join()
    assert handle.get() == [2, 4]
    ran.clear()
    assert edited.replay(handle.exec_id, from_="mul").wait(PATIENCE) == [6, 12]
    assert ran == [("add", 5, 1), ("mul", 6, 2)]


# --- the code goes another way -------------------------------------------------------------------------------------------


@flow
def branches(n: int) -> list[int]:
    first = add(n)
    second = mul(first, 2) if first < 5 else mul(first, 200)
    third = add(100) if first < 5 else mul(0, 0)
    return [first, second, third, add(third)]


def test_a_changed_input_may_take_another_branch(log: EventLog) -> None:
    handle = branches.run(1)
    handle.wait(PATIENCE)
    assert ids_of(log, handle.exec_id) == ["add", "mul", "add_2", "add_3"]
    assert branches.replay(handle.exec_id, from_="add_3", n=10).wait(PATIENCE) == [11, 2200, 0, 1]


def test_an_override_may_take_another_branch(log: EventLog) -> None:
    handle = branches.run(1)
    handle.wait(PATIENCE)
    again = branches.replay(handle.exec_id, from_="add_3", overrides={f"checkpoint.{call_id(handle.exec_id, 1)}": 9})
    assert again.wait(PATIENCE) == [9, 1800, 0, 1]


def test_another_answer_may_take_another_branch(log: EventLog) -> None:
    @flow
    def decides() -> list[int]:
        first = add(1)
        second = mul(first, 2) if wait(schema=bool, name="ok") else 0
        return [first, second, add(50)]

    handle = decides.run()
    answer(log, asked(log, handle, "ok"), "ok", True)
    assert handle.wait(PATIENCE) == [2, 4, 51]
    again = decides.replay(handle.exec_id, from_="add_2")
    answer(log, asked(log, again, "ok"), "ok", False)
    assert again.wait(PATIENCE) == [2, 0, 51]


def test_an_opaque_call_that_runs_again_may_take_another_branch(log: EventLog) -> None:
    @checkpoint
    def looks(client: Any) -> bool:
        return not changed

    @flow
    def decides() -> list[int]:
        return [add(1) if looks(threading.Lock()) else 0, mul(1, 1)]

    handle = decides.run()
    handle.wait(PATIENCE)
    changed["now"] = True
    assert decides.replay(handle.exec_id, from_="mul").wait(PATIENCE) == [0, 1]


@flow
def shrinks() -> list[int]:
    found = [add(1)]
    if not changed:
        found.append(mul(2, 2))
    return [*found, add(5)]


def test_code_that_no_longer_makes_a_recorded_call_is_divergence(log: EventLog) -> None:
    handle = shrinks.run()
    handle.wait(PATIENCE)
    changed["removed"] = True
    again = shrinks.replay(handle.exec_id, from_="add_2")
    with pytest.raises(KitaruDivergenceError, match="'mul'") as failed:
        again.wait(PATIENCE)
    assert failed.value.failure_origin == "divergence"
    assert again.status == "failed"


def test_a_call_behind_the_chosen_one_may_be_gone(log: EventLog) -> None:
    handle = shrinks.run()
    handle.wait(PATIENCE)
    changed["removed"] = True
    assert shrinks.replay(handle.exec_id, from_=call_id(handle.exec_id, 1)).wait(PATIENCE) == [2, 6]


def test_a_new_call_runs(log: EventLog) -> None:
    @flow
    def grows() -> list[int]:
        found = [add(1)]
        if changed:
            found.append(mul(7, 7))
        return [*found, add(5)]

    handle = grows.run()
    handle.wait(PATIENCE)
    ran.clear()
    changed["added"] = True
    assert grows.replay(handle.exec_id, from_="add_2").wait(PATIENCE) == [2, 49, 6]
    assert ran == [("mul", 7, 7), ("add", 5, 1)]


# --- waits, facts, async -------------------------------------------------------------------------------------------------


@flow
def asks() -> list[Any]:
    first = add(1)
    return [first, wait(schema=int, name="n", timeout=0), mul(first, 5)]


def test_waits_are_asked_anew(log: EventLog) -> None:
    handle = asks.run()
    answer(log, suspended(log, handle, "n"), "n", 1)
    assert handle.wait(PATIENCE) == [2, 1, 10]
    again = asks.replay(handle.exec_id, from_="mul")
    answer(log, suspended(log, again, "n"), "n", 2)
    assert again.wait(PATIENCE) == [2, 2, 10]


def test_a_waiting_execution_is_replayed_while_it_waits(log: EventLog) -> None:
    handle = asks.run()
    exec_id = suspended(log, handle, "n")
    again = asks.replay(exec_id, from_="add")
    suspended(log, again, "n")
    assert pending(log, exec_id) == ["n"]


def test_a_live_execution_is_not_replayed(log: EventLog) -> None:
    @flow
    def stays() -> Any:
        return [add(1), wait(schema=int, name="n")]

    exec_id = asked(log, stays.run(), "n")
    before = log.last_position()
    with pytest.raises(KitaruStateError, match="running"):
        stays.replay(exec_id, from_="add")
    assert log.last_position() == before


def test_timers_are_slept_anew(log: EventLog, clock: FakeClock) -> None:
    @flow
    def naps() -> list[int]:
        first = add(1)
        kitaru.sleep(60)
        return [first, mul(1, 1)]

    handle = naps.run()
    asked(log, handle, "sleep")
    clock.advance(60)
    handle.wait(PATIENCE)
    again = naps.replay(handle.exec_id, from_="mul")
    asked(log, again, "sleep")
    clock.advance(60)
    assert again.wait(PATIENCE) == [2, 1]


def test_the_body_of_a_replay_logs_and_saves_again(log: EventLog) -> None:
    @flow
    def facts() -> int:
        kitaru.log(place=1)
        kitaru.save("report", 5)
        return add(1)

    handle = facts.run()
    handle.wait(PATIENCE)
    again = facts.replay(handle.exec_id, from_="add")
    again.wait(PATIENCE)
    assert sorted(types_of(log, again.exec_id)[:2]) == ["ArtifactSaved", "MetadataLogged"]


@flow
async def gathered(n: int) -> list[int]:
    async def two(x: int) -> int:
        return await amul(await aadd(x), 10)

    return list(await asyncio.gather(*(two(x) for x in range(n))))


@checkpoint
async def aadd(x: int) -> int:
    ran.append(("aadd", x))
    await asyncio.sleep(0)
    return x + 1


@checkpoint
async def amul(x: int, y: int) -> int:
    ran.append(("amul", x))
    return x * y


def test_each_branch_of_an_async_flow_takes_its_own_results_over(log: EventLog) -> None:
    handle = gathered.run(3)
    assert handle.wait(PATIENCE) == [10, 20, 30]
    ran.clear()
    first = ids_of(log, handle.exec_id).index("2/amul") + 1
    assert gathered.replay(handle.exec_id, from_=call_id(handle.exec_id, first)).wait(PATIENCE) == [10, 20, 30]
    assert ("amul", 2) in ran
    assert not [what for what in ran if what[0] == "aadd"]


def test_an_async_replay_waits_anew(log: EventLog) -> None:
    @flow
    async def both() -> list[Any]:
        return list(await asyncio.gather(aadd(1), wait_async(schema=int, name="n")))

    handle = both.run()
    answer(log, asked(log, handle, "2/n"), "n", 5)
    assert handle.wait(PATIENCE) == [2, 5]
    ran.clear()
    again = both.replay(handle.exec_id, from_="aadd", overrides={"checkpoint.aadd": 9})
    answer(log, asked(log, again, "2/n"), "n", 6)
    assert again.wait(PATIENCE) == [9, 6]
    assert ran == []


# --- replays of replays, crashes -----------------------------------------------------------------------------------------


def test_a_replay_of_a_replay_takes_over_what_that_took_over(log: EventLog, old: str) -> None:
    middle = three.replay(old, from_="add_2", overrides={"checkpoint.mul": 50})
    middle.wait(PATIENCE)
    ran.clear()
    last = three.replay(middle.exec_id, from_="add_2")
    assert last.wait(PATIENCE) == [2, 50, 150]
    assert ran == [("add", 50, 100)]
    assert of_type(log, last.exec_id, ExecutionStarted)[0].original_exec_id == middle.exec_id


def test_a_replay_of_a_failed_replay_goes_on_from_there(log: EventLog) -> None:
    @flow
    def breaks() -> list[int]:
        first = add(1)
        if not changed:
            raise ValueError
        return [first, mul(first, 2)]

    handle = breaks.run()
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    changed["mended"] = True
    ran.clear()
    assert breaks.replay(handle.exec_id, from_="add", overrides={"checkpoint.add": 5}).wait(PATIENCE) == [5, 10]


def test_a_replay_that_failed_is_retried_as_a_replay(log: EventLog, old: str) -> None:
    @checkpoint
    def flaky(x: int) -> int:
        if not changed:
            raise ConnectionError
        return x

    @flow
    def uses(n: int) -> list[int]:
        return [add(n), flaky(mul(n, 2))]

    handle = uses.run(3)
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    again = uses.replay(handle.exec_id, from_="flaky")
    with pytest.raises(KitaruError):
        again.wait(PATIENCE)
    changed["mended"] = True
    ran.clear()
    runner = operations.retry(log, again.exec_id, flow=uses)
    assert runner is not None
    runner.join()
    assert (again.get(), ran) == ([4, 6], [])


def test_a_crashed_replay_goes_on_as_a_replay(log: EventLog, old: str) -> None:
    handle = three.replay(old, from_="add_2", overrides={"checkpoint.mul": 50})
    expected = handle.wait(PATIENCE)
    for events in prefixes(events_of(log, handle.exec_id)):
        ran.clear()
        crashed = copy_of(log, events)
        assert gone_on(log, three, crashed) == expected, f"after {len(events)} events"
        assert ran in ([], [("add", 50, 100)])


def test_a_replay_that_crashes_at_every_append_recovers_to_the_same_result(log: EventLog, old: str) -> None:
    for at in range(1, 6):
        queued = replay(log, old, three, "mul", None, {}, detach=True)
        run_on(CrashingLog(log, at), three, queued.exec_id)
        if not queued.status.is_finished:
            assert gone_on(log, three, queued.exec_id) == [2, 6, 106]
        assert FlowHandle(log, queued.exec_id, three, None).get() == [2, 6, 106]


def test_a_detached_replay_is_left_to_a_worker(log: EventLog, old: str) -> None:
    queued = replay(log, old, three, "mul", None, {}, detach=True)
    assert recovery.lost_executions(log, "default") == [queued.exec_id]
    assert of_type(log, queued.exec_id, ExecutionStarted)[0].stack == "worker"


def test_a_replay_whose_original_is_gone_is_refused_and_stays_as_it_was(log: EventLog, old: str) -> None:
    queued = replay(log, old, three, "mul", None, {}, detach=True)
    log.delete(old)
    before = log.head(queued.exec_id)
    for go_on in (lambda: recovery.take_over(log, queued.exec_id, three), lambda: operations.resume(log, queued.exec_id)):
        with pytest.raises(KitaruRuntimeError, match="gone"):
            go_on()
    assert log.head(queued.exec_id) == before


def test_a_replay_of_what_was_erased_says_so(log: EventLog, old: str) -> None:
    log.erase(old, "me", 1)
    before = log.last_position()
    with pytest.raises(KitaruNotFoundError):
        three.replay(old, from_="mul")
    assert log.last_position() == before


def test_is_replay_is_true_once_a_result_was_taken_over(log: EventLog) -> None:
    @flow
    def looks() -> bool:
        add(1)
        return kitaru.is_replay()

    handle = looks.run()
    assert handle.wait(PATIENCE) is False
    assert looks.replay(handle.exec_id, from_="add").wait(PATIENCE) is True
