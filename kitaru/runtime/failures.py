"""Exceptions into recorded failures and back, without running anybody's code on the way back."""

from __future__ import annotations

import traceback
from typing import NamedTuple

from kitaru.domain.errors import (
    FailureOrigin,
    KitaruBackendError,
    KitaruBudgetExceededError,
    KitaruDivergenceError,
    KitaruRuntimeError,
    KitaruStateError,
    KitaruUserCodeError,
    shown_type,
)
from kitaru.domain.events import FailureFields
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES, MAX_NAME_CHARS
from kitaru.domain.payload import Payload
from kitaru.store.values import CODEC, ValueNotEncodable, bare_exception, canonical_module, decode, encode

_MAX_TEXT = INLINE_PAYLOAD_BYTES // 4
_PART_BYTES = (None, INLINE_PAYLOAD_BYTES // 8, INLINE_PAYLOAD_BYTES // 64)
"""How large a part of an exception may be, tried in turn; None: it is kept as it is."""


class Failure(NamedTuple):
    """The fields that AttemptFailed and ExecutionFailed share."""

    origin: FailureOrigin
    exception_type: str
    message: Payload
    traceback: Payload | None
    exception: Payload | None


def describe(error: BaseException, origin: FailureOrigin = FailureOrigin.USER_CODE) -> Failure:
    """What is kept of an exception: its class by name, message, traceback, and itself as a value if it encodes."""
    kind = type(error)
    try:
        message = str(error)
    except BaseException as broken:  # whatever it raises, the failure is recorded
        message = f"<str() of the exception raised {type(broken).__name__}>"
    try:
        trace = "".join(traceback.format_exception(error, limit=-50)) if error.__traceback__ is not None else ""
    except BaseException as broken:
        trace = f"<the traceback could not be told: {type(broken).__name__}>"
    return Failure(
        origin=origin,
        exception_type=f"{canonical_module(kind.__module__)}.{kind.__qualname__}"[:MAX_NAME_CHARS],
        message=text_payload(message),
        traceback=text_payload(trace, keep_end=True) if trace else None,
        exception=_as_value(error),
    )


def _as_value(error: BaseException) -> Payload | None:
    """The exception itself, or as much of it as encodes; None for a class that nobody can find again."""
    for most in _PART_BYTES:
        try:
            kept = error if most is None else bare_exception(error, most)
            if kept is None:
                return None
            recorded = encode(kept)
        except ValueNotEncodable:
            continue
        except BaseException:  # its own methods raised
            return None
        if len(recorded) <= INLINE_PAYLOAD_BYTES:
            return Payload.of(recorded, CODEC)
    return None


def text_payload(text: str, *, keep_end: bool = False) -> Payload:
    """A text as a payload, cut to what stands inline; a traceback keeps its end, where the raising line is."""
    if len(text) > _MAX_TEXT:
        cut = "… (cut) …"
        text = cut + text[-_MAX_TEXT:] if keep_end else text[:_MAX_TEXT] + cut
    return Payload.of(encode(text), CODEC)


def origin_of(error: BaseException) -> FailureOrigin:
    """Where an exception that left a body came from, by the class that this package raised it with."""
    kind = type(error)
    if issubclass(kind, KitaruDivergenceError):
        return FailureOrigin.DIVERGENCE
    if issubclass(kind, KitaruBackendError):
        return FailureOrigin.BACKEND
    if issubclass(kind, (KitaruRuntimeError, KitaruStateError, KitaruBudgetExceededError)):
        return FailureOrigin.RUNTIME
    return FailureOrigin.USER_CODE


def rebuild(failed: FailureFields) -> BaseException:
    """The recorded exception again: same class where that class is already imported, else KitaruUserCodeError."""
    if failed.exception is not None and failed.exception.data is not None:
        value = decode(failed.exception.data)
        if isinstance(value, BaseException):
            return value
    message = failed.message.data
    text = decode(message) if message is not None else "(erased)"
    return KitaruUserCodeError(f"{shown_type(failed.exception_type)}: {text}", failure_origin=failed.origin)
