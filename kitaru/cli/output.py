"""What is printed, and how: data on stdout, messages on stderr, stored text with its control characters escaped.

On a terminal tables are drawn by rich; anywhere else they are plain columns, whole and without colour.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TextIO

from kitaru.domain.errors import shortened

if TYPE_CHECKING:
    from pydantic import BaseModel

# Control characters, lone surrogates, and what changes the direction or hides in a line.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_GAP = "   "
Event = Literal["log", "waiting", "terminal", "interrupted"]


class Output(StrEnum):
    """How one thing is printed."""

    TEXT = "text"
    JSON = "json"


class ListOutput(StrEnum):
    """How many things are printed."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


@dataclass(slots=True)
class _Current:
    """The command line that is being run: for its error message, and where its data goes while others may print.

    `before` is the stdout that is put back afterwards.
    """

    command: str = "kitaru"
    is_json: bool = False
    data: TextIO | None = None
    before: TextIO | None = None


_current = _Current()


def prepare(argv: Sequence[str]) -> None:
    """Know how errors are to be said before anything is parsed; make stdout and stderr take any text."""
    words = list(argv)
    typed = _positional(words)
    pairs = [*pairwise(words), *(word.split("=", 1) for word in words if "=" in word)]
    _current.is_json = any(option in ("-o", "--output") and value in ("json", "jsonl") for option, value in pairs) or any(
        word in ("-ojson", "-ojsonl") for word in words
    )
    _current.command = ".".join(typed[:2] if typed[:1] in _GROUPED else typed[:1]) or "kitaru"
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if _current.is_json and _current.command in _RUNS_CODE:
        _keep_stdout()


_RUNS_CODE = ("run", "recover", "worker", "executions.resume", "executions.retry", "executions.replay")
"""Commands in whose process flows run, and print."""


def _keep_stdout() -> None:
    """Until `release_stdout`, stdout is for this command's data alone: what flows and their files print is on stderr."""
    _current.before = _current.data = sys.stdout
    sys.stdout.flush()
    if _is_descriptor_1(sys.stdout):  # else it is a caller's, in this process
        _current.data = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace")  # noqa: SIM115
        os.dup2(2, 1)
    sys.stdout = sys.stderr


def release_stdout() -> None:
    """Put stdout back. Raises BrokenPipeError when nobody reads it."""
    before, data = _current.before, _current.data
    if before is None or data is None:
        return
    _current.before = _current.data = None
    sys.stdout = before
    try:
        data.flush()
    except BrokenPipeError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), data.fileno())
        raise
    finally:
        if data is not before:
            os.dup2(data.fileno(), 1)
            data.close()


def _is_descriptor_1(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (OSError, ValueError):
        return False


def _print(text: str, *, flush: bool = False) -> None:
    print(text, file=_current.data, flush=flush)


def typed_command() -> str:
    """The command that was typed, with dots between its words."""
    return _current.command


def help_line(*, is_known: bool) -> str:
    """What shows how the command that was typed is typed; for one that there is none of, which there are."""
    words = _current.command.split(".") if _current.command != "kitaru" else []
    return " ".join(["kitaru", *(words if is_known else words[:-1]), "--help"])


_GROUPED = tuple(
    [name] for name in ("executions", "checkpoints", "llm-usage", "artifacts", "stack", "model", "secrets", "store")
)
_VALUED = ("-o", "--output", "--store", "--project")


def _positional(words: Sequence[str]) -> list[str]:
    """The words that are no options: the first ones name the command."""
    befores = ("", *words)
    return [word for before, word in zip(befores, words, strict=False) if before not in _VALUED and not word.startswith("-")]


def clean(text: object, *, keep_lines: bool = False) -> str:
    """A stored text, harmless on a terminal."""
    return _UNSAFE.sub(lambda found: "\n" if keep_lines and found[0] == "\n" else _escaped(found[0]), str(text))


def _escaped(char: str) -> str:
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    code = ord(char)
    return known or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def dumped(value: object, *, indent: int | None = None) -> str:
    """JSON that is harmless on a terminal too, and still the same value."""
    is_utf8 = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not is_utf8, indent=indent)
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text)


