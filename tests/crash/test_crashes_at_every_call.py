"""R3: the process ends before, and after, each single call of the store. R4: a commit that is made and reported as failed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.crash.children import ForkServer
from tests.crash.inspection import read_streams
from tests.crash.records import calls_of, read_ledger, runs_by_key
from tests.crash.tiers import tiers

CRASHED = 77
FLOWS: dict[str, dict[str, Any]] = {
    "chain": {"length": 4},
    "fan": {"width": 4},
    "branches": {"place": 3},
    "gathered": {"width": 2},
    "facts": {"length": 4},
}


def run(forkserver: ForkServer, folder: Path, **arguments: Any) -> tuple[int, list[dict[str, Any]]]:
    """One process of programs/faults.py: its exit code and what it said."""
    child = forkserver.start("faults:run", folder, {"CRASH_LEDGER": str(folder / "ledger")}, **arguments)
    code = child.wait()
    assert code in (0, CRASHED), child.trouble()
    return code, child.said()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("flow", FLOWS)
def test_a_crash_at_any_call_of_the_store_changes_no_result(
    flow: str, after: bool, forkserver: ForkServer, tmp_path: Path
) -> None:
    expected, calls = undisturbed(forkserver, tmp_path / "undisturbed", flow)
    crashes = 0
    for at in range(1, calls + 1):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        code, _ = run(forkserver, folder, flow=flow, inputs=FLOWS[flow], at=at, after=after)
        crashes += code == CRASHED
        check_recovered(forkserver, folder, flow, expected, crashes=1)
    assert crashes >= calls - 2, "most calls were never reached"  # threads may make fewer


@tiers("crashes", 20, 400, 4_000)
def test_a_crash_while_recovering_from_a_crash_changes_no_result(
    crashes: int, chance: random.Random, forkserver: ForkServer, tmp_path: Path
) -> None:
    known = {flow: undisturbed(forkserver, tmp_path / flow, flow) for flow in FLOWS}
    for number in range(crashes):
        flow = chance.choice(list(FLOWS))
        expected, calls = known[flow]
        folder = tmp_path / f"{number}"
        folder.mkdir()
        run(forkserver, folder, flow=flow, inputs=FLOWS[flow], at=chance.randint(2, calls), after=chance.random() < 0.5)
        times = 1
        while chance.random() < 0.75:
            at = chance.randint(1, calls)
            code, _ = run(forkserver, folder, flow=flow, inputs={}, at=at, after=chance.random() < 0.5, recovers=True)
            times += code == CRASHED
        check_recovered(forkserver, folder, flow, expected, crashes=times)


def undisturbed(forkserver: ForkServer, folder: Path, flow: str) -> tuple[Any, int]:
    """What the flow returns without a crash, and how many calls of the store it makes."""
    folder.mkdir()
    _, said = run(forkserver, folder, flow=flow, inputs=FLOWS[flow])
    return said[0]["value"], said[1]["calls"]


def check_recovered(forkserver: ForkServer, folder: Path, flow: str, expected: Any, crashes: int) -> None:
    """Recover, and hold result, record and ledger against each other. Nothing started: nothing to recover, or to doubt."""
    environment = {"CRASH_LEDGER": str(folder / "ledger")}
    before = runs_by_key(folder)
    streams = read_streams(folder, thorough=False)
    assert len(streams) <= 1
    if not streams:
        assert not before, "a body ran before its execution was recorded"
        return
    exec_id, stream = streams.popitem()
    completed = {key for key, call in calls_of(stream).items() if call.is_completed}
    said = forkserver.run("running:recover", folder, environment, exec_id=exec_id)
    assert said[-1] == {"value": expected}
    stream = read_streams(folder)[exec_id]
    runs = runs_by_key(folder)
    calls = calls_of(stream)
    assert {key: runs[key] for key in completed} == {key: before[key] for key in completed}, "a completed checkpoint ran again"
    assert runs.keys() == calls.keys()
    for key, call in calls.items():
        assert runs[key] <= call.attempts, f"{call.invocation_id} ran unrecorded"
        own = 3 if "flaky" in call.invocation_id else 1
        assert runs[key] <= own + crashes, f"{call.invocation_id} ran {runs[key]} times with {crashes} crashes"
    assert sum(event.type == "RunnerClaimed" for event in stream.events) <= 1 + crashes


@pytest.mark.parametrize("says_unknown", [True, False], ids=["unknown", "error"])
@pytest.mark.parametrize("flow", ["provider", "facts"])
def test_a_commit_that_is_reported_as_failed_doubles_nothing(
    flow: str, says_unknown: bool, forkserver: ForkServer, tmp_path: Path
) -> None:
    inputs = {"questions": 4} if flow == "provider" else FLOWS[flow]
    environment: dict[str, str] = {}
    expected: Any = None
    at = commits = 0
    while at <= commits:
        folder = tmp_path / f"{at}"
        folder.mkdir()
        environment = {"CRASH_LEDGER": str(folder / "ledger")}
        said = forkserver.run(
            "faults:run_lied_to", folder, environment, flow=flow, inputs=inputs, at=at, says_unknown=says_unknown
        )[-1]
        if at == 0:
            expected, commits = said["value"], said["commits"]
        elif says_unknown:
            assert said.get("value") == expected, said
        else:
            # The end was recorded all the same: then there is a value, and no error to tell.
            assert said.get("error") == "disk-full" or (at == commits and said["value"] == expected), said
        check_nothing_doubled(forkserver, folder, environment, expected)
        at += 1
    assert at > 8


def check_nothing_doubled(forkserver: ForkServer, folder: Path, environment: dict[str, str], expected: Any) -> None:
    """One execution, gone on with if it has to be, with the expected value, every body once, and the provider's own numbers all in the record."""
    (exec_id,) = read_streams(folder)
    value = forkserver.run("running:recover", folder, environment, exec_id=exec_id)[-1]["value"]
    assert value == expected
    stream = read_streams(folder)[exec_id]
    runs = runs_by_key(folder)
    calls = calls_of(stream)
    assert runs.keys() == calls.keys()
    assert set(runs.values()) == {1}, "a body ran twice"
    if isinstance(value, list):
        assert sorted(answer["request"] for answer in value) == list(range(1, len(read_ledger(folder)) + 1))
