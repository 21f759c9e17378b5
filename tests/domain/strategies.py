"""Hypothesis strategies for events: every type, every field, made from the fields' own types."""

from __future__ import annotations

from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from kitaru.domain.events import AttemptStarted, CheckpointCompleted, EventBase
from kitaru.domain.payload import Payload
from tests.domain.samples import EVENT_TYPES

# Ordinals are small, so that events meet; the version, the epoch and the clock may be anything that a store holds.
ORDINALS = st.integers(1, 6)
NUMBERS = st.integers(0, 2**62)
PAYLOADS = st.binary(max_size=8).map(lambda data: Payload.of(data, "k1"))
_BY_NAME: dict[str, st.SearchStrategy[object]] = {
    "call": ORDINALS,
    "attempt": ORDINALS,
    "wait": ORDINALS,
    "replay_from": ORDINALS,
    "at": NUMBERS,
    "parents": st.lists(ORDINALS, max_size=3).map(tuple),
    **dict.fromkeys(
        ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens"), st.integers(0, 10**12)
    ),
    **dict.fromkeys(("actual_cost", "estimated_cost"), st.integers(0, 10**16)),
}


def _of(annotation: object) -> st.SearchStrategy[object]:
    if get_origin(annotation) is Annotated:
        return _of(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return st.one_of([_of(part) for part in get_args(annotation)])
    if get_origin(annotation) is tuple:
        return st.lists(_of(get_args(annotation)[0]), max_size=3).map(tuple)
    assert isinstance(annotation, type), annotation
    if issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    if issubclass(annotation, Payload):
        return PAYLOADS
    if issubclass(annotation, BaseModel):
        return models(annotation)
    return {
        NoneType: st.none(),
        bool: st.booleans(),
        int: NUMBERS,
        float: st.floats(0, 1e9),
        str: st.text(max_size=12),
    }[annotation]


def models(model: type[BaseModel]) -> st.SearchStrategy[BaseModel]:
    """Any valid instance, optional fields set or not."""
    strategies = {name: _of(field.annotation) for name, field in model.model_fields.items()}
    for name, field in model.model_fields.items():
        if name in _BY_NAME:
            may_be_none = not field.is_required() and field.default is None
            strategies[name] = st.none() | _BY_NAME[name] if may_be_none else _BY_NAME[name]
    return st.fixed_dictionaries(strategies).map(model.model_validate)


EVENTS_BY_TYPE: dict[type[EventBase], st.SearchStrategy[EventBase]] = {
    event_type: models(event_type) for event_type in EVENT_TYPES
}  # type: ignore[assignment]
EVENTS: st.SearchStrategy[EventBase] = st.sampled_from(EVENT_TYPES).flatmap(EVENTS_BY_TYPE.__getitem__)
HISTORIES: st.SearchStrategy[list[EventBase]] = st.lists(EVENTS, max_size=30)

_OF_CALLS = st.sampled_from([AttemptStarted, CheckpointCompleted]).flatmap(EVENTS_BY_TYPE.__getitem__)
LONG_HISTORIES: st.SearchStrategy[list[EventBase]] = st.lists(_OF_CALLS | _OF_CALLS | EVENTS, max_size=60)
"""Mostly the two events that a call consists of, as long streams are."""
