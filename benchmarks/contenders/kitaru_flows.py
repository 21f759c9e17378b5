"""Kitaru doing trivial checkpoints: one long flow, several at once, or five-step flows one after the other."""

from __future__ import annotations

import argparse
import statistics
import time

import kitaru
from benchmarks.slow_disk import syncs
from benchmarks.turns import Answer, serve
from kitaru import checkpoint, flow

_ended: list[float] = []


@checkpoint
def step(number: int) -> int:
    """Nothing but its record."""
    return number


@flow
def steps(count: int) -> int:
    """`count` checkpoints, one after the other."""
    for number in range(count):
        step(number)
    _ended.append(time.perf_counter())
    return count


def main() -> None:
    """Serve rounds: of `count` checkpoints in `--flows` flows at once, or of `count` flows of five (`--five`)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--flows", type=int, default=1)
    parser.add_argument("--five", action="store_true")
    options = parser.parse_args()
    kitaru.configure(store=options.store)

    def one_after_the_other(count: int) -> Answer:
        for _ in range(count):
            steps.run(5).wait()
        return None

    def at_once(count: int) -> Answer:
        _ended.clear()
        before, began = syncs(), time.perf_counter()
        handles = [steps.run(max(1, count // options.flows)) for _ in range(options.flows)]
        for handle in handles:
            handle.wait()
        after = syncs()
        took = [ended - began for ended in _ended]
        told = {"slowest": max(took), "median": statistics.median(took)}
        return told if before is None or after is None else {**told, "syncs": after - before}

    serve(one_after_the_other if options.five else at_once, warm_up=max(20, 2 * options.flows))


if __name__ == "__main__":
    main()
