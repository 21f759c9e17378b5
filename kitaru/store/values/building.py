"""Instances of found classes, put together: the builtin base's `__new__` and raw attribute writes, nothing else."""

# What a codec handles has no type known here: values are Any, and builtin methods are called past their generics.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Flag
from typing import Any, cast

from kitaru.store.values.names import class_dict
from kitaru.store.values.objects import EXCEPTION_MEMBERS, members_of
from kitaru.store.values.shapes import Shape, base_model, set_state, with_defaults


def build_data(shape: Shape, state: dict[str, object]) -> object:
    """A dataclass or attrs instance. Fields that the class gained since get their plain defaults."""
    made = object.__new__(shape.cls)
    set_state(made, shape, with_defaults(shape, state))
    return made


def build_model(
    shape: Shape,
    state: dict[str, object],
    given: set[str],
    extra: dict[str, object] | None,
    private: dict[str, object] | None,
) -> object:
    """A pydantic model, as `model_construct` would leave it: nothing is validated, no hook runs."""
    made = object.__new__(shape.cls)
    object.__setattr__(made, "__dict__", with_defaults(shape, state))
    slots = class_dict(cast("type", base_model()))  # past a RootModel, whose class hides two of them
    slots["__pydantic_fields_set__"].__set__(made, given)
    slots["__pydantic_extra__"].__set__(made, extra)
    slots["__pydantic_private__"].__set__(made, private)
    return made


def build_subclass(shape: Shape, base_value: object, state: dict[str, object]) -> object:
    """An instance of a builtin's subclass with the base's value and its own attributes."""
    made = _BUILD[shape.base](shape.cls, base_value)
    set_state(made, shape, state)
    return made


def build_exception(shape: Shape, args: tuple[object, ...], members: dict[str, object], state: dict[str, object]) -> object:
    """An exception by its nearest builtin's `__new__`; its own `__init__` does not run."""
    base = cast("Any", shape.base)
    grouped = issubclass(shape.base, BaseExceptionGroup)
    made = base.__new__(shape.cls, *args) if grouped else base.__new__(shape.cls)
    class_dict(BaseException)["args"].__set__(made, args)
    for owner, names in EXCEPTION_MEMBERS.items():
        if owner in shape.cls.__mro__:
            for name in names:
                if name in members:
                    class_dict(owner)[name].__set__(made, members[name])
    set_state(made, shape, state)
    return made


def find_member(shape: Shape, name: object, value: object) -> object | None:
    """The enum member of that name, or the flag combination of that value; None when the class has none such."""
    cls = cast("Any", shape.cls)
    if type(name) is str:
        return members_of(cls).get(name)
    if not issubclass(cls, Flag) or type(value) is not int:
        return None
    known = class_dict(cls)["_value2member_map_"].get(value)
    if known is not None:
        return known
    with suppress(ValueError, TypeError):
        made = class_dict(Flag)["_missing_"].__func__(cls, value)  # the standard library's own, past any override
        return made if getattr(made, "_value_", None) == value else None  # older ones drop bits that they do not know
    return None


def _filled(fill: Callable[[Any, Any], object]) -> Callable[[Any, Any], object]:
    def build(cls: Any, value: Any) -> object:
        made = shape_base(cls).__new__(cls)
        fill(made, value)
        return made

    return build


def shape_base(cls: type) -> Any:
    """The mutable builtin below `cls`."""
    return next(base for base in _MUTABLE if base in cls.__mro__)


def _set_items(made: Any, items: Iterable[tuple[object, object]]) -> None:
    for key, item in items:
        OrderedDict.__setitem__(made, key, item)


_MUTABLE: tuple[type, ...] = (OrderedDict, defaultdict, dict, list, set, deque, bytearray)
_BUILD: dict[type, Callable[[Any, Any], object]] = {
    **{base: base.__new__ for base in (str, int, float, complex, bytes, tuple, frozenset)},
    list: _filled(list.extend),
    dict: _filled(dict.update),
    set: _filled(set.update),
    bytearray: _filled(bytearray.__init__),
    OrderedDict: _filled(lambda made, value: _set_items(made, value.items())),
    defaultdict: _filled(lambda made, value: defaultdict.__init__(made, value.default_factory, value)),
    deque: _filled(lambda made, value: deque.__init__(made, value, value.maxlen)),
}
