"""How a runner leaves an execution that goes on later, or elsewhere: the flow's body is unwound, its value discarded."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why the runner leaves."""

    STOPPED = "stopped"
    """Ctrl-C, or the process drains: the execution can be resumed."""
    SUSPENDED = "suspended"
    """Nothing can go on before an input or a time."""
    CANCELLED = "cancelled"
    FENCED = "fenced"
    """Another runner has the execution."""
    BROKEN = "broken"
    """The store takes no more events."""


class RunnerLeaves(BaseException):
    """Unwinds the flow's body. Not an Exception: `except Exception` must not keep a body running that nobody records."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
