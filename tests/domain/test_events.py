"""Events and payloads: frozen, one union by type, the same after JSON, no payload data in the body."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from kitaru.domain.events import AttemptFailed, AttemptStarted, Event, EventBase, FlowOptions, WaitOpened
from kitaru.domain.payload import Payload, digest_of
from tests.domain.samples import EVENT_TYPES, VALUE, sample
from tests.domain.strategies import EVENTS_BY_TYPE

EVENT: TypeAdapter[EventBase] = TypeAdapter(Event)
PAYLOAD = TypeAdapter(Payload)
ANY = settings(max_examples=20, deadline=None, print_blob=True)

EACH_TYPE = pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda event_type: event_type.__name__)

# Renaming or removing one of these makes stores unreadable: add an upcaster instead.
STABLE_NAMES = {
    "ExecutionStarted", "RunnerClaimed", "ExecutionSuspended", "ExecutionResumed", "ExecutionRetried",
    "CancelRequested", "ExecutionCancelled", "ExecutionFailed", "ExecutionCompleted", "AttemptStarted",
    "AttemptFailed", "CheckpointCompleted", "CheckpointFailed", "CheckpointReused", "InputsDiffered", "WaitOpened",
    "WaitResolved", "WaitAborted", "WaitExpired", "ArtifactSaved", "MetadataLogged", "TagsChanged",
    "LLMUsageRecorded", "PayloadErased", "HistoryDropped",
}  # fmt: skip


def without_data(event: EventBase) -> EventBase:
    """The event as its body alone tells it."""
    bare = {name: payload.carrying(None) for name in type(event).payloads if (payload := getattr(event, name)) is not None}
    return event.model_copy(update=bare)


# --- the union --------------------------------------------------------------------------------------------------------


def test_the_names_of_the_types_are_the_stable_ones() -> None:
    assert {event_type.__name__ for event_type in EVENT_TYPES} == STABLE_NAMES


@EACH_TYPE
def test_type_is_the_name_of_the_class(event_type: type[EventBase]) -> None:
    assert json.loads(sample(event_type).model_dump_json())["type"] == event_type.__name__


@EACH_TYPE
def test_the_union_finds_the_class_by_type(event_type: type[EventBase]) -> None:
    assert type(EVENT.validate_json(sample(event_type).model_dump_json())) is event_type


@pytest.mark.parametrize(
    "body", ["{}", '{"type":"os.system","at":1}', '{"type":"EventBase","at":1}', '{"type":null,"at":1}']
)
def test_an_unknown_type_is_no_event(body: str) -> None:
    with pytest.raises(ValidationError):
        EVENT.validate_json(body)


def test_another_schema_version_is_not_read_as_this_one() -> None:
    with pytest.raises(ValidationError):
        EVENT.validate_json('{"type":"ExecutionSuspended","at":1,"v":2}')


@EACH_TYPE
def test_an_unknown_field_is_refused(event_type: type[EventBase]) -> None:
    with pytest.raises(ValidationError):
        event_type.model_validate(sample(event_type).model_dump() | {"surprise": 1})


@EACH_TYPE
def test_an_event_is_frozen(event_type: type[EventBase]) -> None:
    with pytest.raises(ValidationError):
        sample(event_type).at = 1


# --- JSON -------------------------------------------------------------------------------------------------------------


@EACH_TYPE
@ANY
@given(data=st.data())
def test_an_event_is_the_same_after_json(event_type: type[EventBase], data: st.DataObject) -> None:
    event = data.draw(EVENTS_BY_TYPE[event_type])
    assert EVENT.validate_json(event.model_dump_json()) == without_data(event)


@EACH_TYPE
def test_the_body_of_an_event_is_the_same_bytes_each_time(event_type: type[EventBase]) -> None:
    body = sample(event_type).model_dump_json()
    assert EVENT.validate_json(body).model_dump_json() == body


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_would_turn_into_null_is_refused(number: float) -> None:
    with pytest.raises(ValidationError):
        sample(AttemptFailed, retry_after=number)
    with pytest.raises(ValidationError):
        FlowOptions(max_cost_usd=number)


@pytest.mark.parametrize("ordinal", [-1, 0, 2**40])
def test_an_ordinal_that_no_execution_can_have_is_refused(ordinal: int) -> None:
    with pytest.raises(ValidationError):
        sample(AttemptStarted, call=ordinal)
    with pytest.raises(ValidationError):
        sample(AttemptStarted, attempt=ordinal)
    with pytest.raises(ValidationError):
        sample(WaitOpened, wait=ordinal)


# --- payloads ---------------------------------------------------------------------------------------------------------


@EACH_TYPE
def test_payloads_names_exactly_the_fields_that_hold_one(event_type: type[EventBase]) -> None:
    holders = [
        name for name, field in event_type.model_fields.items() if Payload in (field.annotation, *get_args(field.annotation))
    ]
    assert sorted(event_type.payloads) == sorted(holders)


@EACH_TYPE
def test_the_bytes_of_a_payload_are_not_in_the_body(event_type: type[EventBase]) -> None:
    canary = Payload.of(b"the canary sings", "k1")
    event = sample(event_type, **dict.fromkeys(event_type.payloads, canary))
    for text in (event.model_dump_json(), repr(event), str(event.model_dump())):
        assert "canary" not in text
    assert event.model_dump_json().count(canary.digest) == len(event_type.payloads)


def test_a_payload_is_named_by_the_blake2b_256_of_its_bytes() -> None:
    assert VALUE.digest == digest_of(b"value") == "d6307990a4bb5da3bfe0f273a54577dc871b7a6a34bfc9f080a5a83d320840c4"
    assert (VALUE.size, VALUE.codec, VALUE.data) == (5, "k1", b"value")


@given(st.binary(max_size=64))
def test_a_payload_made_from_bytes_is_a_valid_one(data: bytes) -> None:
    made = Payload.of(data, "k1")
    assert PAYLOAD.validate_python({**PAYLOAD.dump_python(made), "data": data}) == made


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"])
def test_a_digest_is_64_lower_hexadecimal_digits(digest: str) -> None:
    with pytest.raises(ValidationError):
        PAYLOAD.validate_python({"digest": digest, "size": 0, "codec": "k1"})


def test_a_payload_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        VALUE.size = 1
