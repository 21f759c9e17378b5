"""Metadata keys as columns: what a value is called, how values get from SQLite there, and which keys the base has.

A label is what is grouped by: the kind's letter and the value, so that 1, "1" and true are three and 1 and 1.0 are one.
One column of texts is grouped in 2 ms a million rows, three columns of kinds, numbers and texts in 200.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import cast

from kitaru.analytics import words as w
from kitaru.analytics.connection import Duck
from kitaru.analytics.execution_rows import array
from kitaru.analytics.statement import Statement
from kitaru.projections.listing.filters import Scalar
from kitaru.store.log import Reads
from kitaru.store.values.text import write

EXACT = 2**53
_INT64 = 2**63
MOST_COLUMNS = 24
_COMMON, _AT_LEAST = 200, 100
"""A key has columns in the base if one in so many executions has it, and at least so many."""

CREATE_VALUES = """CREATE TABLE key_values (
        slot INTEGER NOT NULL, number INTEGER NOT NULL, label VARCHAR NOT NULL, number_value DOUBLE, exact BIGINT
    )"""
"""`exact` is a whole number that a double may not hold."""
CREATE_LANDED_VALUES = """CREATE OR REPLACE TEMP TABLE key_values (
        slot INTEGER NOT NULL, number INTEGER NOT NULL, label VARCHAR NOT NULL, number_value DOUBLE, exact BIGINT
    )"""
CREATE_KEYS = "CREATE TABLE keys (slot INTEGER NOT NULL, key VARCHAR NOT NULL, has_floats BOOLEAN, has_big BOOLEAN)"
CLEAR_VALUES = "DELETE FROM key_values WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))"
DROP_SLOT = "DELETE FROM key_values WHERE slot = ?"
_KEEP_KEY = "INSERT INTO keys VALUES (?, ?, ?, ?)"
_BASE_KEYS = "SELECT slot, key, has_floats, has_big FROM base.keys ORDER BY slot"

_COMMON_KEYS = """SELECT key, count(*) FROM execution_metadata GROUP BY key HAVING count(*) >= ?
    ORDER BY count(*) DESC, key LIMIT ?"""
_READ = """SELECT json_group_array(number), json_group_array(kind || value),
    json_group_array(CASE kind WHEN 'n' THEN value END),
    json_group_array(CASE WHEN kind = 'n' AND abs(value / 2) >= 4503599627370496 THEN value END)
    FROM execution_metadata
    WHERE key = ? AND typeof(value) <> 'real' AND number IN (SELECT value FROM json_each(?))"""
_READ_FLOATS = """SELECT number, value FROM execution_metadata
    WHERE key = ? AND typeof(value) = 'real' AND number IN (SELECT value FROM json_each(?))"""
_READ_ALL = """SELECT json_group_array(number), json_group_array(kind || value),
    json_group_array(CASE kind WHEN 'n' THEN value END),
    json_group_array(CASE WHEN kind = 'n' AND abs(value / 2) >= 4503599627370496 THEN value END)
    FROM execution_metadata WHERE key = ? AND typeof(value) <> 'real' AND number >= ? AND number <= ?"""
_READ_ALL_FLOATS = """SELECT number, value FROM execution_metadata
    WHERE key = ? AND typeof(value) = 'real' AND number >= ? AND number <= ?"""
_ADD = """INSERT INTO key_values
    SELECT CAST(? AS INTEGER), unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["DOUBLE"]')), unnest(from_json(?, '["BIGINT"]'))"""


@dataclass(slots=True)
class Key:
    """A key whose values are at hand: `slot` of `tail.key_values`; `column` is its place in the base, if it has one.

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


def read_values(moment: Reads, duck: Duck, keys: Mapping[str, Key], numbers: Sequence[int], *, whole: bool = False) -> None:
    """Put the values of some keys into `key_values`, for the executions of some numbers, which rise.

    `whole`: they are all the numbers that there are from the first to the last, so that one walk finds them.
    """
    if not numbers:
        return
    some, first, last = array(numbers), numbers[0], numbers[-1]
    for key, found in keys.items():
        if whole:
            columns = moment.query(_READ_ALL, (key, first, last))[0]
            floats = moment.query(_READ_ALL_FLOATS, (key, first, last))
        else:
            columns = moment.query(_READ, (key, some))[0]
            floats = moment.query(_READ_FLOATS, (key, some))
        if columns[0] != "[]":
            duck.execute(_ADD, (found.slot, *columns))
            found.has_big = found.has_big or any(digit in str(columns[3]) for digit in "0123456789")
        if floats:
            _add_floats(duck, found, [cast("int", row[0]) for row in floats], [float(str(row[1])) for row in floats])


def _add_floats(duck: Duck, found: Key, numbers: list[int], values: list[float]) -> None:
    exact = [int(value) if EXACT <= abs(value) < _INT64 else None for value in values]
    columns = (numbers, list(map(label_of, values)), values, exact)
    duck.execute(_ADD, (found.slot, *(write(column).decode() for column in columns)))
    found.has_floats, found.has_big = True, found.has_big or any(value is not None for value in exact)


# --- of the base ------------------------------------------------------------------------------------------------------


def common_keys(moment: Reads, executions: int) -> list[str]:
    """The keys that have columns in a base of so many executions."""
    least = max(_AT_LEAST, executions // _COMMON)
    return [str(row[0]) for row in moment.query(_COMMON_KEYS, (least, MOST_COLUMNS))]


def keep_keys(duck: Duck, keys: Mapping[str, Key]) -> None:
    """Say in a base which keys it has."""
    for key, found in keys.items():
        duck.execute(_KEEP_KEY, (found.slot, key, found.has_floats, found.has_big))


def keys_of_base(duck: Duck) -> dict[str, Key]:
    """The keys of the base that is attached, by their places."""
    return {
        key: Key(slot, slot, has_floats, has_big) for slot, key, has_floats, has_big in duck.execute(_BASE_KEYS).fetchall()
    }


def with_columns(opening: str, columns: Sequence[int]) -> Statement:
    """Rows of `landed` for `executions`, with a label, a number and an exact number of each key."""
    made = Statement().say(opening, w.LANDED)
    if columns:
        made.say(w.PIVOT)
        for column in columns:
            for pivoted, name in zip(w.PIVOTED, w.AS_COLUMN[1:], strict=True):
                made.say(pivoted, column, w.AS_COLUMN[0], column, name)
        made.say(w.PIVOT_END)
    return made
