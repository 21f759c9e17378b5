"""A crash at every recorded point: the same result, no completed checkpoint twice, the one in flight once more."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.events import CheckpointCompleted, EventBase
from kitaru.runtime.flow import Flow
from kitaru.runtime.scope import CallScope, current
from kitaru.store.log import EventLog
from tests.runtime.crashing import (
    PATIENCE,
    CrashingLog,
    UnsureLog,
    bodies_to_run,
    copy_of,
    prefixes,
    queue,
    recovered,
    run_on,
)
from tests.runtime.records import detail_of, events_of, types_of

ran: Counter[str] = Counter()
"""How often each call's body ran since it was last cleared, by invocation id."""


def note_run() -> int:
    """Count the body that runs; the number of its attempt."""
    scope = current.get()
    assert isinstance(scope, CallScope)
    ran[scope.invocation_id] += 1
    return scope.attempt


@checkpoint
def step(value: int) -> int:
    note_run()
    return value + 1


@checkpoint
async def step_async(value: int) -> int:
    note_run()
    await asyncio.sleep(0)
    return value + 1


@checkpoint(retries=2)
def flaky(value: str) -> str:
    if note_run() < 3:
        raise ConnectionError(value)
    return value


@checkpoint
def broken(value: str) -> None:
    note_run()
    raise LookupError(value, 5)


@checkpoint
def noting(value: str) -> str:
    note_run()
    kitaru.log(noted=value)
    kitaru.save(f"note {value}", value)
    return value


@flow
def in_sequence(start: int) -> list[int]:
    first = step(start)
    second = step(first)
    return [first, second, step(second)]


@flow
def mapped(start: int) -> list[int]:
    many = step.map([start, start, start + 1])
    last = step.submit(many[2])
    return [*many.result(), last.result(), step(last.result())]


@flow
async def gathered(start: int) -> list[int]:
    async def two(value: int) -> int:
        return await step_async(await step_async(value))

    found = await asyncio.gather(*(two(start + i * 10) for i in range(3)))
    return [*found, step(sum(found))]


@flow
def with_failures(start: int) -> list[object]:
    got = flaky("flaky")
    try:
        broken("broken")
    except LookupError as error:
        caught = list(error.args)
    return [got, caught, step(start)]


@flow
def with_facts(start: int) -> list[object]:
    kitaru.log(stage="begun", nested={"a": start})
    got = noting("first")
    kitaru.tag("half-way")
    kitaru.save("report", [got, start])
    kitaru.log(stage="ending", nested={"b": 2})
    return [got, noting("second")]


FLOWS: list[tuple[Flow[..., Any], list[object]]] = [
    (in_sequence, [6, 7, 8]),
    (mapped, [6, 6, 7, 8, 9]),
    (gathered, [7, 17, 27, 52]),
    (with_failures, ["flaky", ["broken", 5], 6]),
    (with_facts, ["first", "second"]),
]
each_flow = pytest.mark.parametrize(("tried", "expected"), FLOWS, ids=[tried.name for tried, _ in FLOWS])


def whole_run(log: EventLog, tried: Flow[..., Any]) -> list[EventBase]:
    handle = tried.run(start=5)
    handle.wait(PATIENCE)
    return events_of(log, handle.exec_id)


@each_flow
def test_recovery_from_every_prefix_of_events_gives_the_same_result(
    log: EventLog, tried: Flow[..., Any], expected: list[object]
) -> None:
    for left in prefixes(whole_run(log, tried)):
        assert recovered(log, tried, copy_of(log, left)) == expected, f"after {len(left)} events"


@each_flow
def test_a_completed_checkpoint_never_runs_again(log: EventLog, tried: Flow[..., Any], expected: list[object]) -> None:
    for left in prefixes(whole_run(log, tried)):
        ran.clear()
        recovered(log, tried, copy_of(log, left))
        done, _ = bodies_to_run(left)
        assert not done & ran.keys(), f"after {len(left)} events"


@each_flow
def test_a_checkpoint_in_flight_runs_once_more_and_keeps_its_attempts(
    log: EventLog, tried: Flow[..., Any], expected: list[object]
) -> None:
    for left in prefixes(whole_run(log, tried)):
        ran.clear()
        exec_id = copy_of(log, left)
        recovered(log, tried, exec_id)
        calls = {call.invocation_id: call for call in detail_of(log, exec_id).calls.values()}
        for ident in bodies_to_run(left)[1]:
            before = sum(getattr(e, "call", 0) == calls[ident].call and type(e).__name__ == "AttemptStarted" for e in left)
            assert len(calls[ident].attempts) == before + ran[ident]
            assert ran[ident] == (1 if ident != "flaky" else max(1, 3 - before)), f"after {len(left)} events"


