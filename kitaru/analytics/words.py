"""The closed vocabulary of statistics statements: every text that can stand in one. Literals only; a test sees to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

# --- of a whole statement ---------------------------------------------------------------------------------------------

SELECT: Final = "SELECT "
COMMA: Final = ", "
AS_GROUP: Final = " AS g"
AS_VALUE: Final = " AS v"
GROUP: Final = "g"
COUNT: Final = "count(*)"
SIGNED_COUNT: Final = "sum(n)"
FROM_PARTS: Final = " FROM ("
UNION: Final = " UNION ALL "
END: Final = ")"
GROUP_BY: Final = ") GROUP BY "
ONE: Final = "1 AS n"
MINUS_ONE: Final = "-1 AS n"
MINUS: Final = "-("
WHERE: Final = " WHERE "
AND: Final = " AND "

AGGREGATES: Final[Mapping[str, tuple[str, str]]] = {
    "avg": ("avg(v", ")"),
    "sum": ("sum(v", ")"),
    "min": ("min(v", ")"),
    "max": ("max(v", ")"),
    "p50": ("quantile_cont(v", ", 0.5)"),
    "p90": ("quantile_cont(v", ", 0.9)"),
    "p95": ("quantile_cont(v", ", 0.95)"),
    "p99": ("quantile_cont(v", ", 0.99)"),
    "count": ("count(v", ")"),
    "count_distinct": ("count(DISTINCT v", ")"),
}
SIGNED_AGGREGATE: Final = ("sum(v", "), sum(n) FILTER (WHERE v", " IS NOT NULL)")
"""Of rows of which some take others off: `n` is 1, or -1 of those, whose values are negative. Exact for whole numbers.

