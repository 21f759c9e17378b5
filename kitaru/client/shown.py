"""Recorded values and times as a reader sees them: plain JSON, aware datetimes, secrets masked."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import cast

from orjson import loads

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_SECRET = re.compile(r"secret|password|passwd|credential|api_?key|access_?key|private_?key|(^|[_-])token$", re.IGNORECASE)
_MASK = "***"
_TAG = b'{"$'
"""Without one the bytes are their own plain form, and the codec (14 ms to import) is not needed."""


def moment(microseconds: int) -> datetime:
    """The time of an event, aware, in UTC; one past what a datetime holds is the nearest that it holds."""
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return _LAST if microseconds > 0 else _FIRST


def has_passed(at: datetime | None) -> bool:
    """Whether it is later than that now."""
    return at is not None and at <= datetime.now(UTC)


def shown(data: bytes | None) -> object:
    """The plain form of recorded bytes; None for nothing, or for what was erased."""
    if data is None:
        return None
    if _TAG not in data:
        with suppress(ValueError):  # else the codec says in words what is wrong
            return loads(data)
    from kitaru.store.values import to_plain

    return to_plain(data)


def shown_text(data: bytes | None) -> str | None:
    """The text of recorded bytes, or None."""
    value = shown(data)
    return value if value is None or isinstance(value, str) else str(value)


def shown_tree(tree: dict[str, object]) -> dict[str, object]:
    """The plain form of merged metadata."""
    from kitaru.store.values.text import write

    return cast("dict[str, object]", shown(write(tree))) if tree else {}


def masked(value: object) -> object:
    """A plain value with what looks like a secret, by its key, replaced by stars."""
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {key: _MASK if item and _SECRET.search(key) else masked(item) for key, item in items}
    if isinstance(value, list):
        return [masked(item) for item in cast("list[object]", value)]
    return value
