"""A flow that asks, again and again, and who answers it: how long until it goes on.

The answer comes from this process, or from another one (`--outside`). The time begins before the answer is given, when the
flow has slept for a while, and ends in the flow's next line. `--idle` answers nothing, and tells what sleeping costs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import kitaru
from benchmarks.rounds import ROOT, python
from benchmarks.turns import Answer, serve
from kitaru import KitaruClient, flow

_ASLEEP_AFTER = 0.03
_IDLE_SECONDS = 2.0
_asks, _goes_on = threading.Event(), threading.Event()
_went_on: list[float] = []


@flow
def asks(count: int) -> int:
    """`count` questions, one after the other."""
    for number in range(count):
        _asks.set()
        kitaru.wait(schema=bool, name=f"question_{number}")
        _went_on.append(time.perf_counter())
        _goes_on.set()
    return count


def answer(client: KitaruClient, exec_id: str, number: int) -> float:
    """Answer one question; when that began."""
    began = time.perf_counter()
    client.executions.input(exec_id, wait=f"question_{number}", value=True)
    return began


def answer_lines(store: str) -> None:
    """In the other process: a line is an execution and a question; the reply is when the answer began."""
    client = KitaruClient(store=store)
    for line in sys.stdin:
        exec_id, number = line.split()
        print(repr(answer(client, exec_id, int(number))), flush=True)


def main() -> None:
    """Serve rounds of `count` answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--outside", action="store_true")
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--idle", action="store_true")
    options = parser.parse_args()
    if options.answers:
        return answer_lines(options.store)
    kitaru.configure(store=options.store)
    client = KitaruClient(store=options.store)
    ask: Callable[[str, int], float] = lambda exec_id, number: answer(client, exec_id, number)  # noqa: E731
    if options.outside:
        command = python("benchmarks.contenders.answered", options.store, "--answers")
        other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        asked, told = other.stdin, other.stdout
        assert asked is not None
        assert told is not None

        def ask(exec_id: str, number: int) -> float:
            print(exec_id, number, file=asked, flush=True)
            return float(told.readline())

    def answered(count: int) -> Answer:
        _asks.clear(), _goes_on.clear(), _went_on.clear()
        handle, took = asks.run(count), []
        for number in range(count):
            _asks.wait()
            _asks.clear()
            time.sleep(_ASLEEP_AFTER)
            began = ask(handle.exec_id, number)
            _goes_on.wait()
            _goes_on.clear()
            took.append(_went_on[-1] - began)
        handle.wait()
        return {"seconds": statistics.median(took) * count, "slowest": max(took)}

    def idle(_count: int) -> Answer:
        _asks.clear(), _went_on.clear()
        handle = asks.run(1)
        _asks.wait()
        time.sleep(_ASLEEP_AFTER)
        cpu = time.process_time()
        time.sleep(_IDLE_SECONDS)
        cpu = (time.process_time() - cpu) / _IDLE_SECONDS
        ask(handle.exec_id, 0)
        handle.wait()
        return {"seconds": cpu}

    serve(idle if options.idle else answered, warm_up=1 if options.idle else 3)
    return None


if __name__ == "__main__":
    main()
