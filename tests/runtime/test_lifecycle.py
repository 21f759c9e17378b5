"""Resume, retry, recover, cancel in every state: the documented effect, or the documented error and nothing appended."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kitaru import checkpoint, current_execution_id, flow, sleep, wait, wait_async
from kitaru.domain.commands import Cancel
from kitaru.domain.errors import KitaruError, KitaruExecutionError, KitaruNotFoundError, KitaruRuntimeError, KitaruStateError
from kitaru.domain.events import (
    CancelRequested,
    ExecutionCancelled,
    ExecutionResumed,
    ExecutionRetried,
    RunnerClaimed,
    Target,
)
from kitaru.runtime import operations, process, recovery, replaying
from kitaru.runtime.handle import FlowHandle
from kitaru.store.log import EventLog
from kitaru.testing import FakeClock
from tests.runtime import targets
from tests.runtime.crashing import PATIENCE, copy_of, queue
from tests.runtime.records import events_of, of_type, types_of
from tests.runtime.waiting import answer, asked, gone_on, pending, state_of, suspended, until

ran: list[Any] = []
begun = threading.Event()
gate = threading.Event()
ABSENT = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def nothing_left(store: Path) -> Iterator[None]:
    ran.clear()
    begun.clear()
    gate.clear()
    yield
    gate.set()
    process.stop_all()


@checkpoint
def step(x: int) -> int:
    ran.append(x)
    if x == 13:
        raise LookupError("unlucky")
    return x


@checkpoint
def held(x: int) -> int:
    begun.set()
    gate.wait(PATIENCE)
    ran.append(x)
    return x


@flow
def lives(unlucky: bool = False) -> list[int]:
    first = step(13 if unlucky and not ran else 1)
    return [first, wait(schema=int, name="n", timeout=0), step(2)]


@flow
def fails_once() -> list[int]:
    first = step(1)
    if len(ran) == 1:
        step(13)
    return [first, step(2)]


@flow
def naps() -> int:
    sleep(3600)
    return 1


@flow
def busy() -> list[int]:
    return [held(1), step(2)]


# --- every operation in every state --------------------------------------------------------------------------------------

State = Callable[[EventLog, FakeClock], str]


def queued(log: EventLog, clock: FakeClock) -> str:
    return queue(log, lives)


def live(log: EventLog, clock: FakeClock) -> str:
    handle = busy.run()
    assert begun.wait(PATIENCE)
    return handle.exec_id


def lost(log: EventLog, clock: FakeClock) -> str:
    """Its runner is dead, in the middle of its first call."""
    exec_id = live(log, clock)
    copied = copy_of(log, events_of(log, exec_id))
    gate.set()
    process.join_all()
    ran.clear()
    return copied


def waiting(log: EventLog, clock: FakeClock) -> str:
    return suspended(log, lives.run(), "n")


def waiting_live(log: EventLog, clock: FakeClock) -> str:
    @flow
    def stays() -> Any:
        return wait(schema=int, name="n")

    return asked(log, stays.run(), "n")


def waiting_lost(log: EventLog, clock: FakeClock) -> str:
    """It waits, and its runner died before it could leave."""
    exec_id = waiting(log, clock)
    events = events_of(log, exec_id)
    assert type(events[-1]).__name__ == "ExecutionSuspended"
    return copy_of(log, events[:-1])


def answered(log: EventLog, clock: FakeClock) -> str:
    exec_id = waiting(log, clock)
    answer(log, exec_id, "n", 5)
    return exec_id


def sleeping(log: EventLog, clock: FakeClock) -> str:
    exec_id = queue(log, naps)
    runner = recovery.take_over(log, exec_id, naps, stay_seconds=0)
    assert runner is not None
    runner.join()
    return exec_id


def due(log: EventLog, clock: FakeClock) -> str:
    exec_id = sleeping(log, clock)
    clock.advance(3600)
    return exec_id


def completed(log: EventLog, clock: FakeClock) -> str:
    exec_id = answered(log, clock)
    FlowHandle(log, exec_id, lives, None).wait(PATIENCE)
    return exec_id


def failed(log: EventLog, clock: FakeClock) -> str:
    handle = fails_once.run()
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    return handle.exec_id


def cancelled(log: EventLog, clock: FakeClock) -> str:
    exec_id = waiting(log, clock)
    operations.cancel(log, exec_id)
    return exec_id


def dying(log: EventLog, clock: FakeClock) -> str:
    """Somebody asked for its end, and its runner died before it got there."""
    exec_id = lost(log, clock)
    log.execute(exec_id, Cancel("me", None), clock.now())
    assert log.head(exec_id).state.status == "running"
    return exec_id


STATES: list[State] = [
    queued,
    live,
    lost,
    waiting,
    waiting_live,
    waiting_lost,
    answered,
    sleeping,
    due,
    completed,
    failed,
    cancelled,
    dying,
]


def resume(log: EventLog, exec_id: str) -> Any:
    return operations.resume(log, exec_id, by="me")


def resume_detached(log: EventLog, exec_id: str) -> Any:
    return operations.resume(log, exec_id, by="me", detach=True)


def retry(log: EventLog, exec_id: str) -> Any:
    return operations.retry(log, exec_id, by="me")


def retry_detached(log: EventLog, exec_id: str) -> Any:
    return operations.retry(log, exec_id, by="me", detach=True)


def recover(log: EventLog, exec_id: str) -> Any:
    return recovery.take_over(log, exec_id)


def cancel(log: EventLog, exec_id: str) -> Any:
    return operations.cancel(log, exec_id, "me")


def answers(log: EventLog, exec_id: str) -> Any:
    return answer(log, exec_id, "n", 7)


def aborts(log: EventLog, exec_id: str) -> Any:
    return operations.abort_wait(log, exec_id, "n", "me")


GOES_ON = [queued, lost, waiting_lost, answered, due, dying]
"""Where nobody runs it and there is something to do. A runner that died while it waited may have left other work."""

ALLOWED: dict[Callable[..., Any], list[State]] = {
    resume: GOES_ON,
    resume_detached: GOES_ON,
    recover: GOES_ON,
    retry: [failed],
    retry_detached: [failed],
    cancel: [state for state in STATES if state not in (completed, failed, cancelled)],
    answers: [waiting, waiting_live, waiting_lost],
    aborts: [waiting, waiting_live, waiting_lost],
}
EVERY = [
    pytest.param(operation, state, id=f"{operation.__name__}-{state.__name__}")
    for operation in ALLOWED
    for state in STATES
    if state not in ALLOWED[operation]
]
GOOD = [
    pytest.param(operation, state, id=f"{operation.__name__}-{state.__name__}")
    for operation, states in ALLOWED.items()
    for state in states
]


@pytest.mark.parametrize(("operation", "state"), EVERY)
def test_what_the_state_does_not_allow_is_refused_and_appends_nothing(
    log: EventLog, clock: FakeClock, operation: Any, state: State
) -> None:
    exec_id = state(log, clock)
    before = log.head(exec_id)
    with pytest.raises(KitaruStateError):
        operation(log, exec_id)
    assert log.head(exec_id) == before


@pytest.mark.parametrize(("operation", "state"), GOOD)
def test_what_the_state_allows_is_done(log: EventLog, clock: FakeClock, operation: Any, state: State) -> None:
    exec_id = state(log, clock)
    before = log.head(exec_id)
    operation(log, exec_id)
    assert log.head(exec_id).version > before.version


@pytest.mark.parametrize("operation", ALLOWED, ids=lambda operation: operation.__name__)
def test_an_unknown_execution_is_not_found(log: EventLog, operation: Any) -> None:
    with pytest.raises(KitaruNotFoundError):
        operation(log, ABSENT)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_replay_is_refused_for_a_live_run_alone(log: EventLog, clock: FakeClock, state: State) -> None:
    exec_id = state(log, clock)
    if state is queued or "AttemptStarted" not in types_of(log, exec_id) or state in (live, waiting_live):
        before = log.last_position()
        with pytest.raises(KitaruStateError):
            replaying.replay(log, exec_id, None, "step", None, {})
        assert log.last_position() == before
    else:
        name = "held" if state in (lost, dying) else "step"
        before = log.head(exec_id)
        selector = name if state is not failed else "step_2"
        handle = replaying.replay(log, exec_id, None, f"{exec_id}.c1" if selector == "step" else selector, None, {})
        assert handle.exec_id != exec_id
        assert log.head(exec_id) == before
        gate.set()


# --- resume --------------------------------------------------------------------------------------------------------------


def ended(log: EventLog, runner: Any) -> Any:
    """Wait for a runner's end; the status then."""
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    runner.join()
    return log.head(runner.exec_id).state.status


