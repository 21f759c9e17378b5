"""How a class is referred to in bytes: `module:qualname`, or a list for a parametrised pydantic model.

Every reference is checked when it is written: what encodes can be found again by this process.
"""

from __future__ import annotations

import sys
from types import GenericAlias, NoneType, UnionType
from typing import Any, cast

from kitaru.store.values.names import canonical_module, class_attribute, class_dict, class_name, find_class, find_named
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
        found: object = [reference_to(parts[0]), *(_argument(item, cls) for item in parts[1])]
        if class_of(found) is not cls:
            raise Refused(cls, "its generic class cannot be built again from its parameters; name it by a subclass")
        return found
    module, qualname = canonical_module(class_attribute(cls, "__module__")), class_attribute(cls, "__qualname__")
    if find_class(module, qualname) is not cls:
        raise Refused(cls, "its class cannot be found by name in its module")
    return f"{module}:{qualname}"


def class_of(reference: object) -> type | None:
    """The class of a recorded reference among imported modules, or None. Anything malformed is None, too."""
    if type(reference) is str:
        return find_named(reference)
    if type(reference) is not list or not reference:
        return None
    origin, *recorded = cast("list[object]", reference)
    arguments = [_type_of(item) for item in recorded]
    generic = class_of(origin)
    if generic is None or any(item is _Unknown for item in arguments) or not _is_generic_model(generic):
        return None
    return _parametrised(generic, tuple(arguments))


def reference_key(reference: object) -> str:
    """One text for a reference, to look it up by."""
    return reference if type(reference) is str else write(reference).decode()


def written_name(cls: type) -> object:
    """The reference of a class that an annotation names, unchecked: it need not be importable."""
    parts = _generic_parts(cls)
    if parts is None:
        return class_name(cls)
    try:
        return [written_name(parts[0]), *(_argument(item, cls) for item in parts[1])]
    except Refused:
        return class_name(cls)


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
        found = cast("Any", class_dict(model)["__class_getitem__"]).__func__(generic, arguments)
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


def _argument(item: object, owner: type) -> object:
    if item is None or item is NoneType:
        return None
    if item is Any:
        return "Any"
    if type(item) is UnionType or getattr(item, "__origin__", None) is _union():
        return ["|", *(_argument(part, owner) for part in cast("Any", item).__args__)]
    if item is Ellipsis:
        return "..."
    origin = getattr(item, "__origin__", None)
    if origin in _CONTAINERS.values() and hasattr(item, "__args__"):
        return [cast("type", origin).__name__, *(_argument(part, owner) for part in cast("Any", item).__args__)]
    if issubclass(type(item), type) and type(item) is not GenericAlias:
        return reference_to(cast("type", item))
    raise Refused(owner, "its generic class has a parameter that cannot be recorded; name it by a subclass")


def _type_of(recorded: object) -> object:
    if recorded is None:
        return None
    if recorded == "Any":
        return Any
    if recorded == "...":
        return Ellipsis
    if type(recorded) is list and recorded and type(recorded[0]) is str:
        head, *rest = cast("list[object]", recorded)
        parts = [_type_of(item) for item in rest]
        if not parts or any(item is _Unknown for item in parts):
            return _Unknown
        if head == "|":
            return _union()[tuple(parts)]
        if head in _CONTAINERS:
            return GenericAlias(_CONTAINERS[cast("str", head)], tuple(parts))
    found = class_of(cast("object", recorded))
    return found if found is not None and _may_be_argument(found) else _Unknown


def _may_be_argument(cls: type) -> bool:
    return class_attribute(cls, "__module__") in _ARGUMENT_MODULES or shape_of(cls) is not None


def _union() -> Any:
    from typing import Union

    return Union
