"""The terminal that a command shares with the flows of its process: the command says what begins, its line gives way."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Shared(Protocol):
    """What a command has on the terminal while flows run in its process."""

    def begins(self, exec_id: str) -> None:
        """An execution is about to begin here: nothing of it was printed yet."""
        ...

    def writing(self, stream: str, text: str) -> AbstractContextManager[object]:
        """While it lasts `text` is written to that stream."""
        ...


class _Place:
    """The command's, if there is one."""

    shared: Shared | None = None


_place = _Place()


def share(shared: Shared | None) -> None:
    """Say who shares the terminal from now on."""
    _place.shared = shared


def begins(exec_id: str) -> None:
    """An execution is about to begin in this process."""
    if _place.shared is not None:
        _place.shared.begins(exec_id)


def is_shared() -> bool:
    """Whether some command has a line there."""
    return _place.shared is not None


def writing(stream: str, text: str) -> AbstractContextManager[object]:
    """While it lasts `text` is written to that stream: stdout or stderr."""
    return _NOBODY if _place.shared is None else _place.shared.writing(stream, text)


_NOBODY = nullcontext()
os.register_at_fork(after_in_child=lambda: share(None))  # a thread that is not in the child may hold its lock
