"""Whether an answer fits its wait, by the JSON schema that was recorded: the flow's code need not be at hand.

The schema is compiled to a pydantic-core validator, strictly: no text becomes a number. Only the keywords that pydantic
writes are understood; one that is not is ignored, as JSON Schema says, and the flow's own type has the last word.
"""

from __future__ import annotations

from typing import cast

from pydantic_core import CoreSchema, SchemaError, SchemaValidator, ValidationError, to_jsonable_python

from kitaru.domain.errors import KitaruWaitValidationError

Schema = dict[str, object]
_ANY: Schema = {"type": "any"}
_MAX_SHOWN = 5
_BOUNDS = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of"}


def check_answer(value: object, json_schema: Schema, wait: str) -> None:
    """Raise KitaruWaitValidationError when the value, as JSON, does not fit the schema."""
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
        plain: object = to_jsonable_python(value)
    except (ValueError, TypeError) as error:
        raise KitaruWaitValidationError(f"the answer does not fit the wait {wait!r}: it is no JSON ({error})") from None
    try:
        validator.validate_python(plain)
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
            return _integer(node)
        case "number":
            return {"type": "union", "choices": [_integer(node), {"type": "float", "strict": True, **_bounds(node)}]}
        case "string":
            limits = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
            return {"type": "str", "strict": True, **_renamed(node, limits)}
        case "array":
            return _compile_array(node, known)
        case "object":
            return _compile_object(node, known)
        case _:
            return _ANY


def _integer(node: Schema) -> Schema:
    whole = {name: int(bound) for name, bound in _bounds(node).items() if float(bound).is_integer()}
    return {"type": "int", "strict": True, **whole}


def _compile_array(node: Schema, known: frozenset[str]) -> Schema:
    prefix = _sequence(node.get("prefixItems"))
    if prefix:  # lax: JSON has a list where the flow has a tuple
        return {"type": "tuple", "items_schema": [_compile(each, known) for each in prefix], "strict": False}
    limits = {"minItems": "min_length", "maxItems": "max_length"}
    items = _compile(node["items"], known) if "items" in node else _ANY
    return {"type": "list", "items_schema": items, "strict": True, **_renamed(node, limits)}


def _compile_object(node: Schema, known: frozenset[str]) -> Schema:
    extra = node.get("additionalProperties")
    extras = _compile(extra, known)
    if "properties" not in node:
        return {"type": "dict", "keys_schema": {"type": "str"}, "values_schema": extras, "strict": True}
    required = _sequence(node.get("required"))
    fields = {
        name: {"type": "typed-dict-field", "schema": _compile(each, known), "required": name in required}
        for name, each in _mapping(node["properties"]).items()
    }
    behavior = "forbid" if extra is False else "allow"
    extras_schema = {} if extra is False else {"extras_schema": extras}
    return {"type": "typed-dict", "fields": fields, "extra_behavior": behavior, "strict": True, **extras_schema}


def _bounds(node: Schema) -> dict[str, int | float]:
    found = _renamed(node, _BOUNDS)
    return {name: bound for name, bound in found.items() if isinstance(bound, (int, float))}


def _renamed(node: Schema, names: dict[str, str]) -> Schema:
    return {ours: node[theirs] for theirs, ours in names.items() if theirs in node}


def _mapping(value: object) -> Schema:
    return cast("Schema", value) if isinstance(value, dict) else {}


def _sequence(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
