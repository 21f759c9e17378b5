"""Runs one claimed execution in a thread of its own: the body from the top, as often as the flow's retries allow, to
its recorded end, or to the point where the runner leaves."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import wait as wait_for_futures
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, cast

from kitaru.domain.errors import (
    KitaruBackendError,
    KitaruBudgetExceededError,
    KitaruContextError,
    KitaruDivergenceError,
    KitaruError,
    KitaruRuntimeError,
)
from kitaru.domain.events import (
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRetried,
    ExecutionStarted,
    ExecutionSuspended,
)
from kitaru.domain.state import ExecutionState
from kitaru.runtime import capture, failures, process, terminal
from kitaru.runtime.idling import is_idle
from kitaru.runtime.leaving import Reason, RunnerLeaves
from kitaru.runtime.scope import FlowScope, current
from kitaru.runtime.session import Session, encode_payload
from kitaru.runtime.submission import TaskFuture
from kitaru.store.log import EventLog
from kitaru.store.values import ValueNotEncodable, decode

logger = logging.getLogger("kitaru")
_POLL_SECONDS = 0.005


class _SomethingCameIn(Exception):  # noqa: N818  (never leaves this module)
    """The runner was about to leave, and need not."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """How one run of the body ended. `left`: it was unwound, whatever else stands here."""

    value: object = None
    error: BaseException | None = None
    left: bool = False


class Runner:
    """One live execution. Once `done` is set, `end` is the event that ended it, None when it can go on, and `error` why."""

    def __init__(self, body: Callable[..., object], session: Session) -> None:
        self.exec_id = session.exec_id
        self.store = session.log.location
        self.done = threading.Event()
        self.end: Event | None = None
        self.error: BaseException | None = None
        self._body = body
        self._session = session
        self._seen = -1
        self._thread = threading.Thread(target=self._run, name=f"kitaru-{session.exec_id[-6:]}", daemon=False)

    @property
    def session(self) -> Session:
        """The execution as this runner holds it."""
        return self._session

    def start(self) -> None:
        """Begin in a thread of its own; the process stays until it ended."""
        process.enter(self)
        capture.enter()
        terminal.begins(self.exec_id)
        self._thread.start()

    def stop(self) -> None:
        """Leave at the next boundary; the execution can be recovered later."""
        self._session.leave(Reason.STOPPED)

    def look(self) -> None:
        """Take in a cancel, or another runner's claim: nothing of the body's own may look for a long time."""
        seen = self._session.log.changes.token()
        if seen != self._seen:
            self._seen = seen
            self._session.poll()

    def join(self) -> None:
        """Wait until the runner has left."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._live()
        except RunnerLeaves as left:
            self.error = left.__cause__ or self._session.broken
        except KitaruError as error:  # of the store: it says by itself what to do
            logger.error("the runner of %s left: %s", self.exec_id, error, extra={"kitaru_session": self._session})
            self.error = error
        except BaseException as error:
            # Nothing of the user's is left running here: this is a fault of the runtime, and it must not be silent.
            logger.exception("the runner of %s failed", self.exec_id, extra={"kitaru_session": self._session})
            self.error = error
        finally:
            self._session.close()
            capture.leave()
            with suppress(KitaruError):  # a store that takes no more events takes no lines either
                self._session.log.lines.flush()
            process.leave(self)
            self.done.set()

    def _live(self) -> None:
        session = self._session
        while True:
            inputs = self._inputs()
            ending = self._run_async(inputs) if session.is_async else self._run_sync(inputs)
            if ending.left:
                self.error = session.broken
                if self._leave():
                    return
                session.stay()
                session.rewind()
                continue
            if session.divergence is not None:
                ending = _Ending(error=session.divergence)
            error = ending.error
            if error is None:
                error = self._complete(ending.value)
                if error is None:
                    return
            elif self._may_retry(error):
                if not self._retry():
                    return
                session.stay()
                session.rewind()
                continue
            self._fail(error)
            return

    def _leave(self) -> bool:
        """Record that this runner goes: the execution goes on later, or somebody asked for its end.

        False when what it waited for came in meanwhile: suspended, the execution would not know that.
        """

        def left(state: ExecutionState, at: int) -> tuple[Event, ...]:
            if self._session.has_news():
                raise _SomethingCameIn
            if state.cancel_requested:
                return (ExecutionCancelled(at=at),)
            return (ExecutionSuspended(at=at, leaves_work=self._session.leaves_work(state)),)

        if self._session.broken is None:
            try:
                (last,) = self._session.report(left)
            except _SomethingCameIn:
                return False
            self.end = last if isinstance(last, ExecutionCancelled) else None
        return True

    def _retry(self) -> bool:
        """Record that the body runs again; False when it was cancelled meanwhile."""
        try:
            self._record(lambda at: ExecutionRetried(at=at, by="flow", automatic=True))
        except RunnerLeaves:
            self.error = self._session.broken
            self._leave()
            return False
        return True

    def _inputs(self) -> dict[str, object]:
        started = self._session.history.started
        if started is None:
            raise KitaruRuntimeError(f"the execution {self.exec_id} has no recorded inputs")
        return inputs_of(self._session.log, started)

    def _run_sync(self, inputs: dict[str, object]) -> _Ending:
        session = self._session
        context = copy_context()

        scope = FlowScope(session)

        def body() -> object:
            current.set(scope)
            return self._body(**inputs)

        try:
            ending = _Ending(value=context.run(body))
        except RunnerLeaves:
            ending = _Ending(left=True)
        except BaseException as error:
            ending = _Ending(error=error)
        if scope.printed is not None:
            scope.printed.end()
        wait_for_futures(list(session.submitted))
        return _Ending(left=True) if session.unwound else ending

    def _run_async(self, inputs: dict[str, object]) -> _Ending:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            loop.set_task_factory(_task_with_path)  # pyright: ignore[reportArgumentType]
            loop.set_exception_handler(_say_what_was_not_taken)
            try:
                return runner.run(self._supervise(inputs))
            except (SystemExit, KeyboardInterrupt) as error:
                # asyncio lets these two fly out of the loop from whatever task raises them.
                ending = _Ending(error=error)
                _cancel_all(loop)
        wait_for_futures([each for each in self._session.submitted if not isinstance(each, TaskFuture)])
        return _Ending(left=True) if self._session.unwound else ending

    async def _supervise(self, inputs: dict[str, object]) -> _Ending:
        session = self._session
        loop = asyncio.get_running_loop()
        leaving = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to wake
                loop.call_soon_threadsafe(leaving.set)

        with session.calling_on_leave(wake):
            context = copy_context()
            scope = FlowScope(session)
            context.run(lambda: current.set(scope))
            try:
                body = cast("Coroutine[object, object, object]", self._body(**inputs))
            except Exception as error:  # its parameters are others by now
                return _Ending(error=error)
            main: asyncio.Task[object] = asyncio.Task(body, loop=loop, context=context)
            watch = loop.create_task(leaving.wait())
            await asyncio.wait({main, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not main.done():
                # What is in flight may end, unless nobody can record it or it was told to stop.
                while not session.is_over and session.state.in_flight and not main.done():  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
                if session.reason is Reason.STOPPED and not session.unwound and await is_idle(session):
                    session.waiting = [parked.recorded for parked in session.parked]
                session.unwound = session.unwound or not main.done()
                await _cancelled({main})
            watch.cancel()
        ending = _ending_of(main)
        unfinished = session.take_unawaited()
        if ending.error is None and unfinished and not session.unwound:
            names = ", ".join(repr(name) for name in unfinished[:5])
            ending = _Ending(
                error=KitaruContextError(
                    f"the flow returned while the checkpoint calls {names} were not awaited to their end; await them, "
                    "or run them in an asyncio.TaskGroup",
                    code="not-awaited",
                )
            )
        await self._end_tasks()
        if scope.printed is not None:
            scope.printed.end()
        return _Ending(left=True) if session.unwound else ending

    async def _end_tasks(self) -> None:
        session = self._session
        while session.submitted and (session.state.in_flight or not session.unwound):
            # A call that the runner's leaving has parked never ends: look again.
            await asyncio.wait([asyncio.wrap_future(each) for each in session.submitted], timeout=10 * _POLL_SECONDS)
        await _cancelled(asyncio.all_tasks() - {cast("asyncio.Task[object]", asyncio.current_task())})

    def _complete(self, value: object) -> BaseException | None:
        try:
            self._session.history.check_all_made()
            if self._session.original is not None:
                self._session.original.history.check_all_made()
            output, _ = encode_payload(value, "what the flow returned")
        except (KitaruDivergenceError, ValueNotEncodable) as refused:
            return refused
        self.end = self._record(lambda at: ExecutionCompleted(at=at, output=output))
        return None

    def _may_retry(self, error: BaseException) -> bool:
        session = self._session
        if issubclass(type(error), (KitaruDivergenceError, KitaruBudgetExceededError)) or not issubclass(
            type(error), Exception
        ):
            return False
        return session.history.automatic_retries < session.options.retries and not session.state.in_flight

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, AttributeError) and error.name == "load":
            error.add_note("a checkpoint called in a flow gives its plain value; only .submit(...) gives a future to load()")
        self.error = error
        described = failures.describe(error, failures.origin_of(error))._asdict()
        self.end = self._record(lambda at: ExecutionFailed(at=at, **described))

    def _record(self, make: Callable[[int], Event]) -> Event:
        def build(_: ExecutionState, at: int) -> tuple[Event, ...]:
            return (make(at),)

        return self._session.report(build)[0]


def inputs_of(log: EventLog, started: ExecutionStarted) -> dict[str, object]:
    """What the body is called with. Raises KitaruBackendError, and KitaruNotFoundError when it was erased."""
    data = started.inputs.data if started.inputs.data is not None else log.load(started.inputs)
    try:
        found = decode(data)
    except KitaruError:
        raise
    except Exception as error:
        raise KitaruBackendError(
            f"the recorded inputs cannot be read: {error!r}; restore a backup", code="store-corrupt"
        ) from None
    if not isinstance(found, dict):
        raise KitaruBackendError("the recorded inputs are no inputs; restore a backup", code="store-corrupt")
    return cast("dict[str, object]", found)


async def _cancelled(tasks: set[asyncio.Task[object]]) -> None:
    """End tasks. One that catches its cancellation and goes on is cancelled again where it stands next."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=10 * _POLL_SECONDS)


def _say_what_was_not_taken(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio says of an exception that nobody took. An exit flew out of the loop, and was taken there."""
    if not isinstance(context.get("exception"), (SystemExit, KeyboardInterrupt)):
        loop.default_exception_handler(context)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """End the tasks of a stopped loop, however often one of them flies out of it again."""
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def _ending_of(main: asyncio.Task[object]) -> _Ending:
    if main.cancelled():
        return _Ending(error=KitaruError("the flow's main task was cancelled by its own code", code="cancelled-itself"))
    error = main.exception()
    if isinstance(error, RunnerLeaves):
        return _Ending(left=True)
    return _Ending(value=main.result()) if error is None else _Ending(error=error)


def _task_with_path(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[object, object, object],
    *,
    context: Context | None = None,
    **options: object,
) -> asyncio.Task[object]:
    """Give every task that a flow's code starts a scope of its own, named by its place among its parent's tasks."""
    own = copy_context() if context is None else context
    scope = own.get(current)
    if isinstance(scope, FlowScope) and scope.thread == threading.get_ident():
        child = scope.child()
        try:
            own.run(lambda: current.set(child))
        except RuntimeError:  # the caller's own context, which is entered: give the task a copy
            own = own.copy()
            own.run(lambda: current.set(child))
    return asyncio.Task(coro, loop=loop, context=own, **options)  # type: ignore[arg-type]
