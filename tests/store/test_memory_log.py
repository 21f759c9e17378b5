"""What the store in memory does beyond the contract: the laws of heads that both stores stand on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.events import (
    Event,
    EventBase,
    ExecutionFailed,
    ExecutionRetried,
    FailureOrigin,
    RunnerClaimed,
    WaitOpened,
)
from kitaru.domain.payload import Payload
from kitaru.domain.state import ABSENT, evolve
from kitaru.store.chain import GENESIS, link, linker
from kitaru.store.heads import _KEEPS_HEAD, columns, fold_head, known, parse
from kitaru.store.registry import CODECS, body_of, codec_of, decode
from kitaru.testing import call, completed, memory_log, start, started

_STORY: Sequence[EventBase] = (
    started(),
    RunnerClaimed(at=1, epoch=1, runner="r"),
    *call(1),
    WaitOpened(at=2, wait=1, kind="input", invocation_id="w", name='a "name" \n', expires_at=7),
    WaitOpened(at=2, wait=2, kind="timer", invocation_id="t", name="ä", expires_at=9),
    *call(2),
    ExecutionFailed(at=3, origin=FailureOrigin.USER_CODE, exception_type="E", message=Payload.of(b"m", "k1")),
    ExecutionRetried(at=4, by="me"),
    RunnerClaimed(at=5, epoch=2, runner="s"),
    *call(3),
    completed(),
)


def test_the_fold_of_a_head_is_evolve_without_the_calls() -> None:
    whole = folded = ABSENT
    for version, event in enumerate(_STORY, 1):
        whole = evolve(whole, cast("Event", event))
        folded = fold_head(folded, version, event)
        assert known(folded._replace(version=version)) == known(whole)


def test_every_event_that_a_head_ignores_changes_only_calls() -> None:
    assert {cls for cls in CODECS if cls not in _KEEPS_HEAD} == {
        cls
        for cls in CODECS
        if cls.__name__.startswith(("Execution", "Runner", "Wait", "Cancel", "PayloadErased", "History"))
    }


def test_a_head_row_comes_back_as_it_was() -> None:
    state = ABSENT
    for version, event in enumerate(_STORY, 1):
        state = fold_head(state, version, event)._replace(version=version)
        found = parse("an id", 3, 0, columns("an id", b"d" * 32, state))
        assert found.head == (3, "an id", b"d" * 32, known(state))


def test_every_single_flipped_bit_of_a_head_row_is_seen() -> None:
    state = ABSENT
    for version, event in enumerate(_STORY[:6], 1):
        state = fold_head(state, version, event)._replace(version=version)
    row = columns("an id", b"d" * 32, state)
    for column, value in enumerate(row):
        damaged: list[object] = []
        if isinstance(value, int):
            damaged = [value ^ 1 << bit for bit in range(32)]
        elif isinstance(value, bytes):
            damaged = [_flipped(value, bit) for bit in range(len(value) * 8)]
        elif isinstance(value, str):
            data = value.encode()
            damaged = [_flipped(data, bit).decode("utf-8", "surrogateescape") for bit in range(len(data) * 8)]
        for other in (*damaged, None):
            if other != value:
                with pytest.raises(KitaruBackendError):
                    parse("an id", 3, 0, (*row[:column], other, *row[column + 1 :]))


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_two_events_share_what_is_digested() -> None:
    digests = {
        link(GENESIS, "a", 1, "b", 1, "c", b"d"),
        link(GENESIS, "ab", 1, "", 1, "c", b"d"),
        link(GENESIS, "a", 11, "b", 1, "c", b"d"),
        link(GENESIS, "a", 1, "b", 11, "c", b"d"),
        link(GENESIS, "a", 1, "b", 1, "", b"cd"),
        link(GENESIS, "a", 1, "bc", 1, "", b"d"),
        link(b"x" * 32, "a", 1, "b", 1, "c", b"d"),
    }
    assert len(digests) == 7


@given(st.binary(max_size=32), st.text(), st.integers(1), st.text(), st.integers(1), st.text(), st.binary())
def test_a_stream_links_as_its_events_do(
    previous: bytes, exec_id: str, version: int, name: str, v: int, event_id: str, body: bytes
) -> None:
    of_stream = linker(exec_id)
    for number in (version, version + 1):
        assert of_stream(previous, number, name, v, event_id, body) == link(
            previous, exec_id, number, name, v, event_id, body
        )


def test_every_event_comes_back_from_its_bytes() -> None:
    for event in _STORY:
        codec = codec_of(event)
        found = decode(codec.name, codec.v, body_of(event, codec))
        bare = {name: getattr(event, name) for name in type(event).payloads}
        assert type(found) is type(event)
        assert found.model_dump() == event.model_dump()
        assert all(payload is None or payload.data is not None for payload in bare.values())


def test_a_store_in_memory_leaves_no_file(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.chdir(str(tmp_path))
    log = memory_log()
    start(log)
    log.close()
    assert os.listdir(".") == []
