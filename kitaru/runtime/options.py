"""The options of flows and checkpoints, checked when they are given.

This runs at decoration, so it imports nothing heavy; dataclasses alone would cost 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from kitaru.domain.errors import KitaruUsageError
from kitaru.domain.limits import MAX_NAME_CHARS, MAX_TAGS

Cache = bool | str | None
Number = TypeVar("Number", int, float)
MAX_COUNT = 2**53 - 1
"""The largest whole number that every reader of JSON takes as one."""


class ImageSettings(NamedTuple):
    """What a flow wants to run in. Recorded; the stacks `local` and `worker` run without it."""

    base_image: str | None = None
    requirements: tuple[str, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})


def checked_name(name: object, what: str) -> str:
    """A name of printable length. Raises KitaruUsageError."""
    if not isinstance(name, str) or not name.strip():
        raise KitaruUsageError(f"{what} has to be a text that is not empty, not {name!r}")
    if len(name) > MAX_NAME_CHARS:
        raise KitaruUsageError(f"{what} has {len(name)} characters; {MAX_NAME_CHARS} are allowed")
    if any(ord(char) < 32 or 0xD800 <= ord(char) <= 0xDFFF for char in name):
        raise KitaruUsageError(f"{what} {name!r} contains a control character or a lone surrogate")
    return name


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags without doubles, in the order given. Raises KitaruUsageError."""
    if isinstance(tags, str):
        raise KitaruUsageError(f"tags is the text {tags!r}; give a list: tags=[{tags!r}]")
    unique = tuple(dict.fromkeys(checked_name(tag, "a tag") for tag in tags))
    if len(unique) > MAX_TAGS:
        raise KitaruUsageError(f"{len(unique)} tags were given; {MAX_TAGS} are allowed")
    return unique


def checked_cache(cache: object, what: str) -> Cache:
    """True, False, None or a version text. Raises KitaruUsageError."""
    if cache is None or isinstance(cache, bool) or (isinstance(cache, str) and cache):
        return cache
    raise KitaruUsageError(f"{what} has to be True, False or a version text such as 'v2', not {cache!r}")


def checked_count(value: object, what: str) -> int:
    """A whole number from 0. Raises KitaruUsageError."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        shown = repr(value) if not isinstance(value, int) or abs(value) <= MAX_COUNT else "a larger one"
        raise KitaruUsageError(f"{what} has to be a whole number from 0 to {MAX_COUNT}, not {shown}")
    return value


def checked_amount(value: object, what: str) -> float:
    """A finite number from 0. Raises KitaruUsageError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return float(value)
    raise KitaruUsageError(f"{what} has to be a number from 0 to {MAX_COUNT}")


def checked_limit(value: object, what: str, checked: Callable[[object, str], Number]) -> Number | None:
    """A limit, or None for none. Raises KitaruUsageError."""
    return None if value is None else checked(value, what)


def checked_seconds(value: object, what: str) -> float:
    """A number of seconds from 0 to a billion, some 31 years. Raises KitaruUsageError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9:
        return value
    raise KitaruUsageError(f"{what} has to be a number of seconds from 0 and below a billion, not {value!r}")
