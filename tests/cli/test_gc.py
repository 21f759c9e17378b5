"""`kitaru store gc`: what it says, what it asks, and what is left."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru.cli import main
from kitaru.store.lines import LogLine
from kitaru.store.log import EventLog
from kitaru.testing import append, call, completed, start
from tests.cli import commands
from tests.cli.conftest import Run


def filled(log: EventLog, executions: int = 3) -> None:
    for _ in range(executions):
        head = append(log, start(log), *call(1, b'"v"'), completed(b'"v"'))
        log.lines.add(LogLine(head.number, 1, "step", "INFO", "old"))
    log.lines.flush()


def test_what_was_freed_is_told(log: EventLog, run: Run) -> None:
    filled(log)
    ran = run("store", "gc")
    assert (ran.code, ran.out) == (0, "")
    assert "dropped the events of 0 executions, 3 log lines, 0 unused values, 0 leftover files; " in ran.err
    assert len(list(log.tail())) > 3


def test_json_has_the_counts(log: EventLog, run: Run) -> None:
    filled(log)
    found = run("store", "gc", "--older-than", "0d", "--yes", "-o", "json").json
    assert found["command"] == "store.gc"
    item = found["item"]
    assert isinstance(item, dict)
    sizes = [item.pop("bytes_before"), item.pop("bytes_after")]
    assert all(isinstance(size, int) and size > 0 for size in sizes)
    # The histories take their log lines along.
    assert item == {"executions": 3, "log_lines": 0, "values": 0, "files": 0, "in_wal": False, "dry_run": False}
    assert run("executions", "list", "-o", "json").json["count"] == 3


def test_events_are_dropped_only_when_it_is_confirmed(log: EventLog, run: Run) -> None:
    filled(log)
    before = log.last_position()
    assert run("store", "gc", "--older-than", "0d").code == 2
    assert run("store", "gc", "--older-than", "0d", "-o", "json").code == 2
    assert run("store", "gc", "--older-than", "0d", "--dry-run", "-o", "json").json["item"]["executions"] == 3  # type: ignore[index]
    assert log.last_position() == before
    assert run("store", "gc", "--older-than", "1d", "--yes").code == 0, "made in 1970, by the tests' events"


def test_what_is_wrong_is_told(log: EventLog, run: Run) -> None:
    filled(log)
    assert run("store", "gc", "--older-than", "long ago", "--yes").code == 2
    assert run("store", "gc", "--log-days", "-1").code == 2
    assert run("store", "gc", "--log-days", "nan").code == 2
    assert run("store", "gc", "--log-megabytes", "inf").code == 2
    assert run("store", "gc", "--store", "nowhere").code == 3


def test_a_bar_is_drawn_on_a_terminal(log: EventLog, folder: Path) -> None:
    filled(log, 120)
    own, theirs = pty.openpty()
    line = [sys.executable, "-m", "kitaru.cli", "store", "gc", "--older-than", "0d", "--yes"]
    ran = subprocess.Popen(line, cwd=folder, env=commands.environment(), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(own, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(own)
    assert ran.wait(commands.PATIENCE) == 0
    assert b"gc [##############################] 120/120" in shown
    assert b"dropped the events of 120 executions" in shown


def test_an_execution_without_its_events_is_shown_and_listed(log: EventLog, run: Run) -> None:
    filled(log, 1)
    assert run("store", "gc", "--older-than", "0d", "--yes").code == 0
    item = run("executions", "latest", "-o", "json").json["item"]
    assert isinstance(item, dict)
    assert (item["status"], item["checkpoints"], item["checkpoint_count"]) == ("completed", None, 1)
    assert item["status_reason"].startswith("its events and values were dropped on ")
    exec_id = str(item["exec_id"])
    assert run("executions", "get", exec_id).code == 0
    assert run("executions", "get", exec_id, "--at", "1").code == 2
    assert [each["type"] for each in json.loads(run("executions", "events", exec_id, "-o", "json").out)["items"]] == [
        "HistoryDropped"
    ]
    assert run("executions", "replay", exec_id, "--from", "step").code == 4
    assert run("executions", "retry", exec_id).code == 4
    assert run("executions", "tag", exec_id, "--add", "late").code == 0
    assert run("store", "verify").code == 0
    assert run("executions", "delete", exec_id, "--yes").code == 0
    assert run("store", "verify").code == 0


WORDS = st.sampled_from(
    ["--older-than", "--log-days", "--log-megabytes", "--dry-run", "--yes", "0d", "-1", "nan", "1e400", "90d"]
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.one_of(st.text(max_size=10), WORDS), max_size=5))
def test_whatever_is_typed_ends_with_a_documented_code(
    log: EventLog, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """R24."""
    filled(log, 1)
    assert main(["store", "gc", *words]) in (0, 1, 2, 3, 4, 5)
    assert "Traceback" not in capsys.readouterr().err
