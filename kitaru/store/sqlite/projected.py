"""The read models that a store holds: made when they are not there, to be folded anew when they are of another version."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from kitaru.domain.errors import KitaruBackendError
from kitaru.store.log import Projector
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.connection import get_meta
from kitaru.store.sqlite.failures import DATABASE_ERRORS, typed

_META_PREFIX = "projection:"


def prepare(connection: sqlite3.Connection, projectors: Sequence[Projector], folder: str) -> bool:
    """Make the tables that are missing; call it under the write lock. Whether the read models are current: if not, there
    are events that they have not seen, and `rebuild` has to come next.
    """
    try:
        _refuse_newer(connection, projectors, folder)
        if is_current(connection, projectors):
            return True
        connection.execute(schema.BEGIN)
        try:
            is_empty = connection.execute(schema.GET_LAST_POSITION).fetchone()[0] is None
            for projector in projectors:
                if _version_of(connection, projector) is None:
                    projector.create(connection.execute, generation_of(connection))
                    record_version(connection, projector, None if is_empty else 0)
            connection.execute(schema.COMMIT)
        except BaseException:
            if connection.in_transaction:  # a full disk has taken it back already
                connection.execute(schema.ROLLBACK)
            raise
        return is_current(connection, projectors)
    except DATABASE_ERRORS as error:
        raise typed(error, folder) from error


def is_current(connection: sqlite3.Connection, projectors: Sequence[Projector]) -> bool:
    """Whether the read models were folded by these versions of the projectors."""
    return all(_version_of(connection, projector) == projector.version for projector in projectors)


def generation_of(connection: sqlite3.Connection) -> int:
    """The number in the live tables' index names; a rebuild makes the next."""
    text = get_meta(connection, "generation") or "1"
    if not text.isdecimal():
        raise KitaruBackendError(
            f"the store's generation is {text!r}, which is no number; run `kitaru store verify`, and restore a backup",
            code="store-corrupt",
        )
    return int(text)


def record_version(connection: sqlite3.Connection, projector: Projector, version: int | None = None) -> None:
    """Say what the tables of `projector` hold: what its version folds, or 0 for nothing yet."""
    text = str(projector.version if version is None else version)
    connection.execute(schema.PUT_META, (_META_PREFIX + projector.name, text))


def _version_of(connection: sqlite3.Connection, projector: Projector) -> int | None:
    text = get_meta(connection, _META_PREFIX + projector.name)
    return int(text) if text is not None and text.isdecimal() else None


def _refuse_newer(connection: sqlite3.Connection, projectors: Sequence[Projector], folder: str) -> None:
    for projector in projectors:
        version = _version_of(connection, projector)
        if version is not None and version > projector.version:
            raise KitaruBackendError(
                f"the store {folder} holds {projector.name} in version {version}, this version of kitaru knows "
                f"{projector.version}; upgrade kitaru",
                code="store-too-new",
            )
