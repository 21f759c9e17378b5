"""What a wait asks for, in words for who answers: its schema as a line, its choices, and what was typed for one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

Schema = Mapping[str, object]
_KINDS = {
    "integer": "a whole number", "number": "a number", "string": "a text", "array": "a JSON list", "object": "a JSON object",
    "null": "null",
}  # fmt: skip
_YES_NO = {"y": "true", "yes": "true", "n": "false", "no": "false"}
_MAX_FIELDS = 20


def choices_of(schema: object) -> list[object]:
    """The answers that a schema allows when they are few and named: an enum's, a literal's, a boolean's; else none."""
    return _choices(schema, schema, 0)


def _choices(schema: object, root: object, depth: int) -> list[object]:
    if not isinstance(schema, Mapping) or depth > 8:
        return []
    node = cast("Schema", schema)
    options = node.get("anyOf")
    if isinstance(options, list):
        parts = [_choices(each, root, depth + 1) for each in cast("list[object]", options)]
        return [choice for part in parts for choice in part] if all(parts) else []
    if isinstance(node.get("enum"), list):
        return cast("list[object]", node["enum"])
    if "const" in node:
        return [node["const"]]
    if "$ref" in node:
        return _choices(_referred(str(node["$ref"]), root), root, depth + 1)
    kind = node.get("type")
    return [True, False] if kind == "boolean" else [None] if kind == "null" else []


def _referred(ref: str, root: object) -> object:
    found: object = root
    for part in ref.removeprefix("#/").split("/"):
        found = cast("Schema", found).get(part) if isinstance(found, Mapping) else None
    return found


def _node(schema: object) -> Schema:
    return cast("Schema", schema) if isinstance(schema, Mapping) else {}


def described(schema: object) -> str:
    """What to answer, on one line."""
    if schema is None:
        return "anything: it only goes on"
    choices = choices_of(schema)
    if choices:
        return "one of: " + ", ".join(each if isinstance(each, str) else json.dumps(each) for each in choices)
    node = _node(schema)
    kind = _KINDS.get(str(node.get("type")))
    fields = _node(node.get("properties"))
    if 0 < len(fields) <= _MAX_FIELDS:
        required = node.get("required")
        needed = cast("list[object]", required) if isinstance(required, list) else []
        parts = [_field(name, each, schema, name in needed) for name, each in fields.items()]
        return f"a JSON object with {', '.join(parts)}"
    return kind or "JSON that fits the schema"


def _field(name: str, schema: object, root: object, is_needed: bool) -> str:
    choices = _choices(schema, root, 0)
    kind = _KINDS.get(str(_node(schema).get("type")))
    words = "|".join(json.dumps(each) for each in choices) if choices else kind or "JSON"
    return f"{json.dumps(name)}: {words}{'' if is_needed else ' (may be left out)'}"


def is_plain(schema: object) -> bool:
    """Whether `described` says all there is to say."""
    if schema is None or choices_of(schema):
        return True
    node = _node(schema)
    return node.get("type") in ("integer", "number", "string") and set(node) <= {"type", "title"}


def chosen(schema: object, typed: str) -> str:
    """What a person typed, as the choice that it means: `y` is true, a beginning is the text that it begins."""
    choices = choices_of(schema)
    word = typed.strip().lower()
    if True in choices and False in choices and word in _YES_NO:
        return _YES_NO[word]
    texts = [each for each in choices if isinstance(each, str)]
    fits = [each for each in texts if each.lower() == word] or [
        each for each in texts if word and each.lower().startswith(word)
    ]
    return json.dumps(fits[0]) if len(fits) == 1 and typed not in texts else typed
