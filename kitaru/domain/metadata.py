"""How logged metadata adds up: scalars and lists replace, dicts merge, a key stays where it first stood."""

from __future__ import annotations

from typing import cast

Tree = dict[str, object]
"""A dict of values as the codec writes it: what JSON lacks is an object with the key "$", which is a scalar here."""


def merged(old: Tree, new: Tree) -> Tree:
    """`old` with `new` logged on top."""
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        if is_tree(value) and is_tree(before):
            result[key] = merged(cast("Tree", before), cast("Tree", value))
        else:
            result[key] = value
    return result


def is_tree(value: object) -> bool:
    """Whether a value is a plain dict, as opposed to a tagged one."""
    return isinstance(value, dict) and "$" not in value
