"""Which store, which project, which options: what was configured, and where it was found.

Everything imports this, so it imports nothing heavy: tomllib only when there is a pyproject.toml.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

from kitaru.domain.errors import KitaruBackendError, KitaruFeatureNotAvailableError, KitaruUsageError

FOLDER = ".kitaru"
"""The store of a project's folder."""

Durability = Literal["full", "os"]


class StoreChoice(NamedTuple):
    """A store and why it is this one. `location` is an absolute folder."""

    location: str
    why: str


@dataclass(slots=True)
class Configuration:
    """What `kitaru.configure` set; None where nothing was."""

    store: str | None = None
    stack: str | None = None
    cache: bool | str | None = None
    retries: int | None = None
    image: object = None
    durability: Durability | None = None
    project: str | None = None


class Unset:
    """The type of UNSET."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()
"""Not given, where None means "take it back"."""

configured = Configuration()
"""This process's own."""


def configure(
    *,
    store: str | os.PathLike[str] | Unset | None = UNSET,
    stack: str | Unset | None = UNSET,
    cache: bool | str | Unset | None = UNSET,
    retries: int | Unset | None = UNSET,
    image: object = UNSET,
    durability: Durability | Unset | None = UNSET,
    project: str | Unset | None = UNSET,
) -> None:
    """Set defaults for this process; None takes one back, what is not given stays. Raises KitaruUsageError."""
    given: dict[str, object] = {
        "store": os.fspath(store) if isinstance(store, os.PathLike) else store,
        "stack": stack,
        "cache": cache,
        "retries": retries,
        "image": image,
        "durability": durability,
        "project": project,
    }
    changes = {name: value for name, value in given.items() if value is not UNSET}
    for name in ("store", "stack", "project"):
        _check_text(name, changes.get(name))
    if isinstance(changes.get("store"), str):
        changes["store"] = _placed(cast("str", changes["store"]), None)
    if not isinstance(changes.get("cache"), (bool, str, type(None))):
        raise KitaruUsageError(f"cache has to be True, False or a version text such as 'v2', not {cache!r}")
    count = changes.get("retries")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise KitaruUsageError(f"retries has to be a whole number from 0, not {retries!r}")
    _check_durability(changes.get("durability"), "durability")
    for name, value in changes.items():
        setattr(configured, name, value)


def connect(server_url: str, *, api_key: str | None = None, project: str | None = None) -> None:
    """Use a server for this process. Raises KitaruFeatureNotAvailableError: this version has none."""
    refuse_server(f"kitaru.connect({server_url!r}) was called")


def resolve_store(explicit: str | os.PathLike[str] | None = None, *, start: Path | None = None) -> StoreChoice:
    """The store to use, first found: argument, configure, environment, pyproject.toml, `.kitaru/`, the user's folder.

    `start` is where the search upwards begins (the current folder). Nothing is made. Raises KitaruUsageError,
    KitaruFeatureNotAvailableError for a server or a database URL, and KitaruBackendError where no folder can be.
    """
    choice = _first_found(explicit, start)
    _check_place(choice)
    return choice


def _first_found(explicit: str | os.PathLike[str] | None, start: Path | None) -> StoreChoice:
    if explicit is not None:
        _check_text("store", os.fspath(explicit))
        return StoreChoice(_placed(os.fspath(explicit), start), "given as the store")
    if configured.store is not None:
        return StoreChoice(configured.store, "set by kitaru.configure(store=...)")
    if os.environ.get("KITARU_SERVER_URL"):
        refuse_server("KITARU_SERVER_URL is set")
    named = os.environ.get("KITARU_STORE")
    if named:
        return StoreChoice(_placed(named, start), "set by KITARU_STORE")
    return _searched_upwards(_here(start)) or StoreChoice(
        _user_store(), "the user's data folder: nothing nearer names a store"
    )


def resolve_project(explicit: str | None = None) -> str:
    """The project to use: argument, configure, KITARU_PROJECT, else `default`. Raises KitaruUsageError."""
    _check_text("project", explicit)
    return explicit or configured.project or os.environ.get("KITARU_PROJECT") or "default"


def resolve_durability() -> Durability:
    """How far an outcome is written before its append returns: configure, KITARU_DURABILITY, else `full`."""
    if configured.durability is not None:
        return configured.durability
    named = os.environ.get("KITARU_DURABILITY") or "full"
    _check_durability(named, "KITARU_DURABILITY")
    return cast("Durability", named)


