"""Processes that see flows with waits through to their end, and the one that answers, far from them all."""

from __future__ import annotations

import os
import random
import time
from zlib import crc32

from saying import say

from kitaru import compose
from kitaru.client import KitaruClient
from kitaru.domain.errors import KitaruStateError
from kitaru.runtime import operations, recovery
from kitaru.runtime.handle import FlowHandle
from kitaru.settings import resolve_store

_HESITATION_SECONDS = 0.08


def answer_for(name: str) -> int | None:
    """What is answered to the wait of that name, always."""
    return None if name == "gate" else crc32(name.encode()) % 1000


def answer_all(seed: int) -> int:
    """Answer each wait of the store once, a moment after it was opened, until there is the file `enough`."""
    chance = random.Random(seed)
    due: dict[str, float] = {}
    with KitaruClient() as client:
        while not os.path.exists("enough"):
            now = time.monotonic()
            for wait in client.executions.pending_waits():
                if wait.wait_id not in due:
                    due[wait.wait_id] = now + chance.uniform(0, _HESITATION_SECONDS)
                if due[wait.wait_id] <= now:
                    client.executions.input(wait.exec_id, wait=wait.wait_id, value=answer_for(wait.name), by="far away")
                    say(exec_id=wait.exec_id, wait=wait.name, wait_id=wait.wait_id)
            time.sleep(0.001)
    return 0


def begin(flow: str, stay: float, seconds: float) -> int:
    """Run a flow to its end, here as long as it stays."""
    import asking

    handle = getattr(asking, flow).run(stay, seconds)
    say(exec_id=handle.exec_id)
    say(value=handle.wait(60))
    return 0


def see_through(exec_id: str, how: str) -> int:
    """Resume, or recover, whenever there is something to do, until the end; what it returned."""
    log = compose.open_log(resolve_store())
    do = operations.resume if how == "resume" else recovery.take_over
    while (status := log.head(exec_id).state.status) is None or not status.is_finished:
        token = log.changes.token()
        try:
            runner = do(log, exec_id)
        except KitaruStateError:
            log.changes.wait(token, 0.01)
            continue
        assert runner is not None
        runner.join()
        assert runner.error is None, repr(runner.error)
    import asking

    flow = getattr(asking, recovery.started_event(log, exec_id).flow_name)
    say(value=FlowHandle(log, exec_id, flow, None).get())
    return 0
