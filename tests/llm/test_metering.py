"""Raw usage into tokens and cost: never negative, never guessed, and what pydantic-ai reads from the same response."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.runtime.llm.metering import meter
from kitaru.runtime.llm.protocol import Metered

COUNTS = st.integers(0, 10**6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details", "cost",
        "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cost_details", "is_byok",
        "cached_tokens",
    ]
)  # fmt: skip


@settings(deadline=None)
@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_openai_is_read_as_pydantic_ai_reads_it(prompt: int, completion: int, cached: int, reasoning: int) -> None:
    from openai.types.chat import ChatCompletion
    from pydantic_ai.models.openai._response_fields import map_usage

    cached, reasoning = min(cached, prompt), min(reasoning, completion)
    body: dict[str, Any] = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "choices": [],
        "usage": {
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        },
    }  # fmt: skip
    theirs = map_usage(ChatCompletion.model_validate(body), "openai", "https://api.openai.com/v1", "gpt-4o-mini")
    ours = meter(body, {})
    assert (ours.input_tokens, ours.output_tokens) == (theirs.input_tokens, theirs.output_tokens)
    assert (ours.cached_input_tokens, ours.reasoning_tokens) == (theirs.cache_read_tokens, theirs.output_reasoning_tokens)


@settings(deadline=None)
@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_anthropic_is_read_as_pydantic_ai_reads_it(fresh: int, read: int, written: int, output: int) -> None:
    from anthropic.types.beta import BetaMessage
    from pydantic_ai.models.anthropic._response import map_usage

    body: dict[str, Any] = {
        "id": "x", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": [],
        "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {
            "input_tokens": fresh, "output_tokens": output, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
        },
    }  # fmt: skip
    theirs = map_usage(BetaMessage.model_validate(body), "anthropic", "https://api.anthropic.com", "claude-haiku-4-5")
    ours = meter(body, {})
    assert (ours.input_tokens, ours.output_tokens) == (theirs.input_tokens, theirs.output_tokens)
    assert (ours.cached_input_tokens, ours.cache_write_tokens) == (theirs.cache_read_tokens, theirs.cache_write_tokens)


@given(st.dictionaries(KEYS | st.text(max_size=5), JSON | COUNTS, max_size=8), st.sampled_from([None, "message", 3]))
def test_whatever_stands_there_gives_counts_and_costs_that_are_none_or_good(usage: dict[str, Any], kind: Any) -> None:
    found = meter({"id": "x", "type": kind, "usage": usage}, {})
    for count in (found.input_tokens, found.output_tokens, found.total_tokens, found.cached_input_tokens):
        assert count is None or 0 <= count < 3 * 2**53
    assert found.cost_usd is None or (found.cost_usd.is_finite() and found.cost_usd >= 0)


@given(JSON)
def test_a_body_of_no_format_says_nothing_or_little(body: Any) -> None:
    assert isinstance(meter(body, {}), Metered)


@pytest.mark.parametrize(
    ("usage", "headers", "cost", "label"),
    [
        ({"cost": 0.00014}, {}, "0.00014", "usage.cost"),
        ({"cost": 0}, {}, "0", "usage.cost"),
        ({"cost": "0.1"}, {}, "0.1", "usage.cost"),
        ({"cost": {"total_cost": 0.2}}, {}, "0.2", "usage.cost"),
        (
            {"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, {}, "0.21",
            "usage.cost + usage.cost_details.upstream_inference_cost",
        ),
        ({"cost": 0.01, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.01}}, {}, "0.01", "usage.cost"),
        ({"logfire_ai_gateway": {"cost": "0.0038"}}, {}, "0.0038", "usage.logfire_ai_gateway.cost"),
        ({}, {"x-litellm-response-cost": "0.5"}, "0.5", "x-litellm-response-cost"),
        ({"cost": -1}, {}, None, None),
        ({"cost": float("nan")}, {}, None, None),
        ({"cost": float("inf")}, {}, None, None),
        ({"cost": True}, {}, None, None),
        ({"cost": "free"}, {}, None, None),
        ({"cost": None}, {"x-litellm-response-cost": "None"}, None, None),
        ({"pydantic_ai_gateway": {"cost_estimate": 1}}, {}, None, None),
    ],
)  # fmt: skip
def test_costs_as_providers_report_them(usage: Any, headers: dict[str, str], cost: str | None, label: str | None) -> None:
    found = meter({"usage": usage}, headers)
    assert (found.cost_usd, found.cost_label) == (None if cost is None else Decimal(cost), label)


@pytest.mark.parametrize(
    ("usage", "headers", "warned"),
    [
        ({"cost": -1}, {}, True),
        ({"cost": float("nan")}, {}, True),
        ({"cost": {"total_cost": "free"}}, {}, True),
        ({"logfire_ai_gateway": {"cost": -0.5}}, {}, True),
        ({}, {"x-litellm-response-cost": "-1"}, True),
        ({"cost": -1}, {"x-litellm-response-cost": "0.5"}, False),
        ({"cost": None}, {"x-litellm-response-cost": "None"}, False),
        ({"cost": 0.1}, {}, False),
    ],
)
def test_a_cost_that_cannot_be_is_left_out_with_a_warning(usage: Any, headers: dict[str, str], warned: bool) -> None:
    assert meter({"usage": usage}, headers).warnings == (
        ("the cost that came was no amount from 0 and was left out",) * warned
    )


def test_counts_that_cannot_be_are_left_out_with_a_warning() -> None:
    found = meter({"usage": {"prompt_tokens": -1, "completion_tokens": "7", "total_tokens": 3}}, {})
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (None, None, 3)
    assert found.warnings == (
        "prompt_tokens was no whole number from 0 and was left out",
        "completion_tokens was no whole number from 0 and was left out",
    )
