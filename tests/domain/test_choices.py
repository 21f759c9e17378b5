"""What a wait asks for, in words; and what is typed, as the choice that it means."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from kitaru.domain.choices import choices_of, chosen, described, is_plain


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Verdict(BaseModel):
    ok: bool
    note: str = ""
    colour: Colour | None = None


def schema_of(kind: Any) -> Any:
    return TypeAdapter(kind).json_schema()


@pytest.mark.parametrize(
    ("kind", "choices", "words"),
    [
        (bool, [True, False], "one of: true, false"),
        (Colour, ["red", "green"], "one of: red, green"),
        (Colour | None, ["red", "green", None], "one of: red, green, null"),
        (Literal["a", 1], ["a", 1], "one of: a, 1"),
        (Literal["only"], ["only"], "one of: only"),
        (int, [], "a whole number"),
        (str, [], "a text"),
        (float, [], "a number"),
        (list[int], [], "a JSON list"),
        (dict[str, int], [], "a JSON object"),
        (int | None, [], "JSON that fits the schema"),
    ],
)
def test_a_type_is_put_into_words(kind: Any, choices: list[object], words: str) -> None:
    assert choices_of(schema_of(kind)) == choices
    assert described(schema_of(kind)) == words


def test_a_gate_takes_anything() -> None:
    assert described(None) == "anything: it only goes on"
    assert is_plain(None)


def test_a_models_fields_are_named_with_their_choices() -> None:
    words = described(schema_of(Verdict))
    assert '"ok": true|false' in words
    assert '"note": a text (may be left out)' in words
    assert '"colour": "red"|"green"|null (may be left out)' in words
    assert not is_plain(schema_of(Verdict))


@pytest.mark.parametrize("ref", ["#", "#/$defs/Loop", "#/none", "elsewhere", ""])
def test_a_schema_that_refers_to_itself_or_to_nothing_has_no_choices(ref: str) -> None:
    assert choices_of({"$ref": ref, "$defs": {"Loop": {"$ref": "#/$defs/Loop"}}}) == []


@pytest.mark.parametrize(
    ("kind", "typed", "meant"),
    [
        (bool, "y", "true"), (bool, "No", "false"), (bool, "true", "true"), (bool, "perhaps", "perhaps"),
        (Colour, "r", '"red"'), (Colour, "GREEN", '"green"'), (Colour, "red", "red"), (Colour, "", ""),
        (Literal["ab", "abc"], "a", "a"), (Literal["ab", "abc"], "ab", "ab"), (Literal["ab", "abc"], "AB", '"ab"'),
        (str, "y", "y"), (int, "1", "1"),
    ],
)  # fmt: skip
def test_what_is_typed_means_a_choice_where_it_is_clear(kind: Any, typed: str, meant: str) -> None:
    assert chosen(schema_of(kind), typed) == meant


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["type", "enum", "anyOf", "$ref", "const", "properties", "required", "$defs"]), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values, st.text(max_size=10))
def test_whatever_was_recorded_as_a_schema_is_put_into_words(schema: object, typed: str) -> None:
    assert isinstance(described(schema), str)
    assert isinstance(chosen(schema, typed), str)
    assert isinstance(is_plain(schema), bool)
