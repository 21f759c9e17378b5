"""Executions that wait: until what they wait for is open, until their runner has gone, and what then happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kitaru.domain.state import ExecutionState
from kitaru.runtime import operations, process, recovery
from kitaru.runtime.flow import Flow
from kitaru.runtime.handle import FlowHandle
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE


def until(log: EventLog, holds: Callable[[], bool], what: str = "it") -> None:
    """Wait for commits until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        token = log.changes.token()
        if holds():
            return
        assert time.monotonic() < deadline, f"{what} did not happen"
        log.changes.wait(token, 0.02)


def state_of(log: EventLog, exec_id: str) -> ExecutionState:
    """As the head row has it."""
    return log.head(exec_id).state


def pending(log: EventLog, exec_id: str) -> list[str]:
    """Names of what is pending, inputs and timers."""
    return [each.name for each in state_of(log, exec_id).pending]


def asked(log: EventLog, handle: FlowHandle[Any], *names: str) -> str:
    """Wait until exactly that is pending, in any order; the execution's id."""
    until(log, lambda: sorted(pending(log, handle.exec_id)) == sorted(names), f"{names} to be pending")
    return handle.exec_id


def suspended(log: EventLog, handle: FlowHandle[Any], *names: str) -> str:
    """Wait until that is pending and no runner is there, in the store and in this process; the execution's id."""
    asked(log, handle, *names)
    until(log, lambda: state_of(log, handle.exec_id).runner is None, "the suspension")
    until(log, lambda: not process.is_here(log.location, handle.exec_id), "the runner to go")
    return handle.exec_id


def gone_on(log: EventLog, flow: Flow[..., Any], exec_id: str) -> Any:
    """Take the execution over here, and give what its flow returns, or raise its error."""
    runner = recovery.take_over(log, exec_id, flow)
    assert runner is not None
    assert runner.done.wait(PATIENCE), "the runner hangs"
    runner.join()
    return FlowHandle(log, exec_id, flow, None).get()


def answer(log: EventLog, exec_id: str, wait: str, value: object = None, by: str | None = "me") -> None:
    """Give a wait its value."""
    operations.answer(log, exec_id, wait, value, by)
