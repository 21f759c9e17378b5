"""What is shown of long values: texts and lists are cut, and the answer says where, so that the rest can be asked for."""

from __future__ import annotations

import json
from typing import NamedTuple, cast

MAX_CHARS = 4_000
"""Characters of one text, unless a call asks for more."""
_CHARS_PER_ITEM = 20
"""A list or a dict may have so many times fewer entries than a text has characters."""
_SHOWN_PATHS = 20


class Cut(NamedTuple):
    """A plain value as it is shown, and the paths at which something was left out."""

    value: object
    paths: list[str]


def cut(value: object, max_chars: int, root: str) -> Cut:
    """Shorten the texts and the collections of a plain value; `root` is what paths begin with."""
    paths: list[str] = []
    shown = _cut(value, max_chars, root, paths)
    return Cut(shown, paths if len(paths) <= _SHOWN_PATHS else [*paths[:_SHOWN_PATHS], "…"])


def whole(value: object) -> object:
    """A plain value with nothing left out, its texts such as can be sent."""
    if isinstance(value, str):
        return sendable(value)
    if isinstance(value, list):
        return [whole(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {sendable(key): whole(item) for key, item in cast("dict[str, object]", value).items()}
    return value


def _cut(value: object, most: int, path: str, paths: list[str]) -> object:
    if isinstance(value, str):
        if len(value) <= most:
            return sendable(value)
        paths.append(sendable(path))
        return sendable(value[:most]) + "…"
    if isinstance(value, list):
        items = cast("list[object]", value)
        if len(items) > most // _CHARS_PER_ITEM:
            paths.append(sendable(path))
            items = items[: most // _CHARS_PER_ITEM]
        return [_cut(item, most, f"{path}[{place}]", paths) for place, item in enumerate(items)]
    if isinstance(value, dict):
        pairs = list(cast("dict[str, object]", value).items())
        if len(pairs) > most // _CHARS_PER_ITEM:
            paths.append(sendable(path))
            pairs = pairs[: most // _CHARS_PER_ITEM]
        return {sendable(key): _cut(item, most, f"{path}.{key[:40]}", paths) for key, item in pairs}
    return value


class Slice(NamedTuple):
    """A part of a text. `next_offset` is None at its end."""

    text: str
    total_chars: int
    next_offset: int | None


def slice_of(value: object, offset: int, max_chars: int) -> Slice:
    """A part of a plain value: of the text itself, or of its JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    end = min(len(text), offset + max_chars)
    return Slice(sendable(text[offset:end]), len(text), None if end >= len(text) else end)


def sendable(text: str) -> str:
    """A text that UTF-8 holds: a lone surrogate stands as its escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
