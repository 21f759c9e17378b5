"""The two events that a long stream mostly consists of, without their models: what is needed to go on with an execution.

A model costs four times as much to make, and an execution with 10,000 calls is read whole before it goes on.
"""

from __future__ import annotations

from typing import NamedTuple

from kitaru.domain.payload import Payload


class CallStarted(NamedTuple):
    """An AttemptStarted that opens its call."""

    call: int
    attempt: int
    invocation_id: str
    name: str
    input_digest: str


class CallCompleted(NamedTuple):
    """A CheckpointCompleted whose output stands inline."""

    call: int
    codec: str
    data: bytes

    @property
    def output(self) -> Payload:
        """The result."""
        return Payload.of(self.data, self.codec)
