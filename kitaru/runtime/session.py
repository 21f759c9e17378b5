"""One execution as its runner holds it: the state in memory, appends by expected version, and the way out.

Everything that a runner records goes through `Session.report`. It decides on the state in memory; when somebody from
outside was faster, it reads the tail, decides again, and goes on.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kitaru.domain.commands import Report
from kitaru.domain.decide import advance
from kitaru.domain.errors import (
    KitaruBackendError,
    KitaruDivergenceError,
    KitaruError,
    KitaruExecutionError,
    KitaruFencedError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.domain.events import Event, FlowOptions, LLMUsageRecorded, WaitExpired, WaitOpened
from kitaru.domain.ids import uuid7
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES
from kitaru.domain.payload import Payload
from kitaru.domain.state import ExecutionState, ExecutionStatus, evolve
from kitaru.domain.usage import RESERVED_KEYS
from kitaru.runtime.clock import Clock
from kitaru.runtime.history import History, RecordedWait
from kitaru.runtime.leaving import Reason, RunnerLeaves
from kitaru.store.log import AppendConflict, EventLog, Head, OutcomeUnknown
from kitaru.store.values import CODEC, ValueTooLarge, encode_exact

if TYPE_CHECKING:
    from asyncio import Task

    from kitaru.runtime.asking import AnswerType
    from kitaru.runtime.calls import Outcome
    from kitaru.runtime.replaying import Original
    from kitaru.runtime.waits import Parked

logger = logging.getLogger("kitaru")
_APPEND_TRIES = 3
_SUBMIT_THREADS = 32
_UNWINDS = 20
"""How often a body may meet its end, in branches and `finally` blocks, before it is taken for one that swallows it."""
_SWALLOWED_SECONDS = 0.05

Build = Callable[[ExecutionState, int], tuple[Event, ...]]
"""Events from the state as it is and the time, built again after a conflict."""


class Session:
    """A claimed execution. Threads of the flow share it; `leaving` is set once the runner is to go."""

    def __init__(
        self, log: EventLog, head: Head, options: FlowOptions, clock: Clock, history: History, *, is_async: bool
    ) -> None:
        from kitaru.runtime import calls

        self.calls = calls
        """What a checkpoint is called by, at hand: an import costs each call a twentieth of its time."""
        self.log = log
        self.clock = clock
        self.options = options
        self.history = history
        self.exec_id = head.exec_id
        self.epoch = head.state.epoch
        self.number = head.number
        self._is_again = bool(head.state.calls or head.state.waits)
        self.repeats = head.state.epoch > 1
        """Whether a run of the body was before this one."""
        self.is_past_record = False
        """Whether this run has an outcome that no run before it had."""
        self.body_lines: dict[str, int] | None = None
        """How many log lines of each of the body's tasks earlier runs have kept; None: nobody asked."""
        self.taken: set[str] = set()
        self.awaited: dict[str, Coroutine[object, object, object]] = {}
        """Async calls whose outcome nobody has received yet, by invocation id."""
        self.leaving = threading.Event()
        self.reason: Reason | None = None
        self.unwound = False
        """Whether RunnerLeaves was raised into the body: whatever it does afterwards is discarded."""
        self.broken: BaseException | None = None
        self.divergence: KitaruDivergenceError | None = None
        self.is_async = is_async
        self.submitted: set[Future[Outcome]] = set()
        self.stay_seconds: float | None = None
        """How long this runner stays for a wait at most; None: as long as the wait says."""
        self.original: Original | None = None
        """What this execution replays."""
        self.parked: list[Parked] = []
        self.watcher: Task[None] | None = None
        self.under_way = 0
        """Async calls and awaited children that are not at their end, a pause before a retry included."""
        self.asked: dict[int, AnswerType] = {}
        """The types of the waits that this runner opened or met, by ordinal."""
        self.waiting: list[RecordedWait] = []
        """What the runner saw open, and nothing else to do, when it decided or was told to leave."""
        self._calls_on_leave: list[Callable[[], None]] = []
        self._is_to_stop = False
        self._pool: ThreadPoolExecutor | None = None
        self._bodies: ThreadPoolExecutor | None = None
        self._watch_pool: ThreadPoolExecutor | None = None
        self._unwinds = 0
        self._head = head
        self._lock = threading.Lock()
        if head.state.cancel_requested:  # between the claim and now
            self.leave(Reason.CANCELLED)

    @property
    def state(self) -> ExecutionState:
        """The state after the last event that this runner knows of."""
        return self._head.state

    @property
    def replaying(self) -> bool:
        """Whether this run of the body began with something recorded."""
        return self._is_again or self.original is not None

    def report(self, build: Build) -> tuple[Event, ...]:
        """Record what `build` says. Raises RunnerLeaves when this runner may record no more, KitaruStateError and
        KitaruRuntimeError when the rules refuse it.
        """
        with self._lock:
            if self.broken is not None:
                raise self._unwind(self.reason or Reason.BROKEN)
            try:
                return self._report(build)
            except KitaruFencedError as fenced:
                self.leave(Reason.FENCED, fenced)
                raise self._unwind(Reason.FENCED) from fenced
            except KitaruBackendError as broken:
                self.leave(Reason.BROKEN, broken)
                raise self._unwind(Reason.BROKEN) from broken
            except KitaruStateError:
                if self.reason is None:
                    raise
                raise self._unwind(self.reason) from None

    def _report(self, build: Build) -> tuple[Event, ...]:
        while True:
            head = self._head
            at = self.clock.now()
            events = build(head.state, at)
            state = advance(head.state, Report(self.epoch, events), at)
            try:
                self._head = self._append(head, events, state, at)
            except AppendConflict:
                self._catch_up()
            except KitaruError:
                raise
            except BaseException as error:
                # Whether it is in the store nobody knows: what is there from here on is for the next runner to read.
                self.leave(Reason.BROKEN, KitaruBackendError(f"the last append to {self.exec_id} failed: {error!r}"))
                raise
            else:
                for event in events:  # while nobody else reads the tail: an answer may come with the next breath
                    if isinstance(event, (WaitOpened, WaitExpired, LLMUsageRecorded)):
                        self.history.add(event)
                return events

    def _unwind(self, reason: Reason) -> RunnerLeaves:
        self.unwound = True
        self._unwinds += 1
        if self._unwinds > _UNWINDS and not self.is_async:
            if self._unwinds == _UNWINDS + 1:
                logger.warning(
                    "the flow of %s catches what ends its body, and goes on: catch Exception, not BaseException",
                    self.exec_id,
                )
            time.sleep(_SWALLOWED_SECONDS)
        return RunnerLeaves(reason)

    def _append(self, head: Head, events: tuple[Event, ...], state: ExecutionState, at: int) -> Head:
        unix_ms = at // 1000
        bits = os.urandom(10 * len(events))
        ids = [uuid7(unix_ms, int.from_bytes(bits[i : i + 10])) for i in range(0, len(bits), 10)]
        cause: OutcomeUnknown | None = None
        for _ in range(_APPEND_TRIES):
            try:
                return self.log.append(head, events, state, ids)
            except OutcomeUnknown as unknown:
                cause = unknown
        raise KitaruBackendError(
            f"the store at {self.log.location} did not say whether it took the last events of {self.exec_id}; "
            "mend it and run `kitaru recover`",
            code="outcome-unknown",
        ) from cause

    def _catch_up(self) -> None:
        """Read what others appended: answers, a cancel, tags, or another runner's claim."""
        end = self.log.head(self.exec_id)
        state = self._head.state
        tail = [r.event for r in self.log.read(self.exec_id, after=state.version, limit=end.version - state.version)]
        for event in tail:
            state = evolve(state, event)  # type: ignore[arg-type]
        self._head = end._replace(state=state)
        if state.epoch != self.epoch or (state.runner is None and not _is_finished(state)):
            raise KitaruFencedError(f"another runner has taken {self.exec_id} over (epoch {state.epoch})")
        for event in tail:  # of another runner's calls this one's index knows nothing
            self.history.add(event)
        if state.status is ExecutionStatus.CANCELLED:
            self.leave(Reason.CANCELLED, KitaruExecutionError(f"the execution {self.exec_id} was cancelled"))
        elif state.cancel_requested:
            self.leave(Reason.CANCELLED)

    def poll(self) -> None:
        """Take in what others have appended since: an answer, a cancel, another runner's claim."""
        with self._lock:
            if self.broken is not None or self.state.runner is None:
                return
            try:
                if self.log.head(self.exec_id).version != self.state.version:
                    self._catch_up()
            except KitaruFencedError as fenced:
                self.leave(Reason.FENCED, fenced)
            except KitaruBackendError as broken:
                self.leave(Reason.BROKEN, broken)

    def drain(self) -> None:
        """Let submitted calls end before the body is unwound."""
        wait_for_futures(list(self.submitted))

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads of submitted calls, made at the first of them."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_SUBMIT_THREADS, thread_name_prefix=f"kitaru-{self.exec_id[-6:]}")
        return self._pool

    @property
    def bodies(self) -> ThreadPoolExecutor:
        """The threads in which async calls run bodies that block. Submitted calls may wait for these, never the reverse."""
        if self._bodies is None:
            self._bodies = ThreadPoolExecutor(_SUBMIT_THREADS, thread_name_prefix=f"kitaru-body-{self.exec_id[-6:]}")
        return self._bodies

    @property
    def watch_pool(self) -> ThreadPoolExecutor:
        """The thread that looks for answers: submitted calls, however many, are not in its way."""
        if self._watch_pool is None:
            self._watch_pool = ThreadPoolExecutor(1, thread_name_prefix=f"kitaru-{self.exec_id[-6:]}-waits")
        return self._watch_pool

    def close(self) -> None:
        """End the threads; calls that were not begun are dropped."""
        for pool in (self._pool, self._bodies, self._watch_pool):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def check_leaving(self) -> None:
        """Raise RunnerLeaves when the runner is to go: called at every boundary, recorded or not."""
        if self.reason is not None:
            raise self._unwind(self.reason)

    def goes_on(self) -> bool:
        """The same for what cannot be awaited: False in an async flow, where an exception would cancel other branches."""
        if self.reason is not None and self.is_async:
            self.unwound = True
            return False
        self.check_leaving()
        return True

    def has_news(self) -> bool:
        """Whether something came in for the runner that suspends, since it decided to."""
        return self.reason is Reason.SUSPENDED and any(recorded.outcome is not None for recorded in self.waiting)

    def leaves_work(self, state: ExecutionState) -> bool:
        """Whether more is left to do than what the execution awaits: it was told to stop in the middle of something."""
        if self.reason is Reason.SUSPENDED or not state.pending:
            return False
        return not self.waiting or any(recorded.outcome is not None for recorded in self.waiting)

    def stay(self) -> None:
        """Take back a suspension that nobody has recorded; a cancel and a stop that came meanwhile hold."""
        with self._lock:
            if self.reason is not Reason.SUSPENDED:
                return
            self.reason, self.unwound = None, False
            self.leaving.clear()
            if self.state.cancel_requested:
                self.leave(Reason.CANCELLED)
            elif self._is_to_stop:
                self.leave(Reason.STOPPED)

    def rewind(self) -> None:
        """Begin the body anew: ids are given from the start again."""
        with self._lock:  # what comes in meanwhile is added to the new index, not to the old one
            self.history = History()
            for batch in self.log.outline(self.exec_id, limit=self.state.version):
                self.history.extend(batch)
        self.taken.clear()
        self.awaited.clear()
        self.parked.clear()
        self.waiting.clear()
        self.under_way = 0
        self._is_again = self.repeats = True
        self.is_past_record, self.body_lines = False, None

    def take_unawaited(self) -> list[str]:
        """Ids of the async calls that were neither awaited to their end nor cancelled; they are ended here."""
        found = sorted(ident for ident, call in self.awaited.items() if inspect.getcoroutinestate(call) != "CORO_CLOSED")
        for ident in found:
            if inspect.getcoroutinestate(self.awaited[ident]) == "CORO_CREATED":
                self.awaited[ident].close()
        self.awaited.clear()
        return found

    def leave(self, reason: Reason, broken: KitaruError | None = None) -> None:
        """Make this runner go at the next boundary; with `broken` it may not even record that it went."""
        self._is_to_stop = self._is_to_stop or reason is Reason.STOPPED
        if broken is not None and self.broken is None:
            self.broken = broken
            self.reason = reason
        elif self.reason is None or reason is Reason.CANCELLED:
            self.reason = reason
        self.leaving.set()
        for call in list(self._calls_on_leave):
            call()

    @property
    def is_over(self) -> bool:
        """Whether nothing that still runs here is of use: it was cancelled, or its outcome can not be recorded."""
        return self.reason is Reason.CANCELLED or self.broken is not None

    @contextmanager
    def calling_on_leave(self, call: Callable[[], None]) -> Generator[None]:
        """Meanwhile `call` is called, from any thread, whenever the runner is told to leave; at once when it was before."""
        self._calls_on_leave.append(call)
        try:
            if self.leaving.is_set():
                call()
            yield
        finally:
            self._calls_on_leave.remove(call)

    def load(self, payload: Payload) -> bytes:
        """A payload's bytes, wherever they are."""
        return payload.data if payload.data is not None else self.log.load(payload)


