"""Taking credentials out of what a provider or its SDK says: they stand in no error, log, event or record."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Iterable, Mapping
from typing import cast
from urllib.parse import quote

_HIDDEN = "***"
_SHORTEST = 4
"""Characters from which a credential is taken out of what is said about a request."""
_NO_WORD, _NO_CODE_WORD = 16, 8
"""Characters from which it is no word that an answer may hold by itself; the second where it has a digit."""
_VARIABLES = ("_API_KEY", "_AUTH_TOKEN", "_ADMIN_KEY")
_PREFIXES = ("OPENAI", "ANTHROPIC", "OPENROUTER", "OLLAMA")


class Redactor:
    """Replaces credentials, however they are written, in texts and plain values."""

    def __init__(self, credentials: Iterable[str | None]) -> None:
        known = [each for each in credentials if each is not None and len(each) >= _SHORTEST]
        self._forms = _longest_first(known)
        self._certain = _longest_first([each for each in known if _is_no_word(each)])

    def text(self, text: str) -> str:
        """The text without a credential."""
        return _without(self._forms, text)

    def answer(self, text: str) -> str:
        """An answer without a credential, but with a word such as `test` or `none`, which keys of local servers are."""
        return _without(self._certain, text)

    def value(self, value: object) -> object:
        """A plain value without a credential, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(each) for key, each in cast("Mapping[object, object]", value).items()}
        if isinstance(value, (list, tuple)):
            return [self.value(each) for each in cast("Iterable[object]", value)]
        return value


def _longest_first(credentials: Iterable[str]) -> list[str]:
    return sorted({form for each in credentials for form in _forms(each)}, key=len, reverse=True)


def _without(forms: Iterable[str], text: str) -> str:
    for form in forms:
        if form in text:
            text = text.replace(form, _HIDDEN)
    return text


def _is_no_word(credential: str) -> bool:
    return len(credential) >= (_NO_CODE_WORD if any(map(str.isdigit, credential)) else _NO_WORD)


class _Unsaid(logging.Filter):
    """Takes credentials out of what the SDKs log of a request and its response."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, None] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        cleaned = Redactor(self.known).text(message)
        if cleaned != message:
            record.msg, record.args = cleaned, None
        return True


_unsaid = _Unsaid()
_LOGGERS = (
    *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")), "httpx2",
    "openai._base_client", "anthropic._base_client",
)  # fmt: skip
_MAX_KNOWN = 1_000


def keep_from_logs(credential: str) -> None:
    """From now on the SDKs' loggers do not say it: at DEBUG they tell whole responses, and one may repeat it."""
    if not _unsaid.known:
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_unsaid)
    if len(_unsaid.known) < _MAX_KNOWN:
        _unsaid.known[credential] = None


def ambient() -> list[str]:
    """The credentials of the environment that an SDK may send by itself."""
    return [
        value
        for name, value in os.environ.items()
        if name.startswith(_PREFIXES) and name.endswith(_VARIABLES) and len(value) >= _SHORTEST
    ]


def _forms(credential: str) -> set[str]:
    raw = credential.encode("utf-8", "surrogatepass")
    return {
        credential,
        repr(credential)[1:-1],
        json.dumps(credential)[1:-1],
        quote(credential, safe=""),
        base64.b64encode(raw).decode("ascii").rstrip("="),
        base64.urlsafe_b64encode(raw).decode("ascii").rstrip("="),
    }
