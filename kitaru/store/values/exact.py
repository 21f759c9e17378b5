"""A value and what the flow receives in its place: the decoded one, the first time too, proven to be the same."""

# What a codec handles has no type known here: values are Any, and builtin methods are called past their generics.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

from typing import Any, cast

from kitaru.domain.errors import KitaruBackendError
from kitaru.store.values.decoding import decode
from kitaru.store.values.encoding import encode_tagged, is_native
from kitaru.store.values.leaves import LEAVES
from kitaru.store.values.refusal import ValueNotEncodable, step, type_name
from kitaru.store.values.text import read, write

_MUTABLE = (list, dict)


def encode_exact(value: object) -> tuple[bytes, object]:
    """The value's bytes, and the decoded value. Encoding the latter gives the same bytes, with exact types.

    Raises ValueNotEncodable, naming type and path, for what does not come back. Equality is never asked: a ZoneInfo
    that became an offset would still compare equal. What is JSON by itself is not encoded twice.
    """
    try:
        if is_native(value):
            data = write(value)
            return data, read(data) if type(value) in _MUTABLE else value
    except (UnicodeEncodeError, RuntimeError, TypeError):
        pass  # as in `encode`
    data = encode_tagged(value)
    try:
        decoded = decode(data)
        again = encode_tagged(decoded)
    except KitaruBackendError as error:
        raise ValueNotEncodable(
            type_name(type(value)), "$", f"its recorded form cannot be read ({error.message})"
        ) from error
    if again != data:
        place, tag = _difference(read(data), read(again), "$")
        raise ValueNotEncodable(tag or type_name(type(value)), place, "what comes back is not the same")
    return data, decoded


def _difference(left: Any, right: Any, path: str) -> tuple[str, str]:
    """Where two trees first differ, as a path into the value, and the type that is recorded there."""
    if type(left) is not type(right) or type(left) not in (dict, list):
        return path, ""
    if type(left) is list:
        for index, (mine, other) in enumerate(zip(left, right, strict=False)):
            if mine != other:
                return _difference(mine, other, f"{path}[{index}]")
        return path, ""
    if left.get("$") in LEAVES:
        return path, f"{LEAVES[left['$']].module}.{left['$']}"
    here = str(cast("dict[str, object]", left).get("c", left.get("$", ""))).replace(":", ".")
    if left.get("$") != right.get("$") or left.get("c") != right.get("c"):
        return path, here
    for key, mine in left.items():
        if key in right and mine != right[key]:
            inner = path if "$" in left else path + step(key)
            found, tag = (
                _attribute_difference(mine, right[key], inner) if "$" in left else _difference(mine, right[key], inner)
            )
            return found, tag or here
    return path, here


def _attribute_difference(left: Any, right: Any, path: str) -> tuple[str, str]:
    if type(left) is dict and type(right) is dict and "$" not in left and left.keys() == right.keys():
        for key, mine in left.items():
            if mine != right[key]:
                return _difference(mine, right[key], path + step(key))
    return _difference(left, right, path)
