"""Whether an answer fits its wait, by the JSON schema that was recorded: the flow's code need not be at hand.

The schema is compiled to a pydantic-core validator that reads JSON strictly: no text becomes a number. Only the keywords
that pydantic writes are understood; one that is not is ignored, as JSON Schema says, and the flow's own type has the last
word. A schema is data of a store, which may be anybody's: nothing that it says crashes or blocks who answers.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TypeGuard, cast

from pydantic_core import CoreSchema, SchemaError, SchemaValidator, ValidationError, to_json

from kitaru.domain.errors import KitaruWaitValidationError

Schema = dict[str, object]
Runs = Mapping[str, float]
"""The definitions that may be referred to, each with its run: see `_run`."""
_ANY: Schema = {"type": "any"}
_MAX_SHOWN = 5
_MAX_SHOWN_CHARS = 300
_MAX_RUN = 8
"""Steps (references, unions) from one schema to the next that stay at one place of the answer. The validator recurses over
them on the C stack, and has no end where they lead back to themselves."""
_MAX_OPTIONAL = 50
"""Places of a tuple that may be left out."""
_LARGEST = 2**31
_LARGEST_FLOAT = int(sys.float_info.max)
_BOUNDS = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of"}
_INTEGER_BOUNDS = {
    "minimum": math.ceil,
    "maximum": math.floor,
    "exclusiveMinimum": math.floor,
    "exclusiveMaximum": math.ceil,
}
_FORMATS: dict[object, Schema] = {
    "date": {"type": "date", "strict": True},
    "date-time": {"type": "datetime", "strict": True},
    "time": {"type": "time", "strict": True},
    "duration": {"type": "timedelta", "strict": True},
    "uuid": {"type": "uuid", "strict": True},
    "uri": {"type": "url", "strict": True},
}


def check_answer(value: object, json_schema: object, wait: str) -> None:
    """Raise KitaruWaitValidationError when the value, as JSON, does not fit the schema."""
    try:
        as_json = to_json(value, inf_nan_mode="constants")
    except (ValueError, RecursionError) as error:  # PydanticSerializationError is a ValueError
        why = _shortened(str(error))
        raise KitaruWaitValidationError(f"the answer does not fit the wait {wait!r}: it is no JSON ({why})") from None
    try:
        validator = SchemaValidator(cast("CoreSchema", _compile_whole(json_schema)))
    except (SchemaError, RecursionError, ValueError, TypeError, OverflowError):
        return  # not a schema that this version understands; the flow's own type decides
    try:
        validator.validate_json(as_json)
    except ValidationError as refused:
        problems = "; ".join(
            _shortened(f"{_shortened('.'.join(map(str, each['loc']))) or 'the answer'}: {each['msg']}")
            for each in refused.errors(include_url=False, include_input=False)[:_MAX_SHOWN]
        )
        raise KitaruWaitValidationError(f"the answer does not fit the wait {wait!r}: {problems}") from None


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[: _MAX_SHOWN_CHARS - 1]}…"


def _compile_whole(json_schema: object) -> Schema:
    definitions = _mapping(_mapping(json_schema).get("$defs"))
    known: dict[str, float] = {}
    for name in definitions:
        _run({"$ref": name}, definitions, known)
    return {
        "type": "definitions",
        "schema": _compile(json_schema, known),
        "definitions": [{**_compile(definitions[name], known), "ref": name} for name in definitions],
    }


def _run(schema: object, definitions: Schema, runs: dict[str, float]) -> float:
    """The most steps that stay at one place of the answer; infinite where they lead back to where they began."""
    node = _mapping(schema)
    name = _referred(node)
    if name is not None:
        if name not in runs:
            runs[name] = math.inf  # until it is known: who comes by again goes in a circle
            runs[name] = _run(definitions[name], definitions, runs) if name in definitions else 0
        return 1 + runs[name]
    if "const" in node or isinstance(node.get("enum"), list):
        return 0
    for key in ("anyOf", "oneOf", "allOf"):
        if key in node:
            return 1 + max((_run(each, definitions, runs) for each in _sequence(node[key])), default=0)
    return 0


def _referred(node: Schema) -> str | None:
    """The name of the definition that a schema refers to; None for one that refers to nothing."""
    reference = node.get("$ref")
    return reference.removeprefix("#/$defs/") if isinstance(reference, str) else None


def _compile(schema: object, known: Runs, steps: int = 0) -> Schema:
    """The validator's schema; `steps` is how many led here without leaving the place in the answer."""
    node = _mapping(schema)
    name = _referred(node)
    if name is not None:
        is_usable = name in known and steps + known[name] < _MAX_RUN
        return {"type": "definition-ref", "schema_ref": name} if is_usable else _ANY
    if steps >= _MAX_RUN:
        return _ANY
    if "const" in node:
        return {"type": "literal", "expected": [node["const"]]}
    if isinstance(node.get("enum"), list):
        return {"type": "literal", "expected": node["enum"]}
    for key in ("anyOf", "oneOf"):
        if key in node:
            return {"type": "union", "choices": [_compile(each, known, steps + 1) for each in _sequence(node[key])]}
    whole = _sequence(node.get("allOf"))
    if len(whole) == 1:
        return _compile(whole[0], known, steps + 1)
    return _compile_type(node, known)


