"""From bytes to a value. Whatever the bytes are, the outcome is a value or one error; no import by a stored name."""

# What a codec handles has no type known here: values are Any, and builtin methods are called past their generics.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

from kitaru.domain.errors import KitaruBackendError
from kitaru.domain.limits import MAX_DEPTH
from kitaru.store.values.building import build_data, build_exception, build_model, build_subclass, find_member
from kitaru.store.values.encoding import FACTORIES
from kitaru.store.values.hints import Classes
from kitaru.store.values.leaves import LEAVES, leaf_class
from kitaru.store.values.refusal import undecodable
from kitaru.store.values.shapes import Shape, shape_of
from kitaru.store.values.text import read

TAG = b'{"$":'
"""Where a tag starts in canonical bytes; no JSON text can hold it, since its quotes would be escaped."""


def decode(data: bytes, hint: object = None) -> object:
    """The value of canonical bytes. A class comes from the annotation `hint`, else from modules already imported.

    Without its class (or when the class is of another kind), an object comes back as plain data: a dict of fields, an
    enum's value, the builtin below a subclass, an exception as {"type", "args", "attributes"}.
    Raises KitaruBackendError(code="payload-undecodable"), and nothing else.
    """
    try:
        tree = read(data)
        return tree if TAG not in data else Decoder(hint).value(tree, 0)
    except KitaruBackendError:
        raise
    except RecursionError:
        raise undecodable("the calling stack is too deep to build it") from None
    except Exception as error:  # a value's parts may be anything once bytes are damaged
        raise undecodable(f"{type(error).__name__}: {error}") from error


class Decoder:
    """Builds the values of one tree, in place where JSON's own containers do."""

    __slots__ = ("classes",)

    def __init__(self, hint: object) -> None:
        self.classes = Classes(hint)

    def value(self, tree: Any, depth: int) -> object:
        """The value of one node, which stands `depth` levels inside."""
        kind = type(tree)
        if kind is not dict and kind is not list:
            return tree
        if depth > MAX_DEPTH:
            raise undecodable(f"it is nested deeper than {MAX_DEPTH} levels")
        if kind is list:
            return self.items(tree, depth)
        if "$" not in tree:
            return self.fields(tree, depth)
        reader = _READERS.get(tree["$"])
        if reader is None:
            raise undecodable(f"the tag {str(tree['$'])[:40]!r} is unknown")
        return reader(self, tree, depth)

    def items(self, tree: list[Any], depth: int) -> list[Any]:
        """A list's elements, or a tagged container's."""
        if type(tree) is not list:
            raise TypeError("a list expected")
        for index, item in enumerate(tree):
            if type(item) is dict or type(item) is list:
                tree[index] = self.value(item, depth + 1)
        return tree

    def fields(self, tree: dict[str, Any], depth: int) -> dict[str, Any]:
        """A dict's items, or an object's attributes."""
        if type(tree) is not dict:
            raise TypeError("an object expected")
        for key, item in tree.items():
            if type(item) is dict or type(item) is list:
                tree[key] = self.value(item, depth + 1)
        return tree

    def pairs(self, tree: Any, depth: int) -> list[tuple[Any, Any]]:
        """Keys and values that were written in turn."""
        found = self.items(tree["v"], depth)
        return list(zip(found[::2], found[1::2], strict=True))

    def shape(self, tree: Any) -> Shape | None:
        """The recorded class's shape, if the class is here and makes what the tag says."""
        found = self.classes.find(tree["c"])
        shape = None if found is None else shape_of(found)
        return shape if shape is not None and shape.kind == tree["$"] else None


def _read_leaf(decoder: Decoder, tree: Any, depth: int) -> object:
    tag = tree["$"]
    return LEAVES[tag].read(leaf_class(tag), decoder.value(tree["v"], depth + 1))


def _read_defaultdict(decoder: Decoder, tree: Any, depth: int) -> object:
    name = tree["f"]
    return defaultdict(None if name is None else FACTORIES[name], decoder.pairs(tree, depth))


def _read_data(decoder: Decoder, tree: Any, depth: int) -> object:
    shape = decoder.shape(tree)
    state = decoder.fields(tree["v"], depth)
    return state if shape is None else build_data(shape, state)


def _read_model(decoder: Decoder, tree: Any, depth: int) -> object:
    shape = decoder.shape(tree)
    state = decoder.fields(tree["v"], depth)
    extra = decoder.fields(tree["x"], depth) if "x" in tree else None
    if shape is None:
        return state | (extra or {})
    private = decoder.fields(tree["p"], depth) if "p" in tree else None
    return build_model(shape, state, set(tree.get("s", state)), extra, private)


def _read_subclass(decoder: Decoder, tree: Any, depth: int) -> object:
    shape = decoder.shape(tree)
    value = decoder.value(tree["v"], depth + 1)
    if shape is None or shape.base is not type(value):
        return value
    return build_subclass(shape, value, _optional(decoder, tree, "d", depth))


def _read_exception(decoder: Decoder, tree: Any, depth: int) -> object:
    shape = decoder.shape(tree)
    args = decoder.value(tree["a"], depth + 1)
    if type(args) is not tuple:
        raise TypeError("an exception's args are a tuple")
    members, state = _optional(decoder, tree, "m", depth), _optional(decoder, tree, "d", depth)
    if shape is None:
        return {"type": tree["c"], "args": list(args), "attributes": members | state}
    return build_exception(shape, args, members, state)


def _read_enum(decoder: Decoder, tree: Any, depth: int) -> object:
    shape = decoder.shape(tree)
    name = tree.get("n")
    value = decoder.value(tree["v"], depth + 1) if "v" in tree else name
    member = None if shape is None else find_member(shape, name, value)
    return value if member is None else member


def _optional(decoder: Decoder, tree: Any, key: str, depth: int) -> dict[str, Any]:
    return decoder.fields(tree[key], depth) if key in tree else {}


_READERS: dict[object, Callable[[Decoder, Any, int], object]] = {
    **dict.fromkeys(LEAVES, _read_leaf),
    "tuple": lambda decoder, tree, depth: tuple(decoder.items(tree["v"], depth)),
    "set": lambda decoder, tree, depth: set(decoder.items(tree["v"], depth)),
    "frozenset": lambda decoder, tree, depth: frozenset(decoder.items(tree["v"], depth)),
    "deque": lambda decoder, tree, depth: deque(decoder.items(tree["v"], depth), tree["m"]),
    "dict": lambda decoder, tree, depth: dict(decoder.pairs(tree, depth)),
    "OrderedDict": lambda decoder, tree, depth: OrderedDict(decoder.pairs(tree, depth)),
    "defaultdict": _read_defaultdict,
    "data": _read_data,
    "model": _read_model,
    "subclass": _read_subclass,
    "exception": _read_exception,
    "enum": _read_enum,
}
