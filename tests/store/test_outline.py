"""The outline of a stream: what it takes for the two common events, and that it believes nothing that `read` does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import pytest

from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.events import AttemptStarted, CheckpointCompleted
from kitaru.domain.outline import CallCompleted, CallStarted
from kitaru.domain.payload import digest_of
from kitaru.store.chain import GENESIS, link
from kitaru.store.outline import outline
from kitaru.store.rows import unfold

STARTED: dict[str, Any] = {
    "at": 1, "call": 1, "attempt": 1, "invocation_id": "a", "name": "a", "input_digest": "d",
}  # fmt: skip
OUTPUT = {"digest": digest_of(b"7"), "size": 1, "codec": "k1"}
COMPLETED: dict[str, Any] = {"at": 1, "call": 1, "attempt": 1, "output": OUTPUT}


def row(name: str, body: object, payload: object = None, *, v: object = 1) -> list[object]:
    """The row of a stream's only event, with the digest that it has to have: whoever may write the file may write that."""
    data = json.dumps(body).encode() if not isinstance(body, bytes) else body
    digest = link(GENESIS, "x", 1, name, v, "id", data)  # type: ignore[arg-type]
    return [1, 1, name, v, "id", digest, data, payload]


def outlined(only: Sequence[object]) -> object:
    ((event,),) = outline([only], 1, "x", 0, GENESIS, 0)
    return event


def test_the_start_of_a_call_needs_no_model() -> None:
    assert outlined(row("AttemptStarted", STARTED)) == CallStarted(1, 1, "a", "a", "d")


def test_an_inline_outcome_needs_no_model() -> None:
    assert outlined(row("CheckpointCompleted", COMPLETED, b"7")) == CallCompleted(1, "k1", b"7")


def test_a_second_attempt_is_read_whole() -> None:
    assert outlined(row("AttemptStarted", {"at": 1, "call": 1, "attempt": 2})) == AttemptStarted(at=1, call=1, attempt=2)


def test_an_outcome_that_stands_elsewhere_is_read_whole() -> None:
    body = COMPLETED | {"output": OUTPUT | {"size": 1_000_000}}
    assert isinstance(outlined(row("CheckpointCompleted", body)), CheckpointCompleted)


@pytest.mark.parametrize("call", ["1", True])
def test_a_call_that_is_no_number_is_read_whole(call: object) -> None:
    assert isinstance(outlined(row("AttemptStarted", STARTED | {"call": call})), AttemptStarted)


HOSTILE: dict[str, list[object]] = {
    "call 0": row("AttemptStarted", STARTED | {"call": 0}),
    "a call beyond the limit": row("AttemptStarted", STARTED | {"call": 10**9}),
    "an attempt that is no number": row("AttemptStarted", STARTED | {"attempt": [1]}),
    "attempt -1": row("AttemptStarted", STARTED | {"attempt": -1}),
    "a name that is a number": row("AttemptStarted", STARTED | {"name": 1}),
    "an id that is a list": row("AttemptStarted", STARTED | {"invocation_id": ["a"]}),
    "a body that is a list": row("AttemptStarted", [1]),
    "a body that is no JSON": row("AttemptStarted", b"{"),
    "a start with a payload": row("AttemptStarted", STARTED, b"7"),
    "an output that is a text": row("CheckpointCompleted", COMPLETED | {"output": "7"}, b"7"),
    "another output": row("CheckpointCompleted", COMPLETED, b"8"),
    "an output of another size": row("CheckpointCompleted", COMPLETED | {"output": OUTPUT | {"size": 2}}, b"7"),
    "no output": row("CheckpointCompleted", COMPLETED),
    "an output that is a text in its column": row("CheckpointCompleted", COMPLETED, "7"),
    "a codec that is a number": row("CheckpointCompleted", COMPLETED | {"output": OUTPUT | {"codec": 1}}, b"7"),
    "a completed call beyond the limit": row("CheckpointCompleted", COMPLETED | {"call": 2**70}, b"7"),
    "an unknown type": row("Nothing", {}),
    "a newer schema": row("AttemptStarted", STARTED, v=2),
    "another digest": [*row("AttemptStarted", STARTED)[:5], b"0" * 32, *row("AttemptStarted", STARTED)[6:]],
    "another place": [1, 2, *row("AttemptStarted", STARTED)[2:]],
    "a version that is a text": [1, "1", *row("AttemptStarted", STARTED)[2:]],
    "a digest that is a number": [*row("AttemptStarted", STARTED)[:5], 5, *row("AttemptStarted", STARTED)[6:]],
    "an id that is nothing": [*row("AttemptStarted", STARTED)[:4], None, *row("AttemptStarted", STARTED)[5:]],
    "a body that is nothing": [*row("AttemptStarted", STARTED)[:6], None, None],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_reading_refuses_the_outline_refuses_with_the_same_words(case: str) -> None:
    with pytest.raises(KitaruBackendError) as read:
        list(unfold([HOSTILE[case]], 1, "x", 0, GENESIS, 0))
    with pytest.raises(KitaruBackendError) as found:
        outlined(HOSTILE[case])
    assert str(found.value) == str(read.value)


def test_the_digest_of_a_row_is_that_of_its_place() -> None:
    first = row("AttemptStarted", STARTED)
    prefix = "1:x1,1,14:AttemptStarted2:id"
    assert first[5] == blake2b(GENESIS + prefix.encode() + bytes(first[6]), digest_size=32).digest()  # type: ignore[call-overload]
