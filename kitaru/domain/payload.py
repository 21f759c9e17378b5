"""A payload: the bytes of one user-supplied value, named by digest and size in the event, carried beside it."""

from __future__ import annotations

from hashlib import blake2b
from typing import Self

from pydantic import BaseModel, ConfigDict, Field


class Payload(BaseModel):
    """Canonical bytes of a value. `data` never enters the event's body; None means erased or not loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    codec: str = Field(max_length=16)
    data: bytes | None = Field(default=None, exclude=True, repr=False)

    @classmethod
    def of(cls, data: bytes, codec: str) -> Self:
        """The payload of `data`, encoded by `codec`."""
        return cls.model_construct(digest=digest_of(data), size=len(data), codec=codec, data=data)


def digest_of(data: bytes) -> str:
    """BLAKE2b-256 as 64 hexadecimal digits."""
    return blake2b(data, digest_size=32).hexdigest()
