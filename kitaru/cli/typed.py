"""What people type as JSON, as a file, or as a condition. Every mistake is a KitaruUsageError that says what to type."""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import cast

from kitaru.domain.errors import KitaruUsageError

_CONDITION = re.compile(r"\s*((?!!=)[^\s<>=].*?)\s*(==|!=|<>|>=|<=|=>|=<|=|>|<)\s*(.*?)\s*", re.DOTALL)
_OTHERS = {"==": "=", "<>": "!=", "=>": ">=", "=<": "<="}
"""Of other languages. Taken for `=` and a text that begins with `>`, one would match nothing, and nobody would know why."""


def read_text(given: str, option: str) -> str:
    """A text as it was typed, or what `@FILE` or `@-` (stdin) holds."""
    if not given.startswith("@"):
        return given
    try:
        return sys.stdin.read() if given == "@-" else Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise KitaruUsageError(f"{option} {given} cannot be read: {error}") from None


def read_object(given: str | None, option: str) -> dict[str, object]:
    """A JSON object, typed or in a file; empty when nothing was given."""
    if given is None:
        return {}
    try:
        found: object = json.loads(read_text(given, option))
    except KitaruUsageError:
        raise
    except (ValueError, RecursionError) as error:
        raise KitaruUsageError(f'{option} is no JSON ({error}); type an object such as \'{{"topic": "bees"}}\'') from None
    if not isinstance(found, dict):
        raise KitaruUsageError(f'{option} has to be a JSON object, such as \'{{"topic": "bees"}}\'')
    return cast("dict[str, object]", found)


def conditions(where: list[str]) -> dict[str, dict[str, object]] | None:
    """`--where` as the client takes it. Raises KitaruUsageError."""
    found: dict[str, dict[str, object]] = {}
    for text in where:
        parts = _CONDITION.fullmatch(text)
        if parts is None:
            raise KitaruUsageError(f"--where {text!r} is no condition; type 'KEY OP VALUE', such as 'score >= 3'")
        key, operator, given = parts.groups()
        if operator in _OTHERS:
            meant = f"{key} {_OTHERS[operator]} {given}"
            raise KitaruUsageError(f"--where {text!r}: there is no operator {operator}; type {meant}")
        if not given:
            raise KitaruUsageError(f"--where {text!r} has no value; type 'KEY OP VALUE', with \"\" for an empty text")
        value: object = given
        with suppress(ValueError, RecursionError):
            value = json.loads(given)
        tests = found.setdefault(key, {})
        if operator in tests:
            raise KitaruUsageError(f"--where {text!r}: {key} {operator} is given twice")
        tests[operator] = value
    return found or None
