"""Waiting for people and for time: `wait`, `wait_async`, `sleep`, `sleep_async`.

A wait is recorded when it opens. A sync flow's thread stays for `timeout` seconds and is then unwound; an async flow parks
on a future and never sees the runner leave.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from contextlib import closing
from contextvars import copy_context
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO, TypeVar, overload

from kitaru.domain.errors import (
    KitaruContextError,
    KitaruStateError,
    KitaruUsageError,
    KitaruWaitExpiredError,
    KitaruWaitValidationError,
)
from kitaru.domain.events import Event, WaitExpired, WaitOpened
from kitaru.domain.payload import Payload
from kitaru.domain.state import ExecutionState
from kitaru.runtime.asking import AnswerType
from kitaru.runtime.history import RecordedWait
from kitaru.runtime.idling import is_idle
from kitaru.runtime.leaving import Reason, RunnerLeaves
from kitaru.runtime.options import checked_name, checked_seconds
from kitaru.runtime.scope import current, flow_scope
from kitaru.runtime.session import Session, encode_payload
from kitaru.settings import UNSET, Unset
from kitaru.store.values import decode

if TYPE_CHECKING:
    from kitaru.runtime.prompt import Prompt

T = TypeVar("T")
_SLICE_SECONDS = 0.25
"""The longest time without a look at whether the runner is to leave."""
_STAY_SECONDS = 600.0
"""How long a runner stays for a sleep."""


class Parked(NamedTuple):
    """A wait of an async flow, what its task awaits, and until when the runner stays for it (microseconds; None: on)."""

    recorded: RecordedWait
    future: asyncio.Future[None]
    until: int | None


@overload
def wait(
    *,
    schema: type[T],
    name: str | None = None,
    question: str | None = None,
    timeout: float | None = 600,
    expires_in: float | timedelta | None = None,
    default: object = UNSET,
    metadata: dict[str, object] | None = None,
) -> T: ...
@overload
def wait(
    *,
    schema: object = None,
    name: str | None = None,
    question: str | None = None,
    timeout: float | None = 600,
    expires_in: float | timedelta | None = None,
    default: object = UNSET,
    metadata: dict[str, object] | None = None,
) -> object: ...
def wait(
    *,
    schema: object = None,
    name: str | None = None,
    question: str | None = None,
    timeout: float | None = 600,
    expires_in: float | timedelta | None = None,
    default: object = UNSET,
    metadata: dict[str, object] | None = None,
) -> object:
    """Ask for input and give the answer, as the type `schema`; without one it is a gate and gives None.

    timeout: seconds that a live runner stays for the answer (None: as long as it takes). expires_in: seconds after which
    the wait closes with `default`, or KitaruWaitExpiredError. Raises KitaruContextError outside the body of a plain flow.
    """
    stays = _stay_seconds(timeout)
    session, recorded, asked = _opened("wait", schema, name, question, expires_in, default, metadata)
    prompt = _prompt(session, recorded, question, asked)
    if prompt is None:
        _stay(session, recorded, stays, None)
    else:
        with closing(prompt):
            _stay(session, recorded, stays, prompt)
    return _answer(session, recorded, asked)


async def wait_async(
    *,
    schema: object = None,
    name: str | None = None,
    question: str | None = None,
    timeout: float | None = 600,
    expires_in: float | timedelta | None = None,
    default: object = UNSET,
    metadata: dict[str, object] | None = None,
) -> object:
    """`wait` in an async flow: other tasks go on meanwhile, and several waits may be open at once."""
    stays = _stay_seconds(timeout)

    async def asking() -> object:
        session, recorded, asked = _opened("wait_async", schema, name, question, expires_in, default, metadata)
        await _park(session, recorded, stays)
        return _answer(session, recorded, asked)

    return await _or_parked(asking())


def sleep(seconds: float | timedelta) -> None:
    """Sleep for ever so long, across restarts; a long sleep holds no thread."""
    session, recorded = _timer("sleep", seconds)
    _stay(session, recorded, _STAY_SECONDS, None)


async def sleep_async(seconds: float | timedelta) -> None:
    """`sleep` in an async flow: other tasks go on meanwhile."""

    async def sleeping() -> None:
        session, recorded = _timer("sleep_async", seconds)
        await _park(session, recorded, _STAY_SECONDS)

    await _or_parked(sleeping())


async def _or_parked(waiting: Awaitable[T]) -> T:
    """An async flow never sees its runner leave: whoever waits then waits on, until the main task is cancelled."""
    try:
        return await waiting
    except RunnerLeaves:
        await asyncio.get_running_loop().create_future()
        raise


def _opened(
    what: str,
    schema: object,
    name: str | None,
    question: str | None,
    expires_in: float | timedelta | None,
    default: object,
    metadata: dict[str, object] | None,
) -> tuple[Session, RecordedWait, AnswerType | None]:
    base = checked_name(name, "the wait's name") if name is not None else "wait"
    if "/" in base:
        raise KitaruUsageError(f"the wait's name {base!r} contains '/'")
    asked = None if schema is None else AnswerType(schema)
    lifetime = None if expires_in is None else _seconds(expires_in, "expires_in")
    if default is not UNSET and lifetime is None:
        raise KitaruUsageError("default is the answer of a wait that expires; give expires_in too")
    if asked is not None and not isinstance(default, Unset):
        asked.check_default(default)
    session, recorded = _open(
        what,
        base,
        "input",
        lifetime,
        question=None if question is None else encode_payload(question, "the question")[0],
        json_schema=None if asked is None else encode_payload(asked.json_schema, "the schema")[0],
        metadata=None if metadata is None else encode_payload(metadata, "the wait's metadata")[0],
        default=None if isinstance(default, Unset) else encode_payload(default, "the default")[0],
    )
    if asked is not None:
        session.asked[recorded.wait] = asked
    return session, recorded, asked


def _timer(what: str, seconds: float | timedelta) -> tuple[Session, RecordedWait]:
    return _open(what, "sleep", "timer", _seconds(seconds, "the time to sleep"))


def _open(
    what: str,
    base: str,
    kind: Literal["input", "timer"],
    lifetime: float | None,
    *,
    question: Payload | None = None,
    json_schema: Payload | None = None,
    metadata: Payload | None = None,
    default: Payload | None = None,
) -> tuple[Session, RecordedWait]:
    scope = flow_scope(f"kitaru.{what}")
    session = scope.session
    if session.is_async is not what.endswith("_async"):
        other = what.removesuffix("_async") if what.endswith("_async") else f"{what}_async"
        kind_of_flow = "an async" if session.is_async else "a plain"
        raise KitaruContextError(f"kitaru.{what} was called in {kind_of_flow} flow; use kitaru.{other}")
    session.check_leaving()
    invocation_id = scope.take(base)
    recorded = session.history.find_wait(invocation_id)
    if recorded is not None:
        return session, recorded
    session.history.runs_anew()
    if session.original is not None:
        session.original.history.runs_anew()  # with another answer, the code may go another way

    def opened(state: ExecutionState, at: int) -> tuple[Event, ...]:
        return (
            WaitOpened(
                at=at,
                wait=state.waits + 1,
                kind=kind,
                invocation_id=invocation_id,
                name=invocation_id,
                question=question,
                json_schema=json_schema,
                metadata=metadata,
                default=default,
                expires_at=None if lifetime is None else at + round(lifetime * 1_000_000),
            ),
        )

    session.report(opened)
    recorded = session.history.find_wait(invocation_id)
    assert recorded is not None
    return session, recorded


def _stay(session: Session, recorded: RecordedWait, timeout: float | None, prompt: Prompt | None) -> None:
    """Hold the thread until the wait is closed, or unwind it when the time to stay is over."""
    until = _until(session, timeout)
    while True:
        token = session.log.changes.token()
        if _closed_or_unwound(session, recorded):
            return
        now = session.clock.now()
        if until is not None and now >= until:
            session.drain()
            if _closed_or_unwound(session, recorded):
                return
            session.waiting = [recorded]
            session.leave(Reason.SUSPENDED)
            session.check_leaving()
        pause = _pause(now, until, recorded.expires_at)
        if prompt is None or not prompt.ask(pause):
            session.log.changes.wait(token, pause)


def _closed_or_unwound(session: Session, recorded: RecordedWait) -> bool:
    """Whether the wait has an end by now. Of a runner that is stopped here nothing else is left to do, or it is noted."""
    try:
        return _closed(session, recorded)
    except RunnerLeaves:
        if session.reason is Reason.STOPPED:
            session.drain()
            if not session.unwound:
                session.waiting = [recorded]
        session.check_leaving()
        raise


async def _park(session: Session, recorded: RecordedWait, timeout: float | None) -> None:
    try:
        closed = _closed(session, recorded)
    except RunnerLeaves:
        closed = False
    if closed:
        return
    future = asyncio.get_running_loop().create_future()
    session.parked.append(Parked(recorded, future, _until(session, timeout)))
    if session.watcher is None or session.watcher.done():
        context = copy_context()
        context.run(current.set, None)
        session.watcher = asyncio.get_running_loop().create_task(_watch(session), context=context)
    await future


async def _watch(session: Session) -> None:
    """Wake parked waits as they close; once nothing else can run and none is stayed for, make the runner leave."""
    loop = asyncio.get_running_loop()
    try:
        while session.parked:
            token = session.log.changes.token()
            for parked in list(session.parked):
                if parked.future.done() or _closed(session, parked.recorded):
                    session.parked.remove(parked)
                    if not parked.future.done():
                        parked.future.set_result(None)
            now = session.clock.now()
            stays = any(p.until is None or p.until > now for p in session.parked)
            if session.parked and not stays and await is_idle(session):
                session.waiting = [parked.recorded for parked in session.parked]
                session.leave(Reason.SUSPENDED)
                return
            times = [at for p in session.parked for at in (p.recorded.expires_at, p.until)]
            await loop.run_in_executor(session.watch_pool, session.log.changes.wait, token, _pause(now, *times))
    except RunnerLeaves:
        return  # whoever made it leave has told the runner; what is parked stays parked until it is cancelled


def _until(session: Session, timeout: float | None) -> int | None:
    limits = [seconds for seconds in (timeout, session.stay_seconds) if seconds is not None]
    return session.clock.now() + round(min(limits) * 1_000_000) if limits else None


def _pause(now: int, *moments: int | None) -> float:
    """Seconds until the next of the moments that are still to come, at most one slice."""
    return min([_SLICE_SECONDS, *((at - now) / 1_000_000 for at in moments if at is not None and at > now)])


def _closed(session: Session, recorded: RecordedWait) -> bool:
    """Whether the wait has an end by now: read what others recorded, and expire it when it is due.

    Raises RunnerLeaves, and unwinds nothing by it: whoever looks here may be no part of the body.
    """
    if session.reason is None:
        session.poll()
    if session.reason is not None:
        raise RunnerLeaves(session.reason)
    if recorded.outcome is None and recorded.expires_at is not None and recorded.expires_at <= session.clock.now():
        try:
            session.report(lambda _, at: (WaitExpired(at=at, wait=recorded.wait),))
        except KitaruStateError:
            session.poll()  # somebody answered first
    return recorded.outcome is not None


def _stay_seconds(timeout: float | None) -> float | None:
    if isinstance(timeout, float) and timeout == float("inf"):
        return None
    return None if timeout is None else checked_seconds(timeout, "timeout")


def _answer(session: Session, recorded: RecordedWait, asked: AnswerType | None) -> object:
    if recorded.outcome == "expired":
        if recorded.default is None:
            raise KitaruWaitExpiredError(f"nobody answered the wait {recorded.name!r} in its time, and it has no default")
        default = decode(session.load(recorded.default))
        return default if asked is None else asked.convert(default)
    if recorded.value is None:
        raise RunnerLeaves(Reason.CANCELLED)  # given up: the execution is being cancelled
    if asked is None:
        return None
    try:
        return asked.convert(decode(session.load(recorded.value)))
    except KitaruWaitValidationError as refused:
        raise KitaruWaitValidationError(
            f"the recorded answer of the wait {recorded.name!r} is none that its schema takes: {refused.message}"
        ) from refused.__cause__


def _prompt(session: Session, recorded: RecordedWait, question: str | None, asked: AnswerType | None) -> Prompt | None:
    """On a terminal, what asks there; the CLI and the client can still be first."""
    if recorded.outcome is not None or not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout)):
        return None
    from kitaru.runtime.prompt import Prompt

    return Prompt(session.log, session.exec_id, recorded, question, None if asked is None else asked.json_schema)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _seconds(value: float | timedelta, what: str) -> float:
    return checked_seconds(value.total_seconds() if isinstance(value, timedelta) else value, what)
