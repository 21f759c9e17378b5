"""A clock that the test moves."""

from __future__ import annotations

import asyncio
import threading


class FakeClock:
    """A clock that stands still until the test, or a sleep, moves it. Times are microseconds since 1970."""

    def __init__(self, now: int = 1_700_000_000_000_000) -> None:
        self._now = now
        self._guard = threading.Lock()

    def now(self) -> int:
        """The time that the test has set."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._guard:
            self._now += round(seconds * 1_000_000)

    def sleep(self, seconds: float, wake: threading.Event) -> None:
        """Time passes at once, unless `wake` is set."""
        if not wake.is_set():
            self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Time passes at once."""
        self.advance(seconds)
        await asyncio.sleep(0)