def test_a_resumed_execution_completes_and_says_who_resumed_it(log: EventLog, clock: FakeClock) -> None:
    exec_id = answered(log, clock)
    assert ended(log, operations.resume(log, exec_id, by="Ada")) == "completed"
    (resumed,) = of_type(log, exec_id, ExecutionResumed)
    assert (resumed.by, ran) == ("Ada", [1, 2])


def test_a_detached_resume_leaves_the_execution_queued(log: EventLog, clock: FakeClock) -> None:
    exec_id = answered(log, clock)
    assert operations.resume(log, exec_id, detach=True) is None
    assert state_of(log, exec_id).runner is None
    assert recovery.lost_executions(log, "default") == [exec_id]


def test_a_resume_of_what_was_being_cancelled_ends_it(log: EventLog, clock: FakeClock) -> None:
    exec_id = dying(log, clock)
    assert operations.resume(log, exec_id) is None
    assert log.head(exec_id).state.status == "cancelled"


def test_a_refused_resume_says_what_it_waits_for(log: EventLog, clock: FakeClock) -> None:
    exec_id = waiting(log, clock)
    with pytest.raises(KitaruStateError, match="'n'"):
        operations.resume(log, exec_id)


def test_a_refused_resume_says_that_it_sleeps(log: EventLog, clock: FakeClock) -> None:
    exec_id = sleeping(log, clock)
    with pytest.raises(KitaruStateError, match="not due"):
        operations.resume(log, exec_id)


