"""A runner that was replaced while it was in the middle of something: it leaves, and the flow sees nothing of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from uuid import uuid4

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.commands import Cancel, Claim
from kitaru.domain.errors import KitaruFencedError
from kitaru.domain.events import AttemptStarted
from kitaru.domain.state import ExecutionStatus, evolve
from kitaru.runtime import process, recovery
from kitaru.runtime.handle import FlowHandle
from kitaru.runtime.leaving import Reason
from kitaru.runtime.runner import Runner
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE

seen: list[BaseException] = []
replaces: dict[str, EventLog] = {}


@checkpoint
def replaced_meanwhile() -> int:
    """Another runner claims the execution, and makes this call again."""
    log, exec_id = replaces["log"], kitaru.current_execution_id()
    assert exec_id is not None
    epoch = log.head(exec_id).state.epoch
    head, _ = log.execute(exec_id, Claim(str(uuid4()), epoch), 5)
    again = AttemptStarted(at=6, call=1, attempt=2)
    log.append(head, (again,), evolve(head.state, again), (str(uuid4()),))
    return 1


@flow
def catches() -> int:
    try:
        return replaced_meanwhile()
    except Exception as error:
        seen.append(error)
        return 2


def runner_of(log: EventLog, handle: FlowHandle[object]) -> Runner:
    live = process.find(log.location, handle.exec_id) or handle._runner
    assert isinstance(live, Runner)
    return live


def test_a_runner_that_is_replaced_in_a_checkpoint_leaves_and_the_flow_sees_no_error(
    log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    seen.clear()
    replaces["log"] = log
    with caplog.at_level(logging.ERROR, "kitaru"):
        runner = runner_of(log, catches.run())
        assert runner.done.wait(PATIENCE)
    assert seen == []
    assert runner.session.reason is Reason.FENCED
    assert isinstance(runner.error, KitaruFencedError)
    assert caplog.records == []


@checkpoint
async def sleeps() -> None:
    await asyncio.sleep(60)


@flow
async def long() -> None:
    await sleeps()


def test_a_fault_in_looking_after_one_execution_leaves_the_others_looked_after(log: EventLog) -> None:
    class Faulty:
        exec_id, store = "faulty", log.location
        looked = threading.Event()

        def look(self) -> None:
            self.looked.set()
            raise KeyError(1)

        def stop(self) -> None: ...
        def join(self) -> None: ...

    faulty = Faulty()
    process.enter(faulty)
    try:
        handle = long.run()
        assert faulty.looked.wait(PATIENCE)
        kitaru.KitaruClient().executions.cancel(handle.exec_id)
        assert runner_of(log, handle).done.wait(PATIENCE)
    finally:
        process.leave(faulty)


@flow
def asks() -> str:
    return str(kitaru.wait(name="n", timeout=0.1))


def test_a_cancel_between_the_claim_and_the_body_cancels(log: EventLog) -> None:
    handle = asks.run(stack="worker")
    runner_id = log.leases.acquire()
    past = recovery.read_past(log, handle.exec_id)
    log.execute(handle.exec_id, Claim(runner_id, None), 5)
    log.execute(handle.exec_id, Cancel("me", None), 6)
    runner = recovery.launch(log, handle.exec_id, asks, past)
    assert runner.done.wait(PATIENCE)
    assert handle.status is ExecutionStatus.CANCELLED
