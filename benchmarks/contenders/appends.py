"""One append after another to a stream of a given length, in a store that may hold much already.

The stream is made again for each round, outside the time that counts. Run it with KITARU_DURABILITY=os: without a sync
in each append there is nothing that could hide a cost that grows.
"""

from __future__ import annotations

import itertools
import sys
import time

from benchmarks.contenders.fill import START, append, checkpoint_events, start_execution
from benchmarks.turns import Answer, serve
from kitaru.compose import open_log
from kitaru.settings import resolve_store


def main() -> None:
    """`python -m benchmarks.contenders.appends STORE EVENTS`: serve rounds of `count` appends of one event each."""
    store, events = sys.argv[1], int(sys.argv[2])
    log = open_log(resolve_store(store))
    numbers = itertools.count(10_000_000)

    def run(count: int) -> Answer:
        head = start_execution(log, next(numbers))
        calls = events // 2
        for first in range(1, calls + 1, 500):
            head = append(log, head, list(checkpoint_events(first, min(500, calls + 1 - first), START)))
        following = list(checkpoint_events(calls + 1, -(-count // 2), START))[:count]
        began = time.perf_counter()
        for event in following:
            head = append(log, head, [event])
        return {"seconds": time.perf_counter() - began}

    serve(run)
    log.close()


if __name__ == "__main__":
    main()
