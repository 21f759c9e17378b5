"""Asking executions and telling them: KitaruClient and the models that it gives. Loaded where first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru.analytics.grammar import ExecutionStatisticsGrouping as ExecutionStatisticsGrouping
    from kitaru.analytics.grammar import ExecutionStatisticsMetric as ExecutionStatisticsMetric
    from kitaru.client.client import KitaruClient as KitaruClient
    from kitaru.client.models import ArtifactRef as ArtifactRef
    from kitaru.client.models import BulkItem as BulkItem
    from kitaru.client.models import CheckpointAttempt as CheckpointAttempt
    from kitaru.client.models import CheckpointCall as CheckpointCall
    from kitaru.client.models import ErrorInfo as ErrorInfo
    from kitaru.client.models import Execution as Execution
    from kitaru.client.models import ExecutionEvent as ExecutionEvent
    from kitaru.client.models import ExportedTable as ExportedTable
    from kitaru.client.models import ExportReport as ExportReport
    from kitaru.client.models import FailureInfo as FailureInfo
    from kitaru.client.models import FrozenExecutionSpec as FrozenExecutionSpec
    from kitaru.client.models import LogEntry as LogEntry
    from kitaru.client.models import PendingWait as PendingWait
    from kitaru.client.models import StoreInfo as StoreInfo
    from kitaru.client.statistics import CheckpointStatistics as CheckpointStatistics
    from kitaru.client.statistics import CheckpointStatisticsGroup as CheckpointStatisticsGroup
    from kitaru.client.statistics import ExecutionStatistics as ExecutionStatistics
    from kitaru.client.statistics import ExecutionStatisticsGroup as ExecutionStatisticsGroup
    from kitaru.client.statistics import LLMUsageStatistics as LLMUsageStatistics
    from kitaru.client.statistics import LLMUsageStatisticsGroup as LLMUsageStatisticsGroup
    from kitaru.domain.errors import FailureOrigin as FailureOrigin
    from kitaru.domain.status import ExecutionStatus as ExecutionStatus
    from kitaru.domain.usage import TokenUsage as TokenUsage
    from kitaru.domain.usage import UsageCost as UsageCost
    from kitaru.domain.usage import UsageRecord as UsageRecord
    from kitaru.domain.usage import UsageSummary as UsageSummary

_HOMES = {
    "kitaru.analytics.grammar": ("ExecutionStatisticsGrouping", "ExecutionStatisticsMetric"),
    "kitaru.client.client": ("KitaruClient",),
    "kitaru.client.models": (
        "ArtifactRef",
        "BulkItem",
        "CheckpointAttempt",
        "CheckpointCall",
        "ErrorInfo",
        "Execution",
        "ExecutionEvent",
        "ExportReport",
        "ExportedTable",
        "FailureInfo",
        "FrozenExecutionSpec",
        "LogEntry",
        "PendingWait",
        "StoreInfo",
    ),
    "kitaru.client.statistics": (
        "CheckpointStatistics",
        "CheckpointStatisticsGroup",
        "ExecutionStatistics",
        "ExecutionStatisticsGroup",
        "LLMUsageStatistics",
        "LLMUsageStatisticsGroup",
    ),
    "kitaru.domain.errors": ("FailureOrigin",),
    "kitaru.domain.status": ("ExecutionStatus",),
    "kitaru.domain.usage": ("TokenUsage", "UsageCost", "UsageRecord", "UsageSummary"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ArtifactRef",
    "BulkItem",
    "CheckpointAttempt",
    "CheckpointCall",
    "CheckpointStatistics",
    "CheckpointStatisticsGroup",
    "ErrorInfo",
    "Execution",
    "ExecutionEvent",
    "ExecutionStatistics",
    "ExecutionStatisticsGroup",
    "ExecutionStatisticsGrouping",
    "ExecutionStatisticsMetric",
    "ExecutionStatus",
    "ExportReport",
    "ExportedTable",
    "FailureInfo",
    "FailureOrigin",
    "FrozenExecutionSpec",
    "KitaruClient",
    "LLMUsageStatistics",
    "LLMUsageStatisticsGroup",
    "LogEntry",
    "PendingWait",
    "StoreInfo",
    "TokenUsage",
    "UsageCost",
    "UsageRecord",
    "UsageSummary",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'kitaru.client' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
