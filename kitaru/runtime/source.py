"""Where a function is written, and whether that is still what runs.

Imports only the standard library's os: decorating a function must stay cheap.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import FunctionType

Stamp = tuple[int, int] | None
"""A file's time of change in nanoseconds and its size in bytes; None where there is no file."""


def stamp_of(file: str) -> Stamp:
    """The stamp of a file as it is now. One taken when code was loaded tells later whether the file was edited since."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def undecorated(fn: Callable[..., object]) -> FunctionType:
    """The user's own function under decorators that keep it as `__wrapped__`: where it is written is where it is loaded."""
    for _ in range(100):
        inner = getattr(fn, "__wrapped__", None)
        if getattr(inner, "__code__", None) is None:
            break
        fn = cast("Callable[..., object]", inner)
    return cast("FunctionType", fn)
