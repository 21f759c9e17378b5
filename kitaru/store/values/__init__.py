"""The value codec: what a flow's values look like as bytes, and back.

A JSON-native value is itself in JSON; anything else is an object tagged by its exact runtime type. Data never chooses
code: classes come from an annotation or from modules that are already imported, must be of the recorded kind, and are
rebuilt without running their `__init__`, `__post_init__`, validators, `__new__` or `__setstate__`. A user's `__hash__`
and `__eq__` do run when such an object is a dict key or a set's element: that cannot be avoided.

Not kept: sharing (two references to one list come back as two equal lists), an exception's traceback, cause and
context, an AttributeError's `obj`, a generic dataclass's `__orig_class__`, a NaN's sign and payload bits. A dataclass
field that stood on its class only (`init=False` with a default) comes back as the object's own.
"""

from __future__ import annotations

from kitaru.store.values.bare import bare_exception
from kitaru.store.values.decoding import decode
from kitaru.store.values.encoding import encode
from kitaru.store.values.exact import encode_exact
from kitaru.store.values.names import canonical_module, find_class
from kitaru.store.values.plain import to_plain
from kitaru.store.values.refusal import ValueNotEncodable

CODEC = "k1"
"""The codec's version, recorded with every payload and part of every reuse key."""

__all__ = [
    "CODEC",
    "ValueNotEncodable",
    "bare_exception",
    "canonical_module",
    "decode",
    "encode",
    "encode_exact",
    "find_class",
    "to_plain",
]