What is left of it is compared nowhere in a statement: DuckDB 2.0 takes the sum of a union for 0 when it compares it, once a
side of a LEFT JOIN in it is known to be empty.
"""

# --- where rows come from: `s` is the subject's row, `c` a change of it, `t` a tag of its execution, `x` its metadata ----

FROM: Final[Mapping[str, tuple[str, str, str]]] = {
    "executions": (" FROM base.executions s", " FROM tail.executions s", " FROM tail.gone_executions s"),
    "tags": (" FROM base.tags s", " FROM tail.tags s", " FROM tail.gone_tags s"),
    "calls": (" FROM steps.calls s", " FROM tail.calls s", " FROM tail.gone_calls s"),
    "usage": (" FROM steps.usage s", " FROM tail.usage s", " FROM tail.gone_usage s"),
}
UNCHANGED: Final[Mapping[str, str]] = {
    "executions": " ANTI JOIN tail.changed_executions c ON c.number = s.number",
    "tags": " ANTI JOIN tail.changed_executions c ON c.number = s.number",
    "calls": " ANTI JOIN tail.changed_steps c ON c.number = s.number",
    "usage": " ANTI JOIN tail.changed_steps c ON c.number = s.number",
}
JOIN_TAGS: Final = " JOIN (SELECT number, tag FROM tail.tags"
TAGS_OF_BASE: Final = " UNION ALL SELECT number, tag FROM base.tags ANTI JOIN tail.changed_executions USING (number)"
ON_TAGS: Final = ") t ON t.number = s.number"
JOIN_KEY: Final = " LEFT JOIN (SELECT number, label, number_value, exact FROM tail.key_values WHERE slot = "
KEY_OF_BASE: Final = (
    " UNION ALL SELECT number, m",
    "_label, m",
    "_number, m",
    "_exact FROM base.executions ANTI JOIN tail.changed_executions USING (number)",
)
ON_KEY: Final = (") x", " ON x", ".number = s.number")

# --- what is grouped by -------------------------------------------------------------------------------------------------

DIMENSIONS: Final[Mapping[str, str]] = {
    "status": "s.status",
    "flow": "s.flow_id",
    "stack": "s.stack",
    "checkpoint": "s.name",
    "type": "s.checkpoint_type",
    "model": "s.model",
    "provider": "s.provider",
    "adapter": "s.adapter",
    "billing_effect": "s.billing_effect",
}
OWN_TAG: Final = "s.tag"
JOINED_TAG: Final = "t.tag"

TIME_COLUMNS: Final = ("s.quarter", "least(greatest(s.started_at, -62135596800000000), 253402300799999999)")
"""Quarters of an hour since the year 1, and microseconds since 1970 as far as calendars go."""
TIME_OPEN: Final = "CAST(("
TIME_END: Final = " AS BIGINT)"
YEAR: Final = "year(DATE '0001-01-01' + CAST(("
AND_MONTH: Final = " AS INTEGER)) * 12 + month(DATE '0001-01-01' + CAST(("
MONTH_END: Final = " AS INTEGER))"
SHIFT: Final = (" + CAST(? AS INTEGER)", " + CAST(? AS BIGINT)")
CASE: Final = " + CASE"
WHEN: Final = " WHEN "
BEFORE: Final = (" < CAST(? AS INTEGER) THEN CAST(? AS INTEGER)", " < CAST(? AS BIGINT) THEN CAST(? AS BIGINT)")
OTHERWISE: Final = (" ELSE CAST(? AS INTEGER) END", " ELSE CAST(? AS BIGINT) END")
DIVIDED: Final = ")//"

# --- what is measured -----------------------------------------------------------------------------------------------------

SOURCES: Final[Mapping[str, Mapping[str, str]]] = {
    "executions": {
        "duration": "s.duration",
        "active_duration": "CASE WHEN s.duration < s.waited THEN 0 ELSE s.duration - s.waited END",
        "wait_duration": "CASE WHEN s.duration IS NOT NULL THEN s.waited END",
        "step_count": "s.checkpoint_count",
        "cached_step_count": "s.cached_step_count",
        "output_artifact_count": "s.artifact_count",
        "attempt_count": "s.attempt_count",
    },
    "checkpoints": {
        "duration": "s.duration",
        "attempt_count": "s.attempt_count",
        "llm_cost": "s.llm_cost",
        "llm_tokens": "s.llm_tokens",
        "llm_input_tokens": "s.llm_input_tokens",
        "llm_output_tokens": "s.llm_output_tokens",
    },
    "llm_usage": {
        "cost": "s.cost",
        "actual_cost": "s.actual_cost",
        "estimated_cost": "s.estimated_cost",
        "tokens": "s.total_tokens",
        "input_tokens": "s.input_tokens",
        "output_tokens": "s.output_tokens",
        "cached_input_tokens": "s.cached_input_tokens",
        "reasoning_tokens": "s.reasoning_tokens",
        "latency": "s.latency",
    },
}

# --- the columns of metadata, as the base makes them ---

CREATE_EXECUTIONS: Final = "CREATE TABLE executions AS "
ADD_EXECUTIONS: Final = "INSERT INTO executions "
LANDED: Final = "SELECT * FROM landed"
PIVOT: Final = " LEFT JOIN (SELECT number"
PIVOTED: Final = (
    ", max(label) FILTER (WHERE slot = ",
    ", max(number_value) FILTER (WHERE slot = ",
    ", max(exact) FILTER (WHERE slot = ",
)
AS_COLUMN: Final = (") AS m", "_label", "_number", "_exact")
PIVOT_END: Final = " FROM key_values GROUP BY number) USING (number)"

# --- metadata: `m7_label` of the base, `x1.label` of what was read for this key ------------------------------------------

HOT: Final = "s.m"
HOT_COLUMNS: Final[Mapping[str, str]] = {"label": "_label", "number": "_number", "exact": "_exact"}
READ: Final = "x"
READ_COLUMNS: Final[Mapping[str, str]] = {"label": ".label", "number": ".number_value", "exact": ".exact"}
NUMBERED: Final = ("CASE WHEN ", " IS NOT NULL THEN ", " END")
WHOLE: Final = ("CAST(", " AS BIGINT)")
BIG: Final = ("coalesce(CAST(", " AS HUGEINT), CAST(", " AS HUGEINT))")

# --- the sums of LLM usage: metadata keys like any other, kept in columns of the execution's row, `s` or `f` -------------

FIGURES: Final[Mapping[str, str]] = {
    "kitaru_llm_usage_record_count_v1": "llm_usage_record_count",
    "kitaru_llm_incurred_usage_record_count_v1": "llm_incurred_usage_record_count",
    "kitaru_llm_reused_usage_record_count_v1": "llm_reused_usage_record_count",
    "kitaru_llm_total_tokens_v1": "llm_total_tokens",
    "kitaru_llm_incurred_total_tokens_v1": "llm_incurred_total_tokens",
    "kitaru_llm_reused_total_tokens_v1": "llm_reused_total_tokens",
    "kitaru_llm_actual_cost_usd_v1": "llm_actual_cost_usd",
    "kitaru_llm_estimated_cost_usd_v1": "llm_estimated_cost_usd",
    "kitaru_llm_display_cost_usd_v1": "llm_display_cost_usd",
    "kitaru_llm_records_without_cost_count_v1": "llm_records_without_cost_count",
    "kitaru_llm_input_tokens_v1": "llm_input_tokens",
    "kitaru_llm_output_tokens_v1": "llm_output_tokens",
    "kitaru_llm_incurred_input_tokens_v1": "llm_incurred_input_tokens",
    "kitaru_llm_incurred_output_tokens_v1": "llm_incurred_output_tokens",
    "kitaru_llm_reused_input_tokens_v1": "llm_reused_input_tokens",
    "kitaru_llm_reused_output_tokens_v1": "llm_reused_output_tokens",
}
OWN: Final = "s."
JOINED: Final = "f."
COUNTED: Final = ("'n' || ", "")
PAID: Final = ("'n' || CAST(", " / 1e10 AS VARCHAR)")
JOIN_FIGURES: Final = " LEFT JOIN (SELECT number, COLUMNS('llm_.*') FROM tail.executions"
FIGURES_OF_BASE: Final = (
    " UNION ALL SELECT number, COLUMNS('llm_.*') FROM base.executions ANTI JOIN tail.changed_executions USING (number)"
)
ON_FIGURES: Final = ") f ON f.number = s.number"
BETWEEN: Final = " BETWEEN ? AND ?"
NOT_BETWEEN: Final = ("(", " BETWEEN ? AND ?) IS NOT TRUE")

# --- filters ---

PROJECT: Final = "s.project = ?"
FROM_NUMBER: Final = "s.number >= ?"
BEFORE_NUMBER: Final = "s.number < ?"
FLOW: Final = "s.flow_id IN ("
STATUS: Final = "s.status IN ("
STACK: Final = "s.stack = ?"
SINCE: Final = "s.started_at >= ?"
UNTIL: Final = "s.started_at < ?"
TAGGED: Final = (
    "s.number IN (SELECT number FROM base.tags WHERE tag = ?)",
    "s.number IN (SELECT number FROM tail.tags WHERE tag = ?)",
)
TAGGED_NOW: Final = "s.number IN (SELECT number FROM tail.tags WHERE tag = ?"
OR_TAGGED: Final = " UNION ALL SELECT number FROM base.tags ANTI JOIN tail.changed_executions USING (number) WHERE tag = ?"
PARAMETER: Final = "?"
FALSE: Final = "false"
TRUE: Final = "true"
IS_NULL: Final = " IS NULL"
IS_NOT_NULL: Final = " IS NOT NULL"
IS_DISTINCT: Final = " IS DISTINCT FROM ?"
IS_TEXT: Final = (" >= 't'", " < 'u'")
COMPARES: Final[Mapping[str, str]] = {"=": " = ?", ">": " > ?", ">=": " >= ?", "<": " < ?", "<=": " <= ?"}
COALESCE: Final = "coalesce("


def _texts(word: object) -> Iterator[str]:
    if isinstance(word, str):
        yield word
    elif isinstance(word, (tuple, Mapping)):
        parts = cast("Any", word)
        for part in parts.values() if isinstance(word, Mapping) else parts:
            yield from _texts(part)


VOCABULARY: Final = frozenset(text for name, word in tuple(globals().items()) if name.isupper() for text in _texts(word))
"""Every text above."""
