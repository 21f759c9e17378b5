"""One lease a process: a file of its own that the kernel unlocks when the process dies, kept fresh by a heartbeat.

Host names and process ids lie in containers; a lock does not. The heartbeat tells when a runner is stopped, or its disk.
Several logs of one folder in a process share the lease: a second descriptor of its file, closed, would drop the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import threading
import time
from uuid import uuid4

from kitaru.domain.errors import KitaruBackendError

DEFAULT_LEASE_SECONDS = 30.0
_RUNNER_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SUFFIX = ".lock"
_MOST_SWEPT = 1000


class _Lease:
    """A locked file and its heartbeat."""

    def __init__(self, folder: str, seconds: float) -> None:
        self.runner = str(uuid4())
        self.users = 0
        self._path = os.path.join(folder, self.runner + _SUFFIX)
        self._seconds = seconds
        os.makedirs(folder, mode=0o700, exist_ok=True)
        unnamed = os.path.join(folder, self.runner + ".new")
        self._fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        os.write(self._fd, f"{seconds:g}\n".encode())
        os.rename(unnamed, self._path)  # a file with its name is locked, or its runner is dead
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="kitaru-lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(self._seconds / 3):
            with contextlib.suppress(OSError):
                os.utime(self._fd)

    def forget(self) -> None:
        os.close(self._fd)

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(self._fd)


_leases: dict[tuple[int, int], _Lease] = {}
_guard = threading.Lock()


def _forget() -> None:
    """In a forked child: the leases are the parent's. Closing a copy of a descriptor here drops nothing there."""
    global _guard
    for lease in _leases.values():
        lease.forget()
    _leases.clear()
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_forget)


class FileLeases:
    """The leases of one store's folder, as one log of this process sees them."""

    def __init__(self, store_folder: str, lease_seconds: float | None = None) -> None:
        self._folder = os.path.join(store_folder, "runners")
        self._store_folder = store_folder
        self._seconds = lease_seconds if lease_seconds is not None else _seconds_from_environment()
        self._lease: _Lease | None = None

    def acquire(self) -> str:
        """This process's runner id, made and locked at the first call."""
        with _guard:
            if self._lease is None:
                key = self._key()
                lease = _leases.get(key)
                if lease is None:
                    try:
                        if os.path.islink(self._folder):  # it would lead out of the store, and files there are unlinked
                            raise OSError(errno.ELOOP, "it is a symbolic link")
                        self._sweep()
                        lease = _leases[key] = _Lease(self._folder, self._seconds)
                    except OSError as error:
                        raise KitaruBackendError(
                            f"no lease can be had in {self._folder} ({error.strerror}); check who owns it, and its disk",
                            code="store-read-only",
                        ) from error
                lease.users += 1
                self._lease = lease
            return self._lease.runner

    def is_alive(self, runner: str) -> bool:
        """Whether the process behind a runner id lives and has kept its lease fresh. Whatever is no runner id is not."""
        if not _RUNNER_ID.fullmatch(runner):
            return False
        with _guard:
            if any(lease.runner == runner for lease in _leases.values()):
                return True
        return _is_held_and_fresh(os.path.join(self._folder, runner + _SUFFIX))

    def release(self) -> None:
        """Give the lease up: no execution runs here any more."""
        with _guard:
            lease, self._lease = self._lease, None
            if lease is None or lease not in _leases.values():
                return
            lease.users -= 1
            if lease.users == 0:
                del _leases[next(key for key, value in _leases.items() if value is lease)]
                lease.end()

    def forget(self) -> None:
        """In a forked child: the lease is the parent's."""
        self._lease = None

    def leftovers(self) -> list[str]:
        """The files of runners that are dead."""
        with _guard:
            return self._dead()

    def _key(self) -> tuple[int, int]:
        found = os.stat(self._store_folder)
        return (found.st_dev, found.st_ino)

    def _sweep(self) -> None:
        """Unlink the files of dead runners."""
        for path in self._dead():
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _dead(self) -> list[str]:
        try:
            names = os.listdir(self._folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        found: list[str] = []
        own = {lease.runner + _SUFFIX for lease in _leases.values()}
        for name in names[:_MOST_SWEPT]:
            if name in own or not name.endswith(_SUFFIX) or not _RUNNER_ID.fullmatch(name.removesuffix(_SUFFIX)):
                continue
            path = os.path.join(self._folder, name)
            if not _is_held(path):
                found.append(path)
        return found


def _seconds_from_environment() -> float:
    text = os.environ.get("KITARU_LEASE_SECONDS", "")
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if 0 < seconds < float("inf"):
            return seconds
    return DEFAULT_LEASE_SECONDS


def _is_held(path: str) -> bool:
    """Whether a process has the file locked. Readers share, so two who ask do not see each other."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _is_held_and_fresh(path: str) -> bool:
    try:
        age = time.time() - os.stat(path, follow_symlinks=False).st_mtime
        with open(path, "rb") as file:
            seconds = float(file.read(32))
    except (OSError, ValueError):
        return False
    return age < seconds and _is_held(path)
