"""The public test kit: a store in memory, a clock that the test moves, events, and the cases that every backend has to pass.

`EventLogContract` is for pytest: subclass it, name the subclass `Test…`, and give it `make_log`. Nothing here needs pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kitaru.testing.clock import FakeClock
from kitaru.testing.contract import EventLogContract
from kitaru.testing.events import append, call, completed, fold, new_id, raises, start, started

if TYPE_CHECKING:
    from kitaru.store.log import ProjectorFactory
    from kitaru.store.memory import MemoryLog

__all__ = [
    "EventLogContract",
    "FakeClock",
    "append",
    "call",
    "completed",
    "fold",
    "memory_log",
    "new_id",
    "raises",
    "start",
    "started",
]


def memory_log(projectors: Sequence[ProjectorFactory] = ()) -> MemoryLog:
    """A store in memory with these read models."""
    from kitaru.store.memory import MemoryLog

    return MemoryLog(projectors)
