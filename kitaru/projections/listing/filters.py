"""What executions may be filtered by, checked: every mistake is a KitaruUsageError that says what to type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Literal, NamedTuple, TypedDict, cast

from kitaru.domain.errors import KitaruUsageError
from kitaru.domain.limits import MAX_TAGS

Operator = Literal["=", "!=", ">", ">=", "<", "<="]
Scalar = str | int | float | bool | None

OPERATORS: tuple[Operator, ...] = ("=", "!=", ">", ">=", "<", "<=")
STATUSES = ("running", "waiting", "completed", "failed", "cancelled")
MAX_CONDITIONS = 64
"""More of them, or more tags than an execution is given at once, take statistics minutes and all of the memory."""

_AGE = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EQUALS: dict[str, Operator] = {"==": "=", "<>": "!="}


class Condition(NamedTuple):
    """One comparison of an execution's metadata. Numbers compare with numbers, texts with texts, nothing else."""

    key: str
    operator: Operator
    value: Scalar


class Filters(NamedTuple):
    """Which executions. Times are microseconds since 1970: from `since`, before `until`."""

    project: str
    flow: str | None = None
    statuses: tuple[str, ...] = ()
    stack: str | None = None
    tags: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    where: tuple[Condition, ...] = ()


class Selection(TypedDict, total=False):
    """Filters as a user gives them."""

    flow: str | None
    status: str | Iterable[str] | None
    stack: str | None
    tags: str | Iterable[str] | None
    since: datetime | str | None
    until: datetime | str | None
    where: Mapping[str, object] | None


def make_filters(
    project: str,
    now: int,
    *,
    flow: str | None = None,
    status: str | Iterable[str] | None = None,
    stack: str | None = None,
    tags: str | Iterable[str] | None = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    where: Mapping[str, object] | None = None,
) -> Filters:
    """Check filters as a user gives them. `now` is microseconds since 1970, for ages like `7d`."""
    first, last = moment_of("since", since, now), moment_of("until", until, now)
    if first is not None and last is not None and first > last:
        raise KitaruUsageError(f"since ({since}) is after until ({until}); nothing can be in between")
    labels, conditions = tuple(dict.fromkeys(_texts("tags", tags))), _all_conditions(where)
    for name, most, given in (("tags", MAX_TAGS, len(labels)), ("where", MAX_CONDITIONS, len(conditions))):
        if given > most:
            raise KitaruUsageError(f"{name} takes at most {most} at once, not {given}")
    return Filters(
        project,
        _text("flow", flow),
        make_statuses(status),
        _text("stack", stack),
        labels,
        first,
        last,
        conditions,
    )


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise KitaruUsageError(f"{name} has to be a text, not {value!r}")


def _texts(name: str, values: object) -> tuple[str, ...]:
    if values is None:
        return ()
    if isinstance(values, str):
        return (str(values),)
    if isinstance(values, Iterable):
        found = tuple(cast("Iterable[object]", values))
        if all(isinstance(value, str) for value in found):
            return tuple(str(value) for value in found)
    raise KitaruUsageError(f"{name} has to be a text or a list of texts, not {values!r}")


def make_statuses(status: object, choices: Sequence[str] = STATUSES) -> tuple[str, ...]:
    """One status or several, checked."""
    given = _texts("status", status)
    for value in given:
        if value not in choices:
            raise KitaruUsageError(f"there is no status {value!r}; the statuses are {', '.join(choices)}")
    return tuple(dict.fromkeys(given))


def moment_of(name: str, value: object, now: int) -> int | None:
    """Microseconds since 1970 of a datetime, an ISO text (UTC unless it says otherwise) or an age."""
    if value is None:
        return None
    if isinstance(value, str):
        age = _AGE.fullmatch(value.strip())
        if age is not None:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])}) // _MICROSECOND
        with suppress(ValueError):
            value = datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        raise KitaruUsageError(f"{name} has to be a datetime, an ISO text or an age such as '7d' or '12h', not {value!r}")
    return ((value if value.tzinfo is not None else value.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _all_conditions(where: object) -> tuple[Condition, ...]:
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise KitaruUsageError(f"where has to be a mapping such as {{'score': {{'>=': 3}}}}, not {where!r}")
    given = cast("Mapping[object, object]", where)
    return tuple(condition for key, test in given.items() for condition in _conditions(key, test))


def _conditions(key: object, test: object) -> list[Condition]:
    if not isinstance(key, str):
        raise KitaruUsageError(f"where takes metadata keys, which are texts, not {key!r}")
    if not isinstance(test, Mapping):
        return [Condition(key, "=", _scalar(key, test))]
    found: list[Condition] = []
    for given, value in cast("Mapping[object, object]", test).items():
        operator = _EQUALS.get(str(given), given)
        if operator not in OPERATORS:
            raise KitaruUsageError(f"where[{key!r}]: there is no operator {given!r}; use one of {' '.join(OPERATORS)}")
        scalar = _scalar(key, value)
        if operator not in ("=", "!=") and (scalar is None or isinstance(scalar, bool)):
            raise KitaruUsageError(f"where[{key!r}]: {operator} compares numbers or texts, not {value!r}")
        found.append(Condition(key, operator, scalar))
    return found


def _scalar(key: str, value: object) -> Scalar:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    raise KitaruUsageError(f"where[{key!r}] compares with a text, a number, True, False or None, not {value!r}")
