"""A batch of one stream's events as rows: encoded, digested and cut into payloads before any lock is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kitaru.domain import limits
from kitaru.domain.events import EventBase
from kitaru.domain.payload import Payload
from kitaru.store.chain import link
from kitaru.store.registry import body_of, check_payload, codec_of

EventRow = tuple[int, int, str, int, str, bytes, bytes, bytes | None]
"""number, version, type, v, event_id, digest, body, payload."""

BlobRow = tuple[int, str, bytes | None]
"""version, digest, bytes. Bytes None: the blob is in the store already."""


class Batch(NamedTuple):
    """What one append writes. `is_outcome`: it has to be on disk before the append returns."""

    rows: list[EventRow]
    blobs: list[BlobRow]
    digest: bytes
    is_outcome: bool


def encode(
    number: int, exec_id: str, version: int, digest: bytes, events: Sequence[EventBase], event_ids: Sequence[str]
) -> Batch:
    """The rows of `events` after (version, digest) of a stream. Raises KitaruUsageError or KitaruRuntimeError at a limit."""
    rows: list[EventRow] = []
    blobs: list[BlobRow] = []
    is_outcome = False
    for event, event_id in zip(events, event_ids, strict=True):
        version += 1
        codec = codec_of(event)
        body = body_of(event, codec)
        inline: bytes | None = None
        for field in codec.payloads:
            payload: Payload | None = getattr(event, field)
            if payload is None:
                continue
            data = payload.data
            if data is None or len(data) != payload.size or payload.size > limits.INLINE_PAYLOAD_BYTES:
                check_payload(payload, codec)
                blobs.append((version, payload.digest, data))
            else:
                inline = data if inline is None else inline + data
        digest = link(digest, exec_id, version, codec.name, codec.v, event_id, body)
        rows.append((number, version, codec.name, codec.v, event_id, digest, body, inline))
        if codec.is_outcome:
            is_outcome = True
    return Batch(rows, blobs, digest, is_outcome)
