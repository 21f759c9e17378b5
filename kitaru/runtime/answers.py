"""Whether an answer fits its wait, by the JSON schema that was recorded: the flow's code need not be at hand.

The schema is compiled to a pydantic-core validator that reads JSON strictly: no text becomes a number. Only the keywords
that pydantic writes are understood; one that is not is ignored, as JSON Schema says, and the flow's own type has the last
word.
"""

from __future__ import annotations

import math
from typing import TypeGuard, cast

from pydantic_core import CoreSchema, PydanticSerializationError, SchemaError, SchemaValidator, ValidationError, to_json

from kitaru.domain.errors import KitaruWaitValidationError

Schema = dict[str, object]
_ANY: Schema = {"type": "any"}
_MAX_SHOWN = 5
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


def check_answer(value: object, json_schema: Schema, wait: str) -> None:
    """Raise KitaruWaitValidationError when the value, as JSON, does not fit the schema."""
    try:
        as_json = to_json(value, inf_nan_mode="constants")
    except PydanticSerializationError as error:
        raise KitaruWaitValidationError(f"the answer does not fit the wait {wait!r}: it is no JSON ({error})") from None
    definitions = _mapping(json_schema.get("$defs"))
    known = frozenset(definitions)
    compiled: Schema = {
        "type": "definitions",
        "schema": _compile(json_schema, known),
        "definitions": [{**_compile(each, known), "ref": name} for name, each in definitions.items()],
    }
    try:
        validator = SchemaValidator(cast("CoreSchema", compiled))
    except (SchemaError, RecursionError):
        return  # not a schema that this version understands; the flow's own type decides
    try:
        validator.validate_json(as_json)
    except ValidationError as refused:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'the answer'}: {each['msg']}"
            for each in refused.errors(include_url=False, include_input=False)[:_MAX_SHOWN]
        )
        raise KitaruWaitValidationError(f"the answer does not fit the wait {wait!r}: {problems}") from None


def _compile(schema: object, known: frozenset[str]) -> Schema:
    node = _mapping(schema)
    if isinstance(node.get("$ref"), str):
        name = str(node["$ref"]).removeprefix("#/$defs/")
        return {"type": "definition-ref", "schema_ref": name} if name in known else _ANY
    if "const" in node:
        return {"type": "literal", "expected": [node["const"]]}
    if isinstance(node.get("enum"), list):
        return {"type": "literal", "expected": node["enum"]}
    for key in ("anyOf", "oneOf"):
        if key in node:
            return {"type": "union", "choices": [_compile(each, known) for each in _sequence(node[key])]}
    whole = _sequence(node.get("allOf"))
    if len(whole) == 1:
        return _compile(whole[0], known)
    return _compile_type(node, known)


def _compile_type(node: Schema, known: frozenset[str]) -> Schema:
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
    bounds = {name: rounded(bound) for name, rounded in _INTEGER_BOUNDS.items() if _is_number(bound := node.get(name))}
    factor = node.get("multipleOf")
    if _is_number(factor) and float(factor).is_integer():
        bounds["multipleOf"] = int(factor)
    return {"type": "int", "strict": True, **_renamed(cast("Schema", bounds), _BOUNDS)}


def _compile_string(node: Schema) -> Schema:
    stands_for = _FORMATS.get(node.get("format"))
    if stands_for is not None:
        return stands_for
    text: Schema = {"type": "str", "strict": True, **_renamed(node, {"minLength": "min_length", "maxLength": "max_length"})}
    if isinstance(node.get("pattern"), str):
        for engine in ("rust-regex", "python-re"):  # the first is linear; it has no look-around
            bounded = {**text, "pattern": node["pattern"], "regex_engine": engine}
            try:
                SchemaValidator(cast("CoreSchema", bounded))
            except SchemaError:
                continue
            return bounded
    return text


def _compile_array(node: Schema, known: frozenset[str]) -> Schema:
    limits = _renamed(node, {"minItems": "min_length", "maxItems": "max_length"})
    prefix = [_compile(each, known) for each in _sequence(node.get("prefixItems"))]
    if prefix:
        rest = node.get("items")
        if rest is None or rest is False:
            least = cast("int", node.get("minItems", len(prefix)))  # fewer: a named tuple with defaults
            shorter = [prefix[:count] for count in range(least, len(prefix) + 1)]
            choices: list[Schema] = [{"type": "tuple", "items_schema": items, "strict": True} for items in shorter]
            return choices[0] if len(choices) == 1 else {"type": "union", "choices": choices}
        variadic = {"items_schema": [*prefix, _compile(rest, known)], "variadic_item_index": len(prefix)}
        return {"type": "tuple", "strict": True, **variadic, **limits}
    items = _compile(node["items"], known) if "items" in node else _ANY
    return {"type": "list", "items_schema": items, "strict": True, **limits}


def _compile_object(node: Schema, known: frozenset[str]) -> Schema:
    extra = node.get("additionalProperties")
    extras = _compile(extra, known)
    if "properties" not in node:
        if extra is False:
            return {"type": "dict", "strict": True, "max_length": 0}
        keys = _compile(node["propertyNames"], known) if "propertyNames" in node else {"type": "str"}
        limits = _renamed(node, {"minProperties": "min_length", "maxProperties": "max_length"})
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
    return {name: bound for name, bound in _renamed(node, _BOUNDS).items() if _is_number(bound)}


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _renamed(node: Schema, names: dict[str, str]) -> Schema:
    return {ours: node[theirs] for theirs, ours in names.items() if theirs in node}


def _mapping(value: object) -> Schema:
    return cast("Schema", value) if isinstance(value, dict) else {}


def _sequence(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
