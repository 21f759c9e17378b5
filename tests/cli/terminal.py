"""A terminal for a command: a real pty of a given size, and what its screen shows after all that was written to it."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.cli.commands import PATIENCE, environment

_SEQUENCE = re.compile(r"\x1b(?:\[([?\d;]*)([A-Za-z])|[()][A-Z0-9]|[=>78])")


class Screen:
    """The cells of a terminal: what CSI sequences that move, erase and colour come to. Unknown ones are an error."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.is_cursor_shown = True
        self.colours = 0
        self._rest = ""

    def feed(self, text: str) -> None:
        """Take what was written."""
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            char = text[at]
            if char == "\x1b":
                found = _SEQUENCE.match(text, at)
                if found is None:
                    assert len(text) - at < 16, f"an unknown sequence: {text[at : at + 16]!r}"
                    self._rest = text[at:]
                    return
                self._obey(found[1] or "", found[2] or "")
                at = found.end()
                continue
            self._put(char)
            at += 1

    def _put(self, char: str) -> None:
        if char == "\n":
            self._down()
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char != "\x07":
            if self.column == self.columns:
                self.column = 0
                self._down()
            self.cells[self.row][self.column] = char
            self.column += 1

    def _down(self) -> None:
        if self.row + 1 < self.rows:
            self.row += 1
        else:
            self.cells = [*self.cells[1:], [" "] * self.columns]

    def _obey(self, given: str, what: str) -> None:
        number = int(given) if given.isdigit() else 0
        if what == "A":
            self.row = max(0, self.row - max(1, number))
        elif what == "B":
            self.row = min(self.rows - 1, self.row + max(1, number))
        elif what == "H":
            self.row = self.column = 0
        elif what == "K":
            start = 0 if number == 2 else self.column
            self.cells[self.row][start:] = [" "] * (self.columns - start)
        elif what == "J":
            first = 0 if number == 2 else self.row
            for row in range(first, self.rows):
                self.cells[row] = [" "] * self.columns
        elif what in "hl":
            self.is_cursor_shown = what == "h" if given == "?25" else self.is_cursor_shown
        elif what == "m":
            self.colours += given not in ("", "0")

    def lines(self) -> list[str]:
        """The lines that are not empty at the end."""
        shown = ["".join(row).rstrip() for row in self.cells]
        while shown and not shown[-1]:
            shown.pop()
        return shown


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, folder: Path, *words: str, columns: int = 100, rows: int = 24, **more: str) -> None:
        self.screen = Screen(columns, rows)
        self.written = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = {name: value for name, value in environment().items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.child = subprocess.Popen(
            [sys.executable, "-m", "kitaru.cli", *words],
            cwd=folder, env={**env, "TERM": "xterm-256color", "LANG": "C.UTF-8", **more},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(PATIENCE)
        os.close(self._ours)

    def type(self, text: str) -> None:
        """Type it."""
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.child.send_signal(signal.SIGINT)

    def read(self, seconds: float = 0.05) -> bool:
        """Take what comes within that time; False when nothing will come any more."""
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if not ready:
            return True
        try:
            more = os.read(self._ours, 65_536)
        except OSError:  # Linux says so when the other side is closed
            return False
        text = self._decoder.decode(more)
        self.written += text
        self.screen.feed(text)
        return bool(more)

    def until(self, is_so: Callable[[list[str]], bool]) -> list[str]:
        """What the screen shows once it is so."""
        deadline = time.monotonic() + PATIENCE
        while not is_so(self.screen.lines()):
            assert time.monotonic() < deadline, "\n".join(self.screen.lines())
            assert self.read() or is_so(self.screen.lines()), "\n".join(self.screen.lines())
        return self.screen.lines()

    def end(self) -> tuple[int, list[str]]:
        """The exit code, and what the screen shows then."""
        deadline = time.monotonic() + PATIENCE
        while self.read() and time.monotonic() < deadline:
            pass
        return self.child.wait(PATIENCE), self.screen.lines()
