"""R2: a flow that writes to an outside ledger is killed, and killed again while it recovers; then it goes on to its end."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kitaru.client import KitaruClient
from tests.crash.children import ForkServer, clean_environment, store_environment
from tests.crash.inspection import Stream, last_position, read_streams
from tests.crash.records import calls_of, check_call, runs_by_key, runs_of_completed
from tests.crash.tiers import tiers

CALLS = 10
FLOWS: dict[str, dict[str, Any]] = {"chain": {"length": CALLS}, "fan": {"width": CALLS - 1}, "facts": {"length": CALLS + 1}}


def environment_of(folder: Path) -> dict[str, str]:
    return {"CRASH_LEDGER": str(folder / "ledger"), "CRASH_STEP_SECONDS": "0.002"}


@pytest.fixture
def results(forkserver: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each flow returns when nobody kills it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return {
        name: forkserver.run("running:run", folder, environment_of(folder), flow=name, inputs=inputs)[-1]["value"]
        for name, inputs in FLOWS.items()
    }


@tiers("flows", 50, 500, 5_000, parts=2)
def test_a_killed_flow_ends_as_if_it_had_not_been_killed(
    flows: int, chance: random.Random, forkserver: ForkServer, folder: Path, results: dict[str, Any]
) -> None:
    environment = environment_of(folder)
    shown_in_flight = 0
    with KitaruClient(folder / "store") as client:
        for _ in range(flows):
            name = chance.choice(list(FLOWS))
            (folder / "ledger").unlink(missing_ok=True)
            position = last_position(folder)
            child = forkserver.start("running:run", folder, environment, flow=name, inputs=FLOWS[name])
            exec_id = child.await_line()["exec_id"]
            kills = chance.choice((1, 1, 1, 2, 3))
            completed: dict[str, int] = {}
            for kill in range(kills):
                time.sleep(chance.uniform(0, 0.06))
                child.kill()
                stream = read_streams(folder, after=position, thorough=False)[exec_id]
                shown_in_flight += check_in_flight_is_shown(stream, folder, client)
                completed = runs_of_completed(stream, folder, completed)
                if kill < kills - 1:
                    child = forkserver.start("running:recover", folder, environment)
            said = forkserver.run("running:recover", folder, environment, exec_id=exec_id)
            assert said[-1] == {"value": results[name]}
            stream = read_streams(folder, after=position, thorough=False)[exec_id]
            runs_of_completed(stream, folder, completed)
            check_runs(stream, folder, kills)
    read_streams(folder)
    assert shown_in_flight, "no kill ever hit a body"


def check_in_flight_is_shown(stream: Stream, folder: Path, client: KitaruClient) -> int:
    """Whatever has begun is in the record, and what has not completed is shown as open. How many were open."""
    calls = calls_of(stream)
    runs = runs_by_key(folder)
    assert runs.keys() <= calls.keys(), "a body ran that the record does not know"
    for key, call in calls.items():
        assert runs[key] <= call.attempts, f"{call.invocation_id} ran {runs[key]} times in {call.attempts} recorded attempts"
    if stream.status != "running":
        return 0
    execution = client.executions.get(stream.exec_id)
    assert execution.runner == "lost"
    assert execution.checkpoints is not None
    shown = {shown.invocation_id: shown.status for shown in execution.checkpoints}
    unfinished = [call for key, call in calls.items() if runs[key] and not call.is_completed]
    assert {shown[call.invocation_id] for call in unfinished} <= {"running", "interrupted"}
    return len(unfinished)


def check_runs(stream: Stream, folder: Path, kills: int) -> None:
    """Every call completed once, and its body began at least once and at most once more for each kill."""
    assert stream.status == "completed"
    runs = runs_by_key(folder)
    calls = calls_of(stream)
    assert len(calls) == CALLS
    assert runs.keys() == calls.keys()
    for key, call in calls.items():
        check_call(call, runs[key], kills)


@tiers("flows", 2, 20)
def test_kitaru_recover_goes_on_with_a_killed_flow(
    flows: int, chance: random.Random, forkserver: ForkServer, tmp_path: Path
) -> None:
    for number in range(flows):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        environment = environment_of(folder)
        before = chance.randrange(CALLS)
        inputs = {"file": "go", "before": before, "after": CALLS - 1 - before}
        child = forkserver.start("running:run", folder, environment, flow="held", inputs=inputs)
        exec_id = child.await_line()["exec_id"]
        while sum(runs_by_key(folder).values()) <= before:
            time.sleep(0.001)
        child.kill()
        (folder / "go").touch()
        recovering = subprocess.run(
            [sys.executable, "-W", "error", "-m", "kitaru.cli", "recover"],
            env={**clean_environment(), **store_environment(folder), **environment},
            cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert recovering.returncode == 0, recovering.stderr
        assert exec_id in recovering.stdout + recovering.stderr
        assert forkserver.run("running:say_value", folder, environment, exec_id=exec_id) == [{"value": list(range(CALLS))}]
        check_runs(read_streams(folder)[exec_id], folder, 1)
        assert len(os.listdir(folder / "store" / "runners")) <= 1, "lease files of dead runners pile up"