def _compile_type(node: Schema, known: Runs) -> Schema:
    match node.get("type"):
        case "null":
            return {"type": "none"}
        case "boolean":
            return {"type": "bool", "strict": True}
        case "integer":
            return _compile_integer(node)
        case "number":
            return {"type": "float", "strict": True, **_bounds(node)}  # which takes whole numbers too
        case "string":
            return _compile_string(node)
        case "array":
            return _compile_array(node, known)
        case "object":
            return _compile_object(node, known)
        case _:
            return _ANY


def _compile_integer(node: Schema) -> Schema:
    bounds = {name: rounded(bound) for name, rounded in _INTEGER_BOUNDS.items() if _is_finite(bound := node.get(name))}
    factor = node.get("multipleOf")
    if _is_finite(factor) and factor > 0 and factor == int(factor):
        bounds["multipleOf"] = int(factor)
    return {"type": "int", "strict": True, **_renamed(cast("Schema", bounds), _BOUNDS)}


def _compile_string(node: Schema) -> Schema:
    named = node.get("format")
    stands_for = _FORMATS.get(named) if isinstance(named, str) else None
    if stands_for is not None:
        return stands_for
    text: Schema = {"type": "str", "strict": True, **_counts(node, {"minLength": "min_length", "maxLength": "max_length"})}
    if isinstance(node.get("pattern"), str):
        for engine in ("rust-regex", "python-re"):  # the first is linear; it has no look-around
            bounded = {**text, "pattern": node["pattern"], "regex_engine": engine}
            try:
                SchemaValidator(cast("CoreSchema", bounded))
            except SchemaError:
                continue
            return bounded
    return text


def _compile_array(node: Schema, known: Runs) -> Schema:
    limits = _counts(node, {"minItems": "min_length", "maxItems": "max_length"})
    prefix = [_compile(each, known) for each in _sequence(node.get("prefixItems"))]
    if prefix:
        rest = node.get("items")
        if rest is None or rest is False:
            least = cast("int", limits.get("min_length", len(prefix)))  # fewer: a named tuple with defaults
            if len(prefix) - least > _MAX_OPTIONAL:
                return {"type": "list", "strict": True, "min_length": least, "max_length": len(prefix)}
            shorter = [prefix[:count] for count in range(least, len(prefix) + 1)]
            choices: list[Schema] = [{"type": "tuple", "items_schema": items, "strict": True} for items in shorter]
            return choices[0] if len(choices) == 1 else {"type": "union", "choices": choices}
        variadic = {"items_schema": [*prefix, _compile(rest, known)], "variadic_item_index": len(prefix)}
        return {"type": "tuple", "strict": True, **variadic, **limits}
    items = _compile(node["items"], known) if "items" in node else _ANY
    return {"type": "list", "items_schema": items, "strict": True, **limits}


def _compile_object(node: Schema, known: Runs) -> Schema:
    extra = node.get("additionalProperties")
    extras = _compile(extra, known)
    if "properties" not in node:
        if extra is False:
            return {"type": "dict", "strict": True, "max_length": 0}
        keys = _compile(node["propertyNames"], known) if "propertyNames" in node else {"type": "str"}
        limits = _counts(node, {"minProperties": "min_length", "maxProperties": "max_length"})
        return {"type": "dict", "keys_schema": keys, "values_schema": extras, "strict": True, **limits}
    required = _sequence(node.get("required"))
    fields = {
        name: {"type": "typed-dict-field", "schema": _compile(each, known), "required": name in required}
        for name, each in _mapping(node["properties"]).items()
    }
    behavior = "forbid" if extra is False else "allow"
    extras_schema = {} if extra is False else {"extras_schema": extras}
    return {"type": "typed-dict", "fields": fields, "extra_behavior": behavior, "strict": True, **extras_schema}


def _bounds(node: Schema) -> Schema:
    given = _renamed(node, _BOUNDS)
    found = {name: bound for name, bound in given.items() if _is_finite(bound) and abs(bound) < _LARGEST_FLOAT}
    return {name: bound for name, bound in found.items() if name != "multiple_of" or bound > 0}


def _counts(node: Schema, names: dict[str, str]) -> Schema:
    found = _renamed(node, names)
    return {name: count for name, count in found.items() if type(count) is int and 0 <= count < _LARGEST}


def _is_finite(value: object) -> TypeGuard[int | float]:
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def _renamed(node: Schema, names: dict[str, str]) -> Schema:
    return {ours: node[theirs] for theirs, ours in names.items() if theirs in node}


def _mapping(value: object) -> Schema:
    return cast("Schema", value) if isinstance(value, dict) else {}


def _sequence(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
