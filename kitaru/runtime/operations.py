"""What can be asked of an execution from outside: answer, abort, cancel, resume, retry, replay.

Each decides inside one transaction of the store; one that is refused changes nothing. Where code has to run, the flow is
found first, so that a flow that cannot be loaded leaves the execution as it was.
"""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING, cast

from kitaru.domain.commands import AbortWait, Answer, Cancel, Resume, Retry
from kitaru.domain.decide import find_pending
from kitaru.domain.errors import KitaruStateError, KitaruUsageError
from kitaru.domain.events import WaitOpened
from kitaru.domain.ids import parse_part
from kitaru.domain.limits import MAX_PAYLOAD_BYTES
from kitaru.domain.payload import Payload
from kitaru.domain.state import Pending
from kitaru.runtime import code, recovery
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
    wanted = _ordinal_or_name(wait)
    pending = find_pending(log.head(exec_id).state, wanted)
    opened = _opened(log, exec_id, pending)
    if opened.json_schema is None:
        payload = _payload(None if value is None else value)
    else:
        json_schema = cast("dict[str, object]", decode(_bytes(log, opened.json_schema)))
        check_answer(value, json_schema, pending.name)
        payload = _payload(value)
    log.execute(exec_id, Answer(str(pending.wait), payload, _by(by)), installed_clock().now())


def abort_wait(log: EventLog, exec_id: str, wait: str, by: str | None = None) -> None:
    """Give a pending wait up; the execution is cancelled with it. Raises KitaruStateError, KitaruNotFoundError."""
    log.execute(
        exec_id, AbortWait(_ordinal_or_name(wait), _by(by), recovery.lost_epoch(log, exec_id)), installed_clock().now()
    )


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
    started = recovery.started_event(log, exec_id)
    lost = recovery.lost_epoch(log, exec_id)
    if detach:
        log.execute(exec_id, Resume(_by(by), None, lost), installed_clock().now())
        return None
    flow = flow or code.load_recorded(started.target, log.store_id)
    changed = code.digest_if_changed(started.target)
    log.execute(exec_id, Resume(_by(by), log.leases.acquire(), lost, changed), installed_clock().now())
    return recovery.launch(log, exec_id, flow)


def retry(
    log: EventLog, exec_id: str, *, flow: Flow[..., object] | None = None, by: str | None = None, detach: bool = False
) -> Runner | None:
    """Run a failed execution on: completed checkpoints are reused, failed ones run again.

    Raises KitaruStateError when it has not failed, KitaruRuntimeError when its flow cannot be loaded.
    """
    started = recovery.started_event(log, exec_id)
    if detach:
        log.execute(exec_id, Retry(_by(by), None), installed_clock().now())
        return None
    flow = flow or code.load_recorded(started.target, log.store_id)
    changed = code.digest_if_changed(started.target)
    log.execute(exec_id, Retry(_by(by), log.leases.acquire(), changed), installed_clock().now())
    return recovery.launch(log, exec_id, flow)


def parse_answer(text: str) -> object:
    """What somebody typed: JSON where it parses, else the text itself. Raises KitaruUsageError past the payload limit."""
    if len(text) > MAX_PAYLOAD_BYTES:
        raise KitaruUsageError(f"the answer has {len(text):,} characters; {MAX_PAYLOAD_BYTES:,} bytes are allowed")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _opened(log: EventLog, exec_id: str, pending: Pending) -> WaitOpened:
    for recorded in log.read(exec_id, after=pending.version - 1, limit=1):
        if isinstance(recorded.event, WaitOpened):
            return recorded.event
    raise KitaruStateError(f"the wait {pending.name!r} is not open any more")


def _ordinal_or_name(wait: str) -> str:
    part = parse_part(wait, "w")
    return str(part[1]) if part is not None else checked_name(wait, "the wait's name")


def _payload(value: object) -> Payload:
    return encode_payload(value, "the answer")[0]


def _bytes(log: EventLog, payload: Payload) -> bytes:
    return payload.data if payload.data is not None else log.load(payload)


def _by(by: str | None) -> str:
    if by is not None:
        return checked_name(by, "by")
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
