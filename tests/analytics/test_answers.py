"""The order, the truncation and the labels of an answer."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import permutations
from random import Random

import pytest

from kitaru.analytics.answers import Group, RawGroup, make_answer, time_label
from kitaru.analytics.grammar import Query, make_query

DAY = 86_400


def query(*group_by: str, metrics: tuple[str, ...] = (), most: int = 1000) -> Query:
    return make_query("executions", "default", 0, {}, group_by=group_by, metrics=metrics, max_groups=most)


def keys(asked: Query, *groups: RawGroup) -> list[tuple[object, ...]]:
    return [tuple(group.keys.values()) for group in make_answer(asked, groups).groups]


def test_without_groupings_there_is_always_one_group() -> None:
    asked = query(metrics=("n:duration:avg", "c:duration:count", "d:duration:count_distinct"))
    assert make_answer(asked, []).groups == (Group({}, 0, {"n": None, "c": 0, "d": 0}),)
    assert make_answer(asked, [RawGroup((), 7, (1.5, 3, 2))]).groups == (Group({}, 7, {"n": 1.5, "c": 3, "d": 2}),)


def test_groupings_that_match_nothing_have_no_groups() -> None:
    assert make_answer(query("status"), []) == ((), False)


def test_the_largest_come_first_and_then_the_keys_decide() -> None:
    groups = [RawGroup(("a",), 1), RawGroup((None,), 2), RawGroup(("c",), 2), RawGroup(("b",), 2), RawGroup(("d",), 9)]
    for shuffled in permutations(groups):
        assert keys(query("tag"), *shuffled) == [("d",), ("b",), ("c",), (None,), ("a",)]


def test_keys_of_any_kinds_have_one_order() -> None:
    ordered = [False, True, -1e300, -1, 0.5, 1, 2**60, 1e300, "", "1", "B", "a", "ä", None]
    shuffled = [RawGroup((key,), 1) for key in ordered]
    Random(1).shuffle(shuffled)
    found = keys(query("metadata:k"), *shuffled)
    assert [(type(key), key) for (key,) in found] == [(type(key), key) for key in ordered]


def test_a_whole_float_is_shown_as_the_number_it_equals() -> None:
    shown = [repr(key) for (key,) in keys(query("metadata:k"), *(RawGroup((each,), 1) for each in (1.0, -0.0, 2.5, 1e300)))]
    assert shown == ["0", "1", "2.5", "1e+300"]


def test_with_a_time_the_oldest_come_first_and_then_the_other_keys_wherever_the_time_stands() -> None:
    groups = [RawGroup(("b", DAY), 9), RawGroup((None, DAY), 9), RawGroup(("a", DAY), 1), RawGroup(("z", 0), 1)]
    expected = [("z", "1970-01-01"), ("a", "1970-01-02"), ("b", "1970-01-02"), (None, "1970-01-02")]
    assert keys(query("tag", "time:day"), *groups) == expected
    turned = [group._replace(keys=group.keys[::-1]) for group in groups]
    assert keys(query("time:day", "tag"), *turned) == [pair[::-1] for pair in expected]


def test_truncation_keeps_the_first() -> None:
    found = make_answer(query("tag", most=2), [RawGroup((name,), count) for name, count in (("a", 1), ("b", 3), ("c", 2))])
    assert [group.keys["tag"] for group in found.groups] == ["b", "c"]
    assert found.truncated


def test_with_a_time_truncation_keeps_the_newest_still_oldest_first() -> None:
    found = make_answer(query("time:day", most=2), [RawGroup((place * DAY,), 9 - place) for place in (2, 0, 3, 1)])
    assert [group.keys["day"] for group in found.groups] == ["1970-01-03", "1970-01-04"]
    assert found.truncated


@pytest.mark.parametrize("asked", [("tag",), ("time:day",)])
def test_as_many_groups_as_were_asked_for_are_not_truncated(asked: tuple[str, ...]) -> None:
    groups = [RawGroup((place,), 1) for place in range(5)]
    assert [make_answer(query(*asked, most=most), groups).truncated for most in (4, 5, 6)] == [True, False, False]


def test_a_hundred_thousand_groups_are_ordered_and_cut() -> None:
    groups = [RawGroup((f"{place:06}",), 1) for place in range(100_000)]
    Random(2).shuffle(groups)
    found = make_answer(query("tag", most=10_000), groups)
    assert [group.keys["tag"] for group in found.groups] == [f"{place:06}" for place in range(10_000)]
    assert found.truncated


def test_a_time_is_labelled_by_where_it_begins() -> None:
    began = int((datetime(2026, 3, 2, 14) - datetime(1970, 1, 1)).total_seconds())
    assert time_label("hour", began) == "2026-03-02 14:00:00"
    assert time_label("day", began - 14 * 3600) == "2026-03-02"
    assert time_label("week", began - 14 * 3600) == "2026-03-02"
    assert time_label("month", began - 38 * 3600) == "2026-03-01"
    assert time_label("day", -DAY) == "1969-12-31"


def test_labels_sort_as_their_times_do_from_the_first_year_to_the_last() -> None:
    days = [date.min, date(999, 12, 31), date(1000, 1, 1), date(1969, 12, 31), date(2026, 10, 25), date.max]
    labels = [time_label("day", (day - date(1970, 1, 1)) // timedelta(seconds=1)) for day in days]
    assert labels == [day.isoformat() for day in days]
    assert time_label("day", 10**15) == "9999-12-31"
    assert time_label("hour", -(10**15)) == "0001-01-01 00:00:00"
