"""The digest chain: each event's digest covers its body, its place and the digest before it. Pure, standard library only."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

GENESIS = bytes(32)
"""What the first event of a stream has for a previous digest."""


Link = Callable[[bytes, int, str, int, str, bytes], bytes]
"""From the digest before, and an event's version, type, schema version, id and body, to its digest."""


def linker(exec_id: str) -> Link:
    """How to link the events of one stream. Texts are preceded by their length, so that no two events share their input."""
    prefix = f"{len(exec_id)}:{exec_id}"
    kinds: dict[tuple[str, int], str] = {}  # a stream has few: their part of the text is made once

    def link(previous: bytes, version: int, name: str, v: int, event_id: str, body: bytes) -> bytes:
        kind = kinds.get((name, v))
        if kind is None:
            kind = kinds[name, v] = f",{v},{len(name)}:{name}"
        text = f"{prefix}{version}{kind}{len(event_id)}:{event_id}"
        return blake2b(previous + text.encode() + body, digest_size=32).digest()

    return link


def link(previous: bytes, exec_id: str, version: int, name: str, v: int, event_id: str, body: bytes) -> bytes:
    """The digest of one event of any stream."""
    text = f"{len(exec_id)}:{exec_id}{version},{v},{len(name)}:{name}{len(event_id)}:{event_id}"
    return blake2b(previous + text.encode() + body, digest_size=32).digest()
