"""The read model of LLM usage: one row an execution with the sums over its records, so that a record costs one row's update.

Costs are in units of 10^-10 dollars. Erased payloads leave the sums as they are: those stand in the events' bodies. Imports
the domain and the store's protocol only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from orjson import loads

from kitaru.domain.events import EventBase, HistoryDropped, LLMUsageRecorded
from kitaru.domain.usage import totals_of
from kitaru.store.log import Execute, Head
from kitaru.store.values.text import write

_CREATE = (
    """CREATE TABLE {p}llm_usage (
        number INTEGER PRIMARY KEY,
        usage_record_count INTEGER NOT NULL,
        incurred_usage_record_count INTEGER NOT NULL,
        reused_usage_record_count INTEGER NOT NULL,
        total_tokens INTEGER NOT NULL,
        incurred_total_tokens INTEGER NOT NULL,
        reused_total_tokens INTEGER NOT NULL,
        actual_cost_usd INTEGER NOT NULL,
        estimated_cost_usd INTEGER NOT NULL,
        display_cost_usd INTEGER NOT NULL,
        records_without_cost_count INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        incurred_input_tokens INTEGER NOT NULL,
        incurred_output_tokens INTEGER NOT NULL,
        reused_input_tokens INTEGER NOT NULL,
        reused_output_tokens INTEGER NOT NULL,
        adapters TEXT NOT NULL,
        models TEXT NOT NULL,
        warnings TEXT NOT NULL
    )""",
    "CREATE INDEX {p}llm_usage_by_tokens{g} ON {p}llm_usage (total_tokens)",
    "CREATE INDEX {p}llm_usage_by_cost{g} ON {p}llm_usage (display_cost_usd)",
)
_ADD = """INSERT INTO {p}llm_usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
        json_array(?18), CASE WHEN ?19 IS NULL THEN '[]' ELSE json_array(?19) END, ?20)
    ON CONFLICT (number) DO UPDATE SET
        usage_record_count = min(usage_record_count + ?2, 4611686018427387904),
        incurred_usage_record_count = min(incurred_usage_record_count + ?3, 4611686018427387904),
        reused_usage_record_count = min(reused_usage_record_count + ?4, 4611686018427387904),
        total_tokens = min(total_tokens + ?5, 4611686018427387904),
        incurred_total_tokens = min(incurred_total_tokens + ?6, 4611686018427387904),
        reused_total_tokens = min(reused_total_tokens + ?7, 4611686018427387904),
        actual_cost_usd = min(actual_cost_usd + ?8, 4611686018427387904),
        estimated_cost_usd = min(estimated_cost_usd + ?9, 4611686018427387904),
        display_cost_usd = min(display_cost_usd + ?10, 4611686018427387904),
        records_without_cost_count = min(records_without_cost_count + ?11, 4611686018427387904),
        input_tokens = min(input_tokens + ?12, 4611686018427387904),
        output_tokens = min(output_tokens + ?13, 4611686018427387904),
        incurred_input_tokens = min(incurred_input_tokens + ?14, 4611686018427387904),
        incurred_output_tokens = min(incurred_output_tokens + ?15, 4611686018427387904),
        reused_input_tokens = min(reused_input_tokens + ?16, 4611686018427387904),
        reused_output_tokens = min(reused_output_tokens + ?17, 4611686018427387904),
        adapters = CASE WHEN EXISTS (SELECT 1 FROM json_each(adapters) WHERE value = ?18) THEN adapters
            ELSE json_insert(adapters, '$[#]', ?18) END,
        models = CASE WHEN ?19 IS NULL OR json_array_length(models) >= 100
            OR EXISTS (SELECT 1 FROM json_each(models) WHERE value = ?19) THEN models
            ELSE json_insert(models, '$[#]', ?19) END,
        warnings = CASE WHEN ?20 = '[]' THEN warnings ELSE (SELECT json_group_array(value) FROM (
            SELECT value FROM (SELECT value, key FROM json_each(warnings)
                UNION ALL SELECT value, key + 100 FROM json_each(?20) given
                WHERE given.value NOT IN (SELECT value FROM json_each(warnings)))
            ORDER BY key LIMIT 100)) END"""
_KEEP = """SELECT usage_record_count, incurred_usage_record_count, reused_usage_record_count, total_tokens,
    incurred_total_tokens, reused_total_tokens, actual_cost_usd, estimated_cost_usd, display_cost_usd,
    records_without_cost_count, input_tokens, output_tokens, incurred_input_tokens, incurred_output_tokens,
    reused_input_tokens, reused_output_tokens, adapters, models, warnings FROM {p}llm_usage WHERE number = ?"""
_RESTORE = "INSERT INTO {p}llm_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REMOVE = "DELETE FROM {p}llm_usage WHERE number = ?"


class Usage:
    """Keeps the rows of LLM usage."""

    name = "llm_usage"
    version = 1

    def __init__(self, prefix: str) -> None:
        self.tables = (prefix + "llm_usage",)
        self._create = tuple(sql.replace("{p}", prefix) for sql in _CREATE)
        self._add = _ADD.replace("{p}", prefix)
        self._keep, self._restore = _KEEP.replace("{p}", prefix), _RESTORE.replace("{p}", prefix)
        self._remove = _REMOVE.replace("{p}", prefix)

    def create(self, execute: Execute, generation: int) -> None:
        """Create the table and its indexes."""
        for sql in self._create:
            execute(sql.replace("{g}", f"_g{generation}"), ())

    def apply(self, execute: Execute, head: Head, events: Sequence[tuple[int, EventBase]]) -> None:
        """Add a batch of one stream's records to its row."""
        for _, event in events:
            if type(event) is LLMUsageRecorded:
                figures = event.figures
                warnings = write(list(figures.warnings)).decode()
                added = totals_of(figures)
                execute(self._add, (head.number, *added, figures.adapter, figures.model, warnings))
            elif type(event) is HistoryDropped:
                execute(self._remove, (head.number,))
                kept = cast("dict[str, dict[str, list[object]]]", loads(event.kept.data or b"{}")).get(self.name)
                if kept is not None:
                    execute(self._restore, (head.number, *kept["row"]))

    def keep(self, execute: Execute, number: int) -> dict[str, object] | None:
        """The row, if there is one."""
        row = execute(self._keep, (number,)).fetchone()
        return None if row is None else {"row": list(row)}

    def remove(self, execute: Execute, number: int, exec_id: str) -> None:
        """Delete an execution's row."""
        execute(self._remove, (number,))
