"""A copy of the store while writers go on, by SQLite's own backup: another reader of the file would drop its locks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable

from kitaru.domain.errors import KitaruBackendError, KitaruUsageError
from kitaru.store.sqlite.connection import database_path, is_store, make_folder, open_reader
from kitaru.store.sqlite.failures import DATABASE_ERRORS, typed

_PAGES = 1000

Progress = Callable[[int, int], None]
"""Called with (pages done, pages in all)."""


def backup(folder: str, target: str, progress: Progress | None = None) -> None:
    """Copy the store in `folder`, as it is now, into the new folder `target`. Raises KitaruUsageError when `target` holds
    anything, KitaruBackendError when it cannot be done; then nothing is left there.
    """
    target = os.path.abspath(target)
    if os.path.exists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise KitaruUsageError(f"{target} is not empty; name a new folder for the backup", code="backup-target")
    is_new = not os.path.exists(target)
    source = open_reader(folder)
    try:
        make_folder(target)
        try:
            _copy(source, target, progress)
        except BaseException:
            _remove(target, is_new)
            raise
    except DATABASE_ERRORS as error:
        raise typed(error, target) from error
    finally:
        source.close()


def _copy(source: sqlite3.Connection, target: str, progress: Progress | None) -> None:
    copy = sqlite3.connect(database_path(target), isolation_level=None)
    try:
        source.execute("BEGIN")  # one moment: without it every commit meanwhile starts the copy again
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(copy, pages=_PAGES, progress=_adapted(progress))
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        check = copy.execute("PRAGMA quick_check").fetchone()[0]
        if check != "ok" or not is_store(copy, target):
            raise KitaruBackendError(f"the backup in {target} is damaged ({check}); check the disk", code="store-corrupt")
    finally:
        copy.close()


def _adapted(progress: Progress | None) -> Callable[[int, int, int], None] | None:
    if progress is None:
        return None
    return lambda _, left, total: progress(total - left, total)


def _remove(target: str, is_new: bool) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(database_path(target) + suffix)
    if is_new:
        with contextlib.suppress(OSError):
            os.rmdir(target)
