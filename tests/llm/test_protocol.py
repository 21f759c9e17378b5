"""Another provider in the place of the SDKs: what it is asked, and what becomes of whatever it does."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.runtime.llm.protocol import Answer, CallFailedError, Metered, Request, use_provider
from kitaru.testing import FakeClock, FakeModel
from tests.llm.asking import FLOWS, calls_of, execution_of, records_of, start

MODEL = "openai/gpt-4o-mini"


@pytest.mark.parametrize("where", FLOWS)
def test_it_answers_without_a_key(where: str) -> None:
    with FakeModel("hello") as model:
        assert start(where=where, model=MODEL, system="be brief", max_tokens=9).wait(60) == "hello"
    (request,) = model.requests
    assert (request.provider, request.model, request.max_tokens) == ("openai", "gpt-4o-mini", 9)
    assert [message.role for message in request.messages] == ["system", "user"]


def test_what_it_says_of_its_use_is_recorded() -> None:
    metered = Metered(input_tokens=3, output_tokens=4, cost_usd=Decimal("0.25"), cost_label="mine", model="mine-2")
    with FakeModel(Answer("hello", metered, ("careful",))):
        (record,) = records_of(start(model=MODEL))
    assert (record["usage"]["total_tokens"], record["cost"]["actual_cost_usd"], record["model"]) == (7, 0.25, "mine-2")
    assert record["warnings"] == ["careful"]


@pytest.mark.parametrize("said", ["\ud800", "i" * 300, "", 7])
def test_an_id_and_a_model_that_cannot_be_kept_lose_no_record(said: Any) -> None:
    with FakeModel(Answer("hello", Metered(response_id=said, model=said, input_tokens=3))):
        handle = start(model=MODEL)
        assert handle.wait(60) == "hello"
        (record,) = records_of(handle)
    assert (record["model"], record["event_id"]) == ("gpt-4o-mini", record["record_id"])
    assert record["usage"]["input_tokens"] == 3


def test_a_cost_of_nan_and_tokens_below_zero_are_left_out_with_warnings() -> None:
    with FakeModel(Answer("hello", Metered(input_tokens=-3, output_tokens=4, cost_usd=Decimal("NaN")))):
        (record,) = records_of(start(model=MODEL))
    assert (record["usage"]["input_tokens"], record["usage"]["output_tokens"]) == (None, 4)
    assert record["cost"]["actual_cost_usd"] is None
    assert [warning.split()[0] for warning in record["warnings"]] == ["input_tokens", "actual_cost_usd"]


def test_a_failure_is_tried_again_when_it_says_so(clock: FakeClock) -> None:
    with FakeModel(CallFailedError("busy", code="llm-server", is_retryable=True, retry_after=9), "hello") as model:
        before = clock.now()
        assert start(model=MODEL).wait(60) == "hello"
        assert clock.now() - before == 9_000_000
    assert len(model.requests) == 2


@pytest.mark.parametrize("raised", [ValueError("no"), KeyError(), RuntimeError("gone"), kitaru.KitaruRuntimeError("own")])
def test_whatever_it_raises_is_a_typed_error(raised: Exception) -> None:
    class Broken:
        async def answer(self, request: Request) -> Answer:
            raise raised

    before = use_provider(Broken())
    try:
        (call,) = calls_of(start(model=MODEL))
    finally:
        use_provider(before)
    assert call.failure is not None
    assert call.failure.exception_type == "kitaru.domain.errors.KitaruRuntimeError"
    assert len(call.attempts) == 1


def test_it_is_left_after_the_timeout(clock: FakeClock) -> None:
    class Silent:
        cancelled = 0

        async def answer(self, request: Request) -> Answer:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                Silent.cancelled += 1
                raise
            return Answer("late")

    before = use_provider(Silent())
    try:
        (call,) = calls_of(start(model=MODEL, timeout=0.05, retries=1))
    finally:
        use_provider(before)
    assert call.failure is not None
    assert "did not answer within its 0.05 seconds" in call.failure.message
    assert Silent.cancelled == 2


def test_a_budget_stops_before_the_next_call() -> None:
    @flow(max_tokens=10)
    def spending() -> None:
        for _ in range(5):
            kitaru.llm("x", model=MODEL)

    with FakeModel(Answer("hello", Metered(input_tokens=3, output_tokens=3))) as model:
        found = execution_of(spending.run())
    assert len(model.requests) == 2
    assert found.failure is not None
    assert found.failure.exception_type.endswith("KitaruBudgetExceededError")


def test_a_reused_answer_costs_nothing() -> None:
    @flow
    def asking(question: str) -> list[str]:
        return [kitaru.llm("always", model=MODEL), kitaru.llm(question, model=MODEL)]

    with FakeModel(Answer("hello", Metered(input_tokens=3, output_tokens=3, cost_usd=Decimal(1)))) as model:
        first = asking.run("a")
        first.wait(60)
        again = asking.replay(first.exec_id, from_="llm_2", question="b")
        again.wait(60)
    assert len(model.requests) == 3
    summary = execution_of(again).llm_usage_summary
    assert summary is not None
    assert (summary.incurred_total_tokens, summary.reused_total_tokens, summary.actual_cost_usd) == (6, 6, 1)


@checkpoint(runtime="isolated")
def apart(question: str) -> str:
    return kitaru.llm(question, model=MODEL) + kitaru.llm(question, model=MODEL, name="second")


@flow
def ask_apart(question: str) -> str:
    return apart(question)


def test_a_call_in_a_process_of_its_own_is_recorded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_LLM_MOCK_RESPONSE", "mocked")
    handle = ask_apart.run("x")
    assert handle.wait(60) == "mockedmocked"
    assert [(record["call_name"], record["checkpoint_name"]) for record in records_of(handle)] == [
        ("llm_1", "apart"), ("second", "apart")
    ]  # fmt: skip
    assert kitaru.load(handle.exec_id, "second_response") == "mocked"
