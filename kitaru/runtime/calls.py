"""One checkpoint call from its id to its recorded outcome.

`_known` gives what is recorded already. `_attempts` is the rest of the procedure and does no waiting of its own: it yields
what has to be done (run the body, pause), and the two drivers, one for plain functions and one for coroutines, do it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from kitaru.domain.errors import (
    FailureOrigin,
    KitaruBudgetExceededError,
    KitaruDivergenceError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.domain.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointCompleted,
    CheckpointFailed,
    CheckpointReused,
    Event,
    InputsDiffered,
    LLMUsageRecorded,
)
from kitaru.domain.outline import CallCompleted
from kitaru.domain.payload import Payload
from kitaru.domain.state import ExecutionState
from kitaru.domain.usage import CacheStatus
from kitaru.runtime import bodies, failures, reuse
from kitaru.runtime.checkpoint import Prepared
from kitaru.runtime.futures import has_futures, resolve, resolve_async
from kitaru.runtime.history import RecordedCall
from kitaru.runtime.leaving import RunnerLeaves
from kitaru.runtime.scope import CallScope, FlowScope, current
from kitaru.runtime.session import Session, encode_payload
from kitaru.store.values import ValueNotEncodable, decode, encode

logger = logging.getLogger("kitaru")


@dataclass(slots=True)
class Outcome:
    """What a call came to: a value, or the exception that reaches the flow. `call` is its ordinal."""

    call: int
    value: object = None
    error: BaseException | None = None

    def unwrap(self) -> object:
        """The value, or the exception raised."""
        if self.error is not None:
            raise self.error
        return self.value


class _Pause(float):
    """Seconds to let pass before the next attempt."""


_Steps = Generator[CallScope | _Pause, tuple[object, BaseException | None], Outcome]


def call_sync(prepared: Prepared) -> object:
    """Make the call in this thread and give its value, or raise its exception."""
    return complete_sync(prepared).unwrap()


def complete_sync(prepared: Prepared) -> Outcome:
    """Make the call in this thread."""
    if has_futures(prepared):
        resolve(prepared)
    known = _known(prepared)
    if isinstance(known, Outcome):
        return known
    steps = _attempts(prepared, known)
    session = prepared.session
    try:
        step = next(steps)
        while True:
            if isinstance(step, CallScope):
                step = steps.send(bodies.run(prepared, step))
            else:
                session.clock.sleep(step, session.leaving)
                step = steps.send((None, None))
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome


async def call_async(prepared: Prepared) -> object:
    """Make the call in this task. When the runner leaves, this never returns: the flow's main task is cancelled."""
    return (await complete_async(prepared)).unwrap()


async def complete_async(prepared: Prepared) -> Outcome:
    """Make the call in this task."""
    session = prepared.session
    if has_futures(prepared):
        await resolve_async(prepared)
    session.under_way += 1
    try:
        known = _known(prepared)
        if isinstance(known, Outcome):
            return known
        steps = _attempts(prepared, known)
        step = next(steps)
        while True:
            if isinstance(step, CallScope):
                step = steps.send(await bodies.run_async(prepared, step))
            else:
                await session.clock.sleep_async(step)
                step = steps.send((None, None))
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome
    except RunnerLeaves:
        await asyncio.get_running_loop().create_future()
        raise
    finally:
        session.under_way -= 1
        session.awaited.pop(prepared.invocation_id, None)


class _Fresh(NamedTuple):
    """A call without an outcome: what its attempts record."""

    digest: str
    opaque: tuple[str, ...]
    recorded: RecordedCall | None
    reuse_key: str | None


def _known(prepared: Prepared) -> Outcome | _Fresh:
    """The outcome that is recorded, here or under the reuse key; else what its attempts need."""
    session, checkpoint = prepared.session, prepared.checkpoint
    session.check_leaving()
    digest, opaque = _input_digest(checkpoint.bind(prepared.args, prepared.kwargs))
    recorded = session.history.find(prepared.invocation_id)
    if recorded is not None and recorded.has_outcome:
        return _recorded(session, prepared, recorded, digest)
    runs_anew = False
    if recorded is None and session.original is not None:
        taken = None if opaque else session.original.find(prepared.invocation_id, digest)
        if taken is not None:
            output = taken.output.carrying(session.load(taken.output))
            found = reuse.Reusable(taken.call_id, output, taken.usage)
            return _reused(session, prepared, digest, found, "replay_reused")
        runs_anew = session.original.runs(prepared.invocation_id)
    key = reuse.key_of(checkpoint, digest, session.options) if not opaque and recorded is None else None
    if key is not None and not runs_anew:
        found = reuse.find(session, key)
        if found is not None:
            return _reused(session, prepared, digest, found, "checkpoint_cache_hit")
    return _Fresh(digest, opaque, recorded, key)


def _attempts(prepared: Prepared, fresh: _Fresh) -> _Steps:
    session, checkpoint = prepared.session, prepared.checkpoint
    digest, opaque, recorded, key = fresh
    call = recorded.call if recorded is not None else 0
    attempt = recorded.attempt if recorded is not None else 0
    failed = recorded.failures if recorded is not None else 0
    while True:
        session.check_leaving()
        attempt += 1
        call = _start(session, prepared, call, attempt, digest, opaque)
        scope = CallScope(session, call, attempt, checkpoint.name, prepared.invocation_id)
        value, error = yield scope
        if scope.printed is not None:
            scope.printed.end()
        final = checkpoint.isolated and isinstance(error, KitaruUsageError)  # it would be refused again
        if error is None:
            try:
                payload, value = encode_payload(value, f"what {checkpoint.name} returned")
            except ValueNotEncodable as refused:
                error, final = refused, True
            else:
                _complete(session, scope, payload, key)
                if session.repeats:
                    _pass_record(session)
                return Outcome(call, value)
        kind = type(error)  # its own word for its class is not asked: `__class__` can be anything
        if issubclass(kind, (RunnerLeaves, asyncio.CancelledError)):
            # No outcome: the call was not let finish. It runs again if the flow makes it again.
            _fail(session, scope, error, retry_after=None, closes=False)
            return Outcome(call, error=error)
        final = final or issubclass(kind, KitaruBudgetExceededError)  # it would be exceeded again
        delay = None if final else checkpoint.pause_after(error, failed)
        _fail(session, scope, error, retry_after=delay, closes=delay is None)
        if delay is None:
            if session.repeats:
                _pass_record(session)
            return Outcome(call, error=error)
        failed += 1
        if delay:
            yield _Pause(delay)