def encode_metadata(metadata: dict[str, object]) -> Payload:
    """Metadata as a payload. It stands in the listings' rows, so it is held to what stands inline.

    Raises ValueNotEncodable, and KitaruUsageError past that limit, and for a key that is not the user's.
    """
    taken = RESERVED_KEYS.intersection(metadata)
    if taken:
        raise KitaruUsageError(
            f"the metadata key {min(taken)!r} is kept for what kitaru says of LLM usage; use another", code="reserved-key"
        )
    payload, _ = encode_payload(metadata, "metadata")
    if payload.size > INLINE_PAYLOAD_BYTES:
        raise KitaruUsageError(
            f"the metadata takes {payload.size:,} bytes; {INLINE_PAYLOAD_BYTES:,} are allowed. Save large values with "
            "kitaru.save(...)",
            code="metadata-too-large",
        )
    return payload


def encode_payload(value: object, what: str) -> tuple[Payload, object]:
    """A value as a payload, and the value that it decodes to, which is the one to go on with.

    Raises ValueNotEncodable, and ValueTooLarge past the payload limit; `what` names the value's role.
    """
    check_size(value, what)
    data, decoded = encode_exact(value)
    if len(data) > MAX_PAYLOAD_BYTES:
        raise _too_large(value, len(data), what)
    return Payload.of(data, CODEC), decoded


def check_size(value: object, what: str) -> None:
    """Refuse a text or bytes that cannot fit before any work is done on it. Raises ValueTooLarge."""
    if isinstance(value, (str, bytes, bytearray)) and len(value) > MAX_PAYLOAD_BYTES:
        raise _too_large(value, len(value), what)


def _too_large(value: object, size: int, what: str) -> ValueTooLarge:
    return ValueTooLarge(type(value).__name__, what, size, MAX_PAYLOAD_BYTES)


def _is_finished(state: ExecutionState) -> bool:
    return state.status is not None and state.status.is_finished
