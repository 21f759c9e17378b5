"""Budgets of LLM calls: what an execution has recorded is held against its limits before the next call."""

from __future__ import annotations

import math
from typing import Any

import pytest

import kitaru
from kitaru import KitaruBudgetExceededError, KitaruClient, checkpoint, flow
from kitaru.domain.errors import FailureOrigin, KitaruContextError, KitaruExecutionError, KitaruUsageError
from kitaru.domain.events import AttemptStarted, ExecutionFailed, ExecutionRetried
from kitaru.runtime import operations, process
from kitaru.runtime.usage import check_budget, record_usage
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE, recovered, run_on
from tests.runtime.records import of_type

asked: list[int] = []
effect: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    asked.clear()
    effect.clear()


def spend(number: int) -> int:
    check_budget()
    asked.append(number)
    cost = {"actual_cost_usd": 0.5, "source": "provider_reported"}
    record_usage({"usage": {"total_tokens": 10}, "cost": cost, **effect})
    return number


@checkpoint
def ask(number: int) -> int:
    return spend(number)


@checkpoint(retries=3)
def ask_again(number: int) -> int:
    return spend(number)


@checkpoint
def fail_after(number: int) -> int:
    spend(number)
    raise ConnectionError(number)


@checkpoint(cache=True)
def ask_once(number: int) -> int:
    return spend(number)


@flow
def many(count: int = 5) -> list[int]:
    return [ask(number) for number in range(count)]


def refusal(handle: Any) -> KitaruBudgetExceededError:
    """Why the execution ended."""
    with pytest.raises(KitaruExecutionError) as ended:
        handle.wait(PATIENCE)
    assert ended.value.failure_origin is FailureOrigin.RUNTIME
    assert isinstance(ended.value.__cause__, KitaruBudgetExceededError)
    return ended.value.__cause__


@pytest.mark.parametrize(
    ("limits", "made", "budget", "spent"),
    [
        ({"max_tokens": 25}, 3, "max_tokens", 30),
        ({"max_tokens": 20}, 2, "max_tokens", 20),
        ({"max_tokens": 0}, 0, "max_tokens", 0),
        ({"max_cost_usd": 1.2}, 3, "max_cost_usd", 1.5),
        ({"max_cost_usd": 1.0}, 2, "max_cost_usd", 1.0),
        ({"max_cost_usd": 0}, 0, "max_cost_usd", 0.0),
        ({"max_cost_usd": 9, "max_tokens": 5}, 1, "max_tokens", 10),
    ],
)
def test_a_call_past_a_budget_is_not_made(limits: dict[str, Any], made: int, budget: str, spent: float) -> None:
    handle = many.options(**limits).run()
    error = refusal(handle)
    assert len(asked) == made
    assert (error.exec_id, error.budget, error.spent, error.limit) == (handle.exec_id, budget, spent, limits[budget])
    assert budget in error.message


def test_a_budget_that_is_not_reached_stops_nothing() -> None:
    assert many.options(max_cost_usd=2.51, max_tokens=51).run().wait(PATIENCE) == [0, 1, 2, 3, 4]


def test_a_flow_may_have_its_budget_and_options_outrank_it() -> None:
    @flow(max_tokens=10)
    def small() -> list[int]:
        return [ask(number) for number in range(3)]

    assert refusal(small.run()).limit == 10
    assert small.options(max_tokens=100).run().wait(PATIENCE) == [0, 1, 2]


@pytest.mark.parametrize("wrong", [-1, -0.5, math.nan, math.inf, True, "5", 10**20])
@pytest.mark.parametrize("name", ["max_cost_usd", "max_tokens"])
def test_a_budget_that_cannot_be_is_refused_when_it_is_given(name: str, wrong: Any) -> None:
    with pytest.raises(KitaruUsageError, match=name):
        many.options(**{name: wrong})
    with pytest.raises(KitaruUsageError, match=name):
        flow(**{name: wrong})(lambda: None)


def test_tokens_are_whole_numbers() -> None:
    with pytest.raises(KitaruUsageError, match="max_tokens"):
        many.options(max_tokens=1.5)  # type: ignore[arg-type]


def test_failed_attempts_and_unknown_ones_count() -> None:
    @flow(max_tokens=10)
    def once() -> int:
        try:
            fail_after(0)
        except ConnectionError:
            effect["billing_effect"] = "unknown"
        return ask(1)

    assert refusal(once.run()).spent == 10
    effect["billing_effect"] = "unknown"
    assert refusal(many.options(max_cost_usd=0.5).run()).spent == 0.5


def test_a_refused_call_is_tried_once_whatever_its_retries(log: EventLog) -> None:
    handle = flow(max_tokens=10, retries=2)(lambda: [ask_again(number) for number in range(3)]).run()
    refusal(handle)
    assert [(event.call, event.attempt) for event in of_type(log, handle.exec_id, AttemptStarted)] == [(1, 1), (2, 1)]
    assert of_type(log, handle.exec_id, ExecutionRetried) == []


