"""A stream from its rows, each checked as `rows` does, with the bulk of it outlined: no model is made for those events."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from hashlib import blake2b
from sys import intern
from typing import Any

from orjson import loads

from kitaru.domain.events import EventBase
from kitaru.domain.limits import MAX_EVENTS
from kitaru.domain.outline import CallCompleted, CallStarted
from kitaru.store.chain import linker
from kitaru.store.rows import next_version, recorded

Outlined = EventBase | CallStarted | CallCompleted
_STARTED_FIELDS, _COMPLETED_FIELDS, _PAYLOAD_FIELDS = 6, 4, 3
"""What the plainest of these events say; one that says more is read whole."""


def outline(
    rows: Iterable[Sequence[object]], number: int, exec_id: str, version: int, previous: bytes, erased: int
) -> Generator[list[Outlined], None, tuple[int, bytes]]:
    """The events of consecutive rows after (version, previous), at once; returns the version and digest after the last.

    What does not outline is read by `rows.recorded`, which also says what is wrong with it.
    """
    batch: list[Outlined] = []
    link = linker(exec_id)
    row: Any  # nothing is known of what a file says
    for row in rows:
        version = next_version(row, version)
        _, found, name, v, event_id, digest, body, payload = row
        event: Outlined | None = None
        try:
            if found == version and v == 1 and link(previous, version, name, v, event_id, body) == digest:
                event = _READERS[name](loads(body), payload)
        except (AttributeError, KeyError, TypeError, ValueError):
            pass
        batch.append(recorded(row, number, exec_id, version, previous, erased).event if event is None else event)
        previous = digest
    yield batch
    return version, previous


def _started(body: dict[str, Any], payload: bytes | None) -> CallStarted | None:
    at, call, attempt = body["at"], body["call"], body["attempt"]
    name, ident, digest = body["name"], body["invocation_id"], body["input_digest"]
    if len(body) != _STARTED_FIELDS or type(at) is not int or payload is not None:
        return None
    if type(name) is type(ident) is type(digest) is str and type(call) is type(attempt) is int:
        return CallStarted(call, attempt, ident, intern(name), digest) if 0 < call <= MAX_EVENTS >= attempt > 0 else None
    return None


def _completed(body: dict[str, Any], payload: bytes | None) -> CallCompleted | None:
    at, call, attempt, output = body["at"], body["call"], body["attempt"], body["output"]
    digest, size, codec = output["digest"], output["size"], output["codec"]
    if len(body) != _COMPLETED_FIELDS or type(at) is not int or type(attempt) is not int or len(output) != _PAYLOAD_FIELDS:
        return None
    if payload is None or len(payload) != size or blake2b(payload, digest_size=32).hexdigest() != digest:
        return None
    if type(codec) is str and type(call) is int and 0 < call <= MAX_EVENTS:
        return CallCompleted(call, intern(codec), payload)
    return None


_READERS: Mapping[str, Callable[[dict[str, Any], bytes | None], CallStarted | CallCompleted | None]] = {
    "AttemptStarted": _started,
    "CheckpointCompleted": _completed,
}
"""By the stored type of schema version 1; a newer version of one of them takes it out of here, or gets a reader."""
