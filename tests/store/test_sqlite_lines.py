"""Log lines in a store's file: written along, kept in a backup, checked by verify, and no reason for an event to be lost."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru.store.lines import LogLine, Wanted, read_lines
from kitaru.store.read import open_store
from kitaru.store.sqlite.backup import backup
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.store.sqlite.verify import verify
from kitaru.testing import start
from kitaru.testing.counts import EventCounts

Spawn = Callable[..., Any]


@pytest.fixture
def counted(folder: str) -> Iterator[SQLiteLog]:
    log = SQLiteLog(folder, (EventCounts,))
    yield log
    log.close()


def lines_of(log: SQLiteLog, number: int) -> list[str]:
    return [line.message for line in read_lines(log, Wanted(number, "step"))]


def test_a_backup_has_the_log_lines(counted: SQLiteLog, folder: str, tmp_path: Path) -> None:
    head = start(counted)
    counted.lines.add(LogLine(head.number, 1, "step", "INFO", "said"))
    counted.lines.flush()
    backup(folder, str(tmp_path / "copy"))
    copy = SQLiteLog(str(tmp_path / "copy"), (EventCounts,))
    assert lines_of(copy, head.number) == ["said"]
    copy.close()


@pytest.mark.parametrize("damage", ["ALTER TABLE logs RENAME COLUMN message TO other", "UPDATE logs SET at = 'noon'"])
def test_verify_tells_of_damaged_logs_and_of_nothing_else(counted: SQLiteLog, folder: str, damage: str) -> None:
    head = start(counted)
    counted.lines.add(LogLine(head.number, 1, "step", "INFO", "said"))
    counted.lines.flush()
    with contextlib.closing(sqlite3.connect(folder + "/kitaru.db")) as db:
        db.execute(damage)
        db.commit()
    assert [problem.kind for problem in verify(folder, (EventCounts,)).problems] == ["logs"]


def test_a_store_of_an_earlier_version_has_no_logs_until_it_is_written_to(counted: SQLiteLog, folder: str) -> None:
    head = start(counted)
    counted.close()
    with contextlib.closing(sqlite3.connect(folder + "/kitaru.db")) as db:
        db.execute("DROP TABLE logs")
        db.commit()
    reader = open_store(folder)
    assert read_lines(reader, Wanted(head.number, "step")) == []
    reader.close()
    assert verify(folder, (EventCounts,)).is_whole
    again = SQLiteLog(folder, (EventCounts,))
    again.lines.add(LogLine(head.number, 1, "step", "INFO", "said"))
    again.lines.flush()
    assert lines_of(again, head.number) == ["said"]
    again.close()


def test_a_line_that_no_append_takes_along_is_written_within_moments(counted: SQLiteLog, folder: str, spawn: Spawn) -> None:
    head = start(counted)
    counted.lines.add(LogLine(head.number, 1, "step", "INFO", "said"))
    looking = spawn(
        "import sys, time\nfrom kitaru.store.read import open_store\nfrom kitaru.store.lines import Wanted, read_lines\n"
        "reader = open_store(sys.argv[1])\n"
        "while not read_lines(reader, Wanted(int(sys.argv[2]), 'step')): time.sleep(0.02)\nprint('seen')",
        folder,
        str(head.number),
    )
    assert looking.communicate(timeout=30)[0] == "seen\n"


def test_a_full_disk_takes_no_event_back_with_the_lines(folder: str, spawn: Spawn) -> None:
    """The file may grow a little: enough for the events, and not for the lines that wait."""
    filling = spawn(FULL, folder)
    out, err = filling.communicate(timeout=60)
    assert out == "appended 4\n", err


FULL = """
import os, resource, signal, sys
from kitaru.store.lines import LogLine
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.testing import append, call, start
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = SQLiteLog(sys.argv[1], ())
head = start(log)
log.shrink()
limit = os.stat(sys.argv[1] + "/kitaru.db").st_size + 60_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for _ in range(100):
    log.lines.add(LogLine(head.number, 1, "step", "INFO", "x" * 15_000))
print("appended", append(log, head, *call(1)).version)
sys.stdout.flush()
os._exit(0)
"""
