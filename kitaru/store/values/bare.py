"""What is left of an exception that does not encode as it is: its class, and what of its state does.

HTTP libraries put responses and clients on their exceptions. `except TheirError` has to catch them after a recovery too.
"""

from __future__ import annotations

from typing import cast

from kitaru.store.values.building import build_exception
from kitaru.store.values.encoding import encode
from kitaru.store.values.objects import parts_of
from kitaru.store.values.refusal import Refused, ValueNotEncodable, type_name
from kitaru.store.values.shapes import shape_of

_CUT = "… (cut) …"


def bare_exception(error: BaseException, most: int) -> BaseException | None:
    """The same class with the args, members and attributes that encode in at most `most` bytes each; its own `__init__`
    does not run. Other args become text, other attributes are left out. None for a class that cannot be found again.
    """
    shape = shape_of(type(error))
    try:
        parts = parts_of(error)
    except Refused:
        return None
    if shape is None or shape.kind != "exception":
        return None
    given = cast("tuple[object, ...]", parts.values["a"])
    if isinstance(error, BaseExceptionGroup):
        inner = [_of_group(each, most) for each in cast("BaseExceptionGroup[BaseException]", error).exceptions]
        args: tuple[object, ...] = (_small(given[0], most), inner)
    else:
        args = tuple(_small(arg, most) for arg in given)
    members, state = (
        {name: value for name, value in parts.attributes.get(key, {}).items() if _fits(value, most)} for key in ("m", "d")
    )
    return cast("BaseException", build_exception(shape, args, members, state))


def _of_group(error: BaseException, most: int) -> BaseException:
    bare = bare_exception(error, most)
    return bare if bare is not None else Exception(f"<{type_name(type(error))}>")


def _small(value: object, most: int) -> object:
    if _fits(value, most):
        return value
    return value[: most // 4] + _CUT if type(value) is str else f"<{type_name(type(value))}>"


def _fits(value: object, most: int) -> bool:
    try:
        return len(encode(value)) <= most
    except ValueNotEncodable:
        return False
