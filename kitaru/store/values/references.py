"""How a class is referred to in bytes: `module:qualname`, or a list for a parametrised pydantic model.

Every reference is checked when it is written: what encodes can be found again by this process.
"""

# Type arguments and defaults are anything.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from operator import or_
from types import GenericAlias, NoneType, UnionType
from typing import Any, Union, cast

from kitaru.store.values.names import (
    canonical_module,
    class_attribute,
    class_dict,
    class_name,
    find_class,
    find_named,
    is_class,
)
from kitaru.store.values.refusal import Refused
from kitaru.store.values.shapes import base_model, shape_of
from kitaru.store.values.text import write

_CONTAINERS = {"list": list, "dict": dict, "tuple": tuple, "set": set, "frozenset": frozenset}
_ARGUMENT_MODULES = frozenset({"builtins", "datetime", "decimal", "fractions", "uuid", "pathlib", "pathlib._local"})
"""Modules whose classes may parametrise a model though they have no shape."""


def reference_to(cls: type) -> object:
    """The recorded reference of a value's class; Refused when it could not be found again by name."""
    parts = _generic_parts(cls)
    if parts is not None:
        found = _generic_reference(cls, parts, reference_to)
        if class_of(found) is not cls:
            raise Refused(cls, "its generic class cannot be built again from its parameters; name it by a subclass")
        return found
    module, qualname = canonical_module(class_attribute(cls, "__module__")), class_attribute(cls, "__qualname__")
    if find_class(module, qualname) is not cls:
        raise Refused(cls, "its class cannot be found by name in its module")
    return f"{module}:{qualname}"


def written_name(cls: type) -> object:
    """The reference of a class that an annotation names, unchecked: it need not be importable."""
    parts = _generic_parts(cls)
    try:
        return class_name(cls) if parts is None else _generic_reference(cls, parts, written_name)
    except Refused:
        return class_name(cls)


def class_of(reference: object) -> type | None:
    """The class of a recorded reference among imported modules, or None. Anything malformed is None, too."""
    if type(reference) is str:
        return find_named(reference)
    if type(reference) is not list or not reference:
        return None
    origin, *recorded = cast("list[object]", reference)
    generic = class_of(origin)
    try:
        arguments = [_type_of(item) for item in recorded]
    except TypeError:
        return None  # forged: types that no operator joins
    if generic is None or any(item is _Unknown for item in arguments) or not _is_generic_model(generic):
        return None
    return _parametrised(generic, tuple(arguments))


def reference_key(reference: object) -> str:
    """One text for a reference, to look it up by."""
    return reference if type(reference) is str else write(reference).decode()


class _Unknown:
    """In place of a type argument that cannot be resolved."""


def _is_generic_model(cls: type) -> bool:
    shape = shape_of(cls)
    return shape is not None and shape.kind == "model" and "__pydantic_generic_metadata__" in class_dict(cls)


def _parametrised(generic: type, arguments: tuple[object, ...]) -> type | None:
    """pydantic's own subscription, from its cache when it was made before; a user's override is not run."""
    model = base_model()
    if model is None:
        return None
    try:
        found = class_dict(model)["__class_getitem__"].__func__(generic, arguments)
    except Exception:  # whatever pydantic thinks of forged parameters, the reader gets plain data
        return None
    return found if issubclass(type(found), type) else None


def _generic_parts(cls: type) -> tuple[type, tuple[object, ...]] | None:
    if "pydantic.main" not in sys.modules:
        return None
    metadata = class_dict(cls).get("__pydantic_generic_metadata__")
    if not metadata or metadata["origin"] is None:
        return None
    return metadata["origin"], metadata["args"]


def _generic_reference(cls: type, parts: tuple[type, tuple[object, ...]], refer: Callable[[type], object]) -> object:
    """`[origin, argument, ...]`; an argument is a reference, null, "Any", "..." or `[head, argument, ...]`."""

    def argument(item: Any) -> object:
        if item is None or item is NoneType:
            return None
        if item is Any or item is Ellipsis:
            return "Any" if item is Any else "..."
        head = _head(item)
        if head is not None:
            return [head, *map(argument, item.__args__)]
        if is_class(item) and type(item) is not GenericAlias:
            return refer(item)
        raise Refused(cls, "its generic class has a parameter that cannot be recorded; name it by a subclass")

    return [refer(parts[0]), *map(argument, parts[1])]


def _head(item: Any) -> str | None:
    if type(item) is UnionType:
        return "|"
    origin = getattr(item, "__origin__", None)
    if origin is Union:
        return "Union"  # equal to the other spelling, and another class to pydantic
    return next((name for name, known in _CONTAINERS.items() if origin is known and hasattr(item, "__args__")), None)


def _type_of(recorded: Any) -> Any:
    if recorded is None:
        return NoneType
    if type(recorded) is str and recorded in ("Any", "..."):
        return Any if recorded == "Any" else Ellipsis
    if type(recorded) is list and recorded and type(recorded[0]) is str:
        head, *rest = cast("list[Any]", recorded)
        parts = [_type_of(item) for item in rest]
        if not parts or any(item is _Unknown for item in parts):
            return _Unknown
        if head == "|":
            return reduce(or_, parts)
        if head == "Union":
            return cast("Any", Union)[tuple(parts)]
        if head in _CONTAINERS:
            return GenericAlias(_CONTAINERS[head], tuple(parts))
    found = class_of(recorded)
    return found if found is not None and _may_be_argument(found) else _Unknown


def _may_be_argument(cls: type) -> bool:
    return class_attribute(cls, "__module__") in _ARGUMENT_MODULES or shape_of(cls) is not None
