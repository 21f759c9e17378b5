"""Processes that do something to the same executions at the same moment, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

from saying import say

from kitaru import compose
from kitaru.domain.errors import KitaruError
from kitaru.runtime import operations, recovery
from kitaru.runtime.runner import Runner
from kitaru.settings import resolve_store

_TICK_SECONDS = 0.004


def at_once(barrier: Barrier) -> None:
    """Return at the same moment in every process: a barrier lets them go one by one, the clock's next tick does not."""
    barrier.wait(60)
    now = time.monotonic()
    time.sleep(_TICK_SECONDS * (now // _TICK_SECONDS + 2) - now)


def ask(times: int) -> int:
    """Run flows until each waits for its answer and nobody runs it."""
    import asking

    handles = [asking.asks.run() for _ in range(times)]
    log = compose.open_log(resolve_store())
    for handle in handles:
        while log.head(handle.exec_id).state.runner is not None:
            time.sleep(0.001)
        say(exec_id=handle.exec_id)
    return 0


def ask_and_stay(times: int) -> int:
    """Run flows that stay for their answers; what each returned."""
    import asking

    handles = [asking.asks.run(stay=60.0) for _ in range(times)]
    log = compose.open_log(resolve_store())
    for handle in handles:
        while handle.status != "waiting":
            log.changes.wait(log.changes.token(), 0.01)
        say(exec_id=handle.exec_id)
    for handle in handles:
        say(exec_id=handle.exec_id, value=handle.wait(60))
    return 0


def answer_each(exec_ids: list[str], number: int, barrier: Barrier) -> int:
    """Answer the wait of each execution at the same moment as the other processes."""
    log = compose.open_log(resolve_store())

    def answer(exec_id: str) -> None:
        operations.answer(log, exec_id, "n", number, by=f"process {number}")

    for exec_id in exec_ids:
        at_once(barrier)
        attempt(exec_id, lambda exec_id=exec_id: answer(exec_id))
    return 0


def go_on_with_each(exec_ids: list[str], how: str, barrier: Barrier) -> int:
    """Resume, or recover, each execution at the same moment as the other processes."""
    log = compose.open_log(resolve_store())
    begin: dict[str, Callable[..., Runner | None]] = {"resume": operations.resume, "recover": recovery.take_over}
    for exec_id in exec_ids:
        at_once(barrier)
        runner = attempt(exec_id, lambda exec_id=exec_id: begin[how](log, exec_id), how=how)
        if runner is not None:
            runner.join()
            say(exec_id=exec_id, ended=True, error=None if runner.error is None else repr(runner.error))
    return 0


def attempt(exec_id: str, do: Callable[[], Runner | None], **what: str) -> Runner | None:
    """Do it, and say how it went: refused with which error, or not. Any error is said; which may be, the test knows."""
    try:
        found = do()
    except Exception as error:
        message = error.message if isinstance(error, KitaruError) else str(error)
        say(exec_id=exec_id, refused=type(error).__name__, message=message, **what)
        return None
    say(exec_id=exec_id, refused=None, **what)
    return found
