"""The baseline of every write: one row inserted and committed, by bare sqlite3.

The row is an event's: stream, version, type, time, a body of about 200 bytes, in typed columns with a unique key, on
one connection that the threads share, as Kitaru's do.
"""

from __future__ import annotations

import argparse
import sqlite3
import threading
from pathlib import Path

from benchmarks.slow_disk import syncs
from benchmarks.turns import Answer, serve

_CREATE = """
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    stream INTEGER NOT NULL,
    version INTEGER NOT NULL,
    type TEXT NOT NULL,
    at INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (stream, version)
)
"""
_INSERT = "INSERT INTO events (stream, version, type, at, body) VALUES (?, ?, ?, ?, ?)"
_LEVELS = {"full": "PRAGMA synchronous = FULL", "normal": "PRAGMA synchronous = NORMAL"}
_BODY = b'{"v":1,"call":1,"attempt":1,"output":{"digest":"' + b"0" * 64 + b'","size":1,"codec":"k1"}}' + b" " * 80


def main() -> None:
    """Serve rounds of `count` units of `--commits` commits each, split among `--threads` threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--level", choices=sorted(_LEVELS), default="full")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--commits", type=int, default=1)
    options = parser.parse_args()

    connection = sqlite3.connect(options.file, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(_LEVELS[options.level])
    connection.execute(_CREATE)
    lock = threading.Lock()
    streams = iter(range(1, 2**62))

    def commit_rows(stream: int, rows: int) -> None:
        for version in range(1, rows + 1):
            with lock:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_INSERT, (stream, version, "CheckpointCompleted", 1_700_000_000_000_000, _BODY))
                connection.execute("COMMIT")

    def run(count: int) -> Answer:
        before = syncs()
        rows = count * options.commits
        if options.threads == 1:
            commit_rows(next(streams), rows)
        else:
            share = rows // options.threads
            threads = [threading.Thread(target=commit_rows, args=(next(streams), share)) for _ in range(options.threads)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        after = syncs()
        return {} if before is None or after is None else {"syncs": after - before}

    serve(run)


if __name__ == "__main__":
    main()
