"""The runtime's clock: wall time for records, and sleeping that can be cut short. Tests hand in another."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Where the runtime reads the time and waits for it."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        ...

    def sleep(self, seconds: float, wake: threading.Event) -> None:
        """Return after `seconds`, or when `wake` is set."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def sleep(self, seconds: float, wake: threading.Event) -> None:
        """Return after `seconds`, or when `wake` is set."""
        wake.wait(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


_installed: Clock = SystemClock()


def installed() -> Clock:
    """The clock of executions that begin or go on in this process from now on."""
    return _installed


def install(clock: Clock) -> Clock:
    """Make `clock` that clock, and give the one before: for tests, and for who simulates."""
    global _installed
    before, _installed = _installed, clock
    return before