def _pass_record(session: Session) -> None:
    session.is_past_record = True
    scope = current.get()
    if isinstance(scope, FlowScope):
        scope.pass_record()


def _recorded(session: Session, prepared: Prepared, recorded: RecordedCall, digest: str) -> Outcome:
    if digest not in recorded.input_digests:
        if session.options.strict:
            session.divergence = KitaruDivergenceError(
                f"the call {prepared.invocation_id!r} was recorded with other inputs, and the flow is strict: "
                "undo the change of the code (a body that changes its argument in place does this, too), or start a new "
                "execution",
                exec_id=session.exec_id,
                failure_origin=FailureOrigin.DIVERGENCE,
            )
            raise session.divergence
        logger.warning("%s: inputs differ from the recorded ones; the recorded outcome is used", prepared.invocation_id)
        recorded.input_digests += (digest,)
        session.report(lambda _, at: (InputsDiffered(at=at, call=recorded.call, input_digest=digest),))
    completed = recorded.completed
    if completed is not None:
        data = completed.data if type(completed) is CallCompleted else session.load(completed.output)
        return Outcome(recorded.call, decode(data, prepared.checkpoint.returns))
    assert recorded.failure is not None
    return Outcome(recorded.call, error=failures.rebuild(recorded.failure))


def _reused(session: Session, prepared: Prepared, digest: str, found: reuse.Reusable, cache_status: CacheStatus) -> Outcome:
    call = 0

    def reused(state: ExecutionState, at: int) -> tuple[Event, ...]:
        nonlocal call
        call = state.calls + 1
        return (
            CheckpointReused(
                at=at,
                call=call,
                invocation_id=prepared.invocation_id,
                name=prepared.checkpoint.name,
                checkpoint_type=prepared.checkpoint.type,
                input_digest=digest,
                parents=prepared.parents,
                output=found.output,
                original_call_id=found.call_id,
            ),
            *(reuse.usage_of(session, found, at, call, prepared.checkpoint.name, cache_status) if found.usage else ()),
        )

    session.report(reused)
    if session.repeats:
        _pass_record(session)
    return Outcome(call, decode(session.load(found.output), prepared.checkpoint.returns))


def _start(session: Session, prepared: Prepared, known: int, attempt: int, digest: str, opaque: tuple[str, ...]) -> int:
    call = known

    def started(state: ExecutionState, at: int) -> tuple[Event, ...]:
        nonlocal call
        if known:
            return (AttemptStarted(at=at, call=known, attempt=attempt),)
        call = state.calls + 1
        checkpoint = prepared.checkpoint
        return (
            AttemptStarted(
                at=at,
                call=call,
                attempt=1,
                invocation_id=prepared.invocation_id,
                name=checkpoint.name,
                checkpoint_type=checkpoint.type,
                input_digest=digest,
                parents=prepared.parents,
                opaque=opaque,
            ),
        )

    session.report(started)
    return call


def _complete(session: Session, scope: CallScope, output: Payload, key: str | None) -> None:
    call, attempt = scope.call, scope.attempt
    told = len(session.history.usage_of.get(call, ()))

    def completed(_: ExecutionState, at: int) -> tuple[Event, ...]:
        held = _held(scope, at)
        used = told + sum(isinstance(fact, LLMUsageRecorded) for fact in held)
        return (*held, CheckpointCompleted(at=at, call=call, attempt=attempt, output=output, reuse_key=key, usage=used))

    session.report(completed)


def _held(scope: CallScope, at: int) -> tuple[Event, ...]:
    return tuple(fact(at) for fact in scope.held) if scope.held else ()


def _fail(session: Session, scope: CallScope, error: BaseException, *, retry_after: float | None, closes: bool) -> None:
    described = failures.describe(error, failures.origin_of(error))._asdict()
    call, attempt = scope.call, scope.attempt

    def failed(_: ExecutionState, at: int) -> tuple[Event, ...]:
        event = AttemptFailed(at=at, call=call, attempt=attempt, retry_after=retry_after, **described)
        closed = (CheckpointFailed(at=at, call=call, attempt=attempt),) if closes else ()
        return (*_held(scope, at), event, *closed)

    try:
        session.report(failed)
    except (RunnerLeaves, KitaruStateError):
        if closes or retry_after is not None:
            raise


def _input_digest(arguments: dict[str, object]) -> tuple[str, tuple[str, ...]]:
    """The digest of the arguments by name, and the names of those that do not encode and stand there by their type."""
    try:
        return blake2b(encode(arguments), digest_size=16).hexdigest(), ()
    except ValueNotEncodable:
        pass
    parts: dict[str, object] = {}
    opaque: list[str] = []
    for name, value in arguments.items():
        try:
            parts[name] = encode(value)
        except ValueNotEncodable:
            opaque.append(name)
            parts[name] = f"{type(value).__module__}.{type(value).__qualname__}"
    return blake2b(encode(parts), digest_size=16).hexdigest(), tuple(opaque)
