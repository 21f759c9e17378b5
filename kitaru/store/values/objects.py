"""Instances of user-defined classes taken apart: what kind, which class, which values. Their code is not asked.

`__reduce__`, `__getstate__`, properties and `__getattribute__` are never consulted.
"""

# What a codec handles has no type known here: values are Any, and builtin methods are called past their generics.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Flag
from typing import Any, cast

from kitaru.store.values.names import class_dict
from kitaru.store.values.references import reference_to
from kitaru.store.values.refusal import Refused
from kitaru.store.values.shapes import Shape, instance_dict, shape_of, state_of

_WHOLE = slice(None)
_COPY: dict[type, Callable[[Any], object]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    bytes: lambda value: bytes.__getitem__(value, _WHOLE),
    bytearray: lambda value: bytearray.__getitem__(value, _WHOLE),
    tuple: lambda value: tuple.__getitem__(value, _WHOLE),
    list: lambda value: list.__getitem__(value, _WHOLE),
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    OrderedDict: lambda value: OrderedDict(OrderedDict.items(value)),
    defaultdict: lambda value: defaultdict(class_dict(defaultdict)["default_factory"].__get__(value), dict.items(value)),
    deque: lambda value: deque(deque.__iter__(value), class_dict(deque)["maxlen"].__get__(value)),
}
"""By base: the plain value inside a subclass instance, past every override."""

EXCEPTION_MEMBERS: dict[type[BaseException], tuple[str, ...]] = {
    OSError: ("errno", "strerror", "filename", "filename2"),
    ImportError: ("msg", "name", "path"),
    AttributeError: ("name",),
    NameError: ("name",),
    StopIteration: ("value",),
    SystemExit: ("code",),
    SyntaxError: ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset", "print_file_and_line"),
    UnicodeEncodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeDecodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeTranslateError: ("object", "start", "end", "reason"),
}
"""What C keeps beside `args` and `__dict__`. An AttributeError's `obj` is left out, like the traceback."""


@dataclass(slots=True)
class Parts:
    """An object taken apart. `values` hold one value by key, `attributes` named values by key, `names` plain text."""

    kind: str
    reference: object
    values: dict[str, object] = field(default_factory=dict[str, object])
    attributes: dict[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])
    names: dict[str, object] = field(default_factory=dict[str, object])


def parts_of(value: object) -> Parts:
    """The parts of an instance of a user-defined class, or Refused."""
    cls = type(value)
    shape = shape_of(cls)
    if shape is None:
        raise Refused(cls, "the codec knows no exact form of it")
    parts = Parts(shape.kind, reference_to(cls))
    try:
        _TAKE_APART[shape.kind](value, shape, parts)
    except (AttributeError, KeyError, TypeError) as error:
        raise Refused(cls, f"it is not whole ({type(error).__name__})") from None
    return parts


def flag_value(value: Any) -> object:
    """A flag combination's number."""
    return instance_dict(value)["_value_"]


def members_of(cls: type) -> dict[str, object]:
    """An enum's members by name, aliases among them."""
    return class_dict(cls)["_member_map_"]


def _take_enum(value: Any, shape: Shape, parts: Parts) -> None:
    held = instance_dict(value)
    name = held.get("_name_")
    if type(name) is str and members_of(shape.cls).get(name) is value:
        parts.names["n"] = name
    elif not issubclass(shape.cls, Flag):
        raise Refused(shape.cls, "it is no member of its enum")
    elif flag_value(value) is None:
        raise Refused(shape.cls, "it has no value")
    # By name alone the member comes back; the value serves readers without the class, where it can be recorded.
    plain = held["_value_"]
    if "n" not in parts.names or type(plain) in (str, int, float, bool, bytes, type(None)):
        parts.values["v"] = plain


def _take_exception(value: Any, shape: Shape, parts: Parts) -> None:
    parts.values["a"] = class_dict(BaseException)["args"].__get__(value)
    members: dict[str, object] = {}
    for base, names in EXCEPTION_MEMBERS.items():
        if base in shape.cls.__mro__:
            for name in names:
                try:
                    item = class_dict(base)[name].__get__(value)
                except (TypeError, AttributeError, KeyError):
                    continue  # a UnicodeError that was never initialised
                if item is not None:
                    members[name] = item
    if members:
        parts.attributes["m"] = members
    state = state_of(value, shape)
    if state:
        parts.attributes["d"] = state


def _take_model(value: Any, _: Shape, parts: Parts) -> None:
    held = dict(instance_dict(value))
    parts.attributes["v"] = held
    given = object.__getattribute__(value, "__pydantic_fields_set__")
    if given != held.keys():
        parts.values["s"] = sorted(given)
    for key, name in (("x", "__pydantic_extra__"), ("p", "__pydantic_private__")):
        item = cast("dict[str, object] | None", object.__getattribute__(value, name))
        if item is not None:
            parts.attributes[key] = dict(item)


def _take_data(value: Any, shape: Shape, parts: Parts) -> None:
    parts.attributes["v"] = state_of(value, shape)


def _take_subclass(value: Any, shape: Shape, parts: Parts) -> None:
    parts.values["v"] = _COPY[shape.base](value)
    state = state_of(value, shape)
    if state:
        parts.attributes["d"] = state


_TAKE_APART: dict[str, Callable[[Any, Shape, Parts], None]] = {
    "enum": _take_enum,
    "exception": _take_exception,
    "model": _take_model,
    "data": _take_data,
    "subclass": _take_subclass,
}