def unloadable(log: EventLog, tmp_path: Path) -> str:
    """An execution whose file is gone, from a folder that is trusted."""
    from kitaru.runtime import trust

    file = targets.source(tmp_path / "code" / "gone.py")
    trust.trust_folder_of(log.store_id, str(file))
    exec_id = targets.recorded_in(log, file)
    file.unlink()
    return exec_id


@pytest.mark.parametrize("operation", [resume, recover], ids=lambda operation: operation.__name__)
def test_where_the_flow_cannot_be_loaded_the_execution_stays_as_it_was(
    log: EventLog, tmp_path: Path, operation: Any
) -> None:
    exec_id = unloadable(log, tmp_path)
    before = log.head(exec_id)
    with pytest.raises(KitaruRuntimeError, match="gone"):
        operation(log, exec_id)
    assert log.head(exec_id) == before


def test_a_resume_that_the_state_refuses_loads_no_code(log: EventLog, tmp_path: Path) -> None:
    exec_id = unloadable(log, tmp_path)
    operations.cancel(log, exec_id)
    with pytest.raises(KitaruStateError):
        operations.resume(log, exec_id)


def test_a_resume_from_a_folder_that_is_not_trusted_is_refused(log: EventLog, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    file = targets.source(tmp_path / "foreign" / "flows.py", f"open({str(canary)!r}, 'w')\n{targets.SIMPLE}")
    exec_id = targets.recorded_in(log, file)
    before = log.head(exec_id)
    for operation in (resume, recover):
        with pytest.raises(KitaruRuntimeError, match="kitaru trust"):
            operation(log, exec_id)
    assert (log.head(exec_id), canary.exists()) == (before, False)


@pytest.mark.usefixtures("loaded_modules")
def test_a_source_file_that_changed_is_allowed_and_recorded(log: EventLog, tmp_path: Path) -> None:
    from kitaru.runtime import code, trust

    file = targets.source(tmp_path / "code" / "changing.py")
    trust.trust_folder_of(log.store_id, str(file))
    exec_id = targets.recorded(
        log, Target(file=os.path.realpath(file), qualname="doubled", digest=code.file_digest(str(file))), x=4
    )
    file.write_text(targets.SIMPLE.replace("x * 2", "x * 3") + "\n# longer\n")
    assert ended(log, operations.resume(log, exec_id)) == "completed"
    (resumed,) = of_type(log, exec_id, ExecutionResumed)
    assert resumed.file_digest == code.file_digest(str(file))


@pytest.mark.usefixtures("loaded_modules")
def test_a_source_file_that_is_the_same_is_not_recorded(log: EventLog, tmp_path: Path) -> None:
    from kitaru.runtime import code, trust

    file = targets.source(tmp_path / "code" / "staying.py")
    trust.trust_folder_of(log.store_id, str(file))
    exec_id = targets.recorded(
        log, Target(file=os.path.realpath(file), qualname="doubled", digest=code.file_digest(str(file))), x=4
    )
    assert ended(log, operations.resume(log, exec_id)) == "completed"
    assert of_type(log, exec_id, ExecutionResumed)[0].file_digest is None


def test_two_threads_that_resume_and_wait_give_one_runner(log: EventLog, clock: FakeClock) -> None:
    for _ in range(20):
        ran.clear()
        exec_id = answered(log, clock)
        barrier = threading.Barrier(4)
        refused: list[KitaruStateError] = []
        values: list[Any] = []

        def go_on(exec_id: str = exec_id, barrier: Any = barrier, refused: Any = refused) -> None:
            barrier.wait(PATIENCE)
            try:
                operations.resume(log, exec_id)
            except KitaruStateError as error:
                refused.append(error)

        def await_it(exec_id: str = exec_id, barrier: Any = barrier, values: Any = values) -> None:
            barrier.wait(PATIENCE)
            values.append(FlowHandle(log, exec_id, lives, None).wait(PATIENCE))

        threads = [threading.Thread(target=work) for work in (go_on, go_on, await_it, await_it)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        process.join_all()
        assert values == [[1, 5, 2]] * 2
        assert (len(of_type(log, exec_id, RunnerClaimed)), ran) == (2, [1, 2])


# --- retry ---------------------------------------------------------------------------------------------------------------


def test_a_retry_runs_the_failed_call_again_and_no_completed_one(log: EventLog, clock: FakeClock) -> None:
    exec_id = failed(log, clock)
    ran.append("retry")
    assert ended(log, operations.retry(log, exec_id)) == "completed"
    assert ran == [1, 13, "retry", 2]
    assert of_type(log, exec_id, ExecutionRetried)[0].automatic is False


def test_a_retry_after_a_failure_after_a_wait_asks_nobody_again(log: EventLog) -> None:
    @flow
    def fails_after() -> list[int]:
        value = wait(schema=int, name="n", timeout=0)
        return [value, step(13 if not ran else 1)]

    handle = fails_after.run()
    answer(log, suspended(log, handle, "n"), "n", 4)
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    assert ended(log, operations.retry(log, handle.exec_id, flow=fails_after)) == "completed"
    assert handle.get() == [4, 1]


def test_a_retry_after_a_failure_beside_an_open_wait_asks_it_again(log: EventLog) -> None:
    @flow
    async def fails_beside() -> Any:
        async def fails() -> None:
            while not ran and not pending(log, current_execution_id()):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            if not ran:
                ran.append(1)
                raise ValueError

        return (await asyncio.gather(wait_async(schema=int, name="n"), fails()))[0]

    handle = fails_beside.run()
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    operations.retry(log, handle.exec_id, flow=fails_beside)
    answer(log, asked(log, handle, "1/n"), "n", 6)
    assert handle.wait(PATIENCE) == 6


def test_a_crash_after_a_retry_that_took_another_branch_is_no_divergence(log: EventLog) -> None:
    @checkpoint
    def flaky() -> int:
        if len(ran) < 3:
            ran.append("flaky")
            raise ConnectionError
        return 1

    @checkpoint
    def fallback() -> int:
        ran.append("fallback")
        return 2

    @checkpoint
    def other(x: int) -> int:
        if len(ran) < 3:
            ran.append("other")
            raise ConnectionError
        return x

    @flow
    def falls_back() -> list[int]:
        try:
            first = flaky()
        except ConnectionError:
            first = fallback()
        return [first, other(first), step(5)]

    handle = falls_back.run()
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    assert ended(log, operations.retry(log, handle.exec_id, flow=falls_back)) == "completed"
    assert handle.get() == [1, 1, 5]
    events = events_of(log, handle.exec_id)
    retried = next(place for place, event in enumerate(events) if isinstance(event, ExecutionRetried))
    for length in range(retried + 2, len(events)):
        assert gone_on(log, falls_back, copy_of(log, events[:length])) == [1, 1, 5], f"after {length} events"


def test_a_detached_retry_leaves_the_execution_queued(log: EventLog, clock: FakeClock) -> None:
    exec_id = failed(log, clock)
    assert operations.retry(log, exec_id, detach=True) is None
    assert recovery.lost_executions(log, "default") == [exec_id]


def test_a_retried_execution_can_fail_and_be_retried_again(log: EventLog) -> None:
    @flow
    def fails_twice() -> int:
        ran.append(1)
        if len(ran) < 3:
            raise ValueError
        return len(ran)

    handle = fails_twice.run()
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    assert ended(log, operations.retry(log, handle.exec_id, flow=fails_twice)) == "failed"
    assert ended(log, operations.retry(log, handle.exec_id, flow=fails_twice)) == "completed"


# --- cancel --------------------------------------------------------------------------------------------------------------


def cancel_here(log: EventLog, exec_id: str) -> None:
    """As another process asks: this one's runner learns it from the store."""
    operations.cancel(log, exec_id, by="Ada")


def test_a_live_plain_flow_stops_at_its_next_boundary(log: EventLog, clock: FakeClock) -> None:
    exec_id = live(log, clock)
    cancel_here(log, exec_id)
    assert log.head(exec_id).state.status == "running"
    gate.set()
    process.join_all()
    assert types_of(log, exec_id)[-3:] == ["CancelRequested", "CheckpointCompleted", "ExecutionCancelled"]
    assert ran == [1]


def test_a_cancel_says_who_asked(log: EventLog, clock: FakeClock) -> None:
    exec_id = waiting(log, clock)
    operations.cancel(log, exec_id, by="Ada")
    assert of_type(log, exec_id, CancelRequested)[0].by == "Ada"


def test_a_cancel_twice_is_the_same_as_once(log: EventLog, clock: FakeClock) -> None:
    exec_id = live(log, clock)
    cancel_here(log, exec_id)
    cancel_here(log, exec_id)
    assert len(of_type(log, exec_id, CancelRequested)) == 1


def test_the_handle_of_a_cancelled_execution_says_so(log: EventLog, clock: FakeClock) -> None:
    handle = lives.run()
    exec_id = suspended(log, handle, "n")
    operations.cancel(log, exec_id)
    with pytest.raises(KitaruExecutionError, match="cancelled") as ended_so:
        handle.wait(PATIENCE)
    assert (ended_so.value.exec_id, ended_so.value.status) == (exec_id, "cancelled")


def test_a_live_runner_that_waits_is_cancelled_at_once(log: EventLog, clock: FakeClock) -> None:
    exec_id = waiting_live(log, clock)
    before = time.monotonic()
    cancel_here(log, exec_id)
    until(log, lambda: log.head(exec_id).state.status == "cancelled")
    assert time.monotonic() - before < 2


def test_an_async_call_is_cancelled_at_once(log: EventLog) -> None:
    @checkpoint
    async def lasts() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ran.append("ended")

    @flow
    async def long() -> None:
        await lasts()

    handle = long.run()
    assert begun.wait(PATIENCE)
    cancel_here(log, handle.exec_id)
    with pytest.raises(KitaruExecutionError, match="cancelled"):
        handle.wait(PATIENCE)
    assert ran == ["ended"]
    assert isinstance(events_of(log, handle.exec_id)[-1], ExecutionCancelled)


def test_async_calls_under_gather_are_all_cancelled(log: EventLog) -> None:
    @checkpoint
    async def lasts(x: int) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ran.append(x)

    @flow
    async def long() -> None:
        await asyncio.gather(*(lasts(x) for x in range(3)), return_exceptions=True)

    handle = long.run()
    assert begun.wait(PATIENCE)
    until(log, lambda: types_of(log, handle.exec_id).count("AttemptStarted") == 3)
    cancel_here(log, handle.exec_id)
    with pytest.raises(KitaruExecutionError, match="cancelled"):
        handle.wait(PATIENCE)
    assert sorted(ran) == [0, 1, 2]


def test_an_async_call_of_a_plain_flow_is_cancelled_at_once(log: EventLog) -> None:
    @checkpoint
    async def lasts() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ran.append("ended")

    @flow
    def long() -> str:
        try:
            lasts.submit().result()
        except BaseException:
            return "swallowed"
        return "done"

    handle = long.run()
    assert begun.wait(PATIENCE)
    cancel_here(log, handle.exec_id)
    with pytest.raises(KitaruExecutionError, match="cancelled"):
        handle.wait(PATIENCE)
    assert ran == ["ended"]


ISOLATED = """
import os, sys, time
from kitaru import checkpoint, flow

@checkpoint(runtime="isolated", retries=5)
def lasts(path):
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)
    time.sleep(3600)

@flow
def long(path):
    return lasts(path)

@flow
async def long_async(path):
    return await lasts.submit(path)

@flow
def submitted(path):
    return lasts.submit(path).result()
"""


@pytest.mark.usefixtures("loaded_modules")
@pytest.mark.parametrize("name", ["long", "submitted", "long_async"])
def test_an_isolated_call_is_killed_at_once(log: EventLog, tmp_path: Path, name: str) -> None:
    from kitaru.runtime import code

    path = tmp_path / "pid"
    handle = code.load_flow(f"{targets.source(tmp_path / 'code' / 'isolated_calls.py', ISOLATED)}:{name}").run(str(path))
    until(log, path.exists, "the body to begin")
    pid = int(path.read_text())
    cancel_here(log, handle.exec_id)
    with pytest.raises(KitaruExecutionError, match="cancelled"):
        handle.wait(PATIENCE)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert types_of(log, handle.exec_id).count("AttemptStarted") == 1


def test_a_pause_before_a_retry_ends_with_a_cancel(log: EventLog) -> None:
    @checkpoint(retries=1, retry_delay=3600)
    def flaky() -> None:
        begun.set()
        raise ConnectionError

    @flow
    def pauses() -> None:
        flaky()

    handle = pauses.run()
    assert begun.wait(PATIENCE)
    cancel_here(log, handle.exec_id)
    with pytest.raises(KitaruExecutionError, match="cancelled"):
        handle.wait(PATIENCE)


def test_a_parent_that_waits_for_its_child_is_cancelled_at_once(log: EventLog) -> None:
    @flow
    def child() -> int:
        begun.set()
        gate.wait(PATIENCE)
        return 1

    @flow
    def parent() -> int:
        return child.run().wait()

    handle = parent.run()
    assert begun.wait(PATIENCE)
    cancel_here(log, handle.exec_id)
    with pytest.raises(KitaruExecutionError, match="cancelled"):
        handle.wait(PATIENCE)


def test_a_body_that_swallows_its_cancellation_does_not_go_on(log: EventLog) -> None:
    @flow
    def stubborn() -> str:
        while True:
            try:
                held(1)
                step(2)
            except BaseException:
                return "stubborn"

    handle = stubborn.run()
    assert begun.wait(PATIENCE)
    cancel_here(log, handle.exec_id)
    gate.set()
    with pytest.raises(KitaruExecutionError, match="cancelled"):
        handle.wait(PATIENCE)
    assert ran == [1]


def test_a_cancelled_execution_whose_runner_died_is_cancelled_by_recover(log: EventLog, clock: FakeClock) -> None:
    exec_id = dying(log, clock)
    assert recovery.lost_executions(log, "default") == [exec_id]
    assert recovery.take_over(log, exec_id) is None
    assert log.head(exec_id).state.status == "cancelled"


def test_a_cancel_of_a_lost_execution_ends_it_at_once(log: EventLog, clock: FakeClock) -> None:
    exec_id = lost(log, clock)
    operations.cancel(log, exec_id)
    assert log.head(exec_id).state.status == "cancelled"


def test_a_live_execution_whose_runner_was_taken_over_stops_what_it_runs(log: EventLog) -> None:
    @checkpoint
    async def lasts() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ran.append("ended")

    @flow
    async def long() -> None:
        await lasts()

    from kitaru.domain.commands import Claim

    handle = long.run()
    assert begun.wait(PATIENCE)
    log.execute(handle.exec_id, Claim(str(uuid4()), log.head(handle.exec_id).state.epoch), 1)
    until(log, lambda: ran == ["ended"])
