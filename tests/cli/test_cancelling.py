"""`kitaru executions cancel` on what another process runs, by `kitaru run` or as a worker."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru.client import KitaruClient
from tests.cli.commands import PATIENCE, await_true, run, run_json, start

FLOWS = """
import asyncio, os, time
from pathlib import Path
from kitaru import checkpoint, flow, sleep, wait

def begin(folder):
    Path(folder, "pid.new").write_text(str(os.getpid()))
    Path(folder, "pid.new").rename(Path(folder, "pid"))

@checkpoint
def note(word, folder):
    with open(Path(folder) / "ledger", "a") as ledger:
        ledger.write(f"{word}\\n")

@checkpoint
def held(folder):
    begin(folder)
    deadline = time.monotonic() + 30
    while not Path(folder, "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)

@checkpoint
async def awaited(folder):
    begin(folder)
    try:
        await asyncio.sleep(3600)
    finally:
        Path(folder, "cleaned").touch()

@checkpoint(runtime="isolated", retries=3)
def isolated(folder):
    begin(folder)
    time.sleep(3600)

@flow
def plain(folder: str):
    note("before", folder)
    held(folder)
    note("after", folder)

@flow
async def asynchronous(folder: str):
    await asyncio.gather(awaited(folder), asyncio.sleep(3600))
    note.submit("after", folder)

@flow
def in_a_process(folder: str):
    isolated(folder)
    note("after", folder)

@flow
def waits(folder: str):
    begin(folder)
    wait(name="approve")
    note("after", folder)

@flow
def sleeps(folder: str):
    begin(folder)
    sleep(3600)
    note("after", folder)
"""


@pytest.fixture
def flows(folder: Path) -> Path:
    """The folder of the flows."""
    (folder / "flows.py").write_text(FLOWS)
    return folder


@pytest.fixture
def running(flows: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def begin(flows: Path, running: list[subprocess.Popen[str]], name: str, by: str) -> str:
    """Run it by `kitaru run` or by a worker until it has begun; its id."""
    given = ("run", f"flows.py:{name}", "--input", f'{{"folder": "{flows}"}}')
    if by == "a worker":
        run_json(*given, "--detach", cwd=flows)
        running.append(start("worker", cwd=flows))
    else:
        running.append(start(*given, cwd=flows))
    await_true((flows / "pid").exists)
    return found(flows)["exec_id"]


def found(flows: Path) -> dict[str, Any]:
    with KitaruClient(flows / ".kitaru") as client:
        (listed,) = client.executions.list()
        return listed.model_dump()


def is_gone(pid: int) -> bool:
    """Whether no process has that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def cancel(flows: Path, exec_id: str) -> dict[str, Any]:
    return run_json("executions", "cancel", exec_id[:30], cwd=flows)["item"]


@pytest.mark.parametrize("by", ["kitaru run", "a worker"])
@pytest.mark.parametrize("name", ["asynchronous", "in_a_process"])
def test_what_can_be_ended_is_ended_at_once(flows: Path, running: list[subprocess.Popen[str]], name: str, by: str) -> None:
    exec_id = begin(flows, running, name, by)
    pid = int((flows / "pid").read_text())
    begun = time.monotonic()
    cancel(flows, exec_id)
    await_true(lambda: found(flows)["status"] == "cancelled")
    assert time.monotonic() - begun < 15  # its body would last an hour
    if name == "in_a_process":
        assert pid != running[0].pid
        await_true(lambda: is_gone(pid))
    else:
        await_true((flows / "cleaned").exists)
    assert not (flows / "ledger").exists()
    if by == "kitaru run":
        assert running[0].wait(PATIENCE) == 1
    else:
        assert running[0].poll() is None, "the worker went with it"


@pytest.mark.parametrize("by", ["kitaru run", "a worker"])
def test_a_plain_step_is_let_end_and_nothing_begins_after_it(
    flows: Path, running: list[subprocess.Popen[str]], by: str
) -> None:
    exec_id = begin(flows, running, "plain", by)
    asked = cancel(flows, exec_id)
    assert (asked["status"], asked["status_reason"]) == ("running", "cancel requested: it stops at its next boundary")
    time.sleep(0.3)
    assert found(flows)["status"] == "running"
    (flows / "go").touch()
    await_true(lambda: found(flows)["status"] == "cancelled")
    assert (flows / "ledger").read_text().split() == ["before"]
    calls = run_json("executions", "get", exec_id, cwd=flows)["item"]["checkpoints"]
    assert [(call["name"], call["status"]) for call in calls] == [("note", "completed"), ("held", "completed")]


@pytest.mark.parametrize("name", ["waits", "sleeps"])
def test_a_process_that_stays_for_a_wait_or_a_time_ends(
    flows: Path, running: list[subprocess.Popen[str]], name: str
) -> None:
    exec_id = begin(flows, running, name, "kitaru run")
    await_true(lambda: found(flows)["status"] == "waiting")
    cancel(flows, exec_id)
    assert running[0].wait(PATIENCE) == 1
    assert (found(flows)["status"], (flows / "ledger").exists()) == ("cancelled", False)


def test_a_second_cancel_of_what_is_stopping_is_no_error_and_one_of_what_has_ended_is_exit_4(
    flows: Path, running: list[subprocess.Popen[str]]
) -> None:
    exec_id = begin(flows, running, "plain", "kitaru run")
    cancel(flows, exec_id)
    assert cancel(flows, exec_id)["status"] == "running"
    (flows / "go").touch()
    assert running[0].wait(PATIENCE) == 1
    assert run("executions", "cancel", exec_id, cwd=flows).returncode == 4
