"""Executions written straight into a log, for the client to read."""

from __future__ import annotations

import json

from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import FailureOrigin
from kitaru.domain.ids import flow_id
from kitaru.domain.payload import Payload
from kitaru.store.log import EventLog, Head
from kitaru.testing.events import append, new_id


def value(plain: object) -> Payload:
    """A payload of a value that JSON has."""
    return Payload.of(json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode(), "k1")


def started(
    log: EventLog,
    flow: str = "flow",
    *,
    at: int = 1_000_000,
    tags: tuple[str, ...] = (),
    metadata: dict[str, object] | None = None,
    stack: str = "local",
    project: str = "default",
    options: e.FlowOptions | None = None,
    runner: str | None = "gone",
    file: str = "/flows.py",
) -> Head:
    """A new execution, claimed by a runner that is not alive."""
    event = e.ExecutionStarted(
        at=at,
        flow_id=flow_id(log.store_id, project, flow),
        flow_name=flow,
        project=project,
        target=e.Target(file=file, qualname=flow, digest="d1"),
        options=options or e.FlowOptions(),
        stack=stack,
        tags=tags,
        inputs=value({}),
        metadata=None if metadata is None else value(metadata),
    )
    return log.execute(new_id(), c.Start(event, runner), at)[0]


def failure(call: int | None = None, attempt: int = 1, at: int = 5, **more: object) -> e.EventBase:
    """An attempt, or the execution, that failed."""
    fields = {
        "at": at, "origin": FailureOrigin.USER_CODE, "exception_type": "builtins.ValueError", "message": value("no"),
        "traceback": value("Traceback …"), **more,
    }  # fmt: skip
    return e.ExecutionFailed(**fields) if call is None else e.AttemptFailed(call=call, attempt=attempt, **fields)


def opened(call: int, name: str = "step", at: int = 2, parents: tuple[int, ...] = ()) -> e.AttemptStarted:
    """Attempt 1 of a call."""
    return e.AttemptStarted(
        at=at, call=call, attempt=1, invocation_id=name, name=name, input_digest=f"{call:02}", parents=parents
    )


def completed(call: int, output: object = 1, attempt: int = 1, at: int = 3) -> e.CheckpointCompleted:
    """A call's result."""
    return e.CheckpointCompleted(at=at, call=call, attempt=attempt, output=value(output))


def wait(number: int, name: str = "approve", question: object = "ok?", at: int = 4, **more: object) -> e.WaitOpened:
    """A wait for input."""
    asked = question if question is None or isinstance(question, Payload) else value(question)
    fields = {"kind": "input", "question": asked, "json_schema": value({"type": "boolean"}), **more}
    return e.WaitOpened(at=at, wait=number, invocation_id=name, name=name, **fields)


__all__ = ["append", "completed", "failure", "opened", "started", "value", "wait"]
