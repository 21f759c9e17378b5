"""Waking whoever waits for a commit: at once in this process, across processes by polling, and only while somebody waits."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable

from kitaru.domain.errors import KitaruUsageError

POLL_SECONDS = 0.005
IDLE_POLL_SECONDS = 0.05
IDLE_AFTER_SECONDS = 60.0


class CommitSignal:
    """Counts commits. `poll` reads a number that changes with every commit of any process; None when there is only this one.

    Nothing is counted while nobody waits: `token` and `wait` look for themselves.
    """

    def __init__(self, poll: Callable[[], int] | None = None) -> None:
        self._condition = threading.Condition()
        self._poll = poll
        self._polled = 0 if poll is None else poll()
        self._token = 0
        self._watcher: threading.Thread | None = None
        self._is_closed = False
        self._refusal: KitaruUsageError | None = None
        self.waiting = 0

    def token(self) -> int:
        """A number that differs once something was committed after this call."""
        if self._refusal is not None:
            raise self._refusal
        with self._condition:
            self._look()
            return self._token

    def wait(self, token: int, timeout: float | None) -> int:
        """Return the current token once it differs from `token`, or after `timeout` seconds, or when the store closes."""
        if self._refusal is not None:
            raise self._refusal
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            self.waiting += 1
            try:
                self._look()
                while self._token == token and not self._is_closed:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        break
                    self._watch()
                    self._condition.wait(left)
                return self._token
            finally:
                self.waiting -= 1

    def committed(self) -> None:
        """Wake who waits in this process. The writer calls it only while `waiting` is not 0, or always without a poll."""
        with self._condition:
            if self._poll is None:
                self._token += 1
            else:
                self._look()
            self._condition.notify_all()

    def close(self) -> None:
        """Wake everybody for the last time, and let the thread end."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()
            watcher = self._watcher
        if watcher is not None:
            watcher.join()

    def forget(self, refusal: KitaruUsageError) -> None:
        """In a forked child: the connection that polls is the parent's, and so are the threads that wait."""
        self._refusal = refusal

    def _look(self) -> None:
        if self._poll is None or self._is_closed:
            return
        try:
            polled = self._poll()
        except sqlite3.Error:
            polled = self._polled + 1  # whoever waits meets the error by itself when it reads
        if polled != self._polled:
            self._polled = polled
            self._token += 1
            self._condition.notify_all()  # whoever sees the change first: the others that wait would look in vain

    def _watch(self) -> None:
        if self._poll is not None and self._watcher is None:
            self._watcher = threading.Thread(target=self._run, name="kitaru-changes", daemon=True)
            self._watcher.start()

    def _run(self) -> None:
        changed_at = time.monotonic()
        pause = POLL_SECONDS
        while True:
            time.sleep(pause)
            with self._condition:
                if self.waiting == 0 or self._is_closed:
                    self._watcher = None
                    return
                token = self._token
                self._look()
                now = time.monotonic()
                if self._token != token:
                    changed_at = now
                pause = POLL_SECONDS if now - changed_at < IDLE_AFTER_SECONDS else IDLE_POLL_SECONDS
