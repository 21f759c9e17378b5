"""What LLM calls record of their usage, and the budget that the next one is held to.

The hooks that `kitaru.llm`, the adapters of frameworks and a user's own provider calls stand on: `record_usage` in a
checkpoint, `check_budget` before each request. `kitaru.runtime.durable` makes one call of a flow's body durable.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import cast

from orjson import loads
from pydantic import ValidationError

from kitaru.domain.errors import KitaruContextError, KitaruUsageError
from kitaru.domain.events import LLMUsageRecorded
from kitaru.domain.ids import call_id, uuid7
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES
from kitaru.domain.payload import Payload
from kitaru.domain.usage import MAX_RAW_BYTES, CacheStatus, UsageRecord, figures_of, normalised
from kitaru.runtime.budget import Budget, check
from kitaru.runtime.clock import installed
from kitaru.runtime.scope import CallScope, RemoteScope, current, flow_scope
from kitaru.runtime.session import Session
from kitaru.store.values import CODEC, ValueNotEncodable, decode, encode
from kitaru.store.values.text import write

_remote = threading.Lock()


def record_usage(record: UsageRecord | Mapping[str, object]) -> None:
    """Record what one try of an LLM call used, on the attempt that is running: an `llm_usage_v1` record or its fields.

    `checkpoint_id`, `checkpoint_name` and `attempt` are filled in, and `record_id` when it is absent; one that was recorded
    here before, by record_id and event_id, is not recorded again. Counts and costs that cannot be are left out with a
    warning. Raises KitaruContextError outside a checkpoint, KitaruUsageError for fields that are not of a record.
    """
    scope = current.get()
    if not isinstance(scope, (CallScope, RemoteScope)):
        if scope is not None:
            flow_scope("kitaru.record_usage")  # a thread of one's own has a word of its own
        raise KitaruContextError(
            "kitaru.record_usage was called outside a checkpoint; call it in the checkpoint that asked the model"
        )
    fields = record.model_dump(exclude_unset=True) if isinstance(record, UsageRecord) else _fields(record)
    if fields.get("record_id") is None:
        fields["record_id"] = uuid7(installed().now() // 1000, int.from_bytes(os.urandom(10)))
    made = _checked(fields)
    if isinstance(scope, RemoteScope):
        with _remote:
            scope.budget = (scope.budget or Budget()).spent_by(figures_of(made))
            scope.send({"usage": made.model_dump(mode="json", exclude_unset=True)})
        return
    placed = {"checkpoint_id": call_id(scope.exec_id, scope.call), "checkpoint_name": scope.name, "attempt": scope.attempt}
    _record(scope, made.model_copy(update=placed))


def check_budget() -> None:
    """Refuse the next LLM call once the execution has spent what it may. Raises KitaruBudgetExceededError.

    What counts is what is recorded so far, in all attempts: calls that run at the same time are each checked before they
    begin. Raises KitaruContextError outside a flow.
    """
    scope = current.get()
    if isinstance(scope, RemoteScope):
        check(scope.exec_id, scope.budget or Budget())
        return
    session = scope.session if isinstance(scope, CallScope) else flow_scope("kitaru.check_budget").session
    check(session.exec_id, Budget.of(session))


def taken_over(
    session: Session, original: LLMUsageRecorded, at: int, call: int, name: str, cache_status: CacheStatus
) -> LLMUsageRecorded | None:
    """A record of the call that a result is taken from, as one of the call that takes it; None when it was erased."""
    data = original.record.data
    record = decode(data) if data is not None else None
    if not isinstance(record, dict):
        return None
    changed: dict[str, object] = {
        **cast("dict[str, object]", record),
        "checkpoint_id": call_id(session.exec_id, call),
        "checkpoint_name": name,
        "billing_effect": "reused_not_incurred",
        "cache_status": cache_status,
    }
    return LLMUsageRecorded(
        at=at,
        call=call,
        attempt=original.attempt,
        record_id=original.record_id,
        record=Payload.of(encode(changed), CODEC),
        figures=original.figures.model_copy(update={"billing_effect": "reused_not_incurred"}),
    )


def _record(scope: CallScope, record: UsageRecord) -> None:
    history = scope.session.history
    if not history.is_new_usage(scope.call, scope.attempt, record.record_id, record.event_id):
        return
    figures = figures_of(record)
    payload = Payload.of(encode(record.model_dump(mode="json")), CODEC)
    scope.record(
        lambda at: LLMUsageRecorded(
            at=at,
            call=scope.call,
            attempt=scope.attempt,
            record_id=record.record_id,
            record=payload,
            figures=figures,
        )
    )


def _fields(record: object) -> dict[str, object]:
    if isinstance(record, Mapping):
        return {str(name): value for name, value in cast("Mapping[object, object]", record).items()}
    raise KitaruUsageError(f"a usage record is a UsageRecord or a dict of its fields, not {record!r}")


def _checked(fields: dict[str, object]) -> UsageRecord:
    """The record, with what cannot be added up left out. Raises KitaruUsageError."""
    try:
        record = UsageRecord.model_validate(normalised(_with_kept_raw(fields)))
        size = len(encode(record.model_dump(mode="json")))
    except ValidationError as refused:
        wrong = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in refused.errors()[:5])
        raise KitaruUsageError(f"the usage record does not fit llm_usage_v1: {wrong}", code="usage-record") from None
    except ValueNotEncodable as refused:
        raise KitaruUsageError(f"the usage record does not encode: {refused}", code="usage-record") from None
    if size > INLINE_PAYLOAD_BYTES:
        raise KitaruUsageError(
            f"the usage record takes {size:,} bytes; {INLINE_PAYLOAD_BYTES:,} are allowed", code="usage-record"
        )
    return record


def _with_kept_raw(fields: dict[str, object]) -> dict[str, object]:
    """The fields, without a `raw` that cannot be kept: an answer that was paid for is not lost for it."""
    usage = fields.get("usage")
    raw = cast("Mapping[str, object]", usage).get("raw") if isinstance(usage, Mapping) else None
    if raw is None:
        return fields
    kept, warning = None, []
    try:
        text = write(raw)
        kept = loads(text) if isinstance(raw, dict) and len(text) <= MAX_RAW_BYTES else None
        encode(kept)
    except (TypeError, ValueError, RecursionError, ValueNotEncodable):
        kept = None
    told = fields.get("warnings")
    if kept is None:
        warning = [f"what the provider said was left out: it is no JSON object of at most {MAX_RAW_BYTES:,} bytes"]
    warnings = [*(cast("list[object]", told) if isinstance(told, (list, tuple)) else ()), *warning]
    return {**fields, "usage": {**cast("Mapping[str, object]", usage), "raw": kept}, "warnings": warnings}
