"""The demo's verdict: each way in which a recovery could have gone wrong is a fault."""

from dataclasses import replace

import pytest
from comparison import Seen, compare
from ledger import Entry

KILLED, RECOVERED = 100, 200


def entry(checkpoint: str, about: str = "", pid: int = KILLED, key: str | None = None) -> Entry:
    return Entry(checkpoint, about, pid, key or f"key of {checkpoint} {about}")


@pytest.fixture
def seen() -> Seen:
    """Two documents; `digest_2` was in flight when the process was killed."""
    return Seen(
        documents=["a.py", "b.py"],
        completed_at_kill={"discover", "digest"},
        running_at_kill={"digest_2"},
        completed_at_end={"discover", "digest", "digest_2", "rank"},
        attempts={"discover": 1, "digest": 1, "digest_2": 2, "rank": 1},
    )


@pytest.fixture
def entries() -> list[Entry]:
    return [
        entry("discover"),
        entry("digest", "a.py"),
        entry("digest", "b.py"),
        entry("digest", "b.py", RECOVERED),
        entry("rank", pid=RECOVERED),
    ]


def test_a_right_recovery_has_no_fault(entries: list[Entry], seen: Seen) -> None:
    assert compare(entries, seen, KILLED).faults == []


def test_what_was_in_flight_and_ran_twice_is_named(entries: list[Entry], seen: Seen) -> None:
    assert compare(entries, seen, KILLED).repeated == ["digest_2"]


def test_what_was_in_flight_and_had_not_begun_its_body_is_no_fault(entries: list[Entry], seen: Seen) -> None:
    verdict = compare([e for e in entries if e != entry("digest", "b.py")], seen, KILLED)
    assert (verdict.faults, verdict.repeated) == ([], [])


def test_a_recorded_call_that_ran_again_is_a_fault(entries: list[Entry], seen: Seen) -> None:
    faults = compare([*entries, entry("digest", "a.py", RECOVERED)], seen, KILLED).faults
    assert "digest was recorded as completed, and its body ran again after the recovery" in faults


def test_a_recorded_call_that_ran_twice_before_the_kill_is_a_fault(entries: list[Entry], seen: Seen) -> None:
    faults = compare([*entries, entry("digest", "a.py")], seen, KILLED).faults
    assert faults == ["digest ran 2 times, its record shows 1 attempts"]


def test_a_call_begun_after_the_kill_that_ran_twice_is_a_fault(entries: list[Entry], seen: Seen) -> None:
    more_attempts = replace(seen, attempts={**seen.attempts, "rank": 2})
    faults = compare([*entries, entry("rank", pid=RECOVERED)], more_attempts, KILLED).faults
    assert faults == ["rank ran 2 times, and was not in flight at the kill"]


def test_a_body_that_the_record_does_not_know_is_a_fault(entries: list[Entry], seen: Seen) -> None:
    faults = compare([*entries, entry("digest", "c.py")], seen, KILLED).faults
    assert "? ran 1 times, its record shows 0 attempts" in faults


def test_a_completed_call_without_a_body_is_a_fault(entries: list[Entry], seen: Seen) -> None:
    faults = compare([e for e in entries if e.checkpoint != "rank"], seen, KILLED).faults
    assert faults == ["rank is recorded as completed, and never ran"]


def test_a_call_that_never_completed_is_a_fault(entries: list[Entry], seen: Seen) -> None:
    faults = compare(entries, replace(seen, completed_at_end=seen.completed_at_end - {"rank"}), KILLED).faults
    assert faults == ["rank never completed"]


def test_two_keys_of_one_call_are_a_fault(entries: list[Entry], seen: Seen) -> None:
    other = [*entries[:3], entry("digest", "b.py", RECOVERED, key="another"), *entries[4:]]
    faults = compare(other, seen, KILLED).faults
    assert faults == ["digest_2 had 2 idempotency keys; every attempt should have the same"]


def test_one_key_of_two_calls_is_a_fault(entries: list[Entry], seen: Seen) -> None:
    shared = [*entries[:4], entry("rank", pid=RECOVERED, key="key of discover ")]
    faults = compare(shared, seen, KILLED).faults
    assert faults == ["idempotency key key of discover  belongs to 2 calls"]
