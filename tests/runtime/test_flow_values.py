"""What flows receive and what they return: the decoded value, exactly, or a refusal."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import types_of


@dataclass
class Box:
    items: tuple[int, ...]
    label: str = "box"


@flow
def adding(a: int, b: int = 2, *, c: int = 3) -> int:
    return a + b + c


@checkpoint
def boxes() -> Box:
    return Box((1, 2))


received: list[object] = []


@flow
def receiving() -> Box:
    received.append(boxes())
    return Box((3,))


def test_the_flow_receives_the_decoded_value_the_first_time_too() -> None:
    made = boxes.fn()
    receiving.run().wait(PATIENCE)
    assert received.pop() == made


def test_handles_give_the_flows_value_with_its_exact_type() -> None:
    value = receiving.run().wait(PATIENCE)
    assert (type(value), type(value.items)) == (Box, tuple)


class Subclass(dict[str, int]):
    pass


@checkpoint
def sub() -> Subclass:
    return Subclass(a=1)


@flow
def through_a_subclass() -> list[object]:
    first = sub()
    return [type(first).__name__, first is sub.fn]


def test_a_value_comes_back_as_its_subclass() -> None:
    assert through_a_subclass.run().wait(PATIENCE)[0] == "Subclass"


shared: list[list[int]] = [[1]]


@checkpoint
def gives_shared() -> list[int]:
    return shared[0]


@flow
def changes_what_it_gets() -> list[int]:
    gives_shared().append(2)
    return gives_shared()


def test_what_the_flow_receives_is_not_the_object_that_the_body_returned() -> None:
    assert changes_what_it_gets.run().wait(PATIENCE) == [1]


@flow
def returns_a_lock() -> object:
    return {"items": [1, threading.Lock()]}


def test_a_return_value_that_does_not_encode_fails_the_execution_and_names_type_and_path() -> None:
    with pytest.raises(kitaru.KitaruUserCodeError, match=r"_thread\.lock at \$\.items\[1\]"):
        returns_a_lock.run().wait(PATIENCE)


@flow
def returns_bytes(size: int) -> bytes:
    return bytes(size)


@pytest.mark.parametrize("size", [64 * 1024 * 1024 + 1, 1_000_000_000], ids=["over-64MiB", "1GB"])
def test_a_return_value_past_the_limit_fails_the_execution_and_names_its_size(size: int) -> None:
    with pytest.raises(kitaru.KitaruUserCodeError, match=f"{size:,} bytes"):
        returns_bytes.run(size).wait(PATIENCE)


def test_a_value_of_a_gigabyte_is_refused_without_encoding_it() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(kitaru.KitaruUserCodeError):
        returns_bytes.run(1_000_000_000).wait(PATIENCE)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 300_000_000


@checkpoint
def one_more(value: int) -> int:
    return value + 1


@flow
def loads_a_plain_value() -> int:
    return one_more(1).load()  # type: ignore[attr-defined]


def test_load_on_a_plain_value_gets_the_note_that_calls_return_values() -> None:
    with pytest.raises(kitaru.KitaruUserCodeError) as raised:
        loads_a_plain_value.run().wait(PATIENCE)
    cause = raised.value.__cause__
    assert isinstance(cause, AttributeError)
    assert "plain value" in "".join(getattr(cause, "__notes__", []))


def test_nothing_is_recorded_behind_the_end(log: EventLog) -> None:
    handle = adding.run(1)
    handle.wait(PATIENCE)
    assert types_of(log, handle.exec_id) == ["ExecutionCompleted"]
