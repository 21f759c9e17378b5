"""Model aliases: names of the user's own for a model, where it is served and which secret opens it.

They are kept in the user's configuration folder. The first one registered is the default, until another is made so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from kitaru import kept
from kitaru.domain.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.runtime.options import checked_name

PROVIDERS = ("openai", "anthropic", "ollama", "openrouter")
"""What stands before the first `/` of a model."""
_FILE = "models.json"
_MEND = "`kitaru model register` yours again"


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a model. `base_url`: where it is served, if not by its provider. `secret`: the name of one."""

    alias: str
    model: str
    base_url: str | None = None
    secret: str | None = None
    is_default: bool = False


def register_model(
    alias: str, model: str, *, base_url: str | None = None, secret: str | None = None, default: bool = False
) -> Alias:
    """Keep an alias, in the place of one of that name. Raises KitaruUsageError."""
    name = checked_alias(alias)
    entry = {"model": checked_model(model), "base_url": checked_url(base_url), "secret": secret}
    if secret is not None:
        checked_name(secret, "the secret's name")

    def register(held: dict[str, object]) -> None:
        models = _models(held)
        models[name] = entry
        if default or held.get("default") not in models:
            held["default"] = name

    kept.change(_FILE, _MEND, register)
    return get_model(name)


def list_models() -> list[Alias]:
    """Every alias, by name."""
    held = kept.read(_FILE, _MEND)
    return [_alias(name, entry, held.get("default")) for name, entry in sorted(_models(held).items())]


def find_model(alias: str) -> Alias | None:
    """One alias, or None."""
    return next((found for found in list_models() if found.alias == alias), None)


def get_model(alias: str) -> Alias:
    """One alias. Raises KitaruNotFoundError."""
    found = find_model(alias)
    if found is None:
        raise _unknown(alias)
    return found


def default_model() -> Alias | None:
    """The alias of calls that name no model, None when there is none."""
    return next((alias for alias in list_models() if alias.is_default), None)


def remove_model(alias: str) -> None:
    """Forget an alias; when it was the default, there is none until another is made so. Raises KitaruNotFoundError."""

    def remove(held: dict[str, object]) -> None:
        if _models(held).pop(alias, None) is None:
            raise _unknown(alias)
        if held.get("default") == alias:
            del held["default"]

    get_model(alias)
    kept.change(_FILE, _MEND, remove)


def checked_model(model: object) -> str:
    """`provider/model`, of a provider that is known. Raises KitaruUsageError."""
    text = checked_name(model, "the model")
    provider, slash, name = text.partition("/")
    if provider not in PROVIDERS or not slash or not name.strip():
        raise KitaruUsageError(
            f"the model {text!r} is not of the form provider/model with a provider of {', '.join(PROVIDERS)}; name one "
            "such as openai/gpt-5-mini"
        )
    return text


def checked_alias(alias: object) -> str:
    """A name that no model can have. Raises KitaruUsageError."""
    name = checked_name(alias, "the alias")
    if "/" in name:
        raise KitaruUsageError(f"the alias {name!r} holds a '/', which only models have; choose another name")
    return name


def checked_url(url: object) -> str | None:
    """An http(s) URL without a password. Raises KitaruUsageError, which does not repeat one."""
    if url is None:
        return None
    text = checked_name(url, "the base URL")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise KitaruUsageError("the base URL is none; give one such as http://127.0.0.1:8000/v1") from None
    if parts.username is not None or parts.password is not None or "?" in text:
        raise KitaruUsageError(
            "the base URL holds a credential or a query; keep credentials in a secret: `kitaru secrets set`"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise KitaruUsageError(f"the base URL {text!r} is none; give one such as http://127.0.0.1:8000/v1")
    return text


def _models(held: dict[str, object]) -> dict[str, object]:
    models = held.setdefault("models", {})
    if not isinstance(models, dict):
        raise KitaruUsageError(f"{_FILE} in your configuration folder is damaged; remove it, then {_MEND}")
    return cast("dict[str, object]", models)


def _alias(name: str, entry: object, default: object) -> Alias:
    if not isinstance(entry, dict):
        raise KitaruUsageError(f"{_FILE} in your configuration folder is damaged; remove it, then {_MEND}")
    fields = cast("dict[str, str | None]", entry)
    return Alias(name, str(fields.get("model")), fields.get("base_url"), fields.get("secret"), name == default)


def _unknown(alias: str) -> KitaruNotFoundError:
    names = ", ".join(found.alias for found in list_models()) or "none"
    return KitaruNotFoundError(f"there is no model alias {alias!r}; there are: {names}")
