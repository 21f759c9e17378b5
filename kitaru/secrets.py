"""Secrets: named sets of keys and values, encrypted in the user's configuration folder, never in a store.

`secrets.json` holds a Fernet token for each name, `secrets.key` the key. Who may read that file may read every secret: it is
0600, its folder 0700, and a key file that others may read is refused. cryptography is imported at the first use.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kitaru import kept
from kitaru.domain.errors import (
    KitaruFeatureNotAvailableError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.runtime.options import checked_name
from kitaru.settings import config_dir

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_FILE = "secrets.json"
_KEY_FILE = "secrets.key"
_MEND = "set your secrets again"
MAX_SECRET_BYTES = 64 * 1024
"""Bytes of one value."""


class Secret:
    """A named set of values. Printing it shows no value."""

    __slots__ = ("name", "values")

    def __init__(self, name: str, values: Mapping[str, str]) -> None:
        self.name = name
        self.values = dict(values)

    def __getitem__(self, key: str) -> str:
        return self.values[key]

    def __repr__(self) -> str:
        return f"Secret({self.name!r}, keys={sorted(self.values)})"


def create_secret(name: str, values: Mapping[str, str], *, replace: bool = False) -> Secret:
    """Keep a secret. Raises KitaruStateError for a name that is taken, unless `replace`; KitaruUsageError."""
    secret = Secret(checked_name(name, "the secret's name"), _checked_values(values))
    token = _fernet(makes_key=True).encrypt(json.dumps(secret.values).encode()).decode("ascii")

    def create(held: dict[str, object]) -> None:
        if name in held and not replace:
            raise KitaruStateError(f"there is a secret {name!r} already; delete it first, or give replace=True")
        held[name] = token

    kept.change(_FILE, _MEND, create)
    return secret


def get_secret(name: str) -> Secret:
    """A secret with its values. Raises KitaruNotFoundError, and KitaruUsageError when it cannot be decrypted."""
    token = kept.read(_FILE, _MEND).get(name)
    if token is None:
        raise _unknown(name)
    return Secret(name, _decrypted(name, token))


def list_secrets() -> list[Secret]:
    """Every secret, by name."""
    return [Secret(name, _decrypted(name, token)) for name, token in sorted(kept.read(_FILE, _MEND).items())]


def secret_names() -> list[str]:
    """The names alone, for which no key is needed."""
    return sorted(kept.read(_FILE, _MEND))


def delete_secret(name: str) -> None:
    """Forget a secret. Raises KitaruNotFoundError."""

    def delete(held: dict[str, object]) -> None:
        if held.pop(name, None) is None:
            raise _unknown(name)

    if name not in kept.read(_FILE, _MEND):
        raise _unknown(name)
    kept.change(_FILE, _MEND, delete)


def _unknown(name: str) -> KitaruNotFoundError:
    return KitaruNotFoundError(
        f"there is no secret {name!r} in {config_dir() / _FILE}; `kitaru secrets list` shows them, `kitaru secrets set` "
        "makes one"
    )


def _checked_values(values: object) -> dict[str, str]:
    """Texts by name. A refusal names keys, never a value."""
    if not isinstance(values, Mapping) or not values:
        raise KitaruUsageError("a secret is one or more values by name, such as {'api_key': '...'}")
    for key, value in cast("Mapping[object, object]", values).items():
        checked_name(key, "a secret's key")
        if not isinstance(value, str) or not value or "\0" in value:
            raise KitaruUsageError(f"the value of {key!r} has to be a text that is not empty and holds no NUL")
        if len(value.encode("utf-8", "surrogatepass")) > MAX_SECRET_BYTES:
            raise KitaruUsageError(f"the value of {key!r} takes more than {MAX_SECRET_BYTES:,} bytes")
    return dict(cast("Mapping[str, str]", values))


def _decrypted(name: str, token: object) -> dict[str, str]:
    from cryptography.fernet import InvalidToken

    cipher = _fernet()
    try:
        values: object = json.loads(cipher.decrypt(str(token).encode()))
    except (InvalidToken, ValueError):
        values = None
    if not isinstance(values, dict):
        raise KitaruUsageError(
            f"the secret {name!r} cannot be decrypted: it was changed, or {config_dir() / _KEY_FILE} is another key; "
            "bring the key back, or delete the secret and set it again"
        )
    return cast("dict[str, str]", values)


def _fernet(*, makes_key: bool = False) -> Fernet:
    """The cipher with the user's key. Raises KitaruUsageError for a key file that others may read, or that is none."""
    try:
        from cryptography.fernet import Fernet
    except ImportError:
        raise KitaruFeatureNotAvailableError(
            "secrets need the package cryptography: run `pip install '.[llm]'` in this checkout"
        ) from None
    path = config_dir() / _KEY_FILE
    if makes_key and not path.exists() and not kept.read(_FILE, _MEND):
        _make_key(path, Fernet.generate_key())
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            key = file.read(128)
        folder = os.stat(path.parent)
    except FileNotFoundError:
        raise KitaruUsageError(
            f"{path}, the key of your secrets, is gone; bring it back, or remove {config_dir() / _FILE} and {_MEND}"
        ) from None
    except OSError as error:
        raise KitaruUsageError(f"{path}, the key of your secrets, cannot be read ({error.strerror})") from None
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KitaruUsageError(
            f"{path}, the key of your secrets, may be read by others (mode {stat.S_IMODE(found.st_mode):04o}); run "
            f"`chmod 600 {path}`, and take new credentials if others may have read it"
        )
    if stat.S_IMODE(folder.st_mode) & 0o022 or found.st_uid not in (0, os.geteuid()):
        raise KitaruUsageError(
            f"{path}, the key of your secrets, may be put there by others: make it and its folder your own "
            f"(`chmod 700 {path.parent}`)"
        )
    try:
        return Fernet(key.strip())
    except ValueError:
        raise KitaruUsageError(f"{path} is no key; bring yours back, or remove it and {_MEND}") from None


def _make_key(path: Path, key: bytes) -> None:
    """Write a key where there is none: of two processes the first one's stays, whole."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    with kept.writing(path):
        kept.write(fresh, key)
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(fresh)
