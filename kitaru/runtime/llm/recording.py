"""The usage record of one try: what the response says, what it cost, and whom it was asked of."""

from __future__ import annotations

import os
from typing import Literal, cast

from kitaru.domain.ids import uuid7
from kitaru.domain.limits import MAX_NAME_CHARS
from kitaru.runtime.clock import installed
from kitaru.runtime.llm import choice, prices
from kitaru.runtime.llm.protocol import Metered
from kitaru.runtime.llm.redaction import Redactor
from kitaru.runtime.usage import record_usage

Status = Literal["completed", "failed", "interrupted"]
ADAPTER, SURFACE = "kitaru.llm", "direct_llm"


def record(
    name: str | None,
    model: str | None,
    chosen: choice.Chosen | None,
    metered: Metered,
    latency_ms: float,
    status: Status,
    warnings: tuple[str, ...],
    redactor: Redactor,
) -> None:
    """Append it to the attempt that is running. `chosen` is None for a mocked answer: of that nobody knows who pays."""
    requested, provider, asked_for = (
        choice.describe(model) if chosen is None else (chosen.requested, chosen.provider, chosen.model)
    )
    said = cast("dict[str, object]", redactor.value(metered.raw)) if metered.raw is not None else None
    cost, more = _cost(provider or "", asked_for or "", metered)
    record_id = uuid7(installed().now() // 1000, int.from_bytes(os.urandom(10)))
    answered_by, response_id = (_kept(said, redactor) for said in (metered.model, metered.response_id))
    is_paid = chosen is not None and (status == "completed" or metered.is_metered)
    record_usage(  # its fields, not a UsageRecord: what a provider said that cannot be is left out there, with a warning
        {
            "record_id": record_id,
            "event_id": response_id or record_id,
            "adapter": ADAPTER,
            "surface": SURFACE,
            "call_name": name,
            "provider": provider,
            "model": answered_by or asked_for,
            "requested_model": requested,
            "resolved_model": chosen.resolved if chosen is not None else None,
            "usage": {
                "input_tokens": metered.input_tokens,
                "output_tokens": metered.output_tokens,
                "total_tokens": metered.total_tokens,
                "cached_input_tokens": metered.cached_input_tokens,
                "reasoning_tokens": metered.reasoning_tokens,
                "raw": said,
            },
            "cost": cost,
            "latency_ms": latency_ms,
            "status": status,
            "billing_effect": "incurred" if is_paid else "unknown",
            "cache_status": "unknown" if chosen is None else "executed",
            "warnings": (*warnings, *more),
        }
    )


def _kept(said: object, redactor: Redactor) -> str | None:
    """A name that a provider gave, None for one that no record can hold."""
    if not isinstance(said, str) or not 0 < len(said) <= MAX_NAME_CHARS or not _is_utf8(said):
        return None
    hidden = redactor.text(said)
    return hidden if len(hidden) <= MAX_NAME_CHARS else None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cost(provider: str, model: str, metered: Metered) -> tuple[dict[str, object], tuple[str, ...]]:
    """The reported cost; without one the list price, where that was asked for; never another number."""
    if metered.cost_usd is not None:
        reported: dict[str, object] = {
            "actual_cost_usd": metered.cost_usd,
            "source": "provider_reported",
            "source_label": metered.cost_label,
        }
        return reported, ()
    guess = prices.estimate(provider, model, metered)
    if guess is None:
        return {"source": "none"}, ()
    if guess.warning is not None:
        return {"source": "calculator_error", "pricing_version": guess.version}, (guess.warning,)
    if guess.cost_usd is None:
        return {"source": "none", "pricing_version": guess.version}, ()
    return {
        "estimated_cost_usd": guess.cost_usd,
        "source": "list_price",
        "source_label": "genai-prices",
        "pricing_version": guess.version,
    }, ()
