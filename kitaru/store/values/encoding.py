"""From a value to canonical bytes: JSON for what JSON has, an object tagged by the exact runtime type for the rest.

`wire` turns a value into a tree of exact JSON types. A JSON library left alone writes NaN as null or as no JSON, tuples
as lists, subclasses and enums as their base, all silently.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from math import isfinite
from types import NoneType
from typing import Any, cast

from kitaru.domain.limits import MAX_DEPTH
from kitaru.store.values.leaves import LEAVES, Leaf, tag_of
from kitaru.store.values.objects import Parts, parts_of
from kitaru.store.values.refusal import Refused, ValueNotEncodable, step, type_name
from kitaru.store.values.text import HIGHEST, LOWEST, write

_FREE_ATOMS = frozenset({NoneType, bool, str})
_FEW = 8
"""Items that are looked at one by one sooner than all at once."""
FACTORIES: dict[str, type] = {cls.__name__: cls for cls in (list, dict, int, set, str, float, tuple, bool)}
"""What a defaultdict may call: a closed table, so that data never names a function."""


def encode(value: object) -> bytes:
    """The canonical bytes of `value`; equal bytes mean equal values of the same exact types.

    Raises ValueNotEncodable for what could not come back exactly: unknown types, classes that cannot be found by name,
    cycles and nesting beyond MAX_DEPTH.
    """
    try:
        if is_native(value):
            return write(value)
    except (UnicodeEncodeError, RuntimeError, TypeError):
        pass  # a lone surrogate: tagged below; a full stack, a dict that changes, a class without a hash: said below
    return encode_tagged(value)


def encode_tagged(value: object) -> bytes:
    """As `encode`, without the fast path."""
    try:
        return write(wire(value, 0))
    except Refused as refused:
        raise refused.public() from None
    except RecursionError:
        raise ValueNotEncodable(type_name(type(value)), "$", "the calling stack is too deep to walk it") from None
    except (RuntimeError, TypeError) as error:
        raise ValueNotEncodable(type_name(type(value)), "$", f"reading it failed with {error!r}") from error


def is_native(value: object, depth: int = 0) -> bool:
    """Whether JSON has the value as it is. Lone surrogates in its texts aside: `write` refuses those."""
    kind = type(value)
    if kind is list:
        children: Iterable[Any] = cast("list[Any]", value)
    elif kind is dict:
        items = cast("dict[Any, Any]", value)
        for key in items:
            if type(key) is not str or key[:1] == "$":
                return False
        children = items.values()
    elif kind is int:
        return LOWEST <= cast("int", value) <= HIGHEST
    else:
        return isfinite(cast("float", value)) if kind is float else kind in _FREE_ATOMS
    size = len(cast("list[Any]", value))
    if depth >= MAX_DEPTH:
        return not size
    if size > _FEW:
        kinds = set(map(type, children))
        if len(kinds) == 1:
            if float in kinds:
                return all(map(isfinite, children))
            if int in kinds:
                return min(children) >= LOWEST and max(children) <= HIGHEST
        if kinds <= _FREE_ATOMS:
            return True
    for item in children:  # noqa: SIM110 - a generator's frame would double the stack
        if type(item) not in _FREE_ATOMS and not is_native(item, depth + 1):
            return False
    return True


def wire(value: object, depth: int) -> object:
    """The JSON tree of `value`, which stands `depth` levels inside."""
    kind = type(value)
    if kind is NoneType or kind is bool:
        return value
    if depth > MAX_DEPTH:
        raise Refused(kind, f"it is nested deeper than {MAX_DEPTH} levels, or contains itself")
    writer = _WRITERS.get(kind)
    return _write_object(value, depth) if writer is None else writer(value, depth)


def clean_text(text: object) -> bool:
    """Whether it is a plain str that UTF-8 can hold."""
    if type(text) is not str:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_int(value: Any, _: int) -> object:
    return value if LOWEST <= value <= HIGHEST else {"$": "int", "v": hex(value)}


def _write_float(value: Any, _: int) -> object:
    return value if isfinite(value) else {"$": "float", "v": repr(value)}


def _write_str(value: Any, _: int) -> object:
    return value if clean_text(value) else {"$": "str", "v": LEAVES["str"].write(value)}


def _write_list(value: Iterable[object], depth: int) -> list[object]:
    found: list[object] = []
    try:
        for item in value:
            found.append(wire(item, depth + 1))  # noqa: PERF401 - the length names the place of a refusal
    except Refused as refused:
        refused.at(f"[{len(found)}]")
        raise
    return found


def _write_dict(value: Any, depth: int) -> object:
    found: dict[str, object] = {}
    key: Any = None
    try:
        for key, item in value.items():
            if type(key) is not str or key[:1] == "$" or not clean_text(key):
                break
            found[key] = wire(item, depth + 1)
        else:
            return found
    except Refused as refused:
        refused.at(step(key))
        raise
    return {"$": "dict", "v": _pairs(value, depth)}


def _pairs(value: Any, depth: int) -> list[object]:
    """Keys and values in turn: JSON has no other keys than text, and a key with "$" could pass for a tag."""
    found: list[object] = []
    key: Any = None
    try:
        for key, item in value.items():
            found.append(wire(key, depth + 1))
            found.append(wire(item, depth + 1))
    except Refused as refused:
        refused.at(f".keys()[{len(found) // 2}]" if len(found) % 2 == 0 else step(key))
        raise
    return found


def _write_set(value: Any, depth: int) -> object:
    """Elements sorted by their bytes: a set's own order changes with the hash seed."""
    found: list[object] = []
    try:
        for item in value:
            found.append(wire(item, depth + 1))  # noqa: PERF401 - nothing is asked of a set that is refused
    except Refused as refused:
        refused.at("{}")
        raise
    return {"$": type(value).__name__, "v": sorted(found, key=write)}


