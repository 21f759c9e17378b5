"""Stacks: where flows run. Two are built in; the user's choice is kept in the user's own configuration folder.

What is set closest wins: the run, the flow, `kitaru.configure`, KITARU_STACK, then what `use_stack` kept, else `local`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from kitaru.domain.errors import KitaruUsageError
from kitaru.settings import config_dir, configured

_DESCRIPTIONS = {
    "local": "in the process that starts the flow",
    "worker": "in any `kitaru worker` on the same store",
}
_FILE = "settings.json"


@dataclass(frozen=True, slots=True)
class Stack:
    """A place where flows run. `is_active`: runs go there unless something closer says otherwise."""

    stack_id: str
    name: str
    description: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class StackChoice:
    """The stack of runs that name none, and why it is this one."""

    name: str
    why: str


def list_stacks() -> list[Stack]:
    """Every stack. Raises KitaruUsageError when what is configured is none of them."""
    active = resolve_stack().name
    return [Stack(name, name, description, name == active) for name, description in _DESCRIPTIONS.items()]


def get_stack(name: str) -> Stack:
    """One stack by name or id. Raises KitaruUsageError."""
    wanted = checked_stack(name)
    return next(stack for stack in list_stacks() if stack.name == wanted)


def current_stack() -> Stack:
    """The stack of runs that name none."""
    return get_stack(resolve_stack().name)


def use_stack(name: str) -> Stack:
    """Keep a stack as the user's own choice, and give the one that is current then: configure and KITARU_STACK outrank it.

    Raises KitaruUsageError for a name that is no stack, and when the configuration folder cannot be written.
    """
    wanted = checked_stack(name)
    path = _path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({**_read(path), "stack": wanted}, file, indent=1)
        os.replace(fresh, path)
    except OSError as error:
        raise KitaruUsageError(
            f"{path}, which keeps the stack, cannot be written ({error.strerror}); set KITARU_CONFIG_DIR to a folder"
        ) from error
    return current_stack()


def resolve_stack() -> StackChoice:
    """The stack of runs that name none, and why. Raises KitaruUsageError."""
    if configured.stack is not None:
        return StackChoice(checked_stack(configured.stack), "set by kitaru.configure(stack=...)")
    named = os.environ.get("KITARU_STACK")
    if named:
        return StackChoice(checked_stack(named), "set by KITARU_STACK")
    path = _path()
    kept = _read(path).get("stack")
    if kept is not None:
        return StackChoice(checked_stack(kept), f"kept by use_stack in {path}")
    return StackChoice("local", "the default")


def checked_stack(name: object) -> str:
    """A stack's name. Raises KitaruUsageError that lists them."""
    if not isinstance(name, str) or name not in _DESCRIPTIONS:
        raise KitaruUsageError(f"there is no stack {name!r}; there are {' and '.join(map(repr, _DESCRIPTIONS))}")
    return name


def _path() -> Path:
    return config_dir() / _FILE


def _read(path: Path) -> dict[str, object]:
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
        raise KitaruUsageError(f"{path} is damaged; remove it, then `kitaru stack use` yours again")
    return cast("dict[str, object]", loaded)
