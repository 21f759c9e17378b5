"""The five public statuses of an execution. Apart from the state, so that a listing need not build the events' classes."""

from __future__ import annotations

from enum import StrEnum


class ExecutionStatus(StrEnum):
    """The five public statuses."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more happens unless somebody asks for it."""
        return self in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)

    @property
    def is_successful(self) -> bool:
        """Whether the flow returned a value."""
        return self is ExecutionStatus.COMPLETED
