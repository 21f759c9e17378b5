"""Opening the store's file: created by whoever comes first, checked by everybody, every pragma asserted.

A process that has the store open touches its files through `sqlite3` only: a plain open and close would drop the locks
that SQLite holds for the whole process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from uuid import UUID, uuid4

from kitaru.domain.errors import KitaruBackendError
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.failures import DATABASE_ERRORS, primary_code, typed

FILE_NAME = "kitaru.db"
LOCK_NAME = "write.lock"
BUSY_SECONDS = 5.0
_STATEMENTS = 256
_NO_SHARED_MEMORY = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

_ASSERTED = (
    ("PRAGMA foreign_keys", 1),
    ("PRAGMA trusted_schema", 0),
    ("PRAGMA secure_delete", 1),
    ("PRAGMA journal_mode", "wal"),
    ("PRAGMA fullfsync", 1),
    ("PRAGMA journal_size_limit", 16777216),
)


def database_path(folder: str) -> str:
    """The file that holds the events."""
    return os.path.join(folder, FILE_NAME)


def place_of(path: str) -> tuple[int, int]:
    """Which file is at a path now. Asks for its entry only: opening it would drop locks. Raises OSError."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def make_folder(folder: str) -> None:
    """Make the store's folder (0700) and its empty database file (0600) unless they are there."""
    try:
        _make_durable_folders(folder)
        with contextlib.suppress(FileExistsError):
            # Exclusive: a file that was there is not opened, so no lock of this process is lost by closing it.
            os.close(os.open(database_path(folder), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except PermissionError as error:
        raise KitaruBackendError(
            f"the store {folder} cannot be written ({error.strerror}); check who owns it, or name another store",
            code="store-read-only",
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        code = "store-read-only" if isinstance(error, OSError) and error.errno == errno.EROFS else "store-unreachable"
        raise KitaruBackendError(f"the store {folder!r} cannot be made ({reason}); name another folder", code=code) from None


def _make_durable_folders(folder: str) -> None:
    """A folder that a power cut takes away takes every commit along: its entry is synced before anything is in it."""
    missing: list[str] = []
    parent = folder
    while not os.path.isdir(parent) and parent != os.path.dirname(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for made in missing:
        descriptor = os.open(os.path.dirname(made), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def connect(folder: str, parameters: str) -> sqlite3.Connection:
    """A connection to an existing file, with nothing checked yet. `parameters` are SQLite's: "mode=rw"."""
    uri = f"{Path(database_path(folder)).absolute().as_uri()}?{parameters}"
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS, timeout=BUSY_SECONDS
    )


def open_writer(folder: str, complete: Callable[[sqlite3.Connection], None] | None = None) -> sqlite3.Connection:
    """A connection that writes, on a store that exists and is of this format. Call it under the write lock when it may
    have to be created; `complete` then adds what else belongs to it, so that nobody ever reads half a store.

    Raises KitaruBackendError.
    """
    try:
        connection = connect(folder, "mode=rw")
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            is_store(connection, folder, mends=True)
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise KitaruBackendError(
                    f"the file system of {folder} has no shared memory, which SQLite's WAL needs; use a local disk",
                    code="store-unsupported",
                )
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA journal_size_limit = 16777216")
            connection.execute(schema.BEGIN)  # write access, now and not at the first append
            is_new = connection.execute("PRAGMA user_version").fetchone()[0] == 0
            if is_new:
                _create(connection)
                if complete is not None:
                    complete(connection)
            _add_logs(connection)
            connection.execute(schema.COMMIT)
            if is_new:
                # Into the file itself: were it only in the WAL, a damaged WAL would make the store look empty and new.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            _assert_pragmas(connection, folder)
            return connection
        except BaseException:
            connection.close()
            raise
    except DATABASE_ERRORS as error:
        raise typed(error, folder) from error


def open_reader(folder: str) -> sqlite3.Connection:
    """A connection that cannot write and leaves the database and its WAL as they are, at its end too."""
    return _opened_to_read(folder)[0]


def reading_mode(folder: str) -> str:
    """With which options a reader opens the database: for one that is attached to another. Raises KitaruBackendError."""
    connection, mode = _opened_to_read(folder)
    connection.close()
    return mode


def _opened_to_read(folder: str) -> tuple[sqlite3.Connection, str]:
    try:
        try:
            return _checked(connect(folder, _SHARED), folder), _SHARED
        except sqlite3.OperationalError as error:
            if primary_code(error) not in _NO_SHARED_MEMORY or not _is_all_in_one_file(folder):
                raise
        # Nobody can write in such a folder, so the file does not change under us, and SQLite need not share memory.
        return _checked(connect(folder, _ALONE), folder), _ALONE
    except DATABASE_ERRORS as error:
        raise typed(error, folder) from error


_SHARED, _ALONE = "mode=ro", "mode=ro&immutable=1"


def _checked(connection: sqlite3.Connection, folder: str) -> sqlite3.Connection:
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN")  # one moment of a store that another process may just be making
        is_made = is_store(connection, folder)
        connection.execute(schema.COMMIT)
        if not is_made:
            raise KitaruBackendError(f"the store {folder} is empty; run a flow on it first", code="store-absent")
        return connection
    except BaseException:
        connection.close()
        raise


def _is_all_in_one_file(folder: str) -> bool:
    """Whether there is no WAL to read beside the database, and none can be made."""
    try:
        can_write = os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
        return not can_write and os.stat(database_path(folder) + "-wal").st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False


def absent(folder: str) -> KitaruBackendError:
    """There is nothing to read."""
    return KitaruBackendError(
        f"there is no store in {folder}; run a flow, or `kitaru init`, or name another store", code="store-absent"
    )


def get_meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A value of the meta table."""
    row: tuple[str] | None = connection.execute(schema.GET_META, (key,)).fetchone()
    return None if row is None else row[0]


def store_id_of(connection: sqlite3.Connection, folder: str) -> str:
    """The UUID that was made with the store."""
    text = get_meta(connection, "store_id")
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        return str(UUID(text))
    raise KitaruBackendError(
        f"the store {folder} has lost its id; run `kitaru store verify`, and restore a backup", code="store-corrupt"
    )


def is_store(connection: sqlite3.Connection, folder: str, *, mends: bool = False) -> bool:
    """Whether this is a store of this format; False for an empty file. Raises KitaruBackendError for anything else.

    `mends`: an index that is not there is made again.
    """
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == schema.APPLICATION_ID:
        if version > schema.FORMAT:
            raise KitaruBackendError(
                f"the store {folder} has format {version}, this version of kitaru knows {schema.FORMAT}; upgrade kitaru",
                code="store-too-new",
            )
        # A flipped bit in a table's own text can make another column of it, and no digest would tell.
        missing = schema.CREATED - {row[0] for row in connection.execute(schema.LIST_SCHEMA)}
        if missing and not (mends and missing <= schema.INDEXES and _make_indexes(connection, missing)):
            advice = "run `kitaru store rebuild`" if not mends and missing <= schema.INDEXES else "restore a backup"
            raise KitaruBackendError(
                f"the tables of the store {folder} are not what they were; {advice}", code="store-corrupt"
            )
        return True
    tables: int = len(connection.execute(schema.LIST_SCHEMA).fetchall())
    if application == 0 and version == 0 and tables == 0:
        return False
    raise KitaruBackendError(
        f"{database_path(folder)} is a database, but not one of kitaru; name another store", code="store-corrupt"
    )


def _make_indexes(connection: sqlite3.Connection, missing: Iterable[str]) -> bool:
    """Whether that was possible: an index of the same name may be there with another text."""
    try:
        for statement in missing:
            connection.execute(statement)
    except sqlite3.Error as error:
        if primary_code(error) not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
            raise
        return False
    return True


def _add_logs(connection: sqlite3.Connection) -> None:
    """A store of an earlier version has no logs yet. What else may be there under their names is left alone."""
    there = {row[0] for row in connection.execute(schema.LIST_NAMES)}
    if "logs" not in there and "logs_by_number" not in there:
        for statement in schema.CREATE_LOGS:
            connection.execute(statement)


def _create(connection: sqlite3.Connection) -> None:
    for statement in schema.CREATE:
        connection.execute(statement)
    facts: Sequence[tuple[str, str]] = (
        ("store_id", str(uuid4())),
        ("created_at", str(time.time_ns() // 1000)),
        ("generation", "1"),
    )
    connection.executemany(schema.PUT_META, facts)
    connection.execute("PRAGMA application_id = 1263096897")
    connection.execute("PRAGMA user_version = 1")


def _assert_pragmas(connection: sqlite3.Connection, folder: str) -> None:
    for pragma, expected in _ASSERTED:
        found = connection.execute(pragma).fetchone()
        if found is None or found[0] != expected:
            raise KitaruBackendError(
                f"SQLite {sqlite3.sqlite_version} does not keep `{pragma}` at {expected} for {folder}; use another build",
                code="store-unsupported",
            )
