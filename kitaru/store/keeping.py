"""What stays of an execution whose events are dropped: one event that says all that counts and lists need."""

from __future__ import annotations

from collections.abc import Sequence

from kitaru.domain.events import HistoryDropped
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES
from kitaru.domain.payload import Payload
from kitaru.store.log import Execute, Head, Projector
from kitaru.store.values import CODEC
from kitaru.store.values.text import write


def history_dropped(
    head: Head, projectors: Sequence[Projector], execute: Execute, by: str, at: int
) -> HistoryDropped | None:
    """The event that takes the place of the whole history of a finished execution, from its rows as they are.

    None when they do not fit beside the event: a rebuild would not find what stands elsewhere.
    """
    state = head.state
    assert state.status is not None
    kept = {projector.name: projector.keep(execute, head.number) for projector in projectors}
    data = write({name: tree for name, tree in kept.items() if tree is not None})
    if len(data) > INLINE_PAYLOAD_BYTES:
        return None
    return HistoryDropped(
        at=at,
        by=by,
        through=state.version,
        previous=head.digest.hex(),
        status=state.status,
        epoch=state.epoch,
        waits=state.waits,
        cancel_requested=state.cancel_requested,
        woken=state.woken,
        kept=Payload.of(data, CODEC),
    )
