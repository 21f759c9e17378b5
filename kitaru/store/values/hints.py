"""The classes that an annotation names, however deep: they win over modules when a recorded class is looked up.

String annotations are not evaluated: their classes are found by module like any other.
"""

# What a codec handles has no type known here: values are Any, and builtin methods are called past their generics.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from kitaru.store.values.names import class_dict, is_class
from kitaru.store.values.references import class_of, reference_key, written_name

_MOST = 2_000
"""Annotations looked at for one hint; beyond these, classes are found by module."""


class Classes:
    """Finds a recorded class: first in the hint, then in modules already imported."""

    __slots__ = ("_hint", "_hinted")

    def __init__(self, hint: object) -> None:
        self._hint = hint
        self._hinted: dict[str, type] | None = None

    def find(self, reference: object) -> type | None:
        """The class of a recorded reference, or None."""
        if self._hint is not None:
            if self._hinted is None:
                self._hinted = classes_in(self._hint)
            found = self._hinted.get(reference_key(reference))
            if found is not None:
                return found
        return class_of(reference)


def classes_in(hint: object) -> dict[str, type]:
    """Every class in the annotation and in the field annotations of its classes, by reference."""
    found: dict[str, type] = {}
    seen: set[int] = set()
    todo: list[object] = [hint]
    keep: list[object] = []  # keeps what get_args makes alive, so that ids stay distinct
    while todo and len(seen) < _MOST:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        keep.append(item)
        if get_origin(item) is Literal:
            continue
        todo.extend(get_args(item)[:1] if get_origin(item) is Annotated else get_args(item))
        todo.append(get_origin(item))
        todo.extend(getattr(item, name, None) for name in ("__value__", "__supertype__") if not is_class(item))
        if isinstance(item, type) and is_class(item):
            found.setdefault(reference_key(written_name(item)), item)
            todo.extend(_field_annotations(item))
    return found


def _field_annotations(cls: type) -> list[object]:
    annotations: list[object] = []
    for ancestor in cls.__mro__:
        names: dict[str, Any] = class_dict(ancestor)
        annotations.extend(names.get("__annotations__", {}).values())
        annotations.extend(spec.type for spec in names.get("__dataclass_fields__", {}).values())
        annotations.extend(spec.annotation for spec in (names.get("__pydantic_fields__") or {}).values())
    return annotations