def plain(model: BaseModel) -> dict[str, object]:
    """A model as JSON's own types."""
    return model.model_dump(mode="json", by_alias=True)


def print_item(command: str, item: object, **more: object) -> None:
    """The envelope of one thing."""
    _print(dumped({"command": command, "item": item, **more}, indent=2))


def print_items(command: str, items: Sequence[object]) -> None:
    """The envelope of many things."""
    _print(dumped({"command": command, "items": items, "count": len(items)}, indent=2))


def print_lines(items: Iterable[object]) -> None:
    """A line of JSON for each thing."""
    for item in items:
        _print(dumped(item))


def print_event(command: str, event: Event, item: object) -> None:
    """A line of a followed stream."""
    _print(dumped({"command": command, "event": event, "item": item}), flush=True)


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Comma-separated values; what is no scalar stands as JSON."""
    print_csv_rows(columns, ([row.get(column) for column in columns] for row in rows))


def print_csv_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The same of rows whose columns may share a name."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([clean(name) for name in header])
    for row in rows:
        writer.writerow([_cell(value) for value in row])


def _cell(value: object) -> str:
    if value is None:
        return ""
    return clean(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else dumped(value)


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = (), below: str | None = None
) -> None:
    """Rows under a header. Cells are stored text: they are cleaned here.

    On a narrow terminal empty columns give way; then what the column `below` says stands below the table, behind what the
    first column says; then the `spare` ones give way.
    """
    header = [clean(name) for name in header]
    cleaned = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        _draw(header, cleaned, spare, below)
        return
    widths = [max(len(cell) for cell in column) for column in zip(header, *cleaned, strict=True)]
    for row in (header, *cleaned):
        print(_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


COLOURS = {"completed": "green", "failed": "red", "running": "cyan", "waiting": "yellow", "cancelled": "magenta"}
"""Of statuses on a terminal."""


def _draw(header: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str], below: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    columns = list(zip(header, *rows, strict=True))
    moved: Sequence[tuple[str, ...]] = ()
    for name in (None, below, *spare):
        if sum(max(map(len, column)) + len(_GAP) for column in columns) - len(_GAP) <= console.width:
            break
        if name is None:
            columns = [column for column in columns if any(column[1:])]
            continue
        if name == below:
            moved = [column for column in columns if column[0] == name]
        columns = [column for column in columns if column[0] != name]
    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0))
    for place, column in enumerate(columns):
        table.add_column(Text(column[0]), overflow="fold", no_wrap=place == 0)
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    console.print(table)
    for column in moved:
        for first, cell in zip(columns[0][1:], column[1:], strict=True):
            if cell:
                print(f"{first}: {cell}")


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Named values, one a line; None is left out, further lines of a text are indented."""
    found = [(clean(name), clean(value, keep_lines=True)) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in found), default=0)
    for name, text in found:
        first, *rest = text.rstrip("\n").split("\n")
        print(f"{name.ljust(width)}{_GAP}{first}".rstrip())
        for line in rest:
            print(f"{' ' * width}{_GAP}{line}".rstrip())


def count(number: int, what: str) -> str:
    """A number of things: `1 event`, `2 events`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def tell(message: str) -> None:
    """A message for people, on stderr."""
    print(clean(message, keep_lines=True), file=sys.stderr, flush=True)


def fail(kind: str, code: str, message: str) -> None:
    """An error, on stderr, as text or as JSON."""
    if _current.is_json:
        error = {"type": kind, "code": code, "message": message}
        print(dumped({"command": _current.command, "error": error}), file=sys.stderr, flush=True)
    else:
        tell(f"Error: {shortened(message)}")
