"""What a provider's response says that it used: its raw `usage`, made inclusive, and the cost that it reports. Pure.

Read from the body that came over the wire, because a response that no SDK accepts was paid for, too, and because the SDKs
drop what they do not know, the cost first of all (docs/decisions/0014).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import cast

from kitaru.runtime.llm.protocol import Metered

_COST_HEADER = "x-litellm-response-cost"
_WRONG_COST = "the cost that came was no amount from 0 and was left out"
_COUNTS = (
    "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens",
)  # fmt: skip
_MAX_RAW = 64
"""Fields of a raw usage that are kept."""


def meter(body: object, headers: Mapping[str, str]) -> Metered:
    """What a decoded body says. A body that is none of the formats says nothing."""
    whole = _fields(body)
    usage = _fields(whole.get("usage"))
    is_anthropic = "input_tokens" in usage and "prompt_tokens" not in usage and whole.get("type") == "message"
    tokens = _of_anthropic(usage) if is_anthropic else _of_openai(usage)
    cost, label, is_wrong = _reported_cost(usage, headers)
    return Metered(
        response_id=_text(whole.get("id")),
        model=_text(whole.get("model")),
        **tokens,
        raw=dict(list(usage.items())[:_MAX_RAW]) if usage else None,
        cost_usd=cost,
        cost_label=label,
        warnings=(*_wrong_counts(usage), *((_WRONG_COST,) if is_wrong else ())),
    )


def _wrong_counts(usage: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(
        f"{name} was no whole number from 0 and was left out"
        for name in _COUNTS
        if usage.get(name) is not None and _count(usage[name]) is None
    )


def _of_openai(usage: Mapping[str, object]) -> dict[str, int | None]:
    """Chat completions: the prompt counts what was cached, the completion what was reasoned."""
    prompt, completion = _fields(usage.get("prompt_tokens_details")), _fields(usage.get("completion_tokens_details"))
    return {
        "input_tokens": _count(usage.get("prompt_tokens")),
        "output_tokens": _count(usage.get("completion_tokens")),
        "total_tokens": _count(usage.get("total_tokens")),
        "cached_input_tokens": _count(prompt.get("cached_tokens")),
        "cache_write_tokens": _count(prompt.get("cache_write_tokens")),
        "reasoning_tokens": _count(completion.get("reasoning_tokens")),
    }


def _of_anthropic(usage: Mapping[str, object]) -> dict[str, int | None]:
    """Messages: `input_tokens` counts neither what was read from the cache nor what was written to it."""
    fresh, read = _count(usage.get("input_tokens")), _count(usage.get("cache_read_input_tokens"))
    written = _count(usage.get("cache_creation_input_tokens"))
    return {
        "input_tokens": None if fresh is None else fresh + (read or 0) + (written or 0),
        "output_tokens": _count(usage.get("output_tokens")),
        "total_tokens": None,
        "cached_input_tokens": read,
        "cache_write_tokens": written,
        "reasoning_tokens": _count(_fields(usage.get("output_tokens_details")).get("thinking_tokens")),
    }


def _reported_cost(usage: Mapping[str, object], headers: Mapping[str, str]) -> tuple[Decimal | None, str | None, bool]:
    """The cost in USD and where it stood: OpenRouter's, a gateway's, LiteLLM's header; and whether only wrong ones came."""
    said = usage.get("cost")
    upstream = _fields(usage.get("cost_details")).get("upstream_inference_cost")
    said = cast("object", _fields(cast("object", said)).get("total_cost") if isinstance(said, Mapping) else said)
    own = _amount(said)
    if own is not None:
        if usage.get("is_byok") is True and (theirs := _amount(upstream)) is not None:
            return own + theirs, "usage.cost + usage.cost_details.upstream_inference_cost", False
        return own, "usage.cost", False
    of_gateway = _fields(usage.get("logfire_ai_gateway")).get("cost")
    gateway = _amount(of_gateway)
    if gateway is not None:
        return gateway, "usage.logfire_ai_gateway.cost", False
    of_header = headers.get(_COST_HEADER)
    header = _amount(of_header)
    if header is not None:
        return header, _COST_HEADER, False
    return None, None, any(each not in (None, "None", "") for each in (said, of_gateway, of_header))


def _amount(value: object) -> Decimal | None:
    """A cost, exactly as it was written; what is no finite number from 0 is none."""
    if not isinstance(value, (str, int, float, Decimal)) or isinstance(value, bool):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 256 else None


def _fields(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
