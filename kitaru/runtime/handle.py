"""The handle on an execution that `run` gives."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from kitaru.domain.errors import (
    FailureOrigin,
    KitaruBackendError,
    KitaruDivergenceError,
    KitaruError,
    KitaruExecutionError,
    KitaruStateError,
    KitaruUserCodeError,
    shown_type,
)
from kitaru.domain.events import EventBase, ExecutionCancelled, ExecutionCompleted, ExecutionFailed
from kitaru.domain.state import ExecutionState, ExecutionStatus
from kitaru.runtime import process
from kitaru.runtime.clock import installed as installed_clock
from kitaru.runtime.leaving import Reason, RunnerLeaves
from kitaru.runtime.runner import Runner
from kitaru.runtime.scope import CallScope, FlowScope, current
from kitaru.store.log import EventLog
from kitaru.store.values import decode

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow

R = TypeVar("R", covariant=True)
_LOOK_SECONDS = 1.0
_LEAVE_SECONDS = 0.1
_LAST_EVENTS = 8


class FlowHandle(Generic[R]):
    """One execution: its id, its status, its value."""

    def __init__(
        self, log: EventLog, exec_id: str, flow: Flow[..., R], runner: Runner | None, *, takes_over: bool = True
    ) -> None:
        self.exec_id = exec_id
        self._takes_over = takes_over
        self._log = log
        self._flow = flow
        self._runner = runner

    @property
    def status(self) -> ExecutionStatus:
        """The status now, read from the store each time."""
        return _status(self._log.head(self.exec_id).state)

    def wait(self, timeout: float | None = None) -> R:
        """Wait for the end and give the flow's value.

        Raises KitaruUserCodeError, KitaruDivergenceError or KitaruExecutionError for another end; TimeoutError after
        `timeout` seconds, which cancels nothing.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            end = self._wait(deadline)
        except KeyboardInterrupt:
            process.join_all()
            raise
        return self._value(end)

    def get(self) -> R:
        """The value of a finished execution. Raises KitaruStateError while it is not finished, and what `wait` raises."""
        state = self._log.head(self.exec_id).state
        if not _status(state).is_finished:
            raise KitaruStateError(f"the execution {self.exec_id} is {_status(state)}; wait() for its end")
        return self._value(_last_of(self._log, self.exec_id, state.version))

    def __await__(self) -> Generator[object, None, R]:
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        given_up = threading.Event()
        scope = current.get()
        within = scope.session if isinstance(scope, (FlowScope, CallScope)) else None
        if within is not None:
            within.under_way += 1
        try:
            end = await asyncio.to_thread(self._wait, None, given_up)
        except RunnerLeaves:
            await asyncio.get_running_loop().create_future()  # the flow's main task is cancelled
            raise
        finally:
            if within is not None:
                within.under_way -= 1
            given_up.set()  # or a loop that ends would wait for the thread
        return self._value(end)

    def _wait(self, deadline: float | None, given_up: threading.Event | None = None) -> EventBase | None:
        """The event that ended the execution; None only when it was given up."""
        scope = current.get()
        within = scope.session if isinstance(scope, (FlowScope, CallScope)) else None
        longest = _LOOK_SECONDS if within is None and given_up is None else _LEAVE_SECONDS
        while given_up is None or not given_up.is_set():
            if within is not None:
                within.check_leaving()  # what waits here is to be unwound, not told that the execution was stopped
            token = self._log.changes.token()
            runner = cast("Runner | None", process.find(self._log.location, self.exec_id)) or self._runner
            if runner is not None and not runner.done.is_set():
                self._runner = runner
                left = _remaining(deadline, self.exec_id)
                if runner.done.wait(longest if left is None else min(left, longest)) and runner.end is not None:
                    return runner.end
                continue
            state = self._log.head(self.exec_id).state
            if _status(state).is_finished:
                return _last_of(self._log, self.exec_id, state.version)
            if runner is not None:
                if within is not None:
                    within.check_leaving()  # whoever stopped that runner told this one first, perhaps since we looked
                if runner.session.epoch == state.epoch:
                    self._explain(runner)
                self._runner = None
                continue
            if self._take_over():
                continue
            left = _remaining(deadline, self.exec_id)
            now = installed_clock().now()
            due = [(p.expires_at - now) / 1_000_000 for p in state.pending if p.expires_at is not None]
            self._log.changes.wait(token, max(0.0, min([longest, *due, *([] if left is None else [left])])))
        return None

    def _take_over(self) -> bool:
        """Go on with it here when nobody runs it and it was not left to a worker."""
        from kitaru.runtime.recovery import is_lost, take_over

        if not self._takes_over or not is_lost(self._log, self._log.head(self.exec_id)):
            return False
        try:
            self._runner = take_over(self._log, self.exec_id, self._flow)
        except KitaruStateError:
            if is_lost(self._log, self._log.head(self.exec_id)):
                raise
            return False  # somebody was faster
        return True

    def _explain(self, runner: Runner) -> None:
        """Raise why this process's runner left the execution unfinished, unless another one goes on with it."""
        reason = runner.session.reason
        if reason is Reason.STOPPED:
            raise KitaruStateError(
                f"the runner of {self.exec_id} was stopped; go on with: kitaru recover {self.exec_id}", code="stopped"
            )
        if reason in (Reason.FENCED, Reason.SUSPENDED):
            return
        if isinstance(runner.error, KitaruError):
            raise runner.error
        raise KitaruBackendError(
            f"the runner of {self.exec_id} ended without an outcome: {runner.error!r}; mend the cause, then "
            f"`kitaru recover {self.exec_id}`"
        ) from runner.error

    def _value(self, end: EventBase | None) -> R:
        if isinstance(end, ExecutionCompleted):
            data = end.output.data if end.output.data is not None else self._log.load(end.output)
            return cast("R", decode(data, self._flow.returns))
        runner = self._runner
        cause = None
        if runner is not None and runner.end is not None and end is not None and runner.end.at == end.at:
            cause = runner.error  # of this end, and not of one before a retry
        raise _error_of(end, self.exec_id, cause)

    def __repr__(self) -> str:
        return f"<FlowHandle {self.exec_id}>"


