"""JSON text: the codec's one writer and one reader.

Written by the standard library, not by orjson, for two measured reasons. orjson.dumps 3.12.0 and 3.13.0 write past
their buffer on ordinary data (`[["a" * 150] * 98] + [10**18] * 100` corrupts the heap), 3.11.5 on a Fragment in deep
nesting (compare ijl/orjson#637). And its text of a float changed inside 3.11 (1e22, then 1e+22), which would change
digests and reuse keys; CPython's has not changed since 3.1. Reading is orjson's: strict, and several times as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from json import JSONEncoder, encoder
from typing import Any

from orjson import loads

_ENCODER = JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))

LOWEST, HIGHEST = -(2**63), 2**64 - 1
"""The integers that JSON readers take as integers; orjson reads larger ones as floats."""


def _composer() -> Callable[[object, int], Iterable[str]]:
    """What `_ENCODER.encode` joins, in half the time for small values: that makes its C encoder anew for each of them."""
    make: Any = getattr(encoder, "c_make_encoder", None)  # None where the interpreter has none
    one = _ENCODER
    if make is None:
        return lambda tree, _: one.encode(tree)
    separators = (one.key_separator, one.item_separator)
    return make(None, one.default, encoder.encode_basestring, one.indent, *separators, False, False, one.allow_nan)


_compose = _composer()


def write(tree: object) -> bytes:
    """The text of a tree of exact JSON types. UnicodeEncodeError for a lone surrogate, RecursionError: full stack."""
    return "".join(_compose(tree, 0)).encode()


def read(data: bytes) -> Any:
    """The tree of a JSON text; orjson.JSONDecodeError (a ValueError) for anything else, 1,024 levels at most."""
    return loads(data)
