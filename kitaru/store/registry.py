"""Which event class a stored type name means, and how an event becomes bytes and comes back.

A closed table, built from the union of events: a name that is not in it is an error and never an import. Bodies leave out
fields that have their default, so changing a default is a new schema version with an upcaster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast, get_args

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json

from kitaru.domain import limits
from kitaru.domain.errors import KitaruBackendError, KitaruRuntimeError, KitaruUsageError
from kitaru.domain.events import (
    ArtifactSaved,
    AttemptStarted,
    Event,
    EventBase,
    LLMUsageRecorded,
    MetadataLogged,
    RunnerClaimed,
)
from kitaru.domain.payload import Payload, digest_of

MAX_BODY_BYTES = 1024 * 1024
"""Bytes of an event without its payloads. What stands in it is bounded by count and name; this bounds the whole."""

_OPERATING_SYSTEM_LEVEL = (AttemptStarted, RunnerClaimed, ArtifactSaved, MetadataLogged, LLMUsageRecorded)
_NAMES = ("name", "invocation_id", "key", "by", "checkpoint_type", "flow_name", "project", "idempotency_key", "stack")
_NAME_LISTS = ("tags", "add", "remove")


class Codec(NamedTuple):
    """How one event class is written and read. `is_outcome`: on disk before its append returns."""

    name: str
    v: int
    to_json: Callable[..., bytes]
    from_json: Callable[[bytes], EventBase]
    from_plain: Callable[[object], EventBase]
    payloads: tuple[str, ...]
    names: tuple[str, ...]
    name_lists: tuple[str, ...]
    is_outcome: bool


Upcaster = Callable[[dict[str, object]], dict[str, object]]

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""From the body of a stored (type, v) to that of v + 1."""


def _codec(cls: type[EventBase]) -> Codec:
    fields = cls.model_fields
    return Codec(
        name=str(fields["type"].default),
        v=int(fields["v"].default),
        to_json=cls.__pydantic_serializer__.to_json,
        from_json=cast("Callable[[bytes], EventBase]", cls.__pydantic_validator__.validate_json),
        from_plain=cast("Callable[[object], EventBase]", cls.__pydantic_validator__.validate_python),
        payloads=cls.payloads,
        names=tuple(name for name in _NAMES if name in fields),
        name_lists=tuple(name for name in _NAME_LISTS if name in fields),
        is_outcome=cls not in _OPERATING_SYSTEM_LEVEL,
    )


def _classes() -> tuple[type[EventBase], ...]:
    return get_args(get_args(Event)[0])


CODECS: Mapping[type[EventBase], Codec] = {cls: _codec(cls) for cls in _classes()}
_BY_NAME: Mapping[str, Codec] = {codec.name: codec for codec in CODECS.values()}


def codec_of(event: EventBase) -> Codec:
    """The codec of an event. Raises KitaruUsageError for a class that is not in the union."""
    codec = CODECS.get(type(event))
    if codec is None:
        raise KitaruUsageError(f"{type(event).__name__} is no event of this version; record one of the known events")
    return codec


def body_of(event: EventBase, codec: Codec) -> bytes:
    """The digested part of an event: JSON without type, version, defaults and payload bytes. Enforces the limits."""
    try:
        body = codec.to_json(event, exclude_defaults=True)
    except PydanticSerializationError as error:
        raise KitaruUsageError(f"{codec.name} holds text that is not valid Unicode: {error}", code="not-unicode") from None
    if len(body) > limits.MAX_NAME_CHARS:  # nothing in a shorter body can be too long
        _check_names(event, codec)
        if len(body) > MAX_BODY_BYTES:
            raise KitaruRuntimeError(
                f"{codec.name} takes {len(body)} bytes, the most there may be is {MAX_BODY_BYTES}; pass less",
                code="event-too-large",
            )
    return body


def _check_names(event: EventBase, codec: Codec) -> None:
    for field in codec.names:
        text: str | None = getattr(event, field)
        if text is not None and len(text) > limits.MAX_NAME_CHARS:
            raise _name_too_long(codec, field, len(text))
    for field in codec.name_lists:
        names: Sequence[str] = getattr(event, field)
        if len(names) > limits.MAX_TAGS:
            raise KitaruUsageError(
                f"{codec.name} has {len(names)} {field}, the most there may be is {limits.MAX_TAGS}; leave some out",
                code="too-many-tags",
            )
        longest = max(map(len, names), default=0)
        if longest > limits.MAX_NAME_CHARS:
            raise _name_too_long(codec, field, longest)


def _name_too_long(codec: Codec, field: str, length: int) -> KitaruUsageError:
    return KitaruUsageError(
        f"{field} of {codec.name} has {length} characters, the most there may be is {limits.MAX_NAME_CHARS}; shorten it",
        code="name-too-long",
    )


def check_payload(payload: Payload, codec: Codec) -> None:
    """Refuse a payload that is too large, or that stands without the bytes that it has to carry."""
    if payload.size > limits.MAX_PAYLOAD_BYTES:
        raise KitaruRuntimeError(
            f"a value of {codec.name} takes {payload.size} bytes, the most there may be is {limits.MAX_PAYLOAD_BYTES}; "
            "store it elsewhere and record where",
            code="payload-too-large",
        )
    if payload.data is None:
        if payload.size <= limits.INLINE_PAYLOAD_BYTES:
            raise KitaruRuntimeError(f"a value of {codec.name} has been erased; it cannot be recorded again")
    elif len(payload.data) != payload.size:
        raise KitaruRuntimeError(f"a value of {codec.name} has {len(payload.data)} bytes but says {payload.size}")


def decode(name: str, v: int, body: bytes) -> EventBase:
    """The event of a stored row, without payload bytes. Raises KitaruBackendError for what this version cannot know."""
    codec = _BY_NAME.get(name)
    if codec is None:
        raise KitaruBackendError(
            f"the store holds an event of type {name!r}, which this version does not know; upgrade kitaru",
            code="unknown-event",
        )
    try:
        if v == codec.v:
            return codec.from_json(body)
        return codec.from_plain(_upcast(codec, v, body))
    except (ValidationError, ValueError) as error:
        raise KitaruBackendError(f"the stored {name} event does not fit its schema: {error}", code="store-corrupt") from None


def _upcast(codec: Codec, v: int, body: bytes) -> dict[str, object]:
    if v > codec.v:
        raise KitaruBackendError(
            f"the store holds {codec.name} events of schema version {v}, this version knows {codec.v}; upgrade kitaru",
            code="unknown-event",
        )
    plain: dict[str, object] = from_json(body)
    while v < codec.v:
        plain = UPCASTERS[codec.name, v](plain)
        v += 1
    return plain


def attach_payload(event: EventBase, data: bytes) -> bool:
    """Give an event's inline payloads their bytes, cut from one column. False when sizes or digests do not fit."""
    start = 0
    for field in type(event).payloads:
        payload: Payload | None = getattr(event, field)
        if payload is None or payload.size > limits.INLINE_PAYLOAD_BYTES:
            continue
        end = start + payload.size
        part = data[start:end]
        if digest_of(part) != payload.digest:
            return False
        object.__setattr__(payload, "data", part)  # the model is frozen for everybody else
        start = end
    return start == len(data)


def has_inline_payload(event: EventBase) -> bool:
    """Whether bytes of this event stand beside it, unless they were erased."""
    for field in type(event).payloads:
        payload: Payload | None = getattr(event, field)
        if payload is not None and payload.size <= limits.INLINE_PAYLOAD_BYTES:
            return True
    return False
