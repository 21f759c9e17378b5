"""The line that a command shares with the flows of its process: first what begins, then how far it is.

On a terminal it stands below what flows print, gives way when they print more, and goes over no line that has not ended.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from kitaru.cli import output
from kitaru.runtime import capture, terminal

if TYPE_CHECKING:
    from types import TracebackType

_WIDTH = 100


class Line:
    """While it is entered, executions that begin here are told before they print."""

    def __init__(self, said: str, exec_id: str | None = None) -> None:
        self._lock = threading.RLock()
        self._said: str | None = said
        self._exec_id = exec_id
        self._is_drawn = False
        self._is_free = True
        """Whether the cursor stands at the beginning of a line."""
        self._streams = {name for name in ("stdout", "stderr") if _is_terminal(name)}

    def __enter__(self) -> Line:
        terminal.share(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        terminal.share(None)
        self.clear()

    def tell(self, exec_id: str) -> None:
        """Say that it begins, unless that was said when it did."""
        if self._said is not None and self._exec_id in (None, exec_id):
            said, self._said = self._said, None
            output.tell(f"{said}{exec_id}")

    begins = tell

    def writing(self, stream: str, text: str) -> AbstractContextManager[object]:
        """Give way to what is written to that stream."""
        return self._giving_way(text) if stream in self._streams else nullcontext()

    @contextmanager
    def _giving_way(self, text: str) -> Generator[None]:
        with self._lock:
            self.clear()
            yield
            if text:
                self._is_free = text.endswith("\n")

    def draw(self, text: str) -> None:
        """Show how far it is, on a terminal."""
        with self._lock:
            if "stderr" in self._streams and self._is_free:
                self._put(f"\r\x1b[K{output.clean(text)[:_WIDTH]}")
                self._is_drawn = True

    def clear(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._is_drawn:
                self._is_drawn = False
                self._put("\r\x1b[K")

    def end(self) -> None:
        """What the command prints from now on begins a line of its own."""
        with self._lock:
            self.clear()
            if not self._is_free and "stderr" in self._streams:
                self._is_free = True
                capture.plain(sys.stdout).flush()  # what has no end of line is still in its buffer
                self._put("\n")

    @staticmethod
    def _put(text: str) -> None:
        stream = capture.plain(sys.stderr)
        stream.write(text)
        stream.flush()


def _is_terminal(name: str) -> bool:
    stream = getattr(sys, name)
    return stream is not None and stream.isatty()
