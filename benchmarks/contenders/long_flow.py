"""A flow of many trivial checkpoints whose process ends right after the last of them, before the flow does.

So its execution can be recovered again and again: each time the body takes all recorded results, tells how long that
took since BENCH_BEGAN (time.perf_counter, set by who recovers), and is gone. A module of its own: `recover` loads it by
file.
"""

from __future__ import annotations

import os
import sys
import time

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def step(number: int) -> int:
    """Nothing but its record."""
    return number


@flow
def long_flow(count: int) -> int:
    """`count` checkpoints, then the end of the process."""
    for number in range(count):
        step(number)
    print(kitaru.current_execution_id(), time.perf_counter() - float(os.environ["BENCH_BEGAN"]), flush=True)
    os._exit(0)


if __name__ == "__main__":
    os.environ["BENCH_BEGAN"] = repr(time.perf_counter())
    kitaru.configure(store=sys.argv[1])
    long_flow.run(int(sys.argv[2])).wait()
