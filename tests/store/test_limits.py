"""R28: each limit at and over, where no other test has it, and the memory that a long stream takes to read.

Depth: test_values_refusals.py. Waits and events: tests/domain. What a name may be besides short: tests/runtime.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kitaru
from benchmarks.contenders.fill import append, start_execution
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.decide import advance
from kitaru.domain.errors import KitaruRuntimeError, KitaruUsageError
from kitaru.domain.limits import (
    INLINE_PAYLOAD_BYTES,
    MAX_EVENTS,
    MAX_MAP_CALLS,
    MAX_NAME_CHARS,
    MAX_PAYLOAD_BYTES,
    MAX_TAGS,
)
from kitaru.domain.payload import Payload
from kitaru.runtime import futures, options
from kitaru.runtime.session import encode_metadata, encode_payload
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.store.values import CODEC, ValueNotEncodable
from kitaru.testing import append as appended
from kitaru.testing import start

# --- payloads ----------------------------------------------------------------------------------------------------------

QUOTES = 2


def test_a_value_of_the_most_bytes_is_taken() -> None:
    payload, decoded = encode_payload("x" * (MAX_PAYLOAD_BYTES - QUOTES), "it")
    assert payload.size == MAX_PAYLOAD_BYTES
    assert len(str(decoded)) == MAX_PAYLOAD_BYTES - QUOTES


def test_a_value_of_a_byte_more_is_refused() -> None:
    with pytest.raises(ValueNotEncodable, match=r"67,108,8\d\d bytes"):
        encode_payload("x" * (MAX_PAYLOAD_BYTES - QUOTES + 1), "it")


def test_values_that_are_too_large_together_are_refused() -> None:
    with pytest.raises(ValueNotEncodable, match=r"67,108,8\d\d bytes"):
        encode_payload(["x" * (MAX_PAYLOAD_BYTES // 2)] * 2, "it")


def test_the_store_takes_the_most_bytes_and_refuses_one_more_before_it_writes(log: SQLiteLog) -> None:
    head = start(log)
    data = b"1" * MAX_PAYLOAD_BYTES
    at_most = e.MetadataLogged(
        at=1, key="k", values=Payload(digest="0" * 64, size=MAX_PAYLOAD_BYTES + 1, codec=CODEC, data=data)
    )
    with pytest.raises((KitaruUsageError, KitaruRuntimeError)):
        appended(log, head, at_most)
    assert log.head(head.exec_id).version == head.version
    saved = e.ArtifactSaved(at=1, key="#save", name="large", kind="blob", value=Payload.of(data, CODEC))
    head = appended(log, head, saved)
    assert log.load(saved.value) == data


def test_metadata_is_held_to_what_stands_inline() -> None:
    around = encode_metadata({"k": ""}).size
    assert encode_metadata({"k": "x" * (INLINE_PAYLOAD_BYTES - around)}).size == INLINE_PAYLOAD_BYTES
    with pytest.raises(KitaruUsageError) as raised:
        encode_metadata({"k": "x" * (INLINE_PAYLOAD_BYTES - around + 1)})
    assert raised.value.code == "metadata-too-large"


@pytest.mark.parametrize("size", [INLINE_PAYLOAD_BYTES, INLINE_PAYLOAD_BYTES + 1])
def test_a_payload_around_the_inline_limit_comes_back(log: SQLiteLog, size: int) -> None:
    head = start(log)
    saved = e.ArtifactSaved(at=1, key="#save", name="n", kind="blob", value=Payload.of(b"1" * size, CODEC))
    head = appended(log, head, saved)
    assert log.load(saved.value) == b"1" * size
    assert log.query("SELECT count(*) FROM blobs") == [(int(size > INLINE_PAYLOAD_BYTES),)]


# --- names and tags ----------------------------------------------------------------------------------------------------


def flow_named(name: str) -> object:
    return kitaru.flow(name=name)(lambda: None)


def keyed_by(name: str) -> object:
    return kitaru.flow(name="f")(lambda: None).options(idempotency_key=name)


def checkpoint_named(name: str) -> object:
    def body() -> None: ...

    body.__name__ = name
    return kitaru.checkpoint(body)


NAMED: dict[str, Callable[[str], object]] = {
    "a flow": flow_named,
    "a checkpoint": checkpoint_named,
    "a tag": lambda name: options.checked_tags([name]),
    "a name": lambda name: options.checked_name(name, "it"),
    "an idempotency key": keyed_by,
}


@pytest.mark.parametrize("what", NAMED)
def test_a_name_of_the_most_characters_is_taken_and_of_one_more_refused(what: str) -> None:
    assert NAMED[what]("é" * MAX_NAME_CHARS)
    with pytest.raises(KitaruUsageError, match=str(MAX_NAME_CHARS)):
        NAMED[what]("é" * (MAX_NAME_CHARS + 1))


RECORDED: dict[str, Callable[[str], e.EventBase]] = {
    "checkpoint": lambda n: e.AttemptStarted(at=1, call=1, attempt=1, invocation_id="i", name=n, input_digest="0" * 64),
    "invocation id": lambda n: e.AttemptStarted(at=1, call=1, attempt=1, invocation_id=n, name="n", input_digest="0" * 64),
    "artifact": lambda n: e.ArtifactSaved(at=1, key="#save", name=n, kind="blob", value=Payload.of(b"1", CODEC)),
    "wait": lambda n: e.WaitOpened(at=1, wait=1, kind="input", invocation_id="i", name=n, question=Payload.of(b"1", CODEC)),
    "fact": lambda n: e.MetadataLogged(at=1, key=n, values=Payload.of(b"{}", CODEC)),
    "tag": lambda n: e.TagsChanged(at=1, key="#tag", add=(n,)),
}


@pytest.mark.parametrize("what", RECORDED)
def test_the_store_takes_a_name_at_the_limit_and_none_over_it(log: SQLiteLog, what: str) -> None:
    head = start(log)
    with pytest.raises(KitaruUsageError):
        appended(log, head, RECORDED[what]("é" * (MAX_NAME_CHARS + 1)))
    assert log.head(head.exec_id).version == head.version
    assert appended(log, head, RECORDED[what]("é" * MAX_NAME_CHARS)).version == head.version + 1


def test_as_many_tags_as_may_be_are_taken_and_one_more_refused() -> None:
    names = [str(number) for number in range(MAX_TAGS + 1)]
    assert len(options.checked_tags(names[:MAX_TAGS])) == MAX_TAGS
    assert len(options.checked_tags(names[:MAX_TAGS] * 2)) == MAX_TAGS, "doubles count once"
    with pytest.raises(KitaruUsageError, match=str(MAX_TAGS)):
        options.checked_tags(names)


def test_the_store_takes_as_many_tags_in_one_change_and_no_more(log: SQLiteLog) -> None:
    head = start(log)
    names = tuple(str(number) for number in range(MAX_TAGS + 1))
    with pytest.raises(KitaruUsageError):
        log.execute(head.exec_id, c.ChangeTags(names, (), "me"), 2)
    assert log.execute(head.exec_id, c.ChangeTags(names[:MAX_TAGS], (), "me"), 2)[0].version == head.version + 1


# --- map ---------------------------------------------------------------------------------------------------------------


def test_as_many_calls_of_a_map_are_taken_and_one_more_refused() -> None:
    """That the whole of `.map` and `.product` is refused before anything starts: tests/runtime/test_many.py."""
    assert len(futures._limited("step", "map", range(MAX_MAP_CALLS))) == MAX_MAP_CALLS
    with pytest.raises(KitaruUsageError, match=str(MAX_MAP_CALLS)):
        futures._limited("step", "map", range(MAX_MAP_CALLS + 1))


# --- long streams ------------------------------------------------------------------------------------------------------

BATCH_CALLS = 5_000


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[SQLiteLog]:
    """A store that need not outlive a power cut."""
    log = SQLiteLog(str(tmp_path / "long"), durability="os")
    yield log
    log.close()


def written(log: SQLiteLog, events: int) -> str:
    """An execution of that many events."""
    head = start_execution(log, 1)
    calls = (events - head.version) // 2
    done = Payload.of(b"1", CODEC)
    for first in range(1, calls + 1, BATCH_CALLS):
        batch: list[e.Event] = []
        for call in range(first, min(first + BATCH_CALLS, calls + 1)):
            ident = f"step_{call % 100}"  # few: pydantic keeps the short texts that it met, up to a fixed number
            batch.append(
                e.AttemptStarted(at=1, call=call, attempt=1, invocation_id=ident, name="step", input_digest="0" * 64)
            )
            batch.append(e.CheckpointCompleted(at=1, call=call, attempt=1, output=done))
        head = append(log, head, batch)
    if head.version < events:
        head = append(log, head, [e.MetadataLogged(at=1, key="k", values=Payload.of(b"{}", CODEC))])
    assert head.version == events
    return head.exec_id


def peak(log: SQLiteLog, exec_id: str, events: int) -> int:
    """The most bytes that reading the stream holds at once."""
    tracemalloc.start()
    try:
        assert sum(1 for _ in log.read(exec_id)) == events
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def compare(log: SQLiteLog, few: int, many: int) -> str:
    short, long = written(log, few), written(log, many)
    peak(log, short, few)  # what is made once
    assert peak(log, long, many) <= 1.5 * peak(log, short, few)
    return long


def test_100000_events_are_read_in_the_memory_of_10000(quick: SQLiteLog) -> None:
    compare(quick, 10_000, 100_000)


@pytest.mark.crash
@pytest.mark.timeout(3600)
def test_as_many_events_as_may_be_are_read_in_the_memory_of_100000_and_no_more_are_taken(quick: SQLiteLog) -> None:
    exec_id = compare(quick, 100_000, MAX_EVENTS)
    state = quick.head(exec_id).state
    more = e.MetadataLogged(at=2, key="k2", values=Payload.of(b"{}", CODEC))
    with pytest.raises(KitaruRuntimeError, match="the most there may be"):
        advance(state, c.Report(state.epoch, (more,)), 2)
    ended = advance(state, c.Report(state.epoch, (e.ExecutionCompleted(at=2, output=Payload.of(b"1", CODEC)),)), 2)
    assert ended.version == MAX_EVENTS + 1
