"""Rebuilds all read models of a store from its events, once a round; tells how many events were folded."""

from __future__ import annotations

import sys

from benchmarks.turns import Answer, serve
from kitaru.compose import open_log
from kitaru.settings import resolve_store


def main() -> None:
    """`python -m benchmarks.contenders.rebuild STORE`: serve rounds of one rebuild."""
    log = open_log(resolve_store(sys.argv[1]))

    def run(_count: int) -> Answer:
        return {"events": log.rebuild()}

    serve(run, warm_up=0)


if __name__ == "__main__":
    main()
