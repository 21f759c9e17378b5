"""The digest chain: each event's digest covers its body, its place and the digest before it. Pure, standard library only."""

from __future__ import annotations

from hashlib import blake2b

GENESIS = bytes(32)
"""What the first event of a stream has for a previous digest."""


def link(previous: bytes, exec_id: str, version: int, name: str, v: int, event_id: str, body: bytes) -> bytes:
    """The digest of one event. Texts are preceded by their length, so that no two events share their input."""
    head = f"{len(exec_id)}:{exec_id}{version},{v},{len(name)}:{name}{len(event_id)}:{event_id}"
    return blake2b(previous + head.encode() + body, digest_size=32).digest()
