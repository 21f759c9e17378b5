"""LLM usage as the client shows it: a call's records, an execution's sums under its metadata and as a summary."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from kitaru.client.shown import shown
from kitaru.domain.usage import RECORDS_KEY, SUMMARY_KEY, Totals, UsageRecord, UsageSeen, flat, record_key, summarised

if TYPE_CHECKING:
    from kitaru.client.models import Plain
    from kitaru.domain.events import LLMUsageRecorded
    from kitaru.domain.usage import UsageSummary
    from kitaru.projections.detail import Load


def records_of(events: Iterable[LLMUsageRecorded], load: Load) -> list[tuple[int, UsageRecord]]:
    """The records of events, each with its attempt; one whose payload was erased, or is no record, is left out."""
    found: list[tuple[int, UsageRecord]] = []
    for event in events:
        told = shown(load(event.record))
        try:
            found.append((event.attempt, UsageRecord.model_validate(told)))
        except ValueError:
            continue
    return found


def registry_of(records: Iterable[UsageRecord]) -> dict[str, str]:
    """Each alias that was asked for, and the model that it meant; the last one where it changed."""
    asked = ((record.requested_model, record.resolved_model) for record in records)
    return {alias: model for alias, model in asked if alias and model and alias != model}


def metadata_of_call(metadata: Plain, records: tuple[UsageRecord, ...]) -> Plain:
    """A call's metadata with its records, by their keys."""
    if not records:
        return metadata
    return {**metadata, RECORDS_KEY: {record_key(record): record.model_dump(mode="json") for record in records}}


def summary_of(totals: Totals | None, seen: UsageSeen) -> UsageSummary | None:
    """The summary, None without a record."""
    return summarised(totals, seen) if totals is not None and totals.usage_record_count else None


def metadata_of_execution(metadata: Plain, totals: Totals | None, summary: UsageSummary | None) -> Plain:
    """An execution's metadata with the sums of its usage. Those are facts of the store: nothing logged stands over them."""
    if totals is None or summary is None:
        return metadata
    return cast("Plain", {**metadata, **flat(totals), SUMMARY_KEY: summary.model_dump(mode="json")})
