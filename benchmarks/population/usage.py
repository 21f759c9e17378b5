"""Usage records of the population, in the form of `llm_usage_v1`."""

from __future__ import annotations

from math import exp
from random import Random

from kitaru.domain.usage import UNITS, UsageFigures

_MODELS = (
    ("openai", "gpt-5-mini", 0.25, 2.0),
    ("anthropic", "claude-sonnet-4-5", 3.0, 15.0),
    ("openai", "gpt-5", 1.25, 10.0),
    ("ollama", "qwen3:8b", 0.0, 0.0),
)
"""Provider, model, and USD for a million tokens in and out."""
_WEIGHTS = (50, 80, 95, 100)


def usage_record(rng: Random, record_id: str, checkpoint_id: str, attempt: int) -> tuple[dict[str, object], UsageFigures]:
    """One record of a call that was paid for, or was free, and its figures."""
    provider, model, price_in, price_out = rng.choices(_MODELS, cum_weights=_WEIGHTS)[0]
    tokens_in = int(900 * exp(rng.gauss(0, 1))) + 1
    tokens_out = int(250 * exp(rng.gauss(0, 1))) + 1
    cost = round((tokens_in * price_in + tokens_out * price_out) / 1e6, 8)
    source = "none" if price_in == 0 else "provider_reported" if provider == "anthropic" else "calculator"
    latency = round(800 * exp(rng.gauss(0, 0.6)), 1)
    record = {
        "schema_version": 1,
        "record_id": record_id,
        "event_id": "1",
        "adapter": "kitaru.llm",
        "surface": "direct_llm",
        "call_name": "complete",
        "checkpoint_id": checkpoint_id,
        "checkpoint_name": "complete",
        "attempt": attempt,
        "provider": provider,
        "model": model,
        "requested_model": model,
        "resolved_model": model,
        "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
        "cost": {
            "actual_cost_usd": cost if source == "provider_reported" else None,
            "estimated_cost_usd": cost if source == "calculator" else None,
            "currency": "USD",
            "source": source,
        },
        "latency_ms": latency,
        "status": "completed",
        "billing_effect": "incurred",
        "cache_status": "executed",
        "warnings": [],
    }
    units = round(cost * UNITS)
    return record, UsageFigures(
        event_id="1",
        provider=provider,
        model=model,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        total_tokens=tokens_in + tokens_out,
        actual_cost=units if source == "provider_reported" else None,
        estimated_cost=units if source == "calculator" else None,
        latency_us=round(latency * 1000),
    )