@each_flow
def test_a_recovered_execution_has_the_same_calls_and_facts(
    log: EventLog, tried: Flow[..., Any], expected: list[object]
) -> None:
    handle = tried.run(start=5)
    handle.wait(PATIENCE)
    whole = detail_of(log, handle.exec_id)
    for left in prefixes(events_of(log, handle.exec_id)):
        exec_id = copy_of(log, left)
        recovered(log, tried, exec_id)
        detail = detail_of(log, exec_id)
        assert {call.invocation_id for call in detail.calls.values()} == {c.invocation_id for c in whole.calls.values()}
        assert (detail.metadata, detail.tags) == (whole.metadata, whole.tags)


def test_facts_of_the_flow_body_are_recorded_once(log: EventLog) -> None:
    for left in prefixes(whole_run(log, with_facts)):
        exec_id = copy_of(log, left)
        recovered(log, with_facts, exec_id)
        saved = [e for e in types_of(log, exec_id) if e == "TagsChanged"]
        reports = [a for a in detail_of(log, exec_id).artifacts if a.saved is not None and a.saved.name == "report"]
        assert (len(saved), len(reports)) == (1, 1), f"after {len(left)} events"


@each_flow
@pytest.mark.parametrize("after", [False, True], ids=["before-commit", "after-commit"])
def test_a_crash_at_every_append_recovers_to_the_same_result(
    log: EventLog, tried: Flow[..., Any], expected: list[object], after: bool
) -> None:
    for at in range(1, 100):
        exec_id = queue(log, tried, start=5)
        crashing = CrashingLog(log, at, after=after)
        run_on(crashing, tried, exec_id)
        if not crashing.is_dead:
            assert at > 5
            return
        if log.head(exec_id).state.status != "completed":
            assert recovered(log, tried, exec_id) == expected, f"crash at append {at}"
    raise AssertionError("it never ran through")


@each_flow
def test_an_execution_that_crashes_at_every_fifth_append_ends_with_each_result_once(
    log: EventLog, tried: Flow[..., Any], expected: list[object]
) -> None:
    exec_id = queue(log, tried, start=5)
    for _ in range(100):
        crashing = CrashingLog(log, 5, after=True)
        run_on(crashing, tried, exec_id)
        if log.head(exec_id).state.status == "completed":
            break
    outputs = [e.call for e in events_of(log, exec_id) if isinstance(e, CheckpointCompleted)]
    assert len(outputs) == len(set(outputs))
    assert log.head(exec_id).state.status == "completed"


@each_flow
def test_an_append_whose_outcome_is_unknown_is_not_doubled(
    log: EventLog, tried: Flow[..., Any], expected: list[object]
) -> None:
    whole = sorted(type(event).__name__ for event in whole_run(log, tried))
    for every in (1, 2, 3):
        exec_id = queue(log, tried, start=5)
        run_on(UnsureLog(log, every + 1), tried, exec_id)
        assert sorted(type(event).__name__ for event in events_of(log, exec_id)) == whole


# --- branches of async flows -------------------------------------------------------------------------------------------

BRANCHES = 4
SEEDS = 200


@checkpoint
async def first_half(branch: int, pause: float) -> str:
    await asyncio.sleep(pause)
    return f"first {branch}"


@checkpoint
async def second_half(text: str, pause: float) -> str:
    await asyncio.sleep(pause)
    return f"second of {text}"


delays = random.Random()


async def both_halves(branch: int) -> str:
    pauses = [delays.random() / 500, delays.random() / 500]
    return await second_half(await first_half(branch, pauses[0]), pauses[1])


@flow
async def under_gather() -> list[str]:
    return list(await asyncio.gather(*(both_halves(branch) for branch in range(BRANCHES))))


@flow
async def under_task_group() -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(both_halves(branch)) for branch in range(BRANCHES)]
    return [task.result() for task in tasks]


@pytest.mark.parametrize("tried", [under_gather, under_task_group], ids=["gather", "TaskGroup"])
@pytest.mark.parametrize("block", range(4))
def test_each_branch_of_a_killed_async_flow_gets_its_own_value(log: EventLog, tried: Flow[..., Any], block: int) -> None:
    expected = [f"second of first {branch}" for branch in range(BRANCHES)]
    for seed in range(block * SEEDS // 4, (block + 1) * SEEDS // 4):
        delays.seed(seed)  # and not again before the recovery, which sees other delays
        exec_id = queue(log, tried)
        at = random.Random(seed).randrange(1, 4 * BRANCHES)
        run_on(CrashingLog(log, at, after=bool(seed % 2)), tried, exec_id)
        assert recovered(log, tried, exec_id) == expected, f"seed {seed}: crash at append {at}"
