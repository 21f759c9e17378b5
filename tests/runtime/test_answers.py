"""Answers are checked by the recorded JSON schema: as pydantic would, and whatever the schema and the answer are."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import time
from datetime import date, datetime, timedelta
from datetime import time as dtime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from kitaru.domain.errors import KitaruWaitValidationError
from kitaru.domain.limits import MAX_DEPTH
from kitaru.runtime.answers import check_answer

HUGE = 10**400
EXAMPLES = 120


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(BaseModel):
    x: int
    y: float = 0.0


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=4)]
    points: list[Point] = []


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=0, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str | None


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Row(TypedDict):
    id: int
    note: NotRequired[str]


@dataclasses.dataclass
class Box:
    width: float
    tags: dict[str, bool] = dataclasses.field(default_factory=dict)


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]

TYPES: dict[str, tuple[Any, list[str]]] = {
    "int": (int, ["1", "-7", str(2**80), "0"]),
    "float": (float, ["1.5", "3", "-0.0", "1e300"]),
    "bool": (bool, ["true", "false"]),
    "str": (str, ['"a"', '""', '"\\u00e9\\u0000"']),
    "none": (None, ["null"]),
    "any": (Any, ["1", '{"a": [1]}']),
    "date": (date, ['"2026-02-28"', '"2024-02-29"', '"2025-02-29"']),
    "datetime": (datetime, ['"2026-02-28T10:00:00Z"', '"2026-02-28T10:00:00"', '"2026-02-28T10:00:00.123456+02:00"']),
    "timedelta": (timedelta, ['"P3DT4H"', '"PT0.5S"', '"-P1D"']),
    "time": (dtime, ['"10:00:00"', '"10:00"', '"25:00"']),
    "bytes": (bytes, ['"ab"']),
    "set": (set[int], ["[1, 2]", "[1, 1]"]),
    "frozenset": (frozenset[str], ['["a"]', "[]"]),
    "mixed": (Annotated[int, Field(ge=3)] | Annotated[str, Field(max_length=1)] | float | None, ["1", '"a"', "2.5"]),
    "strict enum list": (list[Color | Level], ['["red", 1]']),
    "uuid": (UUID, ['"12345678-1234-5678-1234-567812345678"', '"12345678123456781234567812345678"']),
    "url": (AnyUrl, ['"https://example.org/a?b=c"', '"example"']),
    "literal": (Literal["a", 3, True, None], ['"a"', "3", "true", "null"]),
    "text enum": (Color, ['"red"', '"blue"', '"RED"']),
    "number enum": (Level, ["1", "2", "3"]),
    "list": (list[int], ["[]", "[1, 2]", "[1, [2]]"]),
    "tuple": (tuple[int, str], ['[1, "a"]', '[1, "a", 2]']),
    "long tuple": (tuple[bool, ...], ["[]", "[true, false]"]),
    "dict": (dict[str, int], ["{}", '{"a": 1, "b": 2}']),
    "optional": (int | None, ["1", "null"]),
    "union": (int | str | list[bool], ["1", '"a"', "[true]"]),
    "bounded int": (Annotated[int, Field(ge=-5, lt=100, multiple_of=5)], ["-5", "95", "100", "3", "0"]),
    "bounded float": (Annotated[float, Field(gt=0, le=2.5)], ["0", "2.5", "0.1", "2.6"]),
    "bounded text": (Annotated[str, Field(min_length=2, max_length=3)], ['"ab"', '"abcd"', '"éé"']),
    "pattern": (Annotated[str, Field(pattern=r"^[a-z]+\d?$")], ['"abc"', '"abc1"', '"ABC"', '"abc\\n"']),
    "bounded list": (Annotated[list[str], Field(min_length=1, max_length=2)], ['["a"]', "[]", '["a", "b", "c"]']),
    "model": (Point, ['{"x": 1}', '{"x": 1, "y": 2.5, "z": null}', '{"y": 1}']),
    "closed model": (Closed, ['{"name": "a"}', '{"name": "abcd", "points": [{"x": 1}]}', '{"name": "a", "extra": 1}']),
    "recursion": (Tree, ['{"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}]}', '{"value": 1}']),
    "tagged union": (Pet, ['{"kind": "cat", "lives": 9}', '{"kind": "dog", "name": null}', '{"kind": "cow", "name": "a"}']),
    "named tuple": (Pair, ["[1]", '[1, "a"]']),
    "typed dict": (Row, ['{"id": 1}', '{"id": 1, "note": "n"}']),
    "dataclass": (Box, ['{"width": 1}', '{"width": 1.5, "tags": {"a": true}}']),
    "models in a list": (list[Point | Closed], ['[{"x": 1}, {"name": "a"}]']),
    "nested dict": (dict[str, list[tuple[int, float]]], ['{"a": [[1, 2.5]]}', '{"a": []}']),
}

LOOSER: dict[str, tuple[Any, list[str]]] = {
    "decimal": (Decimal, ['"1.50"', "2", "2.5", '"a"']),
    "int keys": (dict[int, str], ['{"1": "a"}', '{"x": "a"}']),
}
"""Types whose JSON schema says less than they ask."""

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 110),
    st.sampled_from([2**63, -(2**63) - 1, HUGE]),
    st.floats(-3, 3),
    st.sampled_from([0.0, -0.0, 1.0, 1e300, 2.5, 1e-320]),
    st.sampled_from(["", "a", "ab", "red", "cat", "1", "true", "null", "2026-02-28", "PT1S", "x", "kind", "abc1"]),
    st.text(max_size=4),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y", "name", "kind", "value", "children", "id", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def accepts(schema: object, value: object) -> bool:
    try:
        check_answer(value, schema, "w")
    except KitaruWaitValidationError:
        return False
    return True


def pydantic_accepts(adapter: TypeAdapter[Any], value: object) -> bool:
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The path of every part of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


def changed(value: Any, path: tuple[object, ...], new: object) -> object:
    """The value with one part replaced."""
    if not path:
        return new
    first, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[first] = changed(copy[first], tuple(rest), new)
    return copy


@st.composite
def near(draw: st.DrawFn, examples: list[str]) -> object:
    """An example, with a part of it replaced or one more beside it; or anything."""
    value = json.loads(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(places(value)))
        new = draw(JSON)
        part: Any = value
        for step in path:
            part = part[step]
        if isinstance(part, dict) and draw(st.booleans()):
            key = draw(st.sampled_from([*part, "z"]))
            new = {**part, key: new} if draw(st.booleans()) else {name: each for name, each in part.items() if name != key}
        elif isinstance(part, list) and draw(st.booleans()):
            new = [*part, new] if draw(st.booleans()) else part[:-1]
        value = changed(value, path, new)
    return value


@pytest.mark.parametrize("name", TYPES)
def test_an_answer_is_taken_if_and_only_if_pydantic_takes_it_as_strict_json(name: str) -> None:
    kind, examples = TYPES[name]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = json.loads(json.dumps(adapter.json_schema()))

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(near(examples))
    def agrees(value: object) -> None:
        assert accepts(schema, value) == pydantic_accepts(adapter, value), (value, schema)

    agrees()


@pytest.mark.parametrize("name", LOOSER)
def test_where_the_schema_says_less_than_the_type_nothing_is_refused_that_the_type_takes(name: str) -> None:
    kind, examples = LOOSER[name]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = json.loads(json.dumps(adapter.json_schema()))

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(near(examples))
    def agrees(value: object) -> None:
        assert accepts(schema, value) >= pydantic_accepts(adapter, value), (value, schema)

    agrees()


def test_a_refusal_names_the_wait_the_place_and_what_is_wrong() -> None:
    schema = TypeAdapter(Closed).json_schema()
    with pytest.raises(KitaruWaitValidationError, match=r"'approve': points\.0\.x: Input should be a valid integer"):
        check_answer({"name": "a", "points": [{"x": "1"}]}, schema, "approve")


# --- numbers, and what JSON has no word for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "value", "taken"),
    [
        ({"type": "number"}, math.nan, True),
        ({"type": "number"}, -math.inf, True),
        ({"type": "number", "minimum": 0}, math.nan, False),
        ({"type": "integer"}, math.inf, False),
        ({"type": "integer"}, HUGE, True),
        ({"type": "integer", "maximum": HUGE - 1}, HUGE, False),
        ({"type": "integer", "maximum": 1.5}, 2, False),
        ({"type": "integer", "exclusiveMinimum": 0.5}, 1, True),
        ({"type": "integer"}, 1.0, False),
        ({"type": "integer"}, True, False),
        ({"type": "number"}, True, False),
        ({"type": "boolean"}, 1, False),
        ({"type": "number"}, "1", False),
        ({"type": "null"}, False, False),
        pytest.param({"type": "integer"}, 10**5000, False, id="more digits than are read"),
    ],
)
def test_numbers_are_what_they_are(schema: dict[str, object], value: object, taken: bool) -> None:
    assert accepts(schema, value) is taken


@pytest.mark.parametrize(
    "value", ["\ud800", b"\xff", object(), [[object()]]], ids=["surrogate", "bytes", "object", "nested"]
)
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(KitaruWaitValidationError, match="no JSON"):
        check_answer(value, {}, "w")


def nested(levels: int, innermost: object = 1) -> object:
    value = innermost
    for _ in range(levels):
        value = [value]
    return value


def test_an_answer_may_be_as_deep_as_a_value_may() -> None:
    schema = {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/A"}}, {"const": 1}]}},
    }
    assert accepts({}, nested(MAX_DEPTH))
    assert accepts(schema, nested(MAX_DEPTH))
    assert not accepts(schema, nested(MAX_DEPTH, "x"))


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 100_000])
def test_a_deeper_one_is_refused(levels: int) -> None:
    assert not accepts({}, nested(levels))


# --- schemas that nobody should have written ---------------------------------------------------------------------------


def in_unions(count: int, schema: dict[str, object]) -> dict[str, object]:
    for _ in range(count):
        schema = {"anyOf": [schema]}
    return schema


A, B = {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}
ITEMS_A = {"type": "array", "items": A}
CHAIN = {f"A{number}": {"$ref": f"#/$defs/A{number + 1}"} for number in range(100_000)}
DEEP: dict[str, object] = {}
for _ in range(5_000):
    DEEP = {"type": "array", "items": DEEP}

IGNORED: dict[str, tuple[object, object]] = {
    "leads to itself": ({**A, "$defs": {"A": A}}, 1),
    "leads to itself by another": ({**A, "$defs": {"A": B, "B": {"anyOf": [A, {"type": "integer"}]}}}, "x"),
    "leads to itself by allOf": ({**A, "$defs": {"A": {"allOf": [A]}}}, 1),
    "a chain of 100,000": ({"$ref": "#/$defs/A0", "$defs": CHAIN}, 1),
    "5,000 deep": (DEEP, 1),
    "unions in unions": ({**A, "$defs": {"A": in_unions(300, ITEMS_A)}}, nested(190)),
    "unions between the levels": ({**A, "$defs": {"A": {"type": "array", "items": in_unions(300, A)}}}, nested(190)),
    "no definition of that name": ({"$ref": "#/$defs/Nobody"}, 1),
    "a reference to the network": ({"$ref": "https://example.org/schema.json"}, 1),
    "a reference that is none": ({"$ref": 5, "$defs": [1]}, 1),
    "no schema at all": ([1, 2], 1),
    "a text": ("integer", 1),
    "none": (None, 1),
    "an unknown type": ({"type": "money"}, 1),
    "several types": ({"type": ["string", "null"]}, 1),
    "a type that is no text": ({"type": {"a": 1}}, 1),
    "a format that is no text": ({"type": "string", "format": [1]}, "x"),
    "an unknown format": ({"type": "string", "format": "ipv9"}, "x"),
    "a pattern that is none": ({"type": "string", "pattern": "("}, "x"),
    "a pattern that is too large": ({"type": "string", "pattern": "a{1000}{1000}{1000}"}, "x"),
    "a bound that is no number": ({"type": "integer", "minimum": math.nan, "maximum": math.inf}, 1),
    "a text for a bound": ({"type": "number", "minimum": "3"}, 1),
    "a bound past every float": ({"type": "number", "minimum": HUGE}, 1),
    "a multiple of nothing": ({"type": "integer", "multipleOf": 0}, 1),
    "a multiple of nothing, as a float": ({"type": "number", "multipleOf": 0.0}, 1),
    "a length below nothing": ({"type": "string", "minLength": -1, "maxLength": 1.5}, "x"),
    "a length past every text": ({"type": "string", "minLength": 10**30}, "x"),
    "a tuple of a word": ({"type": "array", "prefixItems": [{}], "minItems": "x"}, [1]),
    "a tuple of less than nothing": ({"type": "array", "prefixItems": [{}], "minItems": -(10**12)}, [1]),
    "a tuple of 100,000": ({"type": "array", "prefixItems": [{}] * 100_000, "minItems": 0}, []),
    "properties that are none": ({"type": "object", "properties": [1], "required": 5}, {}),
    "an empty choice": ({"enum": []}, 1),
    "an empty union": ({"anyOf": []}, 1),
    "truth for a schema": ({"type": "object", "properties": {"a": True}}, {"a": 1}),
    "a keyword that this version does not know": ({"not": {}, "if": {}, "then": 5, "dependentSchemas": 1}, 1),
}


@pytest.mark.parametrize("what", IGNORED)
def test_what_cannot_be_understood_asks_nothing(what: str) -> None:
    """It neither crashes nor blocks who answers: the flow's own type has the last word."""
    schema, value = IGNORED[what]
    begun = time.monotonic()
    check_answer(value, schema, "w")
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("schema", "refused"),
    [
        ({"type": "integer", "maximum": 3, "minimum": math.nan}, 4),
        ({"type": "string", "maxLength": 1, "pattern": "("}, "ab"),
        ({"type": "array", "maxItems": 1, "minItems": "x"}, [1, 2]),
        ({"type": "object", "properties": {"a": A, "b": {"type": "integer"}}, "$defs": {"A": A}}, {"b": "x"}),
    ],
)
def test_what_can_be_understood_beside_it_holds(schema: dict[str, object], refused: object) -> None:
    assert not accepts(schema, refused)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {}, "additionalProperties": False}, {"k" * 1_000_000: 1}),
        ({"enum": ["x" * 1000] * 1000}, 1),
        ({"type": "array", "items": {"type": "integer"}}, ["a"] * 100_000),
        ({"type": "string", "pattern": "^(" + "a|" * 100_000 + "b)$"}, "c"),
    ],
    ids=["a name", "choices", "many places", "a pattern"],
)
def test_a_refusal_is_short_whatever_was_given(schema: dict[str, object], value: object) -> None:
    with pytest.raises(KitaruWaitValidationError) as refused:
        check_answer(value, schema, "w")
    assert len(str(refused.value)) < 2_000


WORDS = [
    "type", "properties", "required", "items", "prefixItems", "minItems", "anyOf", "allOf", "$ref", "$defs", "enum", "const",
    "format", "pattern", "minimum", "multipleOf", "maxLength", "additionalProperties", "propertyNames",
]  # fmt: skip
PLAIN = st.one_of(
    LEAVES, st.sampled_from(["integer", "string", "array", "object", "#/$defs/a", "#/$defs/x", "date", math.nan])
)
SCHEMAS = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WORDS, "a", "x"]), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=5 * EXAMPLES, deadline=None, database=None)
@given(SCHEMAS, JSON)
def test_no_schema_leads_to_another_error(schema: Any, value: object) -> None:
    accepts(schema, value)
