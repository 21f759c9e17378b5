"""What LLM usage adds up to, told again from the words of the design. It imports nothing of kitaru."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

PLACES = Decimal("0.0000000001")


def count(value: Any) -> int | None:
    """A number of tokens, None for what is none."""
    return value if type(value) is int and 0 <= value <= 10**12 else None


def money(value: Any) -> Decimal | None:
    """An amount at ten places, None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    if amount.is_nan() or amount.is_infinite() or amount < 0 or amount > 1_000_000:
        return None
    return abs(amount.quantize(PLACES, ROUND_HALF_EVEN))


def side(record: dict[str, Any]) -> str:
    return {"incurred": "incurred", "reused_not_incurred": "reused"}.get(record["billing_effect"], "unknown")


def sums(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The 16 sums over records, of each identity the first."""
    distinct: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        distinct.setdefault((record["call"], record["attempt"], record["record_id"], record.get("event_id")), record)
    found: dict[str, Any] = {}
    for who in ("", "incurred_", "reused_"):
        chosen = [record for record in distinct.values() if not who or side(record) == who[:-1]]
        found[f"{who}usage_record_count"] = len(chosen)
        for what in ("input", "output"):
            found[f"{who}{what}_tokens"] = sum(count(record["usage"].get(f"{what}_tokens")) or 0 for record in chosen)
        found[f"{who}total_tokens"] = sum(total(record["usage"]) for record in chosen)
    paid = [record["cost"] for record in distinct.values() if side(record) != "reused"]
    for kind in ("actual", "estimated"):
        found[f"{kind}_cost_usd"] = sum((money(cost.get(f"{kind}_cost_usd")) or Decimal(0) for cost in paid), Decimal(0))
    found["display_cost_usd"] = sum((display(cost) or Decimal(0) for cost in paid), Decimal(0))
    found["records_without_cost_count"] = len([r for r in distinct.values() if display(r["cost"]) is None])
    return found


def total(usage: dict[str, Any]) -> int:
    said = count(usage.get("total_tokens"))
    if said is not None:
        return said
    return (count(usage.get("input_tokens")) or 0) + (count(usage.get("output_tokens")) or 0)


def display(cost: dict[str, Any]) -> Decimal | None:
    actual = money(cost.get("actual_cost_usd"))
    return money(cost.get("estimated_cost_usd")) if actual is None else actual


def exact(value: Any) -> Fraction:
    """A sum as a number that compares exactly."""
    return Fraction(value)
