"""What the tools have before them: the client, the processes they started, and the form of an answer.

An answer is what the command line prints as JSON, and beside it what a page or a cut left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from kitaru.mcp.children import START_SECONDS, Children
from kitaru.mcp.cutting import MAX_CHARS, cut

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kitaru.client.client import KitaruClient
    from kitaru.client.models import Execution

Answer = dict[str, object]
ExecId = Annotated[str, Field(description="An execution's id, or a beginning of it that is unique.")]
Page = Annotated[int, Field(ge=1, le=1_000_000, description="Which page, from 1; the answer's next_page names the next.")]
Size = Annotated[int, Field(ge=1, le=100, description="Entries on a page.")]
MaxChars = Annotated[
    int,
    Field(
        ge=2_000,
        le=1_000_000,
        description="Longer texts are cut there, lists at a twentieth as many entries; `truncated` says which. Raise it.",
    ),
]
_PAGED = ("checkpoints", "artifacts", "waits")


class Desk:
    """One store and project."""

    def __init__(self, client: KitaruClient, start_seconds: float = START_SECONDS) -> None:
        self.client = client
        self.children = Children(start_seconds)


def plain(model: BaseModel) -> dict[str, object]:
    """A model as JSON's own types."""
    return model.model_dump(mode="json", by_alias=True)


def one(command: str, item: Mapping[str, object], max_chars: int = MAX_CHARS, **more: object) -> Answer:
    """The answer that holds one thing."""
    shown = cut(dict(item), max_chars, "item")
    return {"command": command, "item": shown.value, **more, "truncated": shown.paths}


def many(command: str, items: Sequence[Mapping[str, object]], next_page: int | None, max_chars: int = MAX_CHARS) -> Answer:
    """The answer that holds a page of things."""
    shown = cut([dict(item) for item in items], max_chars, "items")
    return {
        "command": command, "items": shown.value, "count": len(items), "next_page": next_page, "truncated": shown.paths
    }  # fmt: skip


def execution(
    command: str, found: Execution, page: int = 1, size: int = 100, max_chars: int = MAX_CHARS, **more: object
) -> Answer:
    """The answer that holds an execution in full, with one page of its calls, its values and its waits."""
    item = plain(found)
    first, last = (page - 1) * size, page * size
    has_more = False
    for name in _PAGED:
        parts = item[name]
        if isinstance(parts, list):
            has_more |= len(parts) > last  # pyright: ignore[reportUnknownArgumentType]
            item[name] = parts[first:last]
    return one(command, item, max_chars, next_page=page + 1 if has_more else None, **more)


def paged(command: str, items: Sequence[Mapping[str, object]], page: int, size: int, max_chars: int = MAX_CHARS) -> Answer:
    """The answer that holds one page of all `items`."""
    shown = items[(page - 1) * size : page * size]
    return many(command, shown, page + 1 if len(items) > page * size else None, max_chars)
