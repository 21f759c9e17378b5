"""JSON files of the user's configuration folder: read whole, changed by one process at a time, replaced at once.

The folder is 0700 and the files are 0600. What they hold is the user's own and never a store's.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from kitaru.domain.errors import KitaruUsageError
from kitaru.settings import config_dir


def read(name: str, mend: str) -> dict[str, object]:
    """What a file holds, nothing when there is none. Raises KitaruUsageError; `mend` says what to do about a damaged one."""
    path = config_dir() / name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise KitaruUsageError(f"{path} cannot be read ({error.strerror}); mend it, or set KITARU_CONFIG_DIR") from None
    try:
        loaded: object = json.loads(data)
    except ValueError:
        loaded = None
    if not isinstance(loaded, dict):
        raise KitaruUsageError(f"{path} is damaged; remove it, then {mend}")
    return cast("dict[str, object]", loaded)


def change(name: str, mend: str, how: Callable[[dict[str, object]], None]) -> None:
    """Let `how` change what a file holds; nothing is written when it raises. Raises KitaruUsageError."""
    path = config_dir() / name
    with writing(path), _locked(path):
        held = read(name, mend)
        how(held)
        write(path, json.dumps(held, indent=1).encode())


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Make the folder, and say of what goes wrong with it which file it was for. Raises KitaruUsageError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise KitaruUsageError(
            f"{path} cannot be written ({error.strerror}); set KITARU_CONFIG_DIR to a folder of yours"
        ) from error


def write(path: Path, data: bytes) -> None:
    """Replace a file at once, readable by its owner alone."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with open(os.open(path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
