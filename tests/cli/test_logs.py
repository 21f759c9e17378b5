"""`kitaru executions logs`: as text, grouped, as JSON, followed from another process while the flow runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru.cli import main
from kitaru.store.lines import LogLine
from kitaru.store.log import EventLog
from kitaru.testing import append, completed, start
from tests.cli import commands
from tests.cli.conftest import Run

TALKS = """
import os, sys, time
from kitaru import checkpoint, flow, wait

@checkpoint
def talks(n):
    for line in range(n):
        print("line", line)
        time.sleep(0.002)
    return n

@flow
def fine(n=3):
    print("begins")
    return talks(n)

@flow
def fails(n=3):
    talks(n)
    raise ValueError("no")

@flow
def asks(n=3):
    talks(n)
    wait(name="w", timeout=0)
    print("goes on")
    return n
"""


@pytest.fixture
def talks(folder: Path) -> Path:
    path = folder / "talks.py"
    path.write_text(TALKS)
    return path


def started(folder: Path, name: str = "fine", **inputs: Any) -> str:
    """The id of an execution that has ended, or waits."""
    found = commands.run("run", f"talks.py:{name}", "--input", json.dumps(inputs), "-o", "json", cwd=folder)
    assert found.returncode in (0, 1, 6), found.stderr
    return commands.run_json("executions", "latest", cwd=folder)["item"]["exec_id"]


def test_lines_are_printed_as_they_were(talks: Path, folder: Path, run: Run) -> None:
    exec_id = started(folder)
    assert run("executions", "logs", exec_id).out == "begins\nline 0\nline 1\nline 2\n"
    assert run("executions", "logs", exec_id, "--limit", "2").out == "line 1\nline 2\n"
    assert run("executions", "logs", exec_id, "--checkpoint", "talks", "-n", "1").out == "line 2\n"


def test_more_is_told_when_more_is_asked(talks: Path, folder: Path, run: Run) -> None:
    exec_id = started(folder, n=1)
    first, second = run("executions", "logs", exec_id, "-vv").out.splitlines()
    assert first.split()[2:] == ["INFO", "(flow)", "talks.py:14", "begins"]
    assert second.split()[2:] == ["INFO", "talks", "attempt", "1", "talks.py:8", "line", "0"]
    assert run("executions", "logs", exec_id, "-v").out.splitlines()[1].endswith("Z  INFO     talks  line 0")


def test_lines_stand_under_their_calls(talks: Path, folder: Path, run: Run) -> None:
    exec_id = started(folder, n=2)
    assert run("executions", "logs", exec_id, "--grouped").out == "(flow)\n  begins\n\ntalks\n  line 0\n  line 1\n"


def test_the_runner_has_its_say(talks: Path, folder: Path, run: Run) -> None:
    exec_id = started(folder)
    assert run("executions", "logs", exec_id, "--source", "runner").out.splitlines()[-1] == "completed"


def test_json_is_the_clients_own(talks: Path, folder: Path, run: Run) -> None:
    exec_id = started(folder, n=1)
    envelope = run("executions", "logs", exec_id, "-o", "json").json
    assert (envelope["command"], envelope["count"]) == ("executions.logs", 2)
    lines = run("executions", "logs", exec_id, "-o", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == envelope["items"]
    item: Any = envelope["items"][1]  # type: ignore[index]
    assert sorted(item) == sorted(
        ["timestamp", "level", "message", "source", "checkpoint_name", "invocation_id", "call_id", "attempt", "module",
         "filename", "lineno"]
    )  # fmt: skip
    assert (
        run("executions", "logs", exec_id, "-o", "csv").out.splitlines()[2].endswith(",INFO,talks,talks,1,line 0,talks.py,8")
    )


@pytest.mark.parametrize(("name", "code"), [("fine", 0), ("fails", 1)])
def test_following_ends_with_the_execution(talks: Path, folder: Path, run: Run, name: str, code: int) -> None:
    exec_id = started(folder, name)
    ran = run("executions", "logs", exec_id, "--follow", "-o", "jsonl")
    assert ran.code == code
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["event"] for event in events] == ["log"] * (3 + (name == "fine")) + ["terminal"]
    assert events[-1]["item"]["status"] == ("completed" if code == 0 else "failed")


def test_whoever_follows_from_another_process_misses_no_line_and_sees_none_twice(talks: Path, folder: Path) -> None:
    running = commands.start("run", "talks.py:fine", "--input", '{"n": 700}', cwd=folder)
    commands.await_true(lambda: commands.run("executions", "latest", cwd=folder).returncode == 0)
    exec_id = commands.run_json("executions", "latest", cwd=folder)["item"]["exec_id"]
    followed = commands.run("executions", "logs", exec_id, "-f", "--interval", "0.05", "-o", "jsonl", cwd=folder)
    running.communicate(timeout=commands.PATIENCE)
    assert running.returncode == 0
    assert followed.returncode == 0
    events = [json.loads(line) for line in followed.stdout.splitlines()]
    assert [event["item"]["message"] for event in events[:-1]] == ["begins", *(f"line {n}" for n in range(700))]


def test_whoever_follows_hears_of_a_wait_and_of_its_end(talks: Path, folder: Path) -> None:
    exec_id = started(folder, "asks")
    line = [sys.executable, "-m", "kitaru.cli", "executions", "logs", exec_id, "-f", "--interval", "0.05", "-o", "jsonl"]
    follower = subprocess.Popen(line, cwd=folder, env=commands.environment(), stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    seen = [json.loads(follower.stdout.readline())["event"] for _ in range(4)]
    assert seen == ["log", "log", "log", "waiting"]
    assert commands.run("executions", "input", exec_id, "--wait", "w", "--value", "null", cwd=folder).returncode == 0
    assert commands.run("executions", "resume", exec_id, cwd=folder).returncode == 0
    rest = [json.loads(line) for line in follower.stdout]
    assert [event["event"] for event in rest] == ["log", "terminal"]
    assert rest[0]["item"]["message"] == "goes on"
    assert follower.wait(commands.PATIENCE) == 0
    follower.stdout.close()


def test_an_interrupt_ends_it(talks: Path, folder: Path) -> None:
    import signal

    exec_id = started(folder, "asks")
    line = [sys.executable, "-m", "kitaru.cli", "executions", "logs", exec_id, "-f", "-o", "jsonl"]
    follower = subprocess.Popen(line, cwd=folder, env=commands.environment(), stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    for _ in range(4):
        follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    assert [json.loads(line)["event"] for line in follower.stdout] == ["interrupted"]
    assert follower.wait(commands.PATIENCE) == 130
    follower.stdout.close()


def test_what_is_wrong_is_told(talks: Path, folder: Path, run: Run) -> None:
    exec_id = started(folder)
    assert run("executions", "logs", exec_id, "--source", "moon").code == 2
    assert run("executions", "logs", exec_id, "--limit", "-1").code == 2
    assert run("executions", "logs", exec_id, "--grouped", "--follow").code == 2
    assert run("executions", "logs", "ffff").code == 3


def test_an_execution_without_logs_says_so(log: EventLog, run: Run) -> None:
    head = append(log, start(log), completed())
    ran = run("executions", "logs", head.exec_id)
    assert (ran.code, ran.out) == (0, "")
    assert "has no logs" in ran.err


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=60), st.text(max_size=20), st.integers(0, 2), st.sampled_from(["text", "json", "jsonl", "csv"]))
def test_no_stored_text_moves_a_terminal_or_breaks_a_line(
    log: EventLog, capsys: pytest.CaptureFixture[str], message: str, name: str, verbose: int, form: str
) -> None:
    """R24, with what a program may have printed."""
    head = start(log)
    safe = [text.encode("utf-8", "backslashreplace").decode() for text in (message, name)]
    log.lines.add(LogLine(head.number, 1, "step", "INFO", safe[0], "m", "f.py", 1, safe[1], safe[1], 1, 1))
    log.lines.flush()
    capsys.readouterr()
    assert main(["executions", "logs", head.exec_id, *["-v"] * verbose, "-o", form]) == 0
    out = capsys.readouterr().out
    assert not [char for char in out if (ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160]
    if form == "json":
        assert json.loads(out)["items"][0]["message"] == safe[0]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=10), st.sampled_from(["--limit", "--source", "-f", "--checkpoint", "--interval"])))
)
def test_whatever_is_typed_ends_with_a_documented_code(log: EventLog, words: list[str]) -> None:
    append(log, start(log), completed())
    assert main(["executions", "logs", *words]) in (0, 1, 2, 3, 4, 5)
