"""The baseline of statistics: bare DuckDB over ideal native columns, on a warm connection, with as many threads."""

from __future__ import annotations

import json
import sys

from benchmarks.contenders.questions import QUESTIONS, in_order
from benchmarks.turns import Answer, serve

THREADS = 2
"""What Kitaru's own connection takes."""


def main() -> None:
    """`python -m benchmarks.contenders.bare_duckdb FILE QUESTION [--answer]`: serve rounds of `count` questions."""
    import duckdb

    connection = duckdb.connect(sys.argv[1], read_only=True, config={"threads": THREADS})
    question = QUESTIONS[sys.argv[2]]
    if "--answer" in sys.argv:
        print(json.dumps(in_order(connection.execute(question.bare).fetchall())))
        return

    def run(count: int) -> Answer:
        for _ in range(count):
            connection.execute(question.bare).fetchall()
        return None

    serve(run, warm_up=3)


if __name__ == "__main__":
    main()
