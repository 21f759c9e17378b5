"""What an execution recorded, as the tests ask for it."""

from __future__ import annotations

from typing import TypeVar

from kitaru.domain.events import EventBase
from kitaru.projections.detail import Detail
from kitaru.store.log import EventLog

E = TypeVar("E", bound=EventBase)


def events_of(log: EventLog, exec_id: str) -> list[EventBase]:
    """All the events, oldest first."""
    return [recorded.event for recorded in log.read(exec_id)]


def types_of(log: EventLog, exec_id: str) -> list[str]:
    """The events' types without the first two, which every execution has."""
    return [type(event).__name__ for event in events_of(log, exec_id)[2:]]


def of_type(log: EventLog, exec_id: str, kind: type[E]) -> list[E]:
    """The events of one type."""
    return [event for event in events_of(log, exec_id) if isinstance(event, kind)]


def ids_of(log: EventLog, exec_id: str) -> list[str]:
    """The invocation ids of the calls, in the order in which they were opened."""
    found = [getattr(event, "invocation_id", None) for event in events_of(log, exec_id)]
    return [ident for ident in found if ident is not None]


def detail_of(log: EventLog, exec_id: str) -> Detail:
    """The whole execution, folded as the client folds it."""
    return Detail(lambda payload: payload.data or log.load(payload)).add_all(events_of(log, exec_id))
