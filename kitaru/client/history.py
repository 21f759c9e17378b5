"""What the client reads from an execution's events: the execution in full, and the events themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from kitaru.client.access import Access
from kitaru.client.models import Execution, ExecutionEvent, PendingWait, Plain
from kitaru.client.shown import moment, shown
from kitaru.client.snapshots import as_listed, from_detail, wait_of
from kitaru.domain.errors import KitaruBackendError, KitaruUsageError
from kitaru.domain.events import EventBase, WaitOpened
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES
from kitaru.domain.payload import Payload
from kitaru.projections.detail import Detail, Wait
from kitaru.store.log import Recorded

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient
    from kitaru.projections.listing import WaitRow

_LOOK_SECONDS = 0.05


def read_execution(client: KitaruClient, access: Access, exec_id: str, at: int | None) -> Execution:
    """The execution after `at` events, or after all. Raises KitaruUsageError when it has not had as many."""
    if at is not None and (isinstance(at, bool) or at < 1):
        raise KitaruUsageError(f"at has to be a version from 1, not {at!r}")
    detail = read_detail(access, exec_id, at)
    if detail.dropped is not None:
        found = client.executions.peek(exec_id)
        when = f"{moment(detail.dropped.at):%Y-%m-%d}"
        return found.model_copy(update={"status_reason": f"its events and values were dropped on {when}"}).bound(client)
    if detail.started is None and access.reader(f"execution {exec_id}").head(exec_id).state.erased:
        raise KitaruUsageError(f"the first events of {exec_id} were dropped: how it was then is not known any more")
    if detail.started is None:
        raise access.not_found(f"execution {exec_id}")
    if at is not None and detail.state.version < at:
        raise KitaruUsageError(f"the execution {exec_id} has {detail.state.version} events, not {at}")
    is_past = at is not None and access.reader(f"execution {exec_id}").head(exec_id).version > at
    is_alive = None if is_past else access.is_alive(detail.state.runner)
    execution = from_detail(exec_id, detail, access.load, is_alive)
    for artifact in execution.artifacts or ():
        artifact.bound(client)
    return execution.bound(client)


def read_as_listed(client: KitaruClient, access: Access, exec_id: str) -> Execution | None:
    """What a list says of the execution, from its events in place of its row; None when those were dropped."""
    detail = read_detail(access, exec_id)
    if detail.dropped is not None or detail.started is None:
        return None
    full = from_detail(exec_id, detail, access.load, access.is_alive(detail.state.runner))
    return as_listed(full).bound(client)


def read_detail(access: Access, exec_id: str, at: int | None = None) -> Detail:
    """The fold of an execution's verified events."""
    detail = Detail(access.load)
    for recorded in access.reader(f"execution {exec_id}").read(exec_id, limit=at):
        try:
            detail.add(recorded.event)
        except LookupError as error:
            raise KitaruBackendError(
                f"event {recorded.version} of execution {exec_id} does not fit those before it ({error}): it was not "
                "written by kitaru. Restore a backup",
                code="store-corrupt",
            ) from error
    return detail


def pending_of(access: Access, exec_id: str, row: WaitRow) -> PendingWait:
    """A pending wait of a list. What is not in its row is read from its event. Raises ValueError when that is another."""
    found = access.reader(f"execution {exec_id}").read(exec_id, after=row.version - 1, limit=1)
    opened = next((recorded.event for recorded in found), None)
    if not isinstance(opened, WaitOpened):
        raise ValueError(f"event {row.version} opens no wait")
    return wait_of(exec_id, Wait(opened), access.load)


def read_events(access: Access, exec_id: str, after: int = 0) -> Iterator[ExecutionEvent]:
    """The events after a version, each checked."""
    for recorded in access.reader(f"execution {exec_id}").read(exec_id, after=after):
        yield _shown_event(recorded, access)


def follow_events(access: Access, exec_id: str) -> Iterator[ExecutionEvent]:
    """The events, waiting for more until the execution is finished."""
    reader = access.reader(f"execution {exec_id}")
    seen = 0
    while True:
        state = reader.head(exec_id).state
        for event in read_events(access, exec_id, after=seen):
            seen = event.version
            yield event
        if state.status is not None and state.status.is_finished and seen >= state.version:
            return
        if reader.head(exec_id).version == seen:
            time.sleep(_LOOK_SECONDS)


def _shown_event(recorded: Recorded, access: Access) -> ExecutionEvent:
    event = recorded.event
    data: Plain = event.model_dump(mode="json", exclude={"at", "type", "v"}, exclude_defaults=True)
    for name in event.payloads:
        payload = cast("Payload | None", getattr(event, name))
        if payload is not None:
            data[name] = _shown_payload(payload)
    return ExecutionEvent(
        exec_id=recorded.exec_id,
        version=recorded.version,
        position=recorded.position,
        event_id=recorded.event_id,
        type=type_of(event),
        at=moment(event.at),
        data=data,
    )


def _shown_payload(payload: Payload) -> object:
    """Its plain value; what is large or erased is named by digest and size."""
    if payload.data is not None:
        return shown(payload.data)
    erased = payload.size <= INLINE_PAYLOAD_BYTES
    return {"$erased" if erased else "$payload": payload.digest, "size": payload.size}


def type_of(event: EventBase) -> str:
    """An event's stable name."""
    return type(event).__name__
