"""A page of the documentation as a session in a shell: what it holds, how it is run, and what it has to print.

In a ```python block a first line `# name.py` puts the block into that file; without one the block is run as it stands. In a
```console block each line after `$ ` is a command and what follows is its output, whole, the lines of stdout and of stderr in
any interleaving: `...` on a line of its own stands for any lines, `…` for the rest of one. The exit code has to be 0, or the one that a following
`$ echo $?` shows. Ids, times, durations and digests may differ; an id that a command names is the one printed before. The
reader's folder is shown as /home/ada/research. `<!-- not run: why -->` before a block leaves it out.

`python -m tests.docs.pages --write PAGE…` fills in the output of commands that have none yet.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SHOWN = "/home/ada/research"
SHOWN_CONFIG = "/home/ada/.config/kitaru"
PATIENCE = 30
"""Seconds that one command may take."""
_KILLED = 128 + 9
_SHELLS_WORD = re.compile(r"(?:sh: .*)?\bKilled\n\Z")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: .+ -->\n\Z")
_FILE = re.compile(r"# ([\w/]+\.(?:py|toml))\n")
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_PART_OF_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]+")
_VOLATILE = re.compile(
    r"(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})|(?P<any>…)|(?P<gap> {2,})"
    r"|(?P<time>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?Z)|(?P<digest>\b[0-9a-f]{32}\b)|(?P<took>\b(?:\d+m )?[\d.]+(?:e-\d+)? ?m?s\b)"
)
_PATTERNS = {
    "id": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "any": ".*",
    "gap": " +",
    "time": r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?Z",
    "digest": "[0-9a-f]{32}",
    "took": r"(?:\d+m )?[\d.]+(?:e-\d+)? ?m?s",
}


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is where its first line stands in the page."""

    kind: str
    text: str
    line: int
    start: int
    is_run: bool


@dataclass(frozen=True)
class Command:
    """A line of a console block and the output that the page shows for it. `at` is its place among the block's lines."""

    line: str
    expected: list[str]
    at: int


@dataclass
class Session:
    """A folder, what is set in its shell, and which of the page's ids are which of this run's."""

    folder: Path
    place: Path
    environment: dict[str, str]
    is_merged: bool = False
    ids: dict[str, str] = field(default_factory=dict[str, str])
    code: int = 0


class Printed(NamedTuple):
    """What a command printed; all of it on `out` when the session merges."""

    out: str
    err: str = ""


def pages() -> list[Path]:
    """What people read, decisions apart."""
    return [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if page.parent.name != "decisions")]


def name_of(page: Path) -> str:
    """For people."""
    return str(page.relative_to(ROOT))


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [
        Block(
            found[1],
            found[2],
            text.count("\n", 0, found.start(2)) + 1,
            found.start(2),
            not _NOT_RUN.search(text, 0, found.start()),
        )
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block) -> list[Command]:
    """The commands of a console block."""
    found: list[Command] = []
    for at, line in enumerate(block.text.splitlines()):
        if line.startswith("$ "):
            found.append(Command(line[2:], [], at))
        elif found:
            found[-1].expected.append(line)
    return found


