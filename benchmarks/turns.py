"""The child's side of a round: read a count, do it, answer how long it took.

It imports nothing beyond the standard library, so that peers can serve in an environment of their own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping

Answer = Mapping[str, float] | None
"""What a round adds to its seconds; a key `seconds` replaces the time of the whole call."""


def serve(run: Callable[[int], Answer], warm_up: int = 20) -> None:
    """Answer each line of stdin, a count, with one line of JSON. What else is printed goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if warm_up:
        run(warm_up)
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        extra = run(int(line))
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, **(extra or {})}), file=replies, flush=True)
