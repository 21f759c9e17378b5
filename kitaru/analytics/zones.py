"""When a time zone is how far from UTC, and where an hour, day, week or month begins. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

SECOND = 1_000_000
QUARTER = 900
DAY = 86_400
UNITS = {"hour": 3600, "day": DAY, "week": 7 * DAY, "month": DAY}
"""What a time is divided by, in seconds; a month is made of days."""
YEAR_ONE = 719_162 * DAY
"""Seconds from the first of January of the year 1, a Monday, to 1970."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOWEST, _HIGHEST = -YEAR_ONE + 2 * DAY, 253_402_300_799 - 2 * DAY
_SPAN = 366 * DAY
_STEP = 3 * DAY
"""No zone changes its offset twice in so short a time: the shortest was 3 days and 23:40 (Freetown, 1939); a test looks."""


class Shift(NamedTuple):
    """From a moment on (seconds since 1970), what to add to UTC, in seconds."""

    since: int
    offset: int


def shifts_of(name: str, first: int, last: int) -> tuple[Shift, ...]:
    """The offsets of a zone from `first` to `last`, seconds since 1970; the first of them holds before `first` too."""
    if name == "UTC":
        return (Shift(first, 0),)
    found: list[Shift] = []
    for year in range(max(first, _LOWEST) // _SPAN, min(last, _HIGHEST) // _SPAN + 1):
        for shift in _in_span(name, year * _SPAN, (year + 1) * _SPAN):
            if shift.since <= first:
                found = [shift]
            elif shift.since <= last and shift.offset != found[-1].offset:
                found.append(shift)
    return tuple(found) or (Shift(first, _offset(_zone(name), first)),)


@lru_cache(maxsize=512)
def _in_span(name: str, first: int, last: int) -> tuple[Shift, ...]:
    zone = _zone(name)
    found = [Shift(first, _offset(zone, first))]
    for moment in range(first, last, _STEP):
        after = _offset(zone, moment + _STEP)
        if after != found[-1].offset:
            low, high = moment, moment + _STEP
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == found[-1].offset else (low, middle)
            found.append(Shift(high, after))
    return tuple(found)


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def _offset(zone: tzinfo, moment: int) -> int:
    clamped = min(max(moment, _LOWEST), _HIGHEST)
    offset = (_EPOCH + timedelta(seconds=clamped)).astimezone(zone).utcoffset()
    assert offset is not None
    return offset // timedelta(seconds=1)


def are_quarters(shifts: tuple[Shift, ...]) -> bool:
    """Whether whole quarters of an hour are all that matters of a time."""
    return all(shift.offset % QUARTER == 0 and (n == 0 or shift.since % QUARTER == 0) for n, shift in enumerate(shifts))


def seconds_of(granularity: str, number: int) -> int:
    """Where an hour, day, week or month begins, in seconds since 1970: one of a number from the year 1, a month its year
    times 12 and its own number.
    """
    if granularity == "month":
        year, month = divmod(number - 1, 12)
        return (date(min(max(year, 1), 9999), month + 1, 1).toordinal() - 1) * DAY - YEAR_ONE
    return number * UNITS[granularity] - YEAR_ONE
