"""When zones are how far from UTC, and what clocks show where offsets are odd."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.analytics.zones import DAY, are_quarters, seconds_of, shifts_of
from tests.analytics.counting import Place, labels
from tests.analytics.filling import SECOND, run

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TURBULENT = ("Africa/Freetown", "Asia/Gaza", "Africa/Casablanca", "America/Recife", "Africa/Monrovia", "Antarctica/Troll")
CENTURY = (-70 * 366 * DAY, 80 * 366 * DAY)


def offset(zone: str, moment: int) -> int:
    found = (EPOCH + timedelta(seconds=moment)).astimezone(ZoneInfo(zone)).utcoffset()
    assert found is not None
    return found // timedelta(seconds=1)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(available_timezones())),
    st.integers(*CENTURY),
    st.integers(0, 400 * DAY),
    st.floats(0, 1),
)
def test_any_moment_has_the_offset_of_the_last_shift_before_it(zone: str, first: int, span: int, part: float) -> None:
    shifts = shifts_of(zone, first, first + span)
    moment = first + round(part * span)
    last = [shift for shift in shifts if shift.since <= moment] or shifts[:1]
    assert last[-1].offset == offset(zone, moment)


@pytest.mark.parametrize("zone", TURBULENT)
def test_no_shift_is_missed(zone: str) -> None:
    check_each_day(zone)


def test_no_shift_of_some_zones_is_missed() -> None:
    zones = Random(7).sample(sorted(available_timezones()), 8)
    for zone in zones:
        check_each_day(zone)


def check_each_day(zone: str) -> None:
    """Twice a day, for a hundred and fifty years: a step of three days skips nothing."""
    shifts = list(shifts_of(zone, *CENTURY))
    current = shifts.pop(0)
    for moment in range(CENTURY[0], CENTURY[1], DAY // 2):
        while shifts and shifts[0].since <= moment:
            current = shifts.pop(0)
        assert current.offset == offset(zone, moment), (zone, moment)


def test_utc_needs_no_data_of_zones() -> None:
    assert [shift.offset for shift in shifts_of("UTC", 0, 10**9)] == [0]


@pytest.mark.parametrize(
    ("zone", "expected"), [("Asia/Kathmandu", True), ("Europe/Berlin", True), ("Africa/Monrovia", False)]
)
def test_whether_quarters_of_an_hour_suffice(zone: str, expected: bool) -> None:
    assert are_quarters(shifts_of(zone, 0, 366 * DAY)) == expected


@settings(max_examples=200, deadline=None)
@given(st.datetimes())
def test_a_number_begins_where_the_calendar_says(moment: datetime) -> None:
    hours = (moment - datetime.min) // timedelta(hours=1)
    begins = {
        "hour": (hours, moment.replace(minute=0, second=0, microsecond=0)),
        "day": (hours // 24, datetime(moment.year, moment.month, moment.day)),
        "month": (moment.year * 12 + moment.month, datetime(moment.year, moment.month, 1)),
        "week": (hours // 168, datetime(moment.year, moment.month, moment.day) - timedelta(days=moment.weekday())),
    }
    for granularity, (number, begin) in begins.items():
        assert seconds_of(granularity, number) == (begin - datetime(1970, 1, 1)) // timedelta(seconds=1)


def test_an_offset_of_half_a_minute_is_exact(place: Place) -> None:
    """Liberia was 44 minutes and 30 seconds behind until the seventh of January 1972."""
    midnight = int(datetime(1971, 5, 1, 0, 44, 30, tzinfo=UTC).timestamp()) * SECOND
    run(place.log, at=midnight - 1)
    run(place.log, at=midnight)
    run(place.log, at=int(datetime(1972, 5, 1, 0, 0, 0, tzinfo=UTC).timestamp()) * SECOND)
    assert labels(place, "time:day", "Africa/Monrovia") == {"1971-04-30": 1, "1971-05-01": 1, "1972-05-01": 1}
    assert labels(place, "time:month", "Africa/Monrovia") == {"1971-04-01": 1, "1971-05-01": 1, "1972-05-01": 1}
