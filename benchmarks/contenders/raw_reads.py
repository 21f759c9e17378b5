"""The baselines of `get` and `list`: bare SQL for the same rows, nothing decoded, on a warm connection."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.contenders.store_file import open_raw
from benchmarks.turns import Answer, serve

_STREAM = """SELECT e.version, e.type, e.v, e.digest, e.body, e.payload FROM events e
    JOIN streams s ON s.number = e.number WHERE s.exec_id = ? ORDER BY e.version"""
_PAGE = "SELECT * FROM streams ORDER BY number DESC LIMIT 20"


def main() -> None:
    """`python -m benchmarks.contenders.raw_reads STORE EXEC_ID get|list`: serve rounds of `count` reads."""
    store, exec_id, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    connection = open_raw(store)
    statement, parameters = (_STREAM, (exec_id,)) if name == "get" else (_PAGE, ())

    def run(count: int) -> Answer:
        for _ in range(count):
            connection.execute(statement, parameters).fetchall()
        return None

    serve(run, warm_up=5)


if __name__ == "__main__":
    main()
