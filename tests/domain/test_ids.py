"""Ids: UUIDv7 that sort by time, parts that lead back to their execution, and flow ids that never change."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru.domain.ids import artifact_id, attempt_id, call_id, flow_id, parse_part, uuid7, wait_id

MILLISECONDS = st.integers(0, 2**48 - 1)
BITS = st.integers(0, 2**74 - 1)
EXEC_ID = "019b76da-a800-7000-8000-000000000000"
KINDS = {"c": call_id, "a": artifact_id, "w": wait_id}

# --- uuid7 ------------------------------------------------------------------------------------------------------------


@given(MILLISECONDS, BITS)
def test_uuid7_is_a_version_7_uuid_in_canonical_text(ms: int, bits: int) -> None:
    text = uuid7(ms, bits)
    assert str(UUID(text)) == text
    assert (UUID(text).version, UUID(text).variant) == (7, RFC_4122)


@given(MILLISECONDS, BITS)
def test_uuid7_keeps_its_time_and_all_its_random_bits(ms: int, bits: int) -> None:
    number = UUID(uuid7(ms, bits)).int
    assert number >> 80 == ms
    assert (number >> 64 & 0xFFF) << 62 | number & (1 << 62) - 1 == bits


@given(MILLISECONDS, MILLISECONDS, BITS, BITS)
def test_uuid7_sorts_by_time_as_text(early: int, late: int, one: int, other: int) -> None:
    early, late = sorted((early, late))
    assert early == late or uuid7(early, one) < uuid7(late, other)


@given(MILLISECONDS, BITS, BITS)
def test_uuid7_of_one_millisecond_sorts_by_its_bits(ms: int, one: int, other: int) -> None:
    assert (uuid7(ms, one) < uuid7(ms, other)) is (one < other)


def test_uuid7_is_the_example_of_the_rfc() -> None:
    # RFC 9562, A.6: 2022-02-22 19:22:22 UTC, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    assert uuid7(0x017F22E279B0, 0xCC3 << 62 | 0x18C4DC0C0C07398F) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_uuid7_cuts_off_bits_past_74() -> None:
    assert uuid7(1, 1 << 74 | 5) == uuid7(1, 5)


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(ordinal=st.integers(1, 10**11 - 1))
def test_a_part_leads_back_to_its_execution_and_ordinal(kind: str, ordinal: int) -> None:
    assert parse_part(KINDS[kind](EXEC_ID, ordinal), kind) == (EXEC_ID, ordinal)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_part_of_one_kind_is_none_of_another(kind: str, other: str) -> None:
    assert (parse_part(KINDS[kind](EXEC_ID, 1), other) is None) is (kind != other)


def test_the_execution_may_be_shortened() -> None:
    assert parse_part("019b76da.c12", "c") == ("019b76da", 12)


def test_an_attempt_has_the_id_of_its_call_and_its_number() -> None:
    assert attempt_id(EXEC_ID, 3, 2) == call_id(EXEC_ID, 3) + ".2"


def test_an_attempt_is_not_taken_for_a_call() -> None:
    assert parse_part(attempt_id(EXEC_ID, 3, 2), "c") is None


ODD = ["", ".", "x", "x.", "x.c", "x.c ", "x.c-1", "x.c+1", "x.c1.5", "x.c1_0", "x.c 1", "x.c1\n", "x.C1", "x.y.c1"]
ODD += ["x.c\N{ARABIC-INDIC DIGIT THREE}", "x.c\N{SUPERSCRIPT TWO}", "x.c" + "9" * 12]


@pytest.mark.parametrize("text", ODD)
def test_odd_text_is_no_part(text: str) -> None:
    assert parse_part(text, "c") is None


@pytest.mark.parametrize("kind", ["", "x", "cc", "c1"])
def test_an_unknown_kind_has_no_parts(kind: str) -> None:
    assert parse_part("x.c1", kind) is None
    assert parse_part("x.x1", kind) is None


@given(st.text(max_size=20), st.sampled_from(["c", "a", "w", "", "z"]))
def test_no_text_makes_it_raise(text: str, kind: str) -> None:
    parsed = parse_part(text, kind)
    assert parsed is None or (text.startswith(parsed[0]) and parsed[1] >= 0)


# --- flow ids ---------------------------------------------------------------------------------------------------------


def test_a_flow_id_never_changes() -> None:
    assert flow_id("store", "default", "research") == "f963790b-4120-8f60-a5d9-0a1822143fc7"


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_a_flow_id_is_a_version_8_uuid(store: str, project: str, name: str) -> None:
    made = UUID(flow_id(store, project, name))
    assert (made.version, made.variant) == (8, RFC_4122)


def test_a_flow_id_differs_by_store_project_and_name() -> None:
    parts = [("s", "p", "f"), ("t", "p", "f"), ("s", "q", "f"), ("s", "p", "g"), ("s", "pf", "")]
    assert len({flow_id(*three) for three in parts}) == 5


def test_a_flow_name_may_be_any_text() -> None:
    assert flow_id("s", "p", "\ud800") != flow_id("s", "p", "\ud801")
