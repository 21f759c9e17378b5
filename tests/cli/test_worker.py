"""`kitaru worker` and the life of an execution across processes and folders, with the real commands."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.client import KitaruClient
from tests.cli.commands import PATIENCE, await_true, run, run_json, start
from tests.cli.conftest import Run

pytestmark = pytest.mark.timeout(120)

FLOWS = """
import time
from pathlib import Path
from kitaru import checkpoint, flow, sleep, wait

@checkpoint
def note(word, folder):
    with open(Path(folder) / "ledger", "a") as ledger:
        ledger.write(f"{word}\\n")
    return word

@checkpoint
def held(folder):
    (Path(folder) / "begun").touch()
    deadline = time.monotonic() + 30
    while not (Path(folder) / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return "held"

@flow
def asks(folder: str):
    before = note("before", folder)
    number = wait(schema=int, name="approve", question="How many?", timeout=0.05)
    sleep(0.05)
    return [before, number, note("after", folder)]

@flow
def holds(folder: str):
    return [held(folder), note("after", folder)]
"""


@pytest.fixture
def flows(folder: Path) -> Path:
    """The folder of the flows."""
    (folder / "flows.py").write_text(FLOWS)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that has nothing to do with the flows."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


@pytest.fixture
def workers(elsewhere: Path, flows: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Workers that are ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for worker in started:
        worker.kill()
        worker.communicate()


def status_of(store: Path, exec_id: str) -> str:
    with KitaruClient(store) as client:
        return client.executions.get(exec_id).status.value


def test_a_flow_waits_exits_is_answered_elsewhere_and_is_finished_by_a_worker_of_another_folder(
    flows: Path, elsewhere: Path, tmp_path: Path, workers: list[subprocess.Popen[str]]
) -> None:
    store = str(flows / ".kitaru")
    ran = run("run", "flows.py:asks", "--input", f'{{"folder": "{flows}"}}', cwd=flows)
    assert ran.returncode == 6, ran.stderr
    (wait,) = run_json("executions", "waits", "--store", store, cwd=elsewhere)["items"]
    exec_id = wait["exec_id"]
    assert (wait["name"], wait["question"], wait["schema"]) == ("approve", "How many?", {"type": "integer"})
    answered = run_json("executions", "input", exec_id[:30], "--value", "7", "--by", "ann", "--store", store, cwd=elsewhere)
    assert (answered["item"]["status"], answered["item"]["runner"]) == ("running", "queued")
    third = tmp_path / "third"
    third.mkdir()
    workers.append(start("worker", "--store", store, cwd=third))
    await_true(lambda: status_of(flows / ".kitaru", exec_id) == "completed")
    item = run_json("executions", "get", exec_id, "--store", store, cwd=elsewhere)["item"]
    assert [(each["outcome"], each["value"], each["by"]) for each in item["waits"]] == [("answered", 7, "ann")]
    assert (flows / "ledger").read_text().split() == ["before", "after"]
    workers[0].send_signal(signal.SIGTERM)
    assert workers[0].wait(PATIENCE) == 0


def test_a_detached_run_is_queued_until_a_worker_takes_it(flows: Path, workers: list[subprocess.Popen[str]]) -> None:
    (flows / "go").touch()
    ran = run_json("run", "flows.py:holds", "--input", f'{{"folder": "{flows}"}}', "--detach", cwd=flows)
    assert (ran["item"]["status"], ran["item"]["runner"], ran["item"]["stack_name"]) == ("running", "queued", "worker")
    workers.append(start("worker", "--concurrency", "1", cwd=flows))
    await_true(lambda: status_of(flows / ".kitaru", ran["item"]["exec_id"]) == "completed")


def test_sigterm_lets_the_checkpoint_in_flight_end_and_nothing_runs_twice(
    flows: Path, workers: list[subprocess.Popen[str]]
) -> None:
    ran = run_json("run", "flows.py:holds", "--input", f'{{"folder": "{flows}"}}', "--detach", cwd=flows)
    workers.append(start("worker", cwd=flows))
    await_true((flows / "begun").exists)
    workers[0].send_signal(signal.SIGTERM)
    (flows / "go").touch()
    assert workers[0].wait(PATIENCE) == 0
    with KitaruClient(flows / ".kitaru") as client:
        left = client.executions.get(ran["item"]["exec_id"])
    assert (left.status, left.runner) == ("running", "queued")
    assert left.checkpoints is not None
    assert [(call.name, call.status) for call in left.checkpoints] == [("held", "completed")]
    (flows / "begun").unlink()
    resumed = run_json("executions", "resume", ran["item"]["exec_id"], cwd=flows)
    assert (resumed["command"], resumed["value"]) == ("executions.resume", ["held", "after"])
    assert not (flows / "begun").exists()


def test_a_second_signal_exits_at_once(flows: Path, workers: list[subprocess.Popen[str]]) -> None:
    run_json("run", "flows.py:holds", "--input", f'{{"folder": "{flows}"}}', "--detach", cwd=flows)
    workers.append(start("worker", cwd=flows))
    await_true((flows / "begun").exists)
    workers[0].send_signal(signal.SIGTERM)
    stderr = workers[0].stderr
    assert stderr is not None
    while "draining" not in stderr.readline():
        pass
    workers[0].send_signal(signal.SIGTERM)
    assert workers[0].wait(PATIENCE) == 130


def test_ctrl_c_drains_a_worker_and_is_exit_130(flows: Path, workers: list[subprocess.Popen[str]]) -> None:
    workers.append(start("worker", cwd=flows))
    stderr = workers[0].stderr
    assert stderr is not None
    assert "working on" in stderr.readline()
    workers[0].send_signal(signal.SIGINT)
    assert workers[0].wait(PATIENCE) == 130


@pytest.mark.parametrize("words", [("--stack", "local"), ("--stack", "nope"), ("--concurrency", "0")])
def test_what_is_no_worker_is_exit_2(run: Run, words: tuple[str, ...]) -> None:
    assert run("worker", *words).code == 2


def test_detaching_to_the_local_stack_is_exit_2(run: Run, flows: Path) -> None:
    assert run("run", "flows.py:holds", "--detach", "--stack", "local").code == 2


@pytest.mark.timeout(20)
def test_a_run_on_the_workers_stack_says_at_once_that_a_worker_has_to_be_there(flows: Path) -> None:
    child = start("run", "flows.py:asks", "--stack", "worker", "--input", f'{{"folder": "{flows}"}}', cwd=flows)
    assert child.stderr is not None
    try:
        exec_id = child.stderr.readline().split()[-1]
        assert child.stderr.readline() == "left to a worker; when none is there: kitaru worker\n"
        assert child.poll() is None
        KitaruClient(flows / ".kitaru").executions.cancel(exec_id)
        assert child.wait(PATIENCE) == 1
        assert "left to a worker" not in child.stderr.read()
    finally:
        child.kill()
        child.wait()
        child.stderr.close()
