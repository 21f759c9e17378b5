"""A progress bar for long work, on stderr, and only when that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

_DRAW_SECONDS = 0.1
_BAR = 30


@contextmanager
def progress_bar(what: str) -> Generator[Callable[[int, int], None] | None, None, None]:
    """What to call with (done, total) while it lasts; None where nobody sees a bar."""
    if not sys.stderr.isatty():
        yield None
        return
    drawn = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn >= _DRAW_SECONDS or done == total:
            drawn = now
            filled = _BAR if total == 0 else _BAR * done // total
            print(f"\r{what} [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total}", end="", file=sys.stderr, flush=True)

    try:
        yield progress
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
