"""`kitaru run`, `recover`, `trust`, `init`, `status` and `store …` on real flows."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kitaru
from kitaru.client import KitaruClient
from kitaru.compose import close_logs
from kitaru.domain.events import ExecutionCompleted
from kitaru.store.log import EventLog
from tests.cli.conftest import Run
from tests.client.recording import append, started, value

FLOWS = """
import asyncio
import time
from pathlib import Path
from kitaru import checkpoint, flow, wait_async

@checkpoint
def double(x):
    return 2 * x

@checkpoint
def slow(x, folder):
    with open(Path(folder) / "ledger", "a") as ledger:
        ledger.write(f"{x}\\n")
    deadline = time.monotonic() + 30
    while x == 2 and not (Path(folder) / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return x

@flow
def total(n: int = 3):
    if n < 0:
        raise ValueError("n is negative")
    return {"sum": sum(double(i) for i in range(n))}

@flow
async def asks_twice():
    return await asyncio.gather(*(wait_async(name=name, timeout=0) for name in ("a b", "c")))

@flow
def waits(folder: str):
    return [slow(i, folder) for i in range(4)]
"""


@pytest.fixture
def flows(folder: Path) -> str:
    """A file of flows."""
    (folder / "flows.py").write_text(FLOWS)
    return str(folder / "flows.py")


def test_a_flow_runs_and_its_value_is_printed(run: Run, flows: str) -> None:
    ran = run("run", f"{flows}:total", "--input", '{"n": 4}')
    assert (ran.code, json.loads(ran.out)) == (0, {"sum": 12})
    assert "kitaru executions get" in ran.err


def test_inputs_may_come_from_a_file(run: Run, flows: str, folder: Path) -> None:
    (folder / "in.json").write_text('{"n": 1}')
    assert json.loads(run("run", f"{flows}:total", "--input", "@in.json").out) == {"sum": 0}


def test_a_run_that_is_left_with_several_waits_names_the_option_for_one(run: Run, flows: str) -> None:
    ran = run("run", f"{flows}:asks_twice")
    left = ran.err.splitlines()[-1]
    assert ran.code == 6
    assert "left waiting for 1/a b, 2/c: kitaru executions input " in left
    assert left.endswith("--wait '1/a b'")
    words = shlex.split(left.partition("kitaru ")[2])
    assert run(*words, "--value", "null").code == 0


def test_a_run_as_json_has_the_execution_and_the_value(run: Run, flows: str) -> None:
    ran = run("run", f"{flows}:total", "--tag", "nightly", "-o", "json")
    assert (ran.json["command"], ran.json["value"]) == ("run", {"sum": 6})
    assert ran.json["item"]["tags"] == ["nightly"]  # type: ignore[index]


def test_a_flow_that_fails_is_exit_1_without_a_traceback(run: Run, flows: str) -> None:
    ran = run("run", f"{flows}:total", "--input", '{"n": -1}')
    assert (ran.code, ran.out) == (1, "")
    assert "ValueError: n is negative" in ran.err
    assert "Traceback" not in ran.err


def test_a_traceback_shows_the_users_own_frames_and_json_has_all(run: Run, flows: str) -> None:
    run("run", f"{flows}:total", "--input", '{"n": -1}')
    shown = run("executions", "latest").out
    frames = [line for line in shown.splitlines() if line.startswith("    File ")]
    assert len(frames) == 1
    assert all(f'File "{flows}"' in frame for frame in frames)
    assert shown.count("Traceback (most recent call last):") == 1
    assert "  ValueError: n is negative\n" in shown
    whole = run("executions", "latest", "-o", "json").json["item"]["failure"]["traceback"]  # type: ignore[index]
    assert "kitaru/runtime/" in whole


def test_inputs_that_do_not_fit_are_exit_2_and_start_nothing(run: Run, flows: str) -> None:
    ran = run("run", f"{flows}:total", "--input", '{"m": 1}')
    assert (ran.code, ran.err) == (2, "Error: total has no input 'm'; its inputs: n\n")
    assert run("executions", "list", "-o", "json").json["count"] == 0


@pytest.mark.parametrize("target", ["total", "flows.py", "flows.py:nope", "flows.py:double", "nope:total", ":total"])
def test_what_is_no_target_is_a_typed_error(run: Run, flows: str, target: str) -> None:
    ran = run("run", target)
    assert ran.code == 2
    assert ran.err.startswith("Error: ")


def test_another_store_may_be_named(run: Run, flows: str, tmp_path: Path) -> None:
    assert run("run", f"{flows}:total", "--store", str(tmp_path / "other")).code == 0
    assert len(KitaruClient(tmp_path / "other").executions.list()) == 1


@pytest.mark.timeout(90)
def test_a_killed_run_is_recovered_and_runs_nothing_twice(run: Run, flows: str, folder: Path) -> None:
    inputs = json.dumps({"folder": str(folder)})
    env = {**os.environ, "PYTHONPATH": str(Path(kitaru.__file__).parents[1])}
    child = subprocess.Popen(
        [sys.executable, "-m", "kitaru.cli", "run", f"{flows}:waits", "--input", inputs],
        env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    ledger = folder / "ledger"
    while not ledger.exists() or len(ledger.read_text().split()) < 3:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    (listed,) = run("executions", "list", "-o", "json").json["items"]  # type: ignore[misc]
    assert (listed["status"], listed["runner"]) == ("running", "lost")
    (folder / "go").touch()
    ran = run("recover", listed["exec_id"][:20], "-o", "json")
    assert (ran.code, ran.json["items"][0]["status"]) == (0, "completed")  # type: ignore[index]
    assert ledger.read_text().split() == ["0", "1", "2", "2", "3"]
    attempts = [call["attempts"] for call in ran.json["items"][0]["checkpoints"]]  # type: ignore[index]
    assert [[attempt["status"] for attempt in tries] for tries in attempts] == [
        ["completed"],
        ["completed"],
        ["interrupted", "completed"],
        ["completed"],
    ]


def test_nothing_to_recover_is_no_error(run: Run, flows: str) -> None:
    run("run", f"{flows}:total")
    ran = run("recover")
    assert (ran.code, ran.err) == (0, "nothing to recover\n")


def test_recovering_what_is_finished_is_exit_4(run: Run, flows: str) -> None:
    item = run("run", f"{flows}:total", "-o", "json").json["item"]
    assert run("recover", item["exec_id"]).code == 4  # type: ignore[index]


def test_init_makes_a_store_that_git_ignores(run: Run, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert run("init", str(fresh), "-o", "json").json["item"] == {"location": str(fresh / ".kitaru"), "created": True}
    assert (fresh / ".kitaru" / ".gitignore").read_text() == "*\n"
    assert run("init", str(fresh), "-o", "json").json["item"] == {"location": str(fresh / ".kitaru"), "created": False}


def test_status_says_which_store_and_why(run: Run, log: EventLog, folder: Path) -> None:
    append(log, started(log), ExecutionCompleted(at=9, output=value(1)))
    item = run("status", "-o", "json").json["item"]
    assert isinstance(item, dict)
    assert (item["location"], item["why"]) == (str(folder / ".kitaru"), "the nearest .kitaru/ upwards")
    assert item["executions"] == {"completed": 1}
    assert "1 completed" in run("status").out


def test_status_makes_no_store(run: Run, tmp_path: Path) -> None:
    assert run("status", "--store", str(tmp_path / "never")).code == 0
    assert not (tmp_path / "never").exists()


def test_trust_is_kept_in_the_users_folder(run: Run, folder: Path, tmp_path: Path) -> None:
    assert run("trust", str(folder)).code == 0
    assert str(folder) in (tmp_path / "config" / "trust.json").read_text()


def test_a_whole_store_verifies(run: Run, flows: str) -> None:
    run("run", f"{flows}:total")
    item = run("store", "verify", "-o", "json").json["item"]
    assert isinstance(item, dict)
    assert (item["whole"], item["executions"], item["problems"]) == (True, 1, [])
    assert " of 1 execution, 0 large values" in run("store", "verify").err


def test_a_rebuild_mends_a_store_of_which_a_list_says_that_it_does(run: Run, flows: str, folder: Path) -> None:
    run("run", f"{flows}:total")
    before = run("executions", "list", "-o", "json")
    close_logs()
    connection = sqlite3.connect(folder / ".kitaru" / "kitaru.db")
    connection.execute("ALTER TABLE execution_details DROP COLUMN failure_message")
    connection.commit()
    connection.close()
    assert "kitaru store rebuild" in run("executions", "list").err
    assert run("store", "rebuild").code == 0
    assert run("executions", "list", "-o", "json") == before


def test_a_rebuild_changes_no_answer(run: Run, flows: str) -> None:
    run("run", f"{flows}:total")
    before = run("executions", "list", "-o", "json")
    assert run("store", "rebuild").code == 0
    assert run("executions", "list", "-o", "json") == before


def test_a_backup_is_a_store(run: Run, flows: str, tmp_path: Path) -> None:
    run("run", f"{flows}:total")
    assert run("store", "backup", str(tmp_path / "copy"), "-o", "json").json["item"] == {"location": str(tmp_path / "copy")}
    assert run("executions", "list", "-o", "json", "--store", str(tmp_path / "copy")).json["count"] == 1


def test_store_info(run: Run, flows: str) -> None:
    run("run", f"{flows}:total")
    item = run("store", "info", "-o", "json").json["item"]
    assert isinstance(item, dict)
    assert item["executions"] == 1
    assert item["events"] > 1
