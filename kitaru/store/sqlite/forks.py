"""After a fork the child has no store: SQLite's locks belong to the parent, and closing a copy would undo them.

What is open registers here; in the child it is told to forget its connections. They are kept alive for ever, because a
connection that is collected is closed, and closing takes back what the parent may be writing at that moment.

Opening the same file again in the child is refused too: SQLite keeps its locks by process in a table that the child
inherits, so the child would believe that it holds what only its parent holds.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakKeyDictionary

from kitaru.domain.errors import KitaruUsageError


class Forgets(Protocol):
    """Something that holds connections."""

    def forget(self) -> None:
        """Drop every reference to what the parent holds, after keeping it alive."""
        ...


_open: WeakKeyDictionary[Forgets, tuple[int, int]] = WeakKeyDictionary()
_inherited: set[tuple[int, int]] = set()
_graveyard: list[object] = []


def watch(holder: Forgets, path: str) -> None:
    """Tell `holder`, which has the file at `path` open, to forget when this process is forked."""
    _open[holder] = _key(path)


def unwatch(holder: Forgets) -> None:
    """`holder` has closed what it had open."""
    _open.pop(holder, None)


def check(path: str, location: str) -> None:
    """Raise KitaruUsageError if the file was open in a parent when this process was forked."""
    if _inherited and _key(path) in _inherited:
        raise refusal(location)


def keep(thing: object) -> None:
    """Keep `thing` alive to the very end, past the interpreter's own clearing of modules."""
    import ctypes

    _graveyard.append(thing)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def refusal(location: str) -> KitaruUsageError:
    """What using the store in a forked child raises."""
    return KitaruUsageError(
        f"the store {location} was open when this process was forked, so it cannot be used here; "
        "start the process by `spawn` or `forkserver`, or use the store in its parent",
        code="store-after-fork",
    )


def _key(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return (found.st_dev, found.st_ino)


def _forget_all() -> None:
    for holder, key in list(_open.items()):
        _inherited.add(key)
        holder.forget()
    _open.clear()


os.register_at_fork(after_in_child=_forget_all)
