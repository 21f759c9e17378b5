"""What is recorded of a response: tokens made inclusive, the cost that it reports and no other, failed tries as well."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from kitaru.testing import FakeClock
from tests.llm.asking import records_of, start
from tests.llm.conftest import KEY
from tests.llm.servers import Server, answers, breaks, completes, refuses, replies, says, slowly

MODEL = "openai/gpt-4o-mini"
CLAUDE = "anthropic/claude-haiku-4-5"


def record_of(**options: Any) -> dict[str, Any]:
    (record,) = records_of(start(**options))
    return record


def tokens(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record["usage"][name] for name in (
        "input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens"
    )}  # fmt: skip


def test_an_openai_record_says_who_was_asked_and_what_was_used(openai: Server) -> None:
    openai.answers = completes(prompt=100, completion=50, cached=64, reasoning=32)
    record = record_of(model=MODEL, name="draft")
    assert {name: record[name] for name in (
        "adapter", "surface", "call_name", "provider", "model", "requested_model", "resolved_model", "status",
        "billing_effect", "cache_status",
    )} == {
        "adapter": "kitaru.llm", "surface": "direct_llm", "call_name": "draft", "provider": "openai",
        "model": "gpt-4o-mini-2026", "requested_model": MODEL, "resolved_model": MODEL, "status": "completed",
        "billing_effect": "incurred", "cache_status": "executed",
    }  # fmt: skip
    assert tokens(record) == {
        "input_tokens": 100, "output_tokens": 50, "total_tokens": 150, "cached_input_tokens": 64, "reasoning_tokens": 32
    }  # fmt: skip
    assert record["usage"]["raw"]["prompt_tokens_details"] == {"cached_tokens": 64}
    assert record["event_id"] == openai.books[0].id
    assert record["latency_ms"] > 0


def test_anthropics_input_counts_what_the_cache_did(anthropic: Server) -> None:
    anthropic.answers = replies(fresh=10, read=200, written=40, output=30, thinking=12)
    record = record_of(model=CLAUDE)
    assert tokens(record) == {
        "input_tokens": 250, "output_tokens": 30, "total_tokens": 280, "cached_input_tokens": 200, "reasoning_tokens": 12
    }  # fmt: skip
    assert record["usage"]["raw"]["input_tokens"] == 10
    assert anthropic.books[0].input_tokens == 250


def test_a_cost_that_nobody_reports_is_none(server: Server) -> None:
    cost = record_of(model=server.model)["cost"]
    assert (cost["actual_cost_usd"], cost["estimated_cost_usd"], cost["source"]) == (None, None, "none")


def test_a_reported_cost_is_taken_to_the_digit(openai: Server) -> None:
    openai.answers = completes(cost=1234)
    cost = record_of(model=MODEL)["cost"]
    assert Decimal(str(cost["actual_cost_usd"])) == Decimal("0.001234")
    assert (cost["source"], cost["source_label"], cost["currency"]) == ("provider_reported", "usage.cost", "USD")


def test_openrouter_is_asked_for_its_cost_and_gives_it(openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_BASE_URL", f"{openai.url}/api/v1")
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    openai.answers = completes(cost=77)
    record = record_of(model="openrouter/openai/gpt-4o-mini")
    assert Decimal(str(record["cost"]["actual_cost_usd"])) == Decimal("0.000077")
    assert (record["provider"], record["resolved_model"]) == ("openrouter", "openrouter/openai/gpt-4o-mini")
    assert openai.asked[0].path == "/api/v1/chat/completions"
    assert openai.asked[0].body["usage"] == {"include": True}


def test_openrouters_error_in_a_good_response_is_its_error(
    openai: Server, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setenv("OPENROUTER_BASE_URL", f"{openai.url}/api/v1")
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    openai.script = [refuses(200, "slow down", 429)]
    assert start(model="openrouter/openai/gpt-4o-mini").wait(60) == "four"
    assert len(openai.asked) == 2


def test_list_prices_are_estimates_and_only_where_asked_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_PRICES", "genai-prices")
    cost = record_of(model=server.model)["cost"]
    assert cost["actual_cost_usd"] is None
    assert Decimal(str(cost["estimated_cost_usd"])) > 0
    assert (cost["source"], cost["source_label"]) == ("list_price", "genai-prices")
    assert cost["pricing_version"].startswith("genai-prices 0.")


def test_a_reported_cost_goes_before_the_list_price(openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_PRICES", "genai-prices")
    openai.answers = completes(cost=5)
    cost = record_of(model=MODEL)["cost"]
    assert (cost["estimated_cost_usd"], cost["source"]) == (None, "provider_reported")


def test_a_model_without_a_list_price_has_no_cost(openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_PRICES", "genai-prices")
    cost = record_of(model="openai/nobody-sells-this")["cost"]
    assert (cost["actual_cost_usd"], cost["estimated_cost_usd"], cost["source"]) == (None, None, "none")


FAILING: dict[str, tuple[Any, str]] = {
    "refused": (refuses(400), "unknown"),
    "broken": (breaks(answers()), "unknown"),
    "late": (slowly(answers(), 2), "unknown"),
    "no json": (says("<html>"), "unknown"),
    "no format": (says('{"id": "x", "usage": {"prompt_tokens": 5, "completion_tokens": 6}}'), "incurred"),
    "cut": (completes("", finish="length"), "incurred"),
    "filtered": (completes("", finish="content_filter"), "incurred"),
}


@pytest.mark.parametrize("what", FAILING)
def test_a_failed_try_is_billed_when_its_response_says_so(openai: Server, what: str, clock: FakeClock) -> None:
    step, billing = FAILING[what]
    openai.script = [step]
    (record,) = records_of(start(model=MODEL, retries=0, timeout=0.5 if what == "late" else 30))
    assert (record["status"], record["billing_effect"]) == ("failed", billing)
    assert (record["usage"]["input_tokens"] is not None) == (billing == "incurred")


def test_an_answer_that_does_not_fit_was_paid_for_all_the_same(server: Server, clock: FakeClock) -> None:
    server.script = [answers('{"value": ["x"]}')] * 2
    found = records_of(start(model=server.model, output_type=list[int], retries=1))
    assert [(record["status"], record["billing_effect"]) for record in found] == [("failed", "incurred")] * 2
    assert sum(record["usage"]["input_tokens"] for record in found) == sum(line.input_tokens for line in server.books)


def test_an_answer_that_was_cut_is_told_with_a_warning(openai: Server) -> None:
    openai.script = [completes("fou", finish="length")]
    record = record_of(model=MODEL, max_tokens=1)
    assert any("cut at max_tokens" in warning for warning in record["warnings"])
