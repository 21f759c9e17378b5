"""The folder that an export writes to: readers always see one whole export, whatever happens to the next.

    DIR/executions -> .export/current/executions     one link a table, made once
    DIR/.export/current -> 7                          moved in one step when generation 7 is whole and on disk
    DIR/.export/7/executions/...parquet               files that did not change are hard links of those before
    DIR/.export/7/manifest.json
    DIR/.export/8.partial                             what a killed export leaves; the next one removes it

`*.parquet`, `**` and the readers' own folder scans pass over names that begin with a dot.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from kitaru.analytics.export.manifest import Manifest, Part, damaged, dump, parse
from kitaru.domain.errors import KitaruBackendError, KitaruStateError, KitaruUsageError

_HOME = ".export"
_CURRENT = "current"
_MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Target:
    """A folder that this process alone exports to. Made by `open_target`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._home = os.path.join(folder, _HOME)
        self.manifest = self._read_manifest()
        self._sweep()
        if self.manifest is not None:
            self._link(self.manifest.tables)

    @property
    def generation(self) -> int:
        """The number of the export that readers see; 0 before the first."""
        try:
            return int(os.readlink(os.path.join(self._home, _CURRENT)))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):
            raise damaged(self.folder, "its current export is not to be found") from None

    def begin(self) -> Generation:
        """The next generation, empty."""
        return Generation(self._home, self.generation + 1)

    def commit(self, generation: Generation, manifest: Manifest) -> None:
        """Make a generation the one that readers see, and remove the one before."""
        generation.finish(dump(manifest))
        _sync(self._home)
        self._link(manifest.tables)
        link = os.path.join(self._home, _CURRENT + _PARTIAL)
        os.symlink(str(generation.number), link)
        os.replace(link, os.path.join(self._home, _CURRENT))
        _sync(self._home)
        self.manifest = manifest
        self._sweep()

    def _read_manifest(self) -> Manifest | None:
        generation = self.generation
        if generation == 0:
            return None
        home = os.path.join(self._home, str(generation))
        try:
            with open(os.path.join(home, _MANIFEST), "rb") as file:
                manifest = parse(file.read(), self.folder)
        except OSError:
            raise damaged(self.folder, "its manifest is missing") from None
        for table, state in manifest.tables.items():
            for part in state.parts():
                path = os.path.join(home, table, part.path)
                if not os.path.isfile(path) or os.path.getsize(path) != part.size:
                    raise damaged(self.folder, f"{table}/{part.path} is missing or has another size")
            link = os.path.join(self.folder, table)
            if os.path.lexists(link) and os.path.realpath(link) != os.path.realpath(os.path.join(home, table)):
                raise damaged(self.folder, f"{table} is not the link that it was")
        return manifest

    def _link(self, tables: Iterable[str]) -> None:
        """Make the links that are not there."""
        for table in tables:
            with contextlib.suppress(FileExistsError):
                os.symlink(os.path.join(_HOME, _CURRENT, table), os.path.join(self.folder, table))
        _sync(self.folder)

    def _sweep(self) -> None:
        """Remove what is not the current generation: older ones, and what a killed export left."""
        kept = {_CURRENT, _LOCK, str(self.generation)}
        for name in os.listdir(self._home):
            if name not in kept:
                path = os.path.join(self._home, name)
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)


class Generation:
    """An export that nobody sees yet."""

    def __init__(self, home: str, number: int) -> None:
        self.number = number
        self._home = home
        self._before = os.path.join(home, str(number - 1))
        self.folder = os.path.join(home, f"{number}{_PARTIAL}")
        os.mkdir(self.folder)

    def begin_table(self, table: str) -> None:
        """Make the folder of a table."""
        os.mkdir(os.path.join(self.folder, table))

    def keep(self, table: str, parts: Iterable[Part]) -> None:
        """Take files of the generation before along."""
        for part in parts:
            path = os.path.join(self.folder, table, part.path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.link(os.path.join(self._before, table, part.path), path)

    @contextmanager
    def workroom(self, name: str) -> Generator[str]:
        """A folder of its own for the files of one bucket and table, to be taken in by `take_in`."""
        room = os.path.join(self.folder, f".room-{name}")
        os.mkdir(room)
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def take_in(self, table: str, room: str, name: str) -> list[str]:
        """Move the files written to a room into the table, on disk; their paths below the table's folder."""
        moved: list[str] = []
        for place, _, files in sorted(os.walk(room)):
            below = os.path.relpath(place, room)
            for number, file in enumerate(sorted(files)):
                ending = "" if len(files) == 1 else f"-{number}"
                path = os.path.normpath(os.path.join(below, f"{name}-{self.number}{ending}.parquet"))
                target = os.path.join(self.folder, table, path)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                _sync(os.path.join(place, file))
                os.rename(os.path.join(place, file), target)
                moved.append(path)
        return moved

    def size_of(self, table: str, path: str) -> int:
        """Bytes of a file."""
        return os.path.getsize(os.path.join(self.folder, table, path))

    def finish(self, manifest: bytes) -> None:
        """Write the manifest, have everything on disk, and take the final name."""
        path = os.path.join(self.folder, _MANIFEST)
        with open(path, "wb") as file:
            file.write(manifest)
            file.flush()
            os.fsync(file.fileno())
        for place, _, _ in os.walk(self.folder):
            _sync(place)
        os.rename(self.folder, os.path.join(self._home, str(self.number)))


@contextmanager
def open_target(folder: str) -> Generator[Target]:
    """The export folder, made when absent; nobody else exports to it meanwhile.

    Raises KitaruUsageError when something else is in it, KitaruStateError when another export runs or the folder is not as
    the last one left it, KitaruBackendError when it cannot be written.
    """
    folder = os.path.abspath(folder)
    try:
        lock = _lock(folder)
        try:
            yield Target(folder)
        finally:
            os.close(lock)
    except OSError as error:
        raise unwritable(folder, error.errno, error.strerror or str(error)) from error


def unwritable(folder: str, number: int | None, reason: str) -> KitaruBackendError:
    """The error for a folder that the operating system does not let us write."""
    if number in _DISK_FULL:
        return KitaruBackendError(
            f"there is no room for the export in {folder} ({reason}); what was there before is as it was: make room, then "
            "export again",
            code="disk-full",
        )
    return KitaruBackendError(
        f"the export cannot be written to {folder} ({reason}); what was there before is as it was: check who owns it and "
        "its disk, or name another folder",
        code="export-unwritable",
    )


_LOCK = "lock"


def _lock(folder: str) -> int:
    """Hold the folder's lock, which the kernel frees when this process ends."""
    if "\0" in folder:
        raise KitaruUsageError("a folder's name has no NUL in it")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise KitaruUsageError(f"{folder} is no folder; name another one", code="export-target")
    home = os.path.join(folder, _HOME)
    if os.path.islink(home):  # it would lead out of the folder, and files there are unlinked
        raise damaged(folder, f"{_HOME} is a link")
    if not os.path.isdir(home):
        if os.path.isdir(folder) and os.listdir(folder) and not os.path.isdir(home):  # another export may just have made it
            raise KitaruUsageError(
                f"{folder} is not empty and no export of kitaru; name a new folder, or the folder of an export",
                code="export-target",
            )
        os.makedirs(home, exist_ok=True)
    if os.path.islink(os.path.join(home, _LOCK)):
        raise damaged(folder, "its lock is a link")
    descriptor = os.open(os.path.join(home, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise KitaruStateError(
            f"another export is writing to {folder}; wait for its end, then try again", code="export-running"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
