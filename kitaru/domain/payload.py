"""A payload: the bytes of one user-supplied value, named by digest and size in the event, carried beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Annotated, Self

from pydantic import ConfigDict, Field


@dataclass(frozen=True, slots=True)
class Payload:
    """Canonical bytes of a value. `data` never enters the event's body; None means erased or not loaded.

    Checked where it is part of an event that is read, not where it is made: it is made for every value.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    codec: Annotated[str, Field(max_length=16)]
    data: Annotated[bytes | None, Field(exclude=True)] = field(default=None, repr=False)

    @classmethod
    def of(cls, data: bytes, codec: str) -> Self:
        """The payload of `data`, encoded by `codec`."""
        return cls(digest_of(data), len(data), codec, data)

    def carrying(self, data: bytes | None) -> Self:
        """The same payload with its bytes, or without."""
        return replace(self, data=data)


def digest_of(data: bytes) -> str:
    """BLAKE2b-256 as 64 hexadecimal digits."""
    return blake2b(data, digest_size=32).hexdigest()
