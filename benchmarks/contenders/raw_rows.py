"""The baseline of a resume: all event rows of one execution by bare sqlite3, a fresh connection, nothing decoded."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.contenders.store_file import open_raw
from benchmarks.turns import Answer, serve

_NUMBER = "SELECT number FROM streams WHERE exec_id = ?"
_ROWS = """SELECT position, version, type, v, event_id, digest, body, payload FROM events
    WHERE number = ? ORDER BY version"""


def main() -> None:
    """`python -m benchmarks.contenders.raw_rows STORE EXEC_ID`: serve rounds of one reading; tells how many rows."""
    store, exec_id = Path(sys.argv[1]), sys.argv[2]

    def run(_count: int) -> Answer:
        connection = open_raw(store)
        began = time.perf_counter()
        number = connection.execute(_NUMBER, (exec_id,)).fetchone()[0]
        rows = connection.execute(_ROWS, (number,)).fetchall()
        seconds = time.perf_counter() - began
        connection.close()
        return {"seconds": seconds, "rows": len(rows)}

    serve(run, warm_up=1)


if __name__ == "__main__":
    main()
