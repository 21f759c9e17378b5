"""What an error of SQLite means to a caller: one typed error each, with what to do next."""

from __future__ import annotations

import sqlite3

from kitaru.domain.errors import KitaruBackendError

_FIRST_BYTE = 0xFF
_NOT_WRITTEN = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_MEANINGS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_CORRUPT: ("store-corrupt", "is damaged; run `kitaru store verify`, and restore a backup"),
    sqlite3.SQLITE_NOTADB: (
        "store-corrupt",
        "is not a Kitaru store, or is damaged; name another store, or restore a backup",
    ),
    sqlite3.SQLITE_BUSY: ("store-busy", "is locked by another program; try again"),
    sqlite3.SQLITE_LOCKED: ("store-busy", "is locked by another program; try again"),
    sqlite3.SQLITE_FULL: ("disk-full", "has no room left: nothing of this was recorded; make room and try again"),
    sqlite3.SQLITE_READONLY: ("store-read-only", "cannot be written; check who owns it and whether its disk is read-only"),
    sqlite3.SQLITE_PERM: ("store-read-only", "cannot be written; check who owns it and whether its disk is read-only"),
    sqlite3.SQLITE_AUTH: ("store-read-only", "cannot be written; check who owns it"),
    sqlite3.SQLITE_CANTOPEN: ("store-unreachable", "cannot be opened; check that the folder exists and who owns it"),
    sqlite3.SQLITE_IOERR: ("store-io", "cannot be read or written: the disk reports an error; check it, then try again"),
    sqlite3.SQLITE_ERROR: ("store-corrupt", "lacks what it should hold; run `kitaru store verify`, and restore a backup"),
    sqlite3.SQLITE_MISMATCH: ("store-corrupt", "is damaged; run `kitaru store verify`, and restore a backup"),
}
# Files that may not grow past a limit of the process or the file system fail with this one.
_FULL_TOO = frozenset({sqlite3.SQLITE_IOERR_WRITE})


DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What a statement can raise: sqlite3 cannot even make its error of a message that names damaged text."""


def typed(error: sqlite3.Error | UnicodeDecodeError, location: str) -> KitaruBackendError:
    """The error that a caller sees for one of SQLite's; `__cause__` is left to the raiser."""
    extended = getattr(error, "sqlite_errorcode", None)
    if extended is None:
        # "Could not decode to UTF-8 column": a flipped bit in a text
        if isinstance(error, (sqlite3.OperationalError, UnicodeDecodeError)):
            return KitaruBackendError(
                f"the store {location} {_MEANINGS[sqlite3.SQLITE_CORRUPT][1]} ({error})", code="store-corrupt"
            )
        return KitaruBackendError(f"the store {location} failed: {error}", code="backend")
    primary = sqlite3.SQLITE_FULL if extended in _FULL_TOO else extended & _FIRST_BYTE
    code, advice = _MEANINGS.get(primary, ("backend", "failed"))
    return KitaruBackendError(f"the store {location} {advice} ({error})", code=code)


def is_known_not_committed(error: sqlite3.Error) -> bool:
    """Whether a COMMIT that failed like this has left nothing that a later recovery could find.

    In WAL mode the frame that commits is written last: when a write failed it is not whole, and its checksum says so.
    After a failed sync, or when the shared index could not grow, it may be.
    """
    return getattr(error, "sqlite_errorcode", None) in _NOT_WRITTEN


def is_of_the_disk(error: sqlite3.Error) -> bool:
    """Whether the connection that got this error is not to be used again."""
    primary = getattr(error, "sqlite_errorcode", 0) & _FIRST_BYTE
    return primary in (
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
    )


def is_of_one_member(error: sqlite3.Error) -> bool:
    """Whether what one member of a group wrote is to blame: a constraint, a statement, a value."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & _FIRST_BYTE in (
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_MISUSE,
    )
