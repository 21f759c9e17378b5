"""Executions for the statistics to count."""

from __future__ import annotations

from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.ids import flow_id
from kitaru.domain.payload import Payload
from kitaru.store.log import EventLog, Head
from kitaru.store.values import encode
from kitaru.testing.events import append, new_id

SECOND = 1_000_000


def payload(plain: object) -> Payload:
    """A payload of any value that the codec takes."""
    return Payload.of(encode(plain), "k1")


def run(
    log: EventLog,
    flow: str = "flow",
    *,
    at: int = 0,
    seconds: float | None = 1.0,
    tags: tuple[str, ...] = (),
    metadata: dict[str, object] | None = None,
    stack: str = "local",
    project: str = "default",
) -> Head:
    """An execution that began `at` and completed after `seconds`; None: it is still running."""
    began = e.ExecutionStarted(
        at=at,
        flow_id=flow_id(log.store_id, project, flow),
        flow_name=flow,
        project=project,
        target=e.Target(file=None, qualname=flow),
        options=e.FlowOptions(),
        stack=stack,
        tags=tags,
        inputs=payload({}),
        metadata=None if metadata is None else payload(metadata),
    )
    head = log.execute(new_id(), c.Start(began, "runner"), at)[0]
    return head if seconds is None else end(log, head, at + round(seconds * SECOND))


def end(log: EventLog, head: Head, at: int) -> Head:
    """It completes."""
    return append(log, head, e.ExecutionCompleted(at=at, output=payload(None)))


def fail(log: EventLog, head: Head, at: int) -> Head:
    """It fails."""
    failed = e.ExecutionFailed(
        at=at, origin=e.FailureOrigin.USER_CODE, exception_type="builtins.ValueError", message=payload("no")
    )
    return append(log, head, failed)


def log_metadata(log: EventLog, head: Head, at: int = 0, **values: object) -> Head:
    """The flow body logs metadata."""
    return append(log, head, e.MetadataLogged(at=at, key="body", values=payload(values)))
