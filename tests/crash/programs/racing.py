"""Processes that do something to the same executions at the same moment, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any

from saying import say

from kitaru import compose
from kitaru.domain.errors import KitaruError, KitaruStateError
from kitaru.runtime import operations, recovery
from kitaru.runtime.clock import SystemClock, install
from kitaru.runtime.runner import Runner
from kitaru.settings import resolve_store
from kitaru.store.log import EventLog

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
    for exec_id in exec_ids:
        at_once(barrier)
        attempt(exec_id, partial(operations.answer, log, exec_id, "n", number, f"process {number}"))
    return 0


def go_on_with_each(exec_ids: list[str], how: str, barrier: Barrier) -> int:
    """Resume, or recover, each execution at the same moment as the other processes."""
    log = compose.open_log(resolve_store())
    begin: dict[str, Callable[..., Runner | None]] = {"resume": operations.resume, "recover": recovery.take_over}
    for exec_id in exec_ids:
        at_once(barrier)
        runner = attempt(exec_id, partial(begin[how], log, exec_id), how=how)
        if runner is not None:
            runner.join()
            say(exec_id=exec_id, error=None if runner.error is None else repr(runner.error))
    return 0


def attempt(exec_id: str, do: Callable[[], Runner | None], **what: str) -> Runner | None:
    """Do it, and say how it went: refused with which error, or not. Any error is said; which may be, the test knows."""
    began = time.monotonic()
    found, refused, message = None, None, ""
    try:
        found = do()
    except Exception as error:
        refused, message = type(error).__name__, error.message if isinstance(error, KitaruError) else str(error)
    say(exec_id=exec_id, refused=refused, message=message, began=began, ended=time.monotonic(), **what)
    return found


# --- answer, abort, cancel, expiry and retry (R8) ----------------------------------------------------------------------

LIFETIME_SECONDS = 3600.0


class ShiftedClock(SystemClock):
    """The machine's clock, set wrong."""

    def __init__(self, seconds: float) -> None:
        self._ahead = round(seconds * 1_000_000)

    def now(self) -> int:
        return super().now() + self._ahead


def set_clock(*, late: bool) -> None:
    """Past the expiry of every wait that was opened in time, or right."""
    install(ShiftedClock(2 * LIFETIME_SECONDS if late else 0.0))


def prepare(starts: list[dict[str, Any]]) -> int:
    """Executions to race for: queued; suspended in their wait; failed, because it expired or because of its answer."""
    import asking

    log = compose.open_log(resolve_store())

    def go_on(exec_id: str) -> None:
        runner = recovery.take_over(log, exec_id, asking.raced, stay_seconds=0.0)
        assert runner is not None
        runner.join()

    for start in starts:
        set_clock(late=False)
        inputs = {"default": start["default"], "stay": start["stay"], "lifetime": LIFETIME_SECONDS}
        exec_id = asking.raced.run(**inputs, stack="worker").exec_id
        if start["status"] != "queued":
            go_on(exec_id)
        if start["status"] == "failed":
            if start["value"] is not None:
                operations.answer(log, exec_id, "n", start["value"], by="before")
            set_clock(late=True)
            go_on(exec_id)
        say(exec_id=exec_id, version=log.head(exec_id).version)
    return 0


def race(process: int, rounds: list[dict[str, Any]], barrier: Barrier) -> int:
    """In each round do this process's things to one execution while the others do theirs; what came of each."""
    log = compose.open_log(resolve_store())
    say(runner=log.leases.acquire())
    for each in rounds:
        set_clock(late=each["late"])
        at_once(barrier)
        for number, what in enumerate(each["things"]):
            time.sleep(what["after"])
            by = f"{process}.{number}"
            runner = attempt(each["exec_id"], partial(do_to, log, each["exec_id"], by, **what), by=by)
            if runner is not None:
                runner.join()
                if runner.error is not None:
                    say(exec_id=each["exec_id"], ended=type(runner.error).__name__)
    return 0


def answer_soon(log: EventLog, exec_id: str, value: int, by: str, patience: float) -> None:
    """Answer as soon as the wait is open; refused when it was not for so many seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            return operations.answer(log, exec_id, "n", value, by)
        except KitaruStateError:
            if time.monotonic() >= end:
                raise


def do_to(
    log: EventLog, exec_id: str, by: str, do: str, after: float, value: int = 0, patience: float = 0.0, detach: bool = False
) -> Runner | None:
    """One command; the runner, when it set one going here."""
    match do:
        case "answer":
            answer_soon(log, exec_id, value, by, patience)
        case "abort":
            operations.abort_wait(log, exec_id, "n", by)
        case "cancel":
            operations.cancel(log, exec_id, by)
        case "retry":
            return operations.retry(log, exec_id, by=by, detach=detach)
        case "resume":
            return operations.resume(log, exec_id, by=by, detach=detach)
        case _:
            return recovery.take_over(log, exec_id)
    return None
