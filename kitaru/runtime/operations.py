"""What can be asked of an execution from outside: answer, abort, cancel, resume, retry, replay.

Each decides inside one transaction of the store; one that is refused changes nothing. Where code has to run, the flow is
found first, so that a flow that cannot be loaded leaves the execution as it was.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from kitaru.domain.commands import AbortWait, Answer, Cancel, Resume, Retry
from kitaru.domain.decide import decide, find_pending
from kitaru.domain.errors import KitaruStateError, KitaruUsageError, KitaruWaitValidationError
from kitaru.domain.events import RunnerClaimed, WaitOpened
from kitaru.domain.ids import parse_part
from kitaru.domain.limits import MAX_PAYLOAD_BYTES
from kitaru.domain.payload import Payload
from kitaru.domain.state import ExecutionState, Pending
from kitaru.runtime import code, process, recovery, replaying
from kitaru.runtime.answers import check_answer
from kitaru.runtime.clock import installed as installed_clock
from kitaru.runtime.options import checked_name
from kitaru.runtime.session import encode_payload
from kitaru.store.log import EventLog
from kitaru.store.values import decode

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow
    from kitaru.runtime.runner import Runner


def answer(log: EventLog, exec_id: str, wait: str, value: object, by: str | None = None) -> None:
    """Give a pending wait, named or by id, its value.

    Raises KitaruWaitValidationError when it does not fit the recorded schema (the wait stays open), KitaruStateError when
    no such wait is pending any more, KitaruNotFoundError.
    """
    pending = _find(log.head(exec_id).state, exec_id, wait)
    opened = _opened(log, exec_id, pending)
    payload = encode_payload(value, "the answer")[0]
    if opened.json_schema is not None:
        check_answer(value, decode(_bytes(log, opened.json_schema)), pending.name)
        _check_type(log, exec_id, pending, value)
    log.execute(exec_id, Answer(pending.name, payload, _by(by)), installed_clock().now())


def _check_type(log: EventLog, exec_id: str, pending: Pending, value: object) -> None:
    """The declared type has the last word, where the flow that asks is live in this process."""
    live = cast("Runner | None", process.find(log.location, exec_id))
    asked = live.session.asked.get(pending.wait) if live is not None else None
    if asked is not None:
        try:
            asked.convert(value)
        except KitaruWaitValidationError as refused:
            raise KitaruWaitValidationError(
                f"the answer does not fit the wait {pending.name!r}: {refused.message}"
            ) from refused.__cause__


def answer_text(log: EventLog, exec_id: str, wait: str, text: str, by: str | None = None) -> None:
    """Give a pending wait what somebody typed: as JSON where that parses and fits, else as text where that fits.

    Raises what `answer` raises, and KitaruUsageError past the payload limit.
    """
    if len(text) > MAX_PAYLOAD_BYTES:
        raise KitaruUsageError(f"the answer has {len(text):,} characters; {MAX_PAYLOAD_BYTES:,} bytes are allowed")
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        try:
            answer(log, exec_id, wait, text, by)
        except KitaruWaitValidationError as refused:
            raise KitaruWaitValidationError(
                f"{refused.message}. (It is no JSON, so it was taken as text: {error})"
            ) from None
        return
    try:
        answer(log, exec_id, wait, value, by)
    except KitaruWaitValidationError as refused:
        if isinstance(value, str):
            raise
        try:
            answer(log, exec_id, wait, text, by)
        except KitaruWaitValidationError:
            raise refused from None


def abort_wait(log: EventLog, exec_id: str, wait: str, by: str | None = None) -> None:
    """Give a pending wait up; the execution is cancelled with it. Raises KitaruStateError, KitaruNotFoundError."""
    pending = _find(log.head(exec_id).state, exec_id, wait)
    log.execute(exec_id, AbortWait(pending.name, _by(by), recovery.lost_epoch(log, exec_id)), installed_clock().now())


def cancel(log: EventLog, exec_id: str, by: str | None = None) -> None:
    """Cancel: at once without a live runner, at the next boundary otherwise. Raises KitaruStateError when it has ended."""
    log.execute(exec_id, Cancel(_by(by), recovery.lost_epoch(log, exec_id)), installed_clock().now())


def resume(
    log: EventLog, exec_id: str, *, flow: Flow[..., object] | None = None, by: str | None = None, detach: bool = False
) -> Runner | None:
    """Go on with an execution that nobody runs; in a thread of this process, or left to a worker.

    Raises KitaruStateError when somebody runs it, it waits for input or is not due; KitaruRuntimeError when its flow cannot
    be loaded.
    """
    return _go_on(log, exec_id, Resume(_by(by), None, recovery.lost_epoch(log, exec_id)), flow, detach=detach)


def retry(
    log: EventLog, exec_id: str, *, flow: Flow[..., object] | None = None, by: str | None = None, detach: bool = False
) -> Runner | None:
    """Run a failed execution on: completed checkpoints are reused, failed ones run again.

    Raises KitaruStateError when it has not failed, KitaruRuntimeError when its flow cannot be loaded.
    """
    return _go_on(log, exec_id, Retry(_by(by), None), flow, detach=detach)


def _go_on(
    log: EventLog, exec_id: str, command: Resume | Retry, flow: Flow[..., object] | None, *, detach: bool
) -> Runner | None:
    """Decide before the code is looked for, so that a refusal names the state; then claim, and run."""
    decide(log.head(exec_id).state, command, installed_clock().now())
    if detach:
        log.execute(exec_id, command, installed_clock().now())
        return None
    started = recovery.started_event(log, exec_id)
    flow = flow or code.load_recorded(started.target, started.flow_name, log.store_id)
    changed = code.digest_if_changed(started.target)
    replaying.original_of(log, started)  # or it would be claimed, and then could not run
    with process.beginning(log.location, exec_id):
        past = recovery.read_past(log, exec_id)
        claiming = replace(command, runner=log.leases.acquire(), file_digest=changed)
        _, events = log.execute(exec_id, claiming, installed_clock().now())
        if not any(isinstance(event, RunnerClaimed) for event in events):
            return None  # it was being cancelled, and now is
        return recovery.launch(log, exec_id, flow, past)


def _find(state: ExecutionState, exec_id: str, wait: str) -> Pending:
    """The pending wait of that name or id; or of that name in a task of the flow, where only one has it."""
    inputs = [pending for pending in state.pending if pending.kind == "input"]
    named = next((pending for pending in inputs if pending.name == wait), None)
    if named is not None:
        return named
    part = parse_part(checked_name(wait, "the wait's name"), "w")
    if part is not None and exec_id.startswith(part[0].lower()):
        return find_pending(state, str(part[1]))
    in_tasks = [pending for pending in inputs if pending.name.endswith(f"/{wait}")]
    if len(in_tasks) > 1:
        names = ", ".join(repr(pending.name) for pending in in_tasks)
        raise KitaruStateError(f"several waits are named {wait!r}; name one of {names}", code="ambiguous-wait")
    return in_tasks[0] if in_tasks else find_pending(state, wait)


def _opened(log: EventLog, exec_id: str, pending: Pending) -> WaitOpened:
    for recorded in log.read(exec_id, after=pending.version - 1, limit=1):
        if isinstance(recorded.event, WaitOpened):
            return recorded.event
    raise KitaruStateError(f"the wait {pending.name!r} is not open any more")


def _bytes(log: EventLog, payload: Payload) -> bytes:
    return payload.data if payload.data is not None else log.load(payload)


def _by(by: str | None) -> str:
    if by is not None:
        return checked_name(by, "by")
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
