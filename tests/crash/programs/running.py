"""Processes that run flows, and go on with those of dead processes."""

from __future__ import annotations

import os
from multiprocessing.synchronize import Barrier
from typing import Any

from saying import say

from kitaru import compose
from kitaru.domain.errors import KitaruError
from kitaru.runtime import recovery
from kitaru.settings import resolve_store


def run(flow: str, inputs: dict[str, Any], times: int = 1) -> int:
    """Run a flow to its end."""
    import flows

    handles = [getattr(flows, flow).run(**inputs) for _ in range(times)]
    for handle in handles:
        say(exec_id=handle.exec_id)
    for handle in handles:
        say(exec_id=handle.exec_id, value=handle.wait(60))
    return 0


def recover(exec_id: str | None = None) -> int:
    """Go on with everything that is lost; each one's end, and then what the execution `exec_id` returned."""
    log = compose.open_log(resolve_store())
    lost = recovery.lost_executions(log, "default")
    for runner in recovery.recover(log, lost):
        runner.join()
        say(exec_id=runner.exec_id, error=None if runner.error is None else repr(runner.error))
    if exec_id is not None:
        say_value(exec_id)
    return 0


def say_value(exec_id: str) -> int:
    """What a finished execution returned."""
    import flows

    from kitaru.runtime.handle import FlowHandle

    log = compose.open_log(resolve_store())
    flow = getattr(flows, recovery.started_event(log, exec_id).flow_name)
    say(value=FlowHandle(log, exec_id, flow, None).get())
    return 0


def recover_each(exec_ids: list[str], barrier: Barrier) -> int:
    """Go on with each execution at the same moment as the other processes; who was refused says why."""
    log = compose.open_log(resolve_store())
    for exec_id in exec_ids:
        barrier.wait(60)
        try:
            runner = recovery.take_over(log, exec_id)
        except KitaruError as error:
            say(exec_id=exec_id, refused=type(error).__name__, message=error.message)
        else:
            runner.join()
            say(exec_id=exec_id, error=None if runner.error is None else repr(runner.error), pid=os.getpid())
    barrier.wait(60)
    return 0
