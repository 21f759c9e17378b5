"""The read models that a store holds: made when they are not there, to be folded anew when they are of another version."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from kitaru.domain.errors import KitaruBackendError
from kitaru.store.log import Projector
from kitaru.store.sqlite import schema
from kitaru.store.sqlite.connection import get_meta
from kitaru.store.sqlite.failures import DATABASE_ERRORS, typed

_META_PREFIX = "projection:"
_GENERATION_DIGITS = 15
_GENERATION = re.compile(r"_g(\d{1,14})\Z", re.ASCII)


def prepare(connection: sqlite3.Connection, projectors: Sequence[Projector], folder: str) -> bool:
    """Make the tables that are missing; call it under the write lock. Whether the read models are current: if not, there
    are events that they have not seen, or tables that this version did not make, and `rebuild` has to come next.
    """
    try:
        _refuse_newer(connection, projectors, folder)
        if is_current(connection, projectors):
            return True
        connection.execute(schema.BEGIN)
        try:
            make_missing(connection, projectors)
            connection.execute(schema.COMMIT)
        except BaseException:
            if connection.in_transaction:  # a full disk has taken it back already
                connection.execute(schema.ROLLBACK)
            raise
        return is_current(connection, projectors)
    except DATABASE_ERRORS as error:
        raise typed(error, folder) from error


def make_missing(connection: sqlite3.Connection, projectors: Sequence[Projector]) -> None:
    """Make the tables of the projectors that the store knows nothing of; call it in a transaction that writes."""
    is_empty = connection.execute(schema.GET_LAST_POSITION).fetchone()[0] is None
    there = {row[0] for row in connection.execute(schema.LIST_NAMES)}
    for projector in projectors:
        if _version_of(connection, projector) is not None:
            continue
        if there.isdisjoint(projector.tables):
            projector.create(connection.execute, next_generation(connection) - 1)
            record_version(connection, projector, None if is_empty else 0)
        else:
            record_version(connection, projector, 0)


def is_current(connection: sqlite3.Connection, projectors: Sequence[Projector]) -> bool:
    """Whether the read models were folded by these versions of the projectors."""
    return all(_version_of(connection, projector) == projector.version for projector in projectors)


def next_generation(connection: sqlite3.Connection) -> int:
    """The number for the index names of a rebuild: one past the recorded one and past every name there is."""
    text = get_meta(connection, "generation")
    used = [int(text)] if text is not None and text.isdecimal() and len(text) < _GENERATION_DIGITS else [1]
    for (name,) in connection.execute(schema.LIST_NAMES):
        found = _GENERATION.search(str(name))
        if found is not None:
            used.append(int(found[1]))
    return max(used) + 1


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
