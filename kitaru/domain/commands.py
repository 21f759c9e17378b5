"""What may be asked of an execution. `decide` answers each with events, or refuses it.

A runner reports facts (`Report`), fenced by the epoch under which it claimed the execution; all else comes from
outside. `lost_epoch` is the epoch of a runner that the caller has seen to be dead, or None: a runner that claimed since
then is not touched by what was known about the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from kitaru.domain.events import Event, ExecutionStarted
from kitaru.domain.payload import Payload


@dataclass(frozen=True, slots=True)
class Start:
    """Create the execution; `runner` None leaves it to a worker."""

    started: ExecutionStarted
    runner: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """Go on with an execution whose runner is gone."""

    runner: str
    lost_epoch: int | None
    file_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on because somebody asked; `runner` None leaves it to a worker."""

    by: str
    runner: str | None
    lost_epoch: int | None
    file_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Open the failed calls of a failed execution and go on; `runner` None leaves it to a worker."""

    by: str
    runner: str | None
    file_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Give a pending wait its value. `wait` is a name, else an id's ordinal as text."""

    wait: str
    value: Payload
    by: str


@dataclass(frozen=True, slots=True)
class AbortWait:
    """Give a pending wait up, and with it the execution."""

    wait: str
    by: str
    lost_epoch: int | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the execution: at once without a live runner, else at its next boundary."""

    by: str
    lost_epoch: int | None


@dataclass(frozen=True, slots=True)
class ChangeTags:
    """Add and remove tags from outside."""

    add: tuple[str, ...]
    remove: tuple[str, ...]
    by: str


@dataclass(frozen=True, slots=True)
class Erase:
    """Forget the payloads of a finished execution."""

    by: str


@dataclass(frozen=True, slots=True)
class Report:
    """Facts from the runner of `epoch`, recorded together or not at all."""

    epoch: int
    events: tuple[Event, ...]


Command = Start | Claim | Resume | Retry | Answer | AbortWait | Cancel | ChangeTags | Erase | Report
