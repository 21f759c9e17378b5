"""R9: eight writers, none starved. R10: readers beside a writer see beginnings of its stream, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.children import ForkServer
from tests.crash.inspection import read_streams

WRITERS = 8
APPENDS = 250
READERS = 4
READING_SECONDS = 20.0


def test_of_eight_writers_none_is_starved(
    forkserver: ForkServer, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    with closing(sqlite3.connect(folder / "plain.db")) as plain:
        assert plain.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        plain.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, process INTEGER, number INTEGER, body BLOB)")
    each = [{"appends": APPENDS}] * WRITERS
    ours = [child.finish() for child in forkserver.start_all("appending:timed_appends", folder, each)]
    theirs = [child.finish() for child in forkserver.start_all("appending:timed_plain_appends", folder, each)]
    streams = read_streams(folder)
    for said in ours:
        assert streams[said[-1]["exec_id"]].version == said[-1]["version"] == APPENDS + 2
    slowest = max(said[-1]["slowest"] for said in ours)
    plain_slowest = max(said[-1]["slowest"] for said in theirs)
    record_property("slowest append, of the plain program's", f"{slowest / plain_slowest:.3f}")
    print(f"slowest append: {slowest:.3f} s; of the plain program: {plain_slowest:.3f} s; ratio {slowest / plain_slowest:.3f}")
    # The mark is a fifth. A timing is no reason for a red suite: this only sees that nobody starves.
    assert slowest < max(plain_slowest, 1.0)


@pytest.mark.timeout(240)
def test_readers_see_beginnings_of_what_is_being_written(forkserver: ForkServer, folder: Path) -> None:
    writer = forkserver.start("appending:follow", folder, seconds=READING_SECONDS)
    exec_id = writer.await_line()["exec_id"]
    readers = [
        forkserver.start("reading:watch", folder, exec_id=exec_id, seconds=READING_SECONDS + 0.5) for _ in range(READERS)
    ]
    version = writer.finish()[-1]["version"]
    for reader in readers:
        said = reader.finish()[-1]
        assert said["looks"] > 10
        assert said["version"] == said["followed"] == version