def _last_of(log: EventLog, exec_id: str, version: int) -> EventBase:
    """The event that ended the execution: among the last few, unless many tags were changed since."""
    for after in (max(0, version - _LAST_EVENTS), 0):
        ends = [
            recorded.event
            for recorded in log.read(exec_id, after=after)
            if isinstance(recorded.event, (ExecutionCompleted, ExecutionFailed, ExecutionCancelled))
        ]
        if ends:
            return ends[-1]
    raise KitaruBackendError(f"the execution {exec_id} is finished and its end is not in the store", code="store-corrupt")


def _error_of(end: EventBase | None, exec_id: str, cause: BaseException | None) -> KitaruExecutionError:
    if not isinstance(end, ExecutionFailed):
        return KitaruExecutionError(
            f"the execution {exec_id} was cancelled", exec_id=exec_id, status="cancelled", code="cancelled"
        )
    kind = {
        FailureOrigin.USER_CODE: KitaruUserCodeError,
        FailureOrigin.DIVERGENCE: KitaruDivergenceError,
    }.get(end.origin, KitaruExecutionError)
    text = decode(end.message.data) if end.message.data is not None else "(erased)"
    error = kind(
        f"the execution {exec_id} failed: {shown_type(end.exception_type)}: {text}",
        exec_id=exec_id,
        status="failed",
        failure_origin=end.origin,
    )
    error.__cause__ = cause
    return error


def _status(state: ExecutionState) -> ExecutionStatus:
    return state.status if state.status is not None else ExecutionStatus.RUNNING


def _remaining(deadline: float | None, exec_id: str) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"the execution {exec_id} did not end in time; it goes on")
    return left
