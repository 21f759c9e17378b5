"""From stored rows to recorded events, each checked: the chain, the place in it, the payload's digest."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import cast

from orjson import loads

from kitaru.domain.errors import KitaruBackendError
from kitaru.store.chain import link
from kitaru.store.log import Recorded
from kitaru.store.registry import attach_payload, decode, has_inline_payload

DROPPED = "HistoryDropped"
"""The type of the event that begins a stream whose earlier events were dropped: it names the digest before it."""

StoredRow = tuple[int, int, str, int, str, bytes, bytes, bytes | None]
"""position, version, type, v, event_id, digest, body, payload."""


def corrupt(exec_id: str, version: int, position: object, what: str) -> KitaruBackendError:
    """The error for a damaged event, naming it."""
    return KitaruBackendError(
        f"event {version} of execution {exec_id} (position {position}) is damaged: {what}; "
        "run `kitaru store verify`, and restore a backup",
        code="store-corrupt",
    )


def recorded(row: Sequence[object], number: int, exec_id: str, version: int, previous: bytes, erased: int) -> Recorded:
    """The event of a row that has to be number `version` of its stream, after the digest `previous`.

    `erased`: payloads up to this version may be missing. Raises KitaruBackendError(code="store-corrupt").
    """
    position, found, name, v, event_id, digest, body, payload = cast("StoredRow", row)
    if found != version:
        raise corrupt(exec_id, version, position, "it is missing")
    try:
        if name == DROPPED:
            previous = digest_before(body)
        is_whole = link(previous, exec_id, version, name, v, event_id, body) == digest
    except (TypeError, ValueError, AttributeError, KeyError):
        is_whole = False
    if not is_whole:
        raise corrupt(exec_id, version, position, "its digest does not fit")
    event = decode(name, v, body)
    if payload is not None:
        if type(payload) is not bytes or not attach_payload(event, type(event).payloads, payload):
            raise corrupt(exec_id, version, position, "its payload's digest does not fit")
    elif not (type(erased) is int and version <= erased) and has_inline_payload(event):
        raise corrupt(exec_id, version, position, "its payload is missing")
    return Recorded(position, number, exec_id, version, event_id, event)


def digest_before(body: bytes) -> bytes:
    """The digest that a HistoryDropped names. Raises ValueError, TypeError, AttributeError for what is none."""
    return bytes.fromhex(cast("str", loads(body)["previous"]))


def next_version(row: Sequence[object], version: int) -> int:
    """The version that a row after `version` has to have: a dropped history leaves a gap at the beginning."""
    found = row[1]
    return found if row[2] == DROPPED and isinstance(found, int) and found > version else version + 1


def unfold(
    rows: Iterable[Sequence[object]], number: int, exec_id: str, version: int, previous: bytes, erased: int
) -> Generator[Recorded, None, tuple[int, bytes]]:
    """The events of consecutive rows after (version, previous); returns the version and digest after the last."""
    for row in rows:
        version = next_version(row, version)
        yield recorded(row, number, exec_id, version, previous, erased)
        previous = cast("bytes", row[5])
    return version, previous
