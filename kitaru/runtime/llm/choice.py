"""Which model answers a call, where it is served, and with what credential: asked when a try begins, never recorded."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from kitaru import aliases
from kitaru.domain.errors import KitaruNotFoundError, KitaruRuntimeError, KitaruUsageError
from kitaru.runtime.options import checked_name

MOCK = "KITARU_LLM_MOCK_RESPONSE"


class _Home(NamedTuple):
    """What is known of a provider: its key's variable, its URL's, and whether it can do without a key."""

    key: str
    url: str
    default_url: str | None
    needs_key: bool


_HOMES = {
    "openai": _Home("OPENAI_API_KEY", "OPENAI_BASE_URL", None, needs_key=True),
    "anthropic": _Home("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", None, needs_key=True),
    "openrouter": _Home("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1", needs_key=True),
    "ollama": _Home("OLLAMA_API_KEY", "OLLAMA_HOST", "http://127.0.0.1:11434", needs_key=False),
}
_OLLAMA_PORT = 11434


class Chosen(NamedTuple):
    """A model, where it is and what opens it. `credentials`: what has to be kept out of everything."""

    requested: str | None
    provider: str
    model: str
    base_url: str | None
    api_key: str | None
    credentials: tuple[str, ...]

    @property
    def resolved(self) -> str:
        """provider/model."""
        return f"{self.provider}/{self.model}"


def checked_model(model: object) -> str | None:
    """What can be told of a model before it is looked up. Raises KitaruUsageError."""
    if model is None:
        return None
    name = checked_name(model, "the model")
    return aliases.checked_model(name) if "/" in name else name


def is_exact(model: str | None) -> bool:
    """Whether it names a model, not an alias that may mean another one tomorrow."""
    return model is not None and "/" in model


def mock_response() -> str | None:
    """What KITARU_LLM_MOCK_RESPONSE answers every call with."""
    return os.environ.get(MOCK) or None


def choose(model: str | None, *, needs_key: bool = True) -> Chosen:
    """The model of a call. Raises KitaruUsageError for one that nobody knows, KitaruRuntimeError without a credential."""
    requested, alias = _named(model)
    full = alias.model if alias is not None else aliases.checked_model(requested)
    provider, _, name = full.partition("/")
    home = _HOMES[provider]
    base_url = (alias.base_url if alias is not None else None) or _url(provider, home)
    secrets = _secret_values(alias)
    key = os.environ.get(home.key) or _from_secret(secrets, home.key)
    if key is None and needs_key and home.needs_key and not (alias is not None and alias.base_url is not None):
        raise KitaruRuntimeError(_missing_key(full, home, alias), code="llm-credentials")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise KitaruRuntimeError(
            f"the credential for {full} holds characters that no provider's key has, such as a line break; set "
            f"{home.key} or the secret again",
            code="llm-credentials",
        )
    return Chosen(requested, provider, name, base_url, key, (*secrets.values(), *((key,) if key else ())))


def describe(model: str | None) -> tuple[str | None, str | None, str | None]:
    """What was asked for, its provider and its model, as far as it can be told without a credential."""
    try:
        requested, alias = _named(model)
        full = alias.model if alias is not None else aliases.checked_model(requested)
    except (KitaruUsageError, KitaruNotFoundError, KitaruRuntimeError):
        return model, None, None
    provider, _, name = full.partition("/")
    return requested, provider, name


def _named(model: str | None) -> tuple[str, aliases.Alias | None]:
    """The argument, else KITARU_DEFAULT_MODEL, else the default alias; and the alias that it is."""
    text = model or checked_model(os.environ.get("KITARU_DEFAULT_MODEL") or None)
    if text is None:
        found = aliases.default_model()
        if found is None:
            raise KitaruRuntimeError(
                "the call names no model and none is the default; give model='openai/gpt-5-mini' or another, set "
                "KITARU_DEFAULT_MODEL, or run `kitaru model register`",
                code="llm-no-model",
            )
        return found.alias, found
    if "/" in text:
        return text, None
    found = aliases.find_model(text)
    if found is None:
        known = ", ".join(alias.alias for alias in aliases.list_models()) or "none"
        raise KitaruUsageError(
            f"there is no model alias {text!r} (there are: {known}); name a model as provider/model with a provider of "
            f"{', '.join(aliases.PROVIDERS)}, or run `kitaru model register {text} --model ...`"
        )
    return text, found


def _url(provider: str, home: _Home) -> str | None:
    named = os.environ.get(home.url)
    if provider == "ollama":
        return _ollama_url(named or home.default_url or "")
    return named or home.default_url


def _ollama_url(host: str) -> str:
    """OLLAMA_HOST is a host, host:port or a URL; the OpenAI wire format is served below /v1."""
    full = host if "://" in host else f"http://{host}"
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError:
        raise KitaruUsageError("OLLAMA_HOST is no host; set it to one such as 127.0.0.1:11434") from None
    if not parts.hostname:
        raise KitaruUsageError("OLLAMA_HOST is no host; set it to one such as 127.0.0.1:11434")
    if port is None and "://" not in host:
        full = f"{full}:{_OLLAMA_PORT}"
    base = full.rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


def _secret_values(alias: aliases.Alias | None) -> dict[str, str]:
    if alias is None or alias.secret is None:
        return {}
    from kitaru.secrets import get_secret

    try:
        return get_secret(alias.secret).values
    except KitaruNotFoundError:
        raise KitaruRuntimeError(
            f"the model {alias.alias!r} is opened by the secret {alias.secret!r}, which is not there; run `kitaru secrets "
            f"set {alias.secret} --stdin` and give it api_key=...",
            code="llm-credentials",
        ) from None


def _from_secret(values: dict[str, str], variable: str) -> str | None:
    """The variable's own name, `api_key`, or the only value there is."""
    only = next(iter(values.values())) if len(values) == 1 else None
    return values.get(variable) or values.get("api_key") or only


def _missing_key(full: str, home: _Home, alias: aliases.Alias | None) -> str:
    if alias is not None and alias.secret is not None:
        return f"the secret {alias.secret!r} of the model {alias.alias!r} has neither {home.key} nor api_key; set one"
    return (
        f"there is no credential for {full}; set {home.key}, or keep it with `kitaru secrets set NAME --stdin` and name "
        f"that secret: `kitaru model register ALIAS --model {full} --secret NAME`"
    )
