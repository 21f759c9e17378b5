"""A stream's head row: what it holds of the state, and the seal that tells a flipped bit.

Pure: columns to `Head` and back. The events have their digest chain; the head row decides conflicts and commands, so it
has a check of its own, a CRC-32, which finds every single flipped bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast
from zlib import crc32

from kitaru.domain import events
from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.state import ExecutionState, ExecutionStatus, Pending, evolve
from kitaru.store.log import Head

HeadColumns = tuple[int, bytes, str | None, int, str | None, int, int, str | None, int]
"""version, digest, status, epoch, runner, flags, waits, pending, seal. Flags: 1 cancel requested, 2 woken."""


class StoredHead(NamedTuple):
    """A head as it stands in the store. `erased`: payloads up to this version are gone.

    `erased` is no part of the seal, so that an append does not have to know it: lowered by a flipped bit it makes an erased
    payload look damaged, raised it changes nothing that can be read.
    """

    head: Head
    erased: int


def columns(exec_id: str, digest: bytes, state: ExecutionState) -> HeadColumns:
    """The columns of the head row for a state, in the order of the table."""
    version, status, epoch, runner, cancelled, pending, waits = state[:7]
    status_text = None if status is None else status._value_
    pending_text = None if not pending else json.dumps(pending, separators=(",", ":"))
    flags = (1 if cancelled else 0) | (2 if state.woken else 0)
    seal = seal_of(exec_id, digest, version, status_text, epoch, runner, flags, waits, pending_text)
    return (version, digest, status_text, epoch, runner, flags, waits, pending_text, seal)


def seal_of(
    exec_id: str,
    digest: bytes,
    version: int,
    status: str | None,
    epoch: int,
    runner: str | None,
    flags: int,
    waits: int,
    pending: str | None,
) -> int:
    """The check of a head row."""
    text = f"{exec_id}\0{version}\0{status}\0{epoch}\0{runner}\0{flags}\0{waits}\0{pending}"
    return crc32(text.encode("utf-8", "surrogatepass"), crc32(digest))


def parse(exec_id: str, number: int, erased: int, row: Sequence[object]) -> StoredHead:
    """The head of columns read from the store. Raises KitaruBackendError when they do not bear their seal."""
    version, digest, status, epoch, runner, flags, waits, pending, seal = cast("HeadColumns", tuple(row))
    try:
        whole = seal == seal_of(exec_id, digest, version, status, epoch, runner, flags, waits, pending)
        if whole:
            state = ExecutionState(
                version=version,
                status=None if status is None else ExecutionStatus(status),
                epoch=epoch,
                runner=runner,
                cancel_requested=bool(flags & 1),
                woken=bool(flags & 2),
                erased=erased > 0,
                pending=() if pending is None else _pending(pending),
                waits=waits,
            )
            return StoredHead(Head(number, exec_id, digest, state), erased)
    except (TypeError, ValueError):
        pass
    raise KitaruBackendError(
        f"the head row of execution {exec_id} is damaged; run `kitaru store verify`, and restore a backup",
        code="store-corrupt",
    )


def _pending(text: str) -> tuple[Pending, ...]:
    rows: list[tuple[int, Literal["input", "timer"], str, int, int | None]] = json.loads(text)
    return tuple(Pending(*row) for row in rows)


_KEEPS_HEAD = frozenset(
    {
        events.AttemptStarted,
        events.AttemptFailed,
        events.CheckpointCompleted,
        events.CheckpointFailed,
        events.CheckpointReused,
        events.InputsDiffered,
        events.ArtifactSaved,
        events.MetadataLogged,
        events.TagsChanged,
        events.LLMUsageRecorded,
    }
)
"""What changes nothing in a head row but the version and the digest."""


def fold_head(state: ExecutionState, version: int, event: events.EventBase) -> ExecutionState:
    """`evolve`, as far as a head row goes: `event` is number `version`. The state's own version may lag behind."""
    if type(event) in _KEEPS_HEAD:
        return state
    if state.version != version - 1:
        state = state._replace(version=version - 1)
    return evolve(state, cast("events.Event", event))
