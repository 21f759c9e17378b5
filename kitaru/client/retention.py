"""Dropping the events and values of executions that ended long ago, in batches; what counts and lists need stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import cast

from kitaru.store.log import EventLog, Reads

BATCH = 50
"""Executions in one transaction."""

_OLD = """SELECT exec_id, version, number FROM executions e WHERE number > ?1 AND ended_at < ?2
    AND status IN ('completed', 'failed', 'cancelled')
    AND (SELECT type FROM events f WHERE f.number = e.number AND f.version > 0 ORDER BY f.version LIMIT 1)
        IS NOT 'HistoryDropped'
    AND exec_id NOT IN (SELECT original_exec_id FROM executions WHERE ended_at IS NULL AND original_exec_id IS NOT NULL)
    ORDER BY number LIMIT ?3"""
"""What a replay under way takes over is left: without it the replay could not go on."""


def count_old(reads: Reads, before: int) -> int:
    """How many executions ended before that moment and have their events still."""
    return sum(len(batch) for batch in _batches(reads, before))


def drop_old(log: EventLog, before: int, by: str, progress: Callable[[int, int], None] | None = None) -> int:
    """Drop the events of executions that ended before a moment (microseconds since 1970); how many executions'."""
    total = count_old(log, before) if progress is not None else 0
    dropped = seen = 0
    for batch in _batches(log, before):
        dropped += len(log.drop_histories(batch, by, time.time_ns() // 1000))
        seen += len(batch)
        if progress is not None:
            progress(seen, max(total, seen))
    return dropped


def _batches(reads: Reads, before: int) -> Iterator[list[tuple[str, int]]]:
    last = 0
    while rows := cast("list[tuple[str, int, int]]", reads.query(_OLD, (last, before, BATCH))):
        yield [(exec_id, version) for exec_id, version, _ in rows]
        last = rows[-1][2]
