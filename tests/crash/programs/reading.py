"""Processes that read while others write: each reports what it saw that is no beginning of the whole."""

from __future__ import annotations

import time

from saying import say

from kitaru import compose
from kitaru.domain.events import ArtifactSaved, CheckpointCompleted, MetadataLogged
from kitaru.domain.payload import Payload
from kitaru.settings import resolve_store
from kitaru.store.read import Reader
from kitaru.store.values import decode

LEAST_PAUSE, PAUSE_OF_LOOK = 0.02, 4
"""Between two looks, in seconds and in looks: four readers are not to starve the writer that they watch."""


def watch(exec_id: str, seconds: float) -> int:
    """Read one stream again and again while it grows, each event in full, and follow the tail by position."""
    reader = compose.open_reader(resolve_store())
    looks = version = position = followed = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        version = look(reader, exec_id, version)
        looks += 1
        for recorded in reader.tail(after=position, limit=200):
            assert recorded.position > position
            assert recorded.version == followed + 1, f"the tail went from version {followed} to {recorded.version}"
            position, followed = recorded.position, recorded.version
        time.sleep(max(LEAST_PAUSE, PAUSE_OF_LOOK * (time.monotonic() - began)))
    while tail := reader.tail(after=position):
        position, followed = tail[-1].position, tail[-1].version
    say(looks=looks, version=look(reader, exec_id, version), followed=followed)
    return 0


def look(reader: Reader, exec_id: str, before: int) -> int:
    """One moment: events 1 to k, each batch whole, the read model at k. Later moments are never shorter. k."""
    with reader.snapshot() as moment:
        events = list(moment.read(exec_id))
        head = moment.head(exec_id)
        rows = moment.query("SELECT version, checkpoint_count FROM executions WHERE exec_id = ?", (exec_id,))
    assert [event.version for event in events] == list(range(1, head.version + 1)), "not a prefix"
    assert head.version >= before, f"version {head.version} after {before}"
    assert rows == [(head.version, sum(event.event.type == "AttemptStarted" for event in events))]
    expected = (1, 0)
    for recorded in events:
        event = recorded.event
        match event:
            case MetadataLogged(values=payload) | ArtifactSaved(value=payload) | CheckpointCompleted(output=payload):
                mark = decode(bytes_of(reader, payload))
                assert (mark["batch"], mark["place"]) == expected, f"half a batch before {mark}"
                expected = (mark["batch"] + 1, 0) if mark["place"] == mark["of"] - 1 else (mark["batch"], mark["place"] + 1)
            case _:
                pass
    assert expected[1] == 0, "the last batch is half"
    return head.version


def bytes_of(reader: Reader, payload: Payload) -> bytes:
    return payload.data if payload.data is not None else reader.load(payload)
