"""What the code says of itself, for the references to be held against."""

from __future__ import annotations

import ast
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

from kitaru.domain import errors, events
from kitaru.domain.events import EventBase
from kitaru.store.sqlite import failures

PACKAGE = Path(events.__file__).parents[1]


def error_classes() -> dict[str, type[errors.KitaruError]]:
    """Every class of the tree."""
    found = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if issubclass(value, errors.KitaruError)}


def error_codes() -> set[str]:
    """Every code that an error may have: of its class, given to it, or told by the command line."""
    found = {cls.code for cls in error_classes().values()} | {code for code, _ in failures._MEANINGS.values()}
    for tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code":
                found |= _texts(node.value)
            elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "code" for t in node.targets):
                found |= _texts(node.value)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fail":
                found |= {text for arg in node.args[1:2] for text in _texts(arg)}
    return found


def environment_variables() -> set[str]:
    """Every KITARU_ variable that the package names; Typer's own one for completion is nobody's to set."""
    found = {
        node.value
        for tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("KITARU_")
    }
    return {name for name in found if name.isupper() and " " not in name}


def event_classes() -> dict[str, type[EventBase]]:
    """Every event, in the order of the union."""
    union = get_args(events.Event)[0]
    return {cls.__name__: cls for cls in get_args(union)}


def event_fields(cls: type[EventBase]) -> dict[str, str]:
    """An event's own fields and how their types are written."""
    hints = get_type_hints(cls)
    return {name: written(hints[name]) for name in cls.model_fields if name not in ("v", "at", "type")}


def written(kind: object) -> str:
    """A type as the page writes it."""
    if kind is types.NoneType:
        return "None"
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f'"{value}"' for value in get_args(kind))
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return " or ".join(written(part) for part in get_args(kind))
    if get_args(kind):
        inner = ", ".join("…" if part is Ellipsis else written(part) for part in get_args(kind))
        return f"{typing.get_origin(kind).__name__}[{inner}]"
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _texts(node: ast.expr) -> set[str]:
    if isinstance(node, ast.IfExp):
        return _texts(node.body) | _texts(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def _trees() -> Iterator[ast.Module]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))
