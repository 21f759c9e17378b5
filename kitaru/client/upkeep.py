"""Keeping a store small, and forgetting for good: what `kitaru store gc` and `delete` take away, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kitaru import compose
from kitaru.client.names import current_user
from kitaru.domain.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru.settings import StoreChoice
    from kitaru.store.log import Reads

LOG_DAYS = 30.0
LOG_MEGABYTES = 256.0
VACUUM_SECONDS = 30.0
"""How long to queue behind writers."""
STILL_READ = (
    "somebody still reads the store as it was before: until they end, what was removed is in the store's WAL; run "
    "`kitaru store gc` then"
)
_DAY = 86_400_000_000
_MEGABYTE = 1_000_000
_MOST = 100_000_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is to stay. `history_since`: events of executions that ended from then on (microseconds); None: all."""

    history_since: int | None = None
    log_days: float = LOG_DAYS
    log_megabytes: float = LOG_MEGABYTES


@dataclass(frozen=True, slots=True)
class Freed:
    """What was taken away, or would be. Bytes are those of the database and its WAL.

    in_wal: somebody still reads the store as it was before, so what was taken away is in the WAL until the next time.
    """

    executions: int
    log_lines: int
    values: int
    files: int
    bytes_before: int
    bytes_after: int
    in_wal: bool = False


def collect(
    choice: StoreChoice, kept: Kept, progress: Progress | None = None, *, vacuum: bool = False, dry_run: bool = False
) -> Freed:
    """Take away what is not to stay; with `dry_run` only say how much. `vacuum`: give empty pages back to the disk, too.

    Raises KitaruBackendError, KitaruUsageError.
    """
    from kitaru.client import retention
    from kitaru.store.sqlite import sweep
    from kitaru.store.sqlite.log import SQLiteLog

    for name, amount in (("log_days", kept.log_days), ("log_megabytes", kept.log_megabytes)):
        if not 0 <= amount < _MOST:
            raise KitaruUsageError(f"{name} has to be a number from 0 to {_MOST:,}, not {amount!r}")
    folder = choice.location
    limits = sweep.LogLimits(time.time_ns() // 1000 - int(kept.log_days * _DAY), int(kept.log_megabytes * _MEGABYTE))
    before = sweep.size_of(folder)
    if dry_run:
        reader = compose.open_reader(choice)
        try:
            old = 0 if kept.history_since is None else retention.count_old(reader, kept.history_since)
            lines = sweep.count_lines(reader, limits)
            values = sweep.count_unused_blobs(reader)
        finally:
            reader.close()
        return Freed(old, lines, values, len(sweep.leftover_files(folder)), before, before)
    log = compose.open_log(choice)
    assert isinstance(log, SQLiteLog)
    dropped = 0
    if kept.history_since is not None:
        dropped = retention.drop_old(log, kept.history_since, current_user(), progress)
    lines = sweep.drop_lines(log.writer, log, limits)
    values = sweep.drop_unused_blobs(log.writer)
    files = sweep.remove_files(sweep.leftover_files(folder))
    if dropped or _are_outdated(log, folder):
        forget_statistics(choice)
    if vacuum:
        sweep.vacuum(folder, VACUUM_SECONDS)
    in_wal = not log.shrink()
    return Freed(dropped, lines, values, files, before, sweep.size_of(folder), in_wal)


def delete(choice: StoreChoice, exec_id: str) -> bool:
    """Remove a finished execution: from the store, with its logs, and from the statistics' files. KitaruStateError else.

    False: somebody still reads the store as it was before, so its bytes are in the WAL until `collect`.
    """
    is_gone = compose.open_log(choice).delete(exec_id)
    forget_statistics(choice)
    return is_gone


def _are_outdated(log: Reads, folder: str) -> bool:
    from kitaru.analytics import generations

    return generations.hold_deleted(log, folder)


def forget_statistics(choice: StoreChoice) -> None:
    """Remove the columnar copies of a store, which hold what was there before; the next question makes one."""
    from kitaru.analytics import generations

    generations.forget(choice.location)
