"""A value for readers: plain JSON, with no class looked up, whatever was recorded."""

# What a codec handles has no type known here: values are Any, and builtin methods are called past their generics.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from kitaru.domain.errors import KitaruBackendError
from kitaru.store.values.decoding import TAG
from kitaru.store.values.leaves import LEAVES
from kitaru.store.values.refusal import undecodable
from kitaru.store.values.text import read, write


def to_plain(data: bytes) -> object:
    """The JSON-able form of canonical bytes: tuples and sets are lists, bytes {"$bytes": base64}, objects their fields.

    Numbers that JSON lacks are text ("NaN", "Infinity", an int beyond 64 bits). A dict's keys become text; where two
    would collide, the dict is a list of pairs. Never raises on bytes that the codec wrote; on others
    KitaruBackendError(code="payload-undecodable").
    """
    try:
        tree = read(data)
        return tree if TAG not in data else _plain(tree)
    except KitaruBackendError:
        raise
    except Exception as error:
        raise undecodable(f"{type(error).__name__}: {error}") from error


def _plain(tree: Any) -> Any:
    if type(tree) is list:
        return [_plain(item) for item in cast("list[object]", tree)]
    if type(tree) is not dict:
        return tree
    if "$" not in tree:
        return _fields(tree)
    tag = cast("str", tree["$"])
    if tag in LEAVES:
        return LEAVES[tag].show(_plain(tree["v"]))
    show = _SHOW.get(tag)
    if show is None:
        raise undecodable(f"the tag {tag[:40]!r} is unknown")
    return show(tree)


def _fields(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _plain(item) for key, item in tree.items()}


def _show_pairs(tree: Any) -> object:
    keys, values = [_plain(key) for key in tree["v"][::2]], [_plain(item) for item in tree["v"][1::2]]
    names = [key if type(key) is str else write(key).decode() for key in keys]
    if len(set(names)) == len(names):
        return dict(zip(names, values, strict=True))
    return [list(pair) for pair in zip(keys, values, strict=True)]


def _show_model(tree: Any) -> object:
    return _fields(tree["v"]) | _fields(tree.get("x", {}))


def _show_exception(tree: Any) -> object:
    attributes = _fields(tree.get("m", {})) | _fields(tree.get("d", {}))
    return {"type": tree["c"], "args": _plain(tree["a"]), "attributes": attributes}


def _show_value(tree: Any) -> object:
    return _plain(tree["v"])


_SHOW: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(("tuple", "set", "frozenset", "deque", "subclass"), _show_value),
    **dict.fromkeys(("dict", "OrderedDict", "defaultdict"), _show_pairs),
    "data": lambda tree: _fields(tree["v"]),
    "model": _show_model,
    "exception": _show_exception,
    "enum": lambda tree: _plain(tree["v"]) if "v" in tree else tree["n"],
}
