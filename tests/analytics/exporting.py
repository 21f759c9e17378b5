"""Reading an export as a stranger would, and stores to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from kitaru.client import KitaruClient
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.state import evolve
from kitaru.store.log import EventLog, Head
from kitaru.testing.events import new_id
from tests.projections.streams import Stream

TABLES = ("executions", "checkpoints", "attempts", "waits", "llm_usage", "events")


def rows_of(folder: Path, table: str, *, partitioned: bool = False) -> list[dict[str, Any]]:
    """A table's rows as pyarrow reads the folder."""
    found: Any = ds.dataset(folder / table, format="parquet", partitioning="hive" if partitioned else None)
    return found.to_table().to_pylist()


def ids_of(folder: Path, table: str = "executions") -> list[str]:
    """The executions of a table, each as often as it has rows, in order."""
    return sorted(row["exec_id"] for row in rows_of(folder, table))


def files_of(folder: Path) -> dict[str, int]:
    """Every Parquet file that readers see, and which one it is on the disk."""
    return {
        str(path.relative_to(folder)): path.stat().st_ino
        for table in TABLES
        if (folder / table).exists()
        for path in sorted((folder / table).rglob("*.parquet"))
    }


def export(client: KitaruClient, folder: Path, **asked: Any) -> dict[str, Any]:
    """Export; the report's tables by name."""
    return {each.table: each for each in client.export(folder, **asked).tables}


def record(log: EventLog, stream: Stream) -> Head:
    """Write a stream of events that could have happened."""
    started = stream[0]
    assert isinstance(started, e.ExecutionStarted)
    head, _ = log.execute(new_id(), c.Start(started, None), started.at)
    if len(stream) == 1:
        return head
    state = head.state
    for event in stream[1:]:
        state = evolve(state, event)  # type: ignore[arg-type]
    return log.append(head, stream[1:], state, [new_id() for _ in stream[1:]])
