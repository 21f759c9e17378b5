"""Statistics of executions: what is counted, grouped and measured, on disk and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf, nan
from typing import Any, cast

import pytest

from kitaru.analytics.engine import close_statistics
from kitaru.analytics.grammar import Subject
from kitaru.domain import events as e
from kitaru.domain.ids import flow_id
from kitaru.store.log import EventLog, Reads
from kitaru.testing.events import append, call
from tests.analytics.counting import Place, counts, labels, measured, raw
from tests.analytics.filling import SECOND, end, fail, log_metadata, payload, run


def micros(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[misc]


def test_an_empty_store_has_one_group_without_groupings_and_none_with(place: Place) -> None:
    assert [(group.keys, group.counted, group.metrics) for group in raw(place, (), "d:duration:avg")] == [((), 0, (None,))]
    assert raw(place, "status") == []


def test_executions_are_counted_by_status_flow_and_stack(place: Place) -> None:
    log = place.log
    run(log, "a")
    run(log, "a", seconds=None)
    fail(log, run(log, "b", seconds=None, stack="worker"), 5)
    a, b = (flow_id(log.store_id, "default", name) for name in "ab")
    assert counts(place, "status") == {"completed": 1, "running": 1, "failed": 1}
    assert counts(place, "flow") == {a: 2, b: 1}
    assert counts(place, "stack") == {"local": 2, "worker": 1}
    assert counts(place, ["flow", "status"]) == {(a, "completed"): 1, (a, "running"): 1, (b, "failed"): 1}


def test_another_project_is_not_counted(place: Place) -> None:
    run(place.log)
    run(place.log, project="other")
    assert counts(place, "status") == {"completed": 1}
    assert counts(place, "status", project="other") == {"completed": 1}


def test_an_execution_counts_once_for_each_tag_and_under_none_without(place: Place) -> None:
    log = place.log
    run(log, tags=("x", "y"))
    run(log, tags=("y",))
    run(log)
    assert counts(place, "tag") == {"x": 1, "y": 2, None: 1}
    assert counts(place, "tag", tags=["x"]) == {"x": 1, "y": 1}
    assert counts(place, ["tag", "metadata:none"]) == {("x", None): 1, ("y", None): 2, (None, None): 1}


def test_a_waiting_execution_counts_as_waiting(place: Place) -> None:
    log = place.log
    head = run(log, seconds=None)
    append(log, head, e.WaitOpened(at=1, wait=1, kind="input", invocation_id="w", name="w"))
    assert counts(place, "status") == {"waiting": 1}


def test_durations_are_seconds_and_none_while_unfinished(place: Place) -> None:
    log = place.log
    run(log, seconds=1.5)
    run(log, seconds=4)
    run(log, seconds=None)
    every = [f"m:duration:{name}" for name in ("avg",)]
    assert measured(place, *every) == (2.75,)
    assert measured(place, "a:duration:sum", "b:duration:min", "c:duration:max", "d:duration:count") == (5.5, 1.5, 4.0, 2)
    assert measured(place, "a:duration:p50", "b:duration:p90", "c:duration:count_distinct") == (2.75, 3.75, 2)


def test_time_in_waits_is_not_active(place: Place) -> None:
    log = place.log
    head = run(log, seconds=None)
    head = append(log, head, e.WaitOpened(at=2 * SECOND, wait=1, kind="input", invocation_id="w", name="w"))
    head = append(log, head, e.WaitResolved(at=5 * SECOND, wait=1, value=payload(1), by="test"))
    assert measured(place, "a:active_duration:sum", "w:wait_duration:sum") == (None, None)
    end(log, head, 10 * SECOND)
    assert measured(place, "a:active_duration:sum", "w:wait_duration:sum") == (7.0, 3.0)


def test_counters_of_calls_are_metrics(place: Place) -> None:
    log = place.log
    append(log, run(log, seconds=None), *call(1), *call(2))
    run(log)
    names = ("step_count", "cached_step_count", "output_artifact_count", "attempt_count")
    assert measured(place, *(f"{name}:{name}:sum" for name in names)) == (2, 0, 2, 2)
    assert measured(place, "m:step_count:avg", "n:step_count:count_distinct") == (1.0, 2)


def test_metadata_groups_are_what_they_are(place: Place) -> None:
    log = place.log
    for value in (1, 1.0, "1", True, None, [1], {"a": 1}, 2**70, nan, inf, "", 0.1, -0.0, 0, False, 2**53, 2**53 + 1, -3):
        run(log, metadata={"k": value})
    run(log)
    found = {(type(group.keys[0]), group.keys[0]): group.counted for group in raw(place, "metadata:k")}
    assert found == {
        (int, 1): 2, (str, "1"): 1, (bool, True): 1, (bool, False): 1, (type(None), None): 7, (str, ""): 1, (float, 0.1): 1,
        (int, 0): 2, (int, 2**53): 1, (int, 2**53 + 1): 1, (int, -3): 1,
    }  # fmt: skip


@pytest.mark.parametrize("key", ["a:b", "'; DROP TABLE executions; --", '"', "{}", "é\n\x00\x1f", "/k", "k$", "s.status"])
def test_any_key_is_a_key(place: Place, key: str) -> None:
    run(place.log, metadata={key: key})
    assert counts(place, f"metadata:{key}") == {key: 1}
    assert counts(place, "status", where={key: key}) == {"completed": 1}


def test_metadata_metrics_take_the_latest_number_and_nothing_else(place: Place) -> None:
    log = place.log
    head = run(log, seconds=None, metadata={"score": 3})
    log_metadata(log, head, score=5)
    for value in (True, "7", [9], None):
        run(log, metadata={"score": value})
    assert measured(place, "a:metadata:score:sum", "b:metadata:score:count") == (5, 1)
    run(log, metadata={"score": 0.5})
    assert measured(place, "a:metadata:score:sum", "b:metadata:score:min", "c:metadata:score:max") == (5.5, 0.5, 5)
    assert measured(place, "a:metadata:nothing:sum", "b:metadata:nothing:count") == (None, 0)


def test_integers_past_a_double_add_up_exactly(place: Place) -> None:
    log = place.log
    big = 2**62 + 1
    for value in (big, big, 3):
        run(log, metadata={"n": value})
    assert measured(place, "a:metadata:n:sum", "b:metadata:n:max", "c:metadata:n:count_distinct") == (2 * big + 3, big, 2)
    assert counts(place, "metadata:n") == {big: 2, 3: 1}
    assert counts(place, where={"n": {">": big - 1}}) == {(): 2}
    assert counts(place, where={"n": {">": big}}) == {(): 0}
    assert counts(place, where={"n": {"<": 4}}) == {(): 1}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"k": 2}, 1), ({"k": 2.0}, 1), ({"k": "2"}, 1), ({"k": True}, 1), ({"k": None}, 2), ({"k": {"!=": None}}, 5),
        ({"k": {"!=": 2}}, 6), ({"k": {">": 2}}, 1), ({"k": {">=": 2}}, 2), ({"k": {"<": 3}}, 1), ({"k": {">": "1"}}, 2),
        ({"k": {"<": "a"}}, 1), ({"other": 1}, 0), ({"other": {"!=": 1}}, 7), ({"k": {">=": 2, "<": 3}}, 1),
    ],
)  # fmt: skip
def test_where_finds_what_the_list_finds(place: Place, where: dict[str, object], found: int) -> None:
    log = place.log
    for value in (2, 3.5, "2", "é", True, [2]):
        run(log, metadata={"k": value})
    run(log)
    assert counts(place, where=where) == {(): found}


def test_filters_go_together(place: Place) -> None:
    log = place.log
    run(log, "a", at=10, tags=("x", "y"))
    run(log, "a", at=20, tags=("x",), stack="worker")
    run(log, "b", at=30, tags=("x", "y"))
    assert counts(place, flow="a") == {(): 2}
    assert counts(place, flow=flow_id(log.store_id, "default", "b")) == {(): 1}
    assert counts(place, flow="unknown") == {(): 0}
    assert counts(place, tags=["x", "y"]) == {(): 2}
    assert counts(place, stack="worker") == {(): 1}
    assert counts(place, status=["completed", "failed"]) == {(): 3}
    assert counts(place, flow="a", tags=["y"], status="failed") == {(): 0}


def test_since_is_within_and_until_is_not(place: Place) -> None:
    log = place.log
    for second in (1, 2, 3):
        run(log, at=second * SECOND)
    begins, ends = (datetime.fromtimestamp(second, UTC) for second in (2, 3))
    assert counts(place, since=begins) == {(): 2}
    assert counts(place, until=ends) == {(): 2}
    assert counts(place, since=begins, until=ends) == {(): 1}


def test_times_are_grouped_on_the_clock_of_the_zone(place: Place) -> None:
    log = place.log
    run(log, at=micros(2026, 3, 1, 23, 30))
    run(log, at=micros(2026, 3, 29, 0, 59))
    run(log, at=micros(2026, 3, 29, 1, 1))
    assert labels(place, "time:day") == {"2026-03-01": 1, "2026-03-29": 2}
    assert labels(place, "time:day", "Europe/Berlin") == {"2026-03-02": 1, "2026-03-29": 2}
    assert labels(place, "time:hour", "Europe/Berlin") == {
        "2026-03-02 00:00:00": 1, "2026-03-29 01:00:00": 1, "2026-03-29 03:00:00": 1,
    }  # fmt: skip
    assert labels(place, "time:week", "Europe/Berlin") == {"2026-03-02": 1, "2026-03-23": 2}
    assert labels(place, "time:week") == {"2026-02-23": 1, "2026-03-23": 2}
    assert labels(place, "time:month", "Pacific/Auckland") == {"2026-03-01": 3}


def test_two_hours_that_a_clock_shows_alike_are_one(place: Place) -> None:
    log = place.log
    run(log, at=micros(2026, 10, 25, 0, 30))
    run(log, at=micros(2026, 10, 25, 1, 30))
    assert labels(place, "time:hour", "Europe/Berlin") == {"2026-10-25 02:00:00": 2}


@pytest.mark.parametrize("at", [-(10**18), -1, 0, 10**18])
def test_any_recorded_time_has_a_day(place: Place, at: int) -> None:
    run(place.log, at=at)
    for token in ("time:hour", "time:day", "time:week", "time:month"):
        for zone in ("UTC", "Asia/Kathmandu", "America/New_York"):
            assert list(labels(place, token, zone).values()) == [1]


def test_what_was_deleted_is_not_counted(place: Place) -> None:
    log = place.log
    head = run(log, tags=("x",), metadata={"k": 1})
    run(log)
    assert counts(place, ["tag", "metadata:k"]) == {("x", 1): 1, (None, None): 1}
    log.delete(head.exec_id)
    assert counts(place, ["tag", "metadata:k"]) == {(None, None): 1}


def test_an_answer_follows_the_store(place: Place) -> None:
    log = place.log
    head = run(log, seconds=None, metadata={"k": "a"})
    for number in range(5):
        assert counts(place, ["status", "metadata:k"]) == {("running", "a" if number == 0 else f"{number}"): 1}
        head = log_metadata(log, head, k=f"{number + 1}")
    end(log, head, 10)
    assert counts(place, ["status", "metadata:k"]) == {("completed", "5"): 1}


def test_a_sum_of_whole_numbers_is_exact_past_what_a_double_holds(place: Place) -> None:
    numbers = [2**53 - 1 - number for number in range(9)]
    for number in numbers:
        run(place.log, metadata={"k": number})
    assert measured(place, "k:metadata:k:sum") == (sum(numbers),)


class Interrupted(BaseException):
    """Ctrl-C, when it comes at the worst moment."""


class Breaking:
    """A store whose `left`-th query from now on is interrupted."""

    def __init__(self, reads: Reads, left: list[int]) -> None:
        self._reads = reads
        self._left = left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reads, name)

    def query(self, *given: Any) -> Any:
        self._left[0] -= 1
        if self._left[0] == 0:
            raise Interrupted
        return self._reads.query(*given)

    @contextmanager
    def snapshot(self) -> Iterator[Reads]:
        with self._reads.snapshot() as moment:
            yield cast("Reads", Breaking(moment, self._left))


@pytest.mark.parametrize("subject", ["executions", "checkpoints"])
def test_a_question_that_was_interrupted_anywhere_spoils_no_later_answer(place: Place, subject: Subject) -> None:
    place = place._replace(limits=place.limits._replace(at_once=2))

    def ask(log: object) -> list[int]:
        answered = raw(place._replace(log=cast("EventLog", log)), "metadata:k", subject=subject)
        return [group.counted for group in answered]

    def fill() -> None:
        for number in range(3):
            head = run(place.log, seconds=None, tags=("a", "b"), metadata={"k": number})
            end(place.log, append(place.log, head, *call(1)), 9)

    fill()
    for number, query in enumerate((1, 4, 5, 8, 9, 12, 14), 1):
        close_statistics()
        if query % 2:
            ask(place.log)
        fill()  # behind a base, where there is one
        with pytest.raises(Interrupted):
            ask(Breaking(place.log, [query]))
        assert ask(place.log) == [number + 1] * 3


def test_more_metadata_keys_than_are_kept_can_be_asked_for_at_once(place: Place) -> None:
    keys = [f"k{number}" for number in range(30)]
    run(place.log, metadata={key: number for number, key in enumerate(keys)})
    for _ in range(2):
        assert measured(place, *(f"m{number}:metadata:{key}:sum" for number, key in enumerate(keys))) == tuple(range(30))
        assert counts(place, where={key: {">=": 0} for key in keys}) == {(): 1}
        assert counts(place, "metadata:other") == {None: 1}
