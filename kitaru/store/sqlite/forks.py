"""After a fork the child has no store: SQLite's locks belong to the parent, and closing a copy would undo them.

What is open registers here; in the child it is told to forget its connections. They are kept alive for ever, because a
connection that is collected is closed.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

from kitaru.domain.errors import KitaruUsageError


class Forgets(Protocol):
    """Something that holds connections."""

    def forget(self) -> None:
        """Drop every reference to what the parent holds, after keeping it alive."""
        ...


_open: WeakSet[Forgets] = WeakSet()
_graveyard: list[object] = []


def watch(holder: Forgets) -> None:
    """Tell `holder` to forget when this process is forked."""
    _open.add(holder)


def keep(thing: object) -> None:
    """Keep `thing` alive to the very end, past the interpreter's own clearing of modules."""
    import ctypes

    _graveyard.append(thing)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def refusal(location: str) -> KitaruUsageError:
    """What using the store in a forked child raises."""
    return KitaruUsageError(
        f"the store {location} was opened before this process was forked; open it again in the child, or start the child by spawn",
        code="store-after-fork",
    )


def _forget_all() -> None:
    for holder in list(_open):
        holder.forget()
    _open.clear()


os.register_at_fork(after_in_child=_forget_all)
