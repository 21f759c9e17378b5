"""The public test kit: a store and a clock of a test's own, events, and the cases that every backend has to pass.

`EventLogContract` is for pytest: subclass it, name the subclass `Test…`, and give it `make_log`. Nothing here needs pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kitaru.testing.clock import FakeClock
from kitaru.testing.contract import EventLogContract
from kitaru.testing.events import append, call, completed, fold, new_id, raises, start, started
from kitaru.testing.models import FakeModel
from kitaru.testing.places import fake_clock, temporary_store

if TYPE_CHECKING:
    from kitaru.store.log import ProjectorFactory
    from kitaru.store.memory import MemoryLog

__all__ = [
    "EventLogContract",
    "FakeClock",
    "FakeModel",
    "append",
    "call",
    "completed",
    "fake_clock",
    "fold",
    "memory_log",
    "new_id",
    "raises",
    "start",
    "started",
    "temporary_store",
]


def memory_log(projectors: Sequence[ProjectorFactory] = ()) -> MemoryLog:
    """A store in memory with these read models."""
    from kitaru.store.memory import MemoryLog

    return MemoryLog(projectors)
