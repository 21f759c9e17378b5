"""Identifiers, made from a clock reading and random bits that the caller supplies.

Execution ids are UUIDv7 (RFC 9562): they sort by the millisecond in which they were made. What lives inside one
execution is named by its execution and an ordinal, so that an id leads to its stream without an index.
"""

from __future__ import annotations

from uuid import UUID

_KINDS = {"c": "call", "a": "artifact", "w": "wait"}


def uuid7(unix_ms: int, random_bits: int) -> str:
    """A UUIDv7 as text from milliseconds since 1970 and 74 random bits (more are cut off)."""
    value = (unix_ms & 0xFFFFFFFFFFFF) << 80
    value |= 0x7000 << 64 | (random_bits >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | random_bits & 0x3FFFFFFFFFFFFFFF
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def call_id(exec_id: str, call: int) -> str:
    """The id of the `call`-th checkpoint call, from 1."""
    return f"{exec_id}.c{call}"


def attempt_id(exec_id: str, call: int, attempt: int) -> str:
    """The id of one try of a call, both from 1."""
    return f"{exec_id}.c{call}.{attempt}"


def wait_id(exec_id: str, wait: int) -> str:
    """The id of the `wait`-th wait, from 1."""
    return f"{exec_id}.w{wait}"


def artifact_id(exec_id: str, version: int) -> str:
    """The id of the artifact that the event at `version` recorded."""
    return f"{exec_id}.a{version}"


def parse_part(text: str, kind: str) -> tuple[str, int] | None:
    """The execution part (possibly a prefix) and the ordinal of an id of `kind` ("c", "a", "w"), or None."""
    head, dot, tail = text.partition(".")
    if not head or not dot or kind not in _KINDS or not tail.startswith(kind):
        return None
    digits = tail[1:]
    whole = digits.isascii() and digits.isdigit() and digits[0] != "0" and len(digits) < 12
    return (head, int(digits)) if whole else None


def flow_id(store_id: str, project: str, flow_name: str) -> str:
    """The id of a flow name in a store and project: a UUIDv8 over a digest of the three, the same for ever."""
    from hashlib import blake2b

    text = "\0".join((store_id, project, flow_name))
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    raw = bytearray(digest)
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(raw)))
