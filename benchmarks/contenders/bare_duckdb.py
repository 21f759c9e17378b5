"""The baseline of statistics: bare DuckDB over ideal native columns, on a warm connection, with as many threads."""

from __future__ import annotations

import json
import sys

from benchmarks.contenders.questions import ADDED_TAG, QUESTIONS, TAGS_AFTER, changed_numbers, in_order
from benchmarks.turns import Answer, serve

THREADS = 2
"""What Kitaru's own connection takes."""
_LAST = "SELECT max(number) FROM executions"


def main() -> None:
    """`python -m benchmarks.contenders.bare_duckdb FILE QUESTION [--answer]`: serve rounds of `count` questions.

    QUESTION `--tags-after COUNT`: the answer by tag as it is when benchmarks.contenders.change has changed COUNT executions.
    """
    import duckdb

    connection = duckdb.connect(sys.argv[1], read_only=True, config={"threads": THREADS})
    if sys.argv[2] == "--tags-after":
        last = connection.execute(_LAST).fetchall()[0][0]
        given = {"numbers": changed_numbers(last, int(sys.argv[3])), "added": ADDED_TAG}
        print(json.dumps(in_order(connection.execute(TAGS_AFTER, given).fetchall())))
        return
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
