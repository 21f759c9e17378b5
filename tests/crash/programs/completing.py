"""A process that completes an execution for every line it reads, and says how many there are by now."""

from __future__ import annotations

import sys

from kitaru.compose import open_log
from kitaru.settings import resolve_store
from kitaru.testing.events import append, completed, start

if __name__ == "__main__":
    log = open_log(resolve_store())
    for number, _ in enumerate(sys.stdin, 1):
        append(log, start(log), completed())
        print(number, flush=True)
