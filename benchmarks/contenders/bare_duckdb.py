"""The baseline of statistics: bare DuckDB over ideal native columns, on a warm connection, with as many threads."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from benchmarks.contenders.questions import ADDED_TAG, QUESTIONS, TAGS_AFTER, Rows, changed_numbers, in_order
from benchmarks.turns import Answer, serve

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

THREADS = 2
"""What Kitaru's own connection takes."""
_LAST = "SELECT max(number) FROM executions"


def _answer(connection: DuckDBPyConnection, name: str, changed: int) -> Rows:
    if name != "tag" or not changed:
        return in_order(connection.execute(QUESTIONS[name].bare).fetchall())
    last = connection.execute(_LAST).fetchall()[0][0]
    given = {"numbers": changed_numbers(last, changed), "added": ADDED_TAG}
    return in_order(connection.execute(TAGS_AFTER, given).fetchall())


def main() -> None:
    """`python -m benchmarks.contenders.bare_duckdb FILE QUESTION`: serve rounds of `count` questions.

    `FILE --answers QUESTION...`: print the answers as JSON. `FILE --answers-after COUNT QUESTION...`: as they are when
    benchmarks.contenders.change has changed COUNT executions.
    """
    import duckdb

    connection = duckdb.connect(sys.argv[1], read_only=True, config={"threads": THREADS})
    if sys.argv[2].startswith("--answers"):
        changed = int(sys.argv.pop(3)) if sys.argv[2] == "--answers-after" else 0
        print(json.dumps([_answer(connection, name, changed) for name in sys.argv[3:]]))
        return
    question = QUESTIONS[sys.argv[2]]

    def run(count: int) -> Answer:
        for _ in range(count):
            connection.execute(question.bare).fetchall()
        return None

    serve(run, warm_up=3)


if __name__ == "__main__":
    main()