def test_the_flow_may_go_on_without_the_call_and_takes_that_way_again(log: EventLog) -> None:
    @flow(max_tokens=20)
    def frugal(count: int) -> list[int]:
        found: list[int] = []
        try:
            for number in range(count):
                found.append(ask(number))  # noqa: PERF401  (as far as the budget goes)
        except KitaruBudgetExceededError as error:
            found.append(int(error.spent or 0))
        kitaru.wait(name="gate", timeout=0)
        return found

    handle = frugal.run(5)
    process.join_all()
    operations.answer(log, handle.exec_id, "gate", None, by="Ada")
    assert recovered(log, frugal, handle.exec_id) == [0, 1, 20]
    assert asked == [0, 1]


def test_what_was_spent_before_a_resume_counts(log: EventLog) -> None:
    @flow(max_tokens=20)
    def waits() -> list[int]:
        first = ask(1)
        kitaru.wait(name="gate", timeout=0)
        return [first, ask(2), ask(3)]

    handle = waits.run()
    process.join_all()
    operations.answer(log, handle.exec_id, "gate", None, by="Ada")
    run_on(log, waits, handle.exec_id)
    assert asked == [1, 2]
    (failed,) = of_type(log, handle.exec_id, ExecutionFailed)
    assert failed.exception_type.endswith("KitaruBudgetExceededError")


def test_a_retry_is_held_to_the_same_budget_and_a_replay_may_have_another(log: EventLog) -> None:
    handle = many.options(max_tokens=20).run()
    refusal(handle)
    operations.retry(log, handle.exec_id, flow=many, by="Ada")
    process.join_all()
    assert asked == [0, 1]
    with KitaruClient() as client:
        refused = client.executions.get(handle.exec_id)
    assert refused.status == "failed"
    last = (refused.checkpoints or ())[-1]
    assert [attempt.status for attempt in last.attempts] == ["failed", "failed"]
    replay = many.options(max_tokens=100).replay(handle.exec_id, from_=last.call_id)
    assert replay.wait(PATIENCE) == [0, 1, 2, 3, 4]
    assert asked == [0, 1, 2, 3, 4]


def test_reused_records_spend_nothing() -> None:
    reuses = flow(name="reuses")(lambda: [ask_once(number) for number in range(3)])
    assert reuses.run().wait(PATIENCE) == [0, 1, 2]

    @flow(name="reuses", max_tokens=10, max_cost_usd=0.5)
    def again() -> list[int]:
        return [*(ask_once(number) for number in range(3)), ask(3)]

    assert again.run().wait(PATIENCE) == [0, 1, 2, 3]


def test_submitted_calls_are_each_checked_before_they_begin() -> None:
    handle = flow(max_tokens=10)(lambda: ask.map(range(60)).result()).run()
    refusal(handle)
    with KitaruClient() as client:
        found = client.executions.get(handle.exec_id)
    assert 1 <= len(asked) < 60
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary.usage_record_count == len(asked)


@checkpoint(runtime="isolated")
def spend_apart(count: int) -> int:
    made = 0
    try:
        for _ in range(count):
            check_budget()
            record_usage({"usage": {"total_tokens": 10}})
            made += 1
    except KitaruBudgetExceededError as error:
        return made if (error.spent, error.limit) == (20, 20) else -1
    return made


def test_an_isolated_checkpoint_knows_what_was_spent_and_what_it_spends() -> None:
    assert flow(max_tokens=20)(lambda: (ask(0), spend_apart(5))).run().wait(PATIENCE) == (0, 1)


def test_the_body_of_a_flow_may_look_too() -> None:
    @flow(max_tokens=10)
    def looks() -> str:
        check_budget()
        ask(1)
        try:
            check_budget()
        except KitaruBudgetExceededError:
            return "spent"
        return "not spent"

    assert looks.run().wait(PATIENCE) == "spent"


def test_a_budget_belongs_to_an_execution() -> None:
    with pytest.raises(KitaruContextError):
        check_budget()


def test_the_error_comes_back_from_the_record_with_what_it_says(log: EventLog) -> None:
    @flow(max_cost_usd=0.5)
    def catches() -> list[object]:
        ask(1)
        try:
            ask(2)
        except KitaruBudgetExceededError as error:
            said = [error.budget, error.spent, error.limit, error.exec_id, error.code]
        kitaru.wait(name="gate", timeout=0)
        return said

    handle = catches.run()
    process.join_all()
    operations.answer(log, handle.exec_id, "gate", None, by="Ada")
    assert recovered(log, catches, handle.exec_id) == ["max_cost_usd", 0.5, 0.5, handle.exec_id, "budget-exceeded"]
