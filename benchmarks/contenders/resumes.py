"""Recovers an execution of `long_flow` once a round, each time in a fresh process, and tells how long its body took.

The time begins before `recover` is called, with everything imported, the store open and its rows read once, as the
baseline has, and ends when the body has all recorded results.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.rounds import ROOT, python
from benchmarks.turns import Answer, serve


def recover_once(store: str, exec_id: str, *, by_client: bool) -> None:
    """In the fresh process: go on with the execution until its body ends the process, as `kitaru recover` does.

    `by_client`: as a program does, which gets a snapshot that is read while the flow runs on.
    """
    import benchmarks.contenders.long_flow  # noqa: F401  (what it needs is imported before the clock starts)
    from kitaru import KitaruClient, compose
    from kitaru.runtime import calls, recovery, replaying  # noqa: F401
    from kitaru.settings import resolve_store

    client, choice = KitaruClient(store=store), resolve_store(store)
    compose.open_log(choice)  # as the baseline's connection is
    client.executions.get(exec_id)  # and as the baseline has, this process has read these rows once before
    os.environ["BENCH_BEGAN"] = repr(time.perf_counter())
    if by_client:
        client.executions.recover(exec_id)
    else:
        compose.recover(choice, [exec_id])
    time.sleep(60)
    sys.exit("the body never came to its end")


def main() -> None:
    """`python -m benchmarks.contenders.resumes STORE EXEC_ID [--client]`: serve rounds of one recovery."""
    store, exec_id, *flags = sys.argv[1:]
    if "--once" in flags:
        recover_once(store, exec_id, by_client="--client" in flags)
    command = python("benchmarks.contenders.resumes", store, exec_id, *flags, "--once")

    def run(_count: int) -> Answer:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"recover ended with exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return {"seconds": float(done.stdout.split()[-1])}

    serve(run, warm_up=1)


if __name__ == "__main__":
    main()