def config_dir() -> Path:
    """The user's folder for keys, tokens and trusted folders: never inside a store. KITARU_CONFIG_DIR moves it."""
    named = os.environ.get("KITARU_CONFIG_DIR")
    if named:
        return Path(_expanded(named)).absolute()
    return _home_of("XDG_CONFIG_HOME", ".config")


def refuse_server(what: str) -> None:
    """Raise the error for a server URL: there is no server yet."""
    raise KitaruFeatureNotAvailableError(
        f"{what}, but this version has no server: take it away, and name a folder with KITARU_STORE or store=..."
    )


def _user_store() -> str:
    return str(_home_of("XDG_DATA_HOME", ".local/share"))


def _home_of(variable: str, usual: str) -> Path:
    """The user's folder for one kind of file: the XDG base directories, and Apple's single one (docs/decisions/0002)."""
    named = os.environ.get(variable, "")
    if os.path.isabs(named):
        return Path(named) / "kitaru"
    return Path(_expanded("~")) / ("Library/Application Support" if sys.platform == "darwin" else usual) / "kitaru"


def _searched_upwards(here: Path) -> StoreChoice | None:
    for folder in (here, *here.parents):
        pyproject = folder / "pyproject.toml"
        named = _named_in(pyproject) if pyproject.is_file() else None
        if named is not None:
            return StoreChoice(_placed(named, folder), f"set by [tool.kitaru] in {pyproject}")
    for folder in (here, *here.parents):
        if (folder / FOLDER).is_dir():
            return StoreChoice(str(folder / FOLDER), f"the nearest {FOLDER}/ upwards")
    return None


def _named_in(pyproject: Path) -> str | None:
    try:
        data = pyproject.read_bytes()
    except OSError:
        return None
    if b"kitaru" not in data:
        return None
    import tomllib

    try:
        table = tomllib.loads(data.decode()).get("tool", {}).get("kitaru", {})
    except (ValueError, AttributeError) as broken:
        raise KitaruUsageError(f"{pyproject} cannot be read: {broken}; mend it, or name a store with KITARU_STORE") from None
    named: object = table.get("store") if isinstance(table, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if named is not None and not isinstance(named, str):
        raise KitaruUsageError(f"[tool.kitaru] store in {pyproject} has to be a text, not {named!r}")
    return named or None


def _placed(location: str, base: Path | None) -> str:
    """An absolute folder. Raises KitaruUsageError for no folder, KitaruFeatureNotAvailableError for a URL."""
    if not location.strip() or not _is_path(location):
        raise KitaruUsageError(f"the store {location!r} is no folder; name one")
    scheme = location.partition("://")[0].lower() if "://" in location else ""
    if scheme in ("http", "https"):
        refuse_server(f"the store {scheme}://… is a server")
    if scheme:
        raise KitaruFeatureNotAvailableError(
            f"the store is a {scheme} URL, and this version keeps stores in folders only: name a folder"
        )
    expanded = _expanded(location)
    if os.path.isabs(expanded):
        return os.path.normpath(expanded)
    return os.path.normpath(_here(base) / expanded)


def _check_place(choice: StoreChoice) -> None:
    """Refuse a store where a folder neither is nor can be made. What may not be looked at is said by who opens it."""
    place = choice.location
    while not os.path.lexists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    try:
        if stat.S_ISDIR(os.stat(place).st_mode):
            return
    except PermissionError:
        return
    except OSError:
        if not os.path.islink(place):  # it went away just now
            return
    what = f"a link to {os.readlink(place)!r}, which is no folder" if os.path.islink(place) else "a file"
    raise KitaruBackendError(
        f"the store {choice.location} ({choice.why}) is no folder: {place} is {what}; name a folder, or take that away",
        code="store-unreachable",
    )


def _is_path(text: str) -> bool:
    """Whether the file system has names like that: no NUL, nothing that its encoding lacks."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _here(start: Path | None) -> Path:
    """The folder that relative paths begin at. Raises KitaruUsageError when it is gone."""
    try:
        return Path.cwd() if start is None else start
    except FileNotFoundError:
        raise KitaruUsageError("the current folder is gone; name the store by an absolute path, or change folder") from None


def _expanded(path: str) -> str:
    """The path with its `~` resolved. Raises KitaruUsageError when nobody knows whose home that is."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise KitaruUsageError(f"there is no home folder for {path!r}; set HOME, or KITARU_STORE and KITARU_CONFIG_DIR")
    return expanded


def _check_text(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise KitaruUsageError(f"{name} has to be a text that is not empty, not {value!r}")


def _check_durability(value: object, name: str) -> None:
    if value not in (None, "full", "os"):
        raise KitaruUsageError(f"{name} has to be 'full' or 'os', not {value!r}")