def new_session(root: Path) -> Session:
    """A reader's folder, with `kitaru` and `python` on the path, the user's own settings far away."""
    place = root / "research"
    tools = root / "bin"
    for folder in (place, tools):
        folder.mkdir()
    for name, line in (("kitaru", f'"{sys.executable}" -m kitaru.cli'), ("python", f'"{sys.executable}"')):
        (tools / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        (tools / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KITARU_", "XDG_", "PYTEST"))}
    environment = {
        **kept,
        "PATH": f"{tools}{os.pathsep}{kept.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "KITARU_CONFIG_DIR": str(root / "config"),
        "HOME": str(root / "home"),
    }
    return Session(place, place, environment)


def run_page(page: Path, root: Path, *, merged: bool = False) -> Iterator[tuple[Block, Command | None, str, str | None]]:
    """Run a page; for each block and command what it printed, and what is wrong with that."""
    session = new_session(root)
    session.is_merged = merged
    for number, block in enumerate(each for each in blocks(page.read_text(encoding="utf-8")) if each.is_run):
        if block.kind in ("python", "toml"):
            named = _FILE.match(block.text)
            path = session.place / named[1] if named else session.folder / f"block_{number}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
            if named is None and block.kind == "python":
                printed = _run(session, f"python {path.name}")
                yield block, None, "".join(printed), None if session.code == 0 else f"the block ended with {session.code}"
        elif block.kind == "console":
            yield from ((block, command, *rest) for command, *rest in _run_block(session, commands(block)))


def _run_block(session: Session, found: list[Command]) -> Iterator[tuple[Command, str, str | None]]:
    for number, command in enumerate(found):
        following = found[number + 1].line if number + 1 < len(found) else ""
        line = _PART_OF_ID.sub(lambda part: _real_id(session, part[0]), command.line)
        printed = Printed(*(_shown(session, text) for text in _run(session, line.replace(SHOWN, str(session.place)))))
        wrong = None if is_printed(session.ids, command.expected, printed) else "it printed something else"
        if session.code != 0 and command.line != "echo $?" and following != "echo $?" and "Killed" not in command.expected:
            wrong = f"it ended with {session.code}, and the page does not say so"
        yield command, "".join(printed), wrong


def _run(session: Session, line: str) -> Printed:
    """Run a line, in place what changes the shell itself, and keep its exit code."""
    word, _, rest = line.partition(" ")
    if word == "cd":
        session.folder = (session.folder / rest).resolve()
        return Printed("")
    if word == "export":
        name, _, value = rest.partition("=")
        session.environment[name] = value
        return Printed("")
    if line == "echo $?":
        return Printed(f"{session.code}\n")
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=session.folder,
        env=session.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if session.is_merged else subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    session.code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    err = done.stderr or ""
    if session.code != _KILLED:
        return Printed(done.stdout, err)
    return Printed(f"{_SHELLS_WORD.sub('', done.stdout)}Killed\n", _SHELLS_WORD.sub("", err))  # as an interactive shell says it; others do not


def _shown(session: Session, printed: str) -> str:
    root = str(session.place.parent)
    return printed.replace(f"{root}/config", SHOWN_CONFIG).replace(str(session.place), SHOWN)


def _real_id(session: Session, part: str) -> str:
    for shown, real in session.ids.items():
        if shown.startswith(part):
            return real[: len(part)]
    return part


def is_printed(ids: dict[str, str], expected: list[str], printed: Printed) -> bool:
    """Whether `printed` is what the page shows; the page's new ids are learned."""
    pairs = _matched(expected, *([line.rstrip() for line in text.splitlines()] for text in printed))
    for shown, real in pairs or ():
        for one, other in zip(_ID.findall(shown), _ID.findall(real), strict=False):
            if ids.setdefault(one, other) != other:
                return False
    return pairs is not None


def _matched(expected: list[str], out: list[str], err: list[str]) -> list[tuple[str, str]] | None:
    """Which printed line stands for which of the page's; None when they do not fit."""
    patterns = [None if line.strip() == "..." else _pattern(line.rstrip()) for line in expected]

    @cache
    def match(i: int, a: int, b: int) -> tuple[tuple[str, str], ...] | None:
        if i == len(patterns):
            return () if a == len(out) and b == len(err) else None
        pattern = patterns[i]
        rest = match(i + 1, a, b) if pattern is None else None
        for has, line, then in (
            (a < len(out), out[a : a + 1], (a + 1, b)),
            (b < len(err), err[b : b + 1], (a, b + 1)),
        ):
            if rest is None and has and (pattern is None or pattern.fullmatch(line[0])):
                rest = match(i if pattern is None else i + 1, *then)
                if rest is not None and pattern is not None:
                    rest = ((expected[i], line[0]), *rest)
        return rest

    found = match(0, 0, 0)
    return None if found is None else list(found)


def _pattern(line: str) -> re.Pattern[str]:
    parts: list[str] = []
    done = 0
    for found in _VOLATILE.finditer(line):
        parts += (re.escape(line[done : found.start()]), _PATTERNS[found.lastgroup or ""])
        done = found.end()
    return re.compile("".join([*parts, re.escape(line[done:])]))


def _write(page: Path) -> None:
    """Fill in the output of commands that have none."""
    lines = page.read_text(encoding="utf-8").splitlines()
    added = 0
    with TemporaryDirectory() as root:
        for block, command, printed, wrong in run_page(page, Path(root).resolve(), merged=True):
            if command is not None and not command.expected and printed:
                at = block.line + command.at + added
                lines[at:at] = printed.splitlines()
                added += len(printed.splitlines())
            elif wrong:
                print(f"{name_of(page)}:{block.line}: {wrong}\n{printed}")
    page.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__" and sys.argv[1:2] == ["--write"]:
    for given in sys.argv[2:]:
        _write(Path(given).resolve())
