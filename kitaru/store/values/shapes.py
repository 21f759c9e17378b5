"""What kind of value a class makes, decided the same way for writing and reading, and how its state is read and set.

A class has a shape only when everything its instances hold can be seen: slots, `__dict__` and the value of a known
builtin base. Hidden C state, structseqs and classes with `__del__` (code that forged data would run) have none.
"""

# Type arguments and defaults are anything.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict, deque
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from types import MemberDescriptorType
from typing import Any, Literal, cast

from kitaru.store.values.names import class_dict

Kind = Literal["enum", "exception", "model", "data", "subclass"]

BASES: frozenset[type] = frozenset(
    {str, int, float, complex, bytes, bytearray, tuple, list, dict, set, frozenset, OrderedDict, defaultdict, deque}
)
"""Builtins whose user-defined subclasses are values: the base's value and the instance's state."""

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: clear on the classes that C code defines statically
_POINTER = tuple.__itemsize__
_ALIAS = "__orig_class__"  # set by Generic after __init__; a typing construct, no data
_CACHED_SHAPES = 2048
_PLAIN_DEFAULTS = (type(None), bool, int, float, str, bytes)
_PLAIN_FACTORIES = (list, dict, set, tuple, frozenset, str, int, float, bool, bytes)


@dataclass(frozen=True, slots=True)
class Shape:
    """How instances of `cls` are taken apart: `base` holds the builtin value, `fields` come first, in order.

    `declared` are the names that a whole instance has, by its class: those that may need a default.
    """

    cls: type
    kind: Kind
    base: type
    fields: tuple[str, ...]
    declared: frozenset[str]
    slots: dict[str, MemberDescriptorType]
    has_dict: bool


_shapes: dict[type, Shape | None] = {}


def shape_of(cls: type) -> Shape | None:
    """The shape of a class that is no closed-table type, or None when its instances are refused."""
    try:
        return _shapes[cls]
    except KeyError:
        if len(_shapes) >= _CACHED_SHAPES:
            _shapes.clear()  # a program that makes classes without end must not keep them all alive
        shape = _shapes[cls] = _shape(cls)
        return shape


def base_model() -> type | None:
    """pydantic's BaseModel if pydantic is imported: a value can be a model only then, and importing it costs 50 ms."""
    pydantic = sys.modules.get("pydantic.main")
    return None if pydantic is None else pydantic.__dict__.get("BaseModel")


def instance_dict(value: object) -> dict[str, object]:
    """The instance's own `__dict__`, past any `__getattribute__`."""
    return object.__getattribute__(value, "__dict__")


def state_of(value: object, shape: Shape) -> dict[str, object]:
    """Every attribute that the instance holds: fields in their order, then the rest."""
    held = instance_dict(value) if shape.has_dict else {}
    state: dict[str, object] = {}
    for name in shape.fields:
        if name in held:
            state[name] = held[name]
        elif name in shape.slots:
            _read_slot(value, shape, name, state)
        else:
            _read_class_default(shape.cls, name, state)
    for name, item in held.items():
        if name not in state and name != _ALIAS:
            state[name] = item
    for name in shape.slots:
        if name not in state:
            _read_slot(value, shape, name, state)
    return state


def set_state(value: object, shape: Shape, state: dict[str, object]) -> None:
    """Put `state` into a bare instance: no `__setattr__`, property or validator runs."""
    held = instance_dict(value) if shape.has_dict else None
    for name, item in state.items():
        slot = shape.slots.get(name)
        if slot is not None:
            slot.__set__(value, item)
        elif held is not None:
            held[name] = item


def with_defaults(shape: Shape, present: dict[str, object]) -> dict[str, object]:
    """`present`, and plain defaults of fields that the class has gained since it was recorded. Runs no user code."""
    found = present
    for name in shape.declared - present.keys():
        spec = _declared(shape.cls)[name]
        factory = spec.default_factory
        if type(spec.default) in _PLAIN_DEFAULTS and spec.default is not MISSING:
            found[name] = spec.default
        elif any(factory is plain for plain in _PLAIN_FACTORIES):
            found[name] = factory()
        elif issubclass(type(spec.default), Enum):
            found[name] = spec.default
    return found


def _declared(cls: type) -> dict[str, Any]:
    """Specifications of a model's or dataclass's fields by name; attrs classes get no defaults."""
    names = _all_names(cls)
    if "__dataclass_fields__" in names:
        return {spec.name: spec for spec in fields(cast("Any", cls))}
    return names.get("__pydantic_fields__") or {}


def _shape(cls: type) -> Shape | None:
    mro = type.__dict__["__mro__"].__get__(cls)
    if any("__del__" in class_dict(ancestor) or "n_sequence_fields" in class_dict(ancestor) for ancestor in mro):
        return None
    slots = _slots(mro)
    kind, base = _kind_and_base(cls, mro)
    if kind is None:
        return None
    room = _POINTER * (len(slots) + 2)  # the two: __dict__ and __weakref__
    if kind != "enum" and cls.__basicsize__ > base.__basicsize__ + room:
        return None
    if kind == "model":
        own = slots.keys() - _slots(type.__dict__["__mro__"].__get__(base_model())).keys()
        if own:
            return None  # slots beside the model's own would be lost
    declared = frozenset(_declared(cls)) if kind in ("model", "data") else frozenset[str]()
    return Shape(cls, kind, base, _field_names(cls, kind), declared, slots, cls.__dictoffset__ != 0)


def _kind_and_base(cls: type, mro: tuple[type, ...]) -> tuple[Kind | None, type]:
    if Enum in mro:
        return "enum", object
    base = cls
    while base not in BASES and base.__flags__ & _HEAP_TYPE and base.__base__ is not None:
        base = base.__base__
    if BaseException in mro:
        return "exception", base
    if base in BASES:
        return "subclass", base
    if base is not object:
        return None, base
    if base_model() in mro:
        return "model", base
    names = _all_names(cls)
    if "__dataclass_fields__" in names or "__attrs_attrs__" in names:
        # attrs' hash cache would carry one process's hash into another
        return (None, base) if "_attrs_cached_hash" in names else ("data", base)
    return None, base


def _slots(mro: tuple[type, ...]) -> dict[str, MemberDescriptorType]:
    found: dict[str, MemberDescriptorType] = {}
    for ancestor in mro:
        names = class_dict(ancestor)
        if "__slots__" in names:  # a class statement's; what C code shows as members may be read-only or partial
            for name, item in names.items():
                if type(item) is MemberDescriptorType:
                    found.setdefault(name, item)
    return found


def _field_names(cls: type, kind: Kind) -> tuple[str, ...]:
    if kind != "data":
        return ()
    if "__dataclass_fields__" in _all_names(cls):
        return tuple(spec.name for spec in fields(cast("Any", cls)))
    return tuple(spec.name for spec in _all_names(cls)["__attrs_attrs__"])


def _all_names(cls: type) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for ancestor in reversed(type.__dict__["__mro__"].__get__(cls)):
        names.update(class_dict(ancestor))
    return names


def _read_slot(value: object, shape: Shape, name: str, state: dict[str, object]) -> None:
    try:
        state[name] = shape.slots[name].__get__(value, shape.cls)
    except AttributeError:
        return  # never set


def _read_class_default(cls: type, name: str, state: dict[str, object]) -> None:
    """A field with `init=False` and a default lives on the class; recorded: a changed default rewrites no history."""
    item = _all_names(cls).get(name, MISSING)
    if item is not MISSING and not hasattr(type(item), "__get__"):
        state[name] = item