def _write_tuple(value: Any, depth: int) -> object:
    return {"$": "tuple", "v": _write_list(value, depth)}


def _write_ordered(value: Any, depth: int) -> object:
    if value.__dict__:
        raise Refused(OrderedDict, "it has attributes of its own")
    return {"$": "OrderedDict", "v": _pairs(value, depth)}


def _write_defaultdict(value: Any, depth: int) -> object:
    factory = value.default_factory
    name = None if factory is None else next((name for name, known in FACTORIES.items() if known is factory), "")
    if name == "":
        raise Refused(defaultdict, "its factory is none of " + ", ".join(FACTORIES))
    return {"$": "defaultdict", "f": name, "v": _pairs(value, depth)}


def _write_deque(value: Any, depth: int) -> object:
    return {"$": "deque", "m": value.maxlen, "v": _write_list(value, depth)}


def _write_leaf(tag: str, leaf: Leaf) -> Callable[[Any, int], object]:
    def writer(value: Any, depth: int) -> object:
        try:
            return {"$": tag, "v": wire(leaf.write(value), depth + 1)}
        except Refused as refused:
            refused.segments.clear()  # inside a leaf there is no path that a caller could follow
            raise

    return writer


def _write_object(value: object, depth: int) -> object:
    cls = type(value)
    tag = tag_of(cls)
    if tag is not None:
        _WRITERS[cls] = _write_leaf(tag, LEAVES[tag])
        return _WRITERS[cls](value, depth)
    return _write_parts(parts_of(value), depth)


def _write_parts(parts: Parts, depth: int) -> object:
    tree: dict[str, object] = {"$": parts.kind, "c": parts.reference}
    segment = ""
    try:
        for name, item in parts.values.items():
            segment = ".args" if name == "a" else ""
            tree[name] = wire(item, depth + 1)
        for name, attributes in parts.attributes.items():
            state: dict[str, object] = {}
            for attribute, item in attributes.items():
                segment = step(attribute)
                if not clean_text(attribute):
                    raise Refused(type(attribute), "it names an attribute")
                state[attribute] = wire(item, depth + 1)
            tree[name] = state
    except Refused as refused:
        refused.at(segment)
        raise
    tree.update(parts.names)
    return tree


_WRITERS: dict[type, Callable[[Any, int], object]] = {
    int: _write_int,
    float: _write_float,
    str: _write_str,
    list: _write_list,
    dict: _write_dict,
    tuple: _write_tuple,
    set: _write_set,
    frozenset: _write_set,
    OrderedDict: _write_ordered,
    defaultdict: _write_defaultdict,
    deque: _write_deque,
}
"""By exact type; leaves join when they are first seen, so that their modules are never imported to write."""
