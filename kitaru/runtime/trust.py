"""From which folders a store's executions may load code: the user's own list, never the store's.

The list lives in the user's configuration directory, by store id. Running a file trusts its folder alone; `kitaru trust`
trusts a folder with everything below it.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TypedDict, cast

from kitaru.domain.errors import KitaruUsageError
from kitaru.settings import config_dir


class _Trusted(TypedDict):
    folders: list[str]
    trees: list[str]


_known: set[tuple[str, str]] = set()


def trust_folder_of(store_id: str, file: str) -> None:
    """The user runs a flow of this file: its folder is trusted for the store from now on."""
    if (store_id, file) in _known:
        return
    if not is_trusted(store_id, file):
        _add(store_id, "folders", os.path.dirname(os.path.realpath(file)))
    _known.add((store_id, file))


def trust_tree(store_id: str, path: str) -> str:
    """Trust a folder and everything below it for the store; gives its real path. Raises KitaruUsageError."""
    folder = os.path.realpath(os.path.expanduser(path))
    if not os.path.isdir(folder):
        raise KitaruUsageError(f"{path} is not a folder; give one that holds your flows")
    _add(store_id, "trees", folder)
    return folder


def is_trusted(store_id: str, file: str) -> bool:
    """Whether code of that file may be loaded for executions of the store."""
    real = os.path.realpath(file)
    trusted = _read(_path()).get(store_id)
    if trusted is None:
        return False
    folder = os.path.dirname(real)
    return folder in trusted["folders"] or any(
        os.path.isabs(tree) and (folder == tree or folder.startswith(tree.rstrip(os.sep) + os.sep))
        for tree in trusted["trees"]
    )


def _path() -> Path:
    return config_dir() / "trust.json"


def _read(path: Path) -> dict[str, _Trusted]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise _damaged(path) from None
    except OSError as error:
        raise KitaruUsageError(f"{path} cannot be read ({error.strerror}); mend it, or set KITARU_CONFIG_DIR") from None
    if not isinstance(loaded, dict) or not all(_is_entry(entry) for entry in cast("dict[str, object]", loaded).values()):
        raise _damaged(path)
    return cast("dict[str, _Trusted]", loaded)


def _damaged(path: Path) -> KitaruUsageError:
    return KitaruUsageError(f"{path} is damaged; remove it, then `kitaru trust` your folders again")


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    lists = [cast("dict[str, object]", entry).get(kind) for kind in ("folders", "trees")]
    return all(isinstance(each, list) and all(isinstance(path, str) for path in each) for each in lists)  # pyright: ignore[reportUnknownVariableType]


def _add(store_id: str, kind: str, folder: str) -> None:
    path = _path()
    try:
        _write_with(path, store_id, kind, folder)
    except OSError as error:
        raise KitaruUsageError(
            f"{path}, which keeps from where code may be loaded, cannot be written ({error.strerror}); set "
            "KITARU_CONFIG_DIR to a folder of yours"
        ) from error


def _write_with(path: Path, store_id: str, kind: str, folder: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        everything = _read(path)
        trusted = everything.setdefault(store_id, _Trusted(folders=[], trees=[]))
        entries = trusted["trees"] if kind == "trees" else trusted["folders"]
        if folder in entries:
            return
        entries.append(folder)
        fresh = path.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(everything, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
