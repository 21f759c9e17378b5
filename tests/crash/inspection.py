"""What a store's file says, read without any of kitaru's code: the chain, the payloads and the places are counted again.

Only the file's format is known here (docs/decisions): a digest is BLAKE2b-256 over the digest before it, the event's place
and its body; a body names each payload by digest and size; up to 16 KiB stand beside it, more in `blobs`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

INLINE = 16 * 1024


class StoredEvent(NamedTuple):
    """One row, with the bytes of its payloads in the order in which the body names them."""

    position: int
    version: int
    type: str
    event_id: str
    body: dict[str, Any]
    payloads: list[bytes]


class Stream(NamedTuple):
    """One execution as it is stored."""

    exec_id: str
    status: str
    runner: str | None
    events: list[StoredEvent]

    @property
    def version(self) -> int:
        return len(self.events)


def read_streams(folder: Path, *, after: int = 0, thorough: bool = True) -> dict[str, Stream]:
    """Every stream with an event past position `after`, each held against all that its rows promise.

    thorough: SQLite's own integrity check too. Raises AssertionError that says what does not hold.
    """
    with closing(sqlite3.connect(f"{(folder / 'store' / 'kitaru.db').as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "executions" not in tables:  # killed while it was being made
            assert "streams" not in tables or connection.execute("SELECT count(*) FROM streams").fetchone() == (0,)
            return {}
        if thorough:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            orphans = "SELECT count(*) FROM events WHERE version > 0 AND number NOT IN (SELECT number FROM streams)"
            assert connection.execute(orphans).fetchone() == (0,), "events without a head row"
            twice = "SELECT event_id FROM events GROUP BY event_id HAVING count(*) > 1"
            assert connection.execute(twice).fetchall() == [], "an event id stands twice"
        heads = connection.execute(
            """SELECT s.number, s.exec_id, s.version, s.digest, s.status, s.runner, x.version, x.status
            FROM streams s LEFT JOIN executions x ON x.number = s.number
            WHERE s.number IN (SELECT DISTINCT number FROM events WHERE position > ?) ORDER BY s.number""",
            (after,),
        ).fetchall()
        return {head[1]: _read_stream(connection, head) for head in heads}


def last_position(folder: Path) -> int:
    """The newest position."""
    with closing(sqlite3.connect(f"{(folder / 'store' / 'kitaru.db').as_uri()}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'events'").fetchone()[0]:
            return 0
        return connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()[0]


def _read_stream(connection: sqlite3.Connection, head: tuple[Any, ...]) -> Stream:
    number, exec_id, version, digest, status, runner, row_version, row_status = head
    previous, position = bytes(32), 0
    events: list[StoredEvent] = []
    rows = connection.execute(
        "SELECT position, version, type, v, event_id, digest, body, payload FROM events WHERE number = ? ORDER BY version",
        (number,),
    )
    for row in rows:
        assert row[1] == len(events) + 1, f"{exec_id}: version {row[1]} after {len(events)}"
        assert row[0] > position, f"{exec_id}: position {row[0]} of version {row[1]} after position {position}"
        place = f"{len(exec_id)}:{exec_id}{row[1]},{row[3]},{len(row[2])}:{row[2]}{len(row[4])}:{row[4]}"
        previous = blake2b(previous + place.encode() + row[6], digest_size=32).digest()
        assert previous == row[5], f"{exec_id}: the chain breaks at version {row[1]}"
        body = json.loads(row[6])
        events.append(StoredEvent(row[0], row[1], row[2], row[4], body, list(_payloads(connection, body, row[7]))))
        position = row[0]
    assert (version, digest) == (len(events), previous), f"{exec_id}: the head names another event than the last"
    assert (row_version, row_status) == (version, status), f"{exec_id}: the read model is not at the head"
    return Stream(exec_id, status, runner, events)


def _payloads(connection: sqlite3.Connection, body: dict[str, Any], inline: bytes | None) -> Iterator[bytes]:
    left = inline or b""
    for value in body.values():
        if not (isinstance(value, dict) and value.keys() == {"digest", "size", "codec"}):
            continue
        if value["size"] > INLINE:
            row = connection.execute("SELECT data FROM blobs WHERE digest = ?", (value["digest"],)).fetchone()
            assert row is not None, f"the blob {value['digest']} is missing"
            data = row[0]
        else:
            data, left = left[: value["size"]], left[value["size"] :]
        assert blake2b(data, digest_size=32).hexdigest() == value["digest"], "a payload is not what its digest says"
        yield data
    assert not left, "bytes beside an event that no payload owns"
