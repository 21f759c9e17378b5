"""DBOS on SQLite: trivial steps in one workflow, or five-step workflows one after the other."""

from __future__ import annotations

import argparse
import os

from dbos import DBOS, DBOSConfig

from benchmarks.turns import Answer, serve


@DBOS.step()
def step(number: int) -> int:
    """Nothing but its record."""
    return number


@DBOS.workflow()
def steps(count: int) -> int:
    """`count` steps, one after the other."""
    for number in range(count):
        step(number)
    return count


def main() -> None:
    """Serve rounds of `count` steps, or of `count` workflows of five (`--five`)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--five", action="store_true")
    options = parser.parse_args()
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": f"sqlite:///{options.file}",
        "log_level": "ERROR",
        "enable_otlp": False,
    }
    DBOS(config=config)
    DBOS.launch()

    def run(count: int) -> Answer:
        if options.five:
            for _ in range(count):
                steps(5)
        else:
            steps(count)
        return None

    serve(run)
    os._exit(0)  # its background threads have nothing left to do


if __name__ == "__main__":
    main()
