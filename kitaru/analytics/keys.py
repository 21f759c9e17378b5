"""Metadata keys in columns: what a key's values are called, and where they are found."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from kitaru.analytics import tables
from kitaru.analytics.connection import Duck
from kitaru.projections.listing.filters import Scalar
from kitaru.projections.listing.sources import Query
from kitaru.store.values.text import write

EXACT = 2**53
_INT64 = 2**63
SLICE = 20_000


@dataclass(slots=True)
class Key:
    """A key whose values were read: `slot` of `tail.key_values`; `column` is its place in the base, None when it has none.

    `has_floats`: some of its numbers are not ints. `has_big`: some are past what a double holds exactly.
    """

    slot: int
    column: int | None = None
    has_floats: bool = False
    has_big: bool = False


def label_of(value: Scalar) -> str:
    """What is grouped by: equal for equal values, and for no others."""
    match value:
        case bool():
            return f"b{int(value)}"
        case str():
            return f"t{value}"
        case float() if isfinite(value) and value.is_integer() and abs(value) < _INT64:
            return f"n{int(value)}"
        case _:
            return f"n{value!r}"


def value_of(label: str | None) -> Scalar:
    """The value that a label stands for; a whole number is an int."""
    if label is None:
        return None
    kind, text = label[0], label[1:]
    if kind == "t":
        return text
    if kind == "b":
        return text == "1"
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def read_values(query: Query, filling: Duck, key: str, found: Key, numbers: str) -> None:
    """Put a key's values into the tail, for some executions: a JSON array of their numbers."""
    row = query(tables.READ_VALUES, (key, numbers))[0]
    filling.execute(tables.ADD_VALUES, (found.slot, *row))
    found.has_big = found.has_big or any(character != "n" for character in _distinct(str(row[3])))
    floats = query(tables.READ_FLOATS, (key, numbers))
    if floats:
        values = [float(str(value)) for _, value in floats]
        exact = [int(value) if EXACT <= abs(value) < _INT64 else None for value in values]
        columns = ([row[0] for row in floats], list(map(label_of, values)), values, exact)
        filling.execute(tables.ADD_VALUES, (found.slot, *(write(column).decode() for column in columns)))
        found.has_floats = True
        found.has_big = found.has_big or any(value is not None for value in exact)


def _distinct(array: str) -> set[str]:
    """Which characters begin the items of a JSON array of integers and nulls: `n` alone when there are only nulls."""
    return {character for character in set(array) if character not in "[],ul"}
