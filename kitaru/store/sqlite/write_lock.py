"""The queue of writers of several processes: a flock on a file of its own, around BEGIN … COMMIT.

SQLite's own busy handler sleeps and tries again, and starved a writer for 3.3 s; the kernel wakes who waits. A process that
is stopped while it holds the lock must not hang the others, so nobody blocks in flock on the caller's own thread.
"""

from __future__ import annotations

import fcntl
import os
import threading

from kitaru.domain.errors import KitaruBackendError


class WriteLock:
    """One process's place in the queue. Used by one thread at a time: whoever leads the group commit."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = self._open()

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise KitaruBackendError(
                f"{self._path} cannot be opened to write ({error.strerror}); check who owns it", code="store-read-only"
            ) from None

    def acquire(self, timeout: float) -> None:
        """Take the lock, or raise KitaruBackendError(code="store-busy") after `timeout` seconds."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._acquire_in_turn(timeout)

    def release(self) -> None:
        """Let the next one in."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the descriptor, and with it give the lock up unless a copy is open elsewhere."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _acquire_in_turn(self, timeout: float) -> None:
        waiting = _Waiting(self._fd)
        if waiting.wait(timeout):
            return
        # The helper still sits in flock on the old description and closes it when it gets through.
        self._fd = self._open()
        raise KitaruBackendError(
            f"another process has held the store's write lock ({self._path}) for more than {timeout:g} seconds; "
            "see whether it is stopped, then try again",
            code="store-busy",
        )


class _Waiting:
    """A helper thread that blocks in flock, so that the caller can give up."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._guard = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()
        self._abandoned = False
        self._is_held = False
        threading.Thread(target=self._run, name="kitaru-write-lock", daemon=True).start()

    def _run(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        with self._guard:
            self._is_held = True
            if self._abandoned:
                os.close(self._fd)
        self._done.release()

    def wait(self, timeout: float) -> bool:
        """Whether the lock is ours. If not, the descriptor is the helper's from now on."""
        try:
            self._done.acquire(timeout=max(0.0, timeout))
        finally:
            with self._guard:
                if not self._is_held:
                    self._abandoned = True
        return self._is_held
