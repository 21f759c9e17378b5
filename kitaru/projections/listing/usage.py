"""Conditions on the sums of LLM usage: metadata keys like any other, kept in columns of `llm_usage` and not as metadata."""

from __future__ import annotations

from decimal import Decimal

from kitaru.domain.usage import COSTS, FLAT_KEYS, MAX_SUM, UNITS, dollars
from kitaru.projections.listing.filters import Condition

_VALUE = """CASE ?
    WHEN 'kitaru_llm_usage_record_count_v1' THEN usage_record_count
    WHEN 'kitaru_llm_incurred_usage_record_count_v1' THEN incurred_usage_record_count
    WHEN 'kitaru_llm_reused_usage_record_count_v1' THEN reused_usage_record_count
    WHEN 'kitaru_llm_total_tokens_v1' THEN total_tokens
    WHEN 'kitaru_llm_incurred_total_tokens_v1' THEN incurred_total_tokens
    WHEN 'kitaru_llm_reused_total_tokens_v1' THEN reused_total_tokens
    WHEN 'kitaru_llm_actual_cost_usd_v1' THEN actual_cost_usd
    WHEN 'kitaru_llm_estimated_cost_usd_v1' THEN estimated_cost_usd
    WHEN 'kitaru_llm_display_cost_usd_v1' THEN display_cost_usd
    WHEN 'kitaru_llm_records_without_cost_count_v1' THEN records_without_cost_count
    WHEN 'kitaru_llm_input_tokens_v1' THEN input_tokens
    WHEN 'kitaru_llm_output_tokens_v1' THEN output_tokens
    WHEN 'kitaru_llm_incurred_input_tokens_v1' THEN incurred_input_tokens
    WHEN 'kitaru_llm_incurred_output_tokens_v1' THEN incurred_output_tokens
    WHEN 'kitaru_llm_reused_input_tokens_v1' THEN reused_input_tokens
    WHEN 'kitaru_llm_reused_output_tokens_v1' THEN reused_output_tokens
    END"""
PRESENT = "SELECT number FROM llm_usage WHERE number <= ? ORDER BY number DESC LIMIT ?"
ABSENT = """SELECT number FROM executions WHERE project = ? AND NOT EXISTS (SELECT 1 FROM llm_usage other
    WHERE other.number = executions.number) AND number <= ? ORDER BY number DESC LIMIT ?"""
OUTSIDE = """SELECT number FROM executions WHERE project = ? AND NOT EXISTS (SELECT 1 FROM llm_usage other
    WHERE other.number = executions.number AND {value} BETWEEN ? AND ?)
    AND number <= ? ORDER BY number DESC LIMIT ?""".replace("{value}", _VALUE)
WITHIN = """SELECT number FROM llm_usage WHERE {value} BETWEEN ? AND ? AND number <= ?
    ORDER BY number DESC LIMIT ?""".replace("{value}", _VALUE)
"""Parameters: the key, the least and the greatest sum that count, then those of every walk."""

FEW = {
    "kitaru_llm_total_tokens_v1": "SELECT number FROM llm_usage WHERE total_tokens BETWEEN ? AND ? LIMIT ?",
    "kitaru_llm_display_cost_usd_v1": "SELECT number FROM llm_usage WHERE display_cost_usd BETWEEN ? AND ? LIMIT ?",
}
"""The sums that people look for, by their indexes."""


def is_of_usage(condition: Condition) -> bool:
    """Whether a condition is one on the sums of LLM usage."""
    return condition.key in FLAT_KEYS


def span(condition: Condition) -> tuple[int, int] | None:
    """The least and the greatest stored sum that equal the condition's value or stand beyond it as it asks; for `!=` those
    that it excludes. None for a value that no sum can be.
    """
    key, operator, value = condition
    if value is None or isinstance(value, (str, bool)):
        return None
    least, greatest = _least(key, value), _least(key, value, beyond=True) - 1
    match operator:
        case "=" | "!=":
            return least, greatest
        case ">":
            return greatest + 1, MAX_SUM
        case ">=":
            return least, MAX_SUM
        case "<":
            return 0, least - 1
        case "<=":
            return 0, greatest


def _least(key: str, value: float, *, beyond: bool = False) -> int:
    """The least stored sum that is shown as `value` or more, or beyond it: what is shown of a cost is rounded."""
    is_cost = FLAT_KEYS[key] in COSTS

    def is_reached(stored: int) -> bool:
        seen = float(dollars(stored)) if is_cost else stored
        return seen > value if beyond else seen >= value

    near = Decimal(value) * (UNITS if is_cost else 1)
    found = int(max(0, min(near, MAX_SUM)))
    while found > 0 and is_reached(found - 1):
        found -= 1
    while found <= MAX_SUM and not is_reached(found):
        found += 1
    return found
