"""R6: many processes go on with one execution, and one does. R7: a runner that was stopped past its lease does no harm."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

from kitaru.client import KitaruClient
from kitaru.store.values import decode
from tests.crash.children import PATIENCE, Child, ForkServer
from tests.crash.inspection import read_streams
from tests.crash.records import calls_of, read_ledger, runs_by_key
from tests.crash.tiers import tiers

PROCESSES = 8
AT_ONCE = 50
STOPPED_AT_ONCE = 10
LEASE_SECONDS = 1.0


@tiers("executions", 100, 1_000)
def test_of_eight_processes_that_recover_an_execution_one_runs_it(
    executions: int, forkserver: ForkServer, tmp_path: Path
) -> None:
    for part in range(executions // AT_ONCE):
        folder = tmp_path / f"{part}"
        folder.mkdir()
        environment = {"CRASH_LEDGER": str(folder / "ledger")}
        inputs = {"file": "go", "before": 1, "after": 2}
        dying = forkserver.start("running:run", folder, environment, flow="held", inputs=inputs, times=AT_ONCE)
        await_lines(folder, AT_ONCE)
        dying.kill()
        (folder / "go").touch()
        exec_ids = [line["exec_id"] for line in dying.said()]
        before = runs_by_key(folder)
        recovering = forkserver.start_all("running:recover_each", folder, [{"exec_ids": exec_ids}] * PROCESSES, environment)
        said = [line for child in recovering for line in child.finish()]
        check_one_ran_each(said, exec_ids, folder, before)


def check_one_ran_each(said: list[dict], exec_ids: list[str], folder: Path, before: Counter[str]) -> None:
    won = Counter(line["exec_id"] for line in said if "refused" not in line)
    assert won == dict.fromkeys(exec_ids, 1)
    assert {line["refused"] for line in said if "refused" in line} == {"KitaruStateError"}
    assert [line["error"] for line in said if line.get("error")] == []
    streams = read_streams(folder)
    assert streams.keys() == set(exec_ids)
    runs = runs_by_key(folder)
    for stream in streams.values():
        assert stream.status == "completed"
        assert sum(event.type == "RunnerClaimed" for event in stream.events) == 2
        for key, call in calls_of(stream).items():
            in_flight = "wait_for_file" in call.invocation_id
            assert before[key] == (call.invocation_id == "step" or in_flight)
            assert runs[key] == 1 + in_flight, f"{call.invocation_id} ran {runs[key]} times"


@tiers("executions", 100, 1_000)
def test_of_eight_processes_that_resume_or_recover_an_answered_execution_one_runs_it(
    executions: int, chance: random.Random, forkserver: ForkServer, tmp_path: Path
) -> None:
    won: Counter[str] = Counter()
    for part in range(executions // AT_ONCE):
        folder = tmp_path / f"{part}"
        folder.mkdir()
        environment = {"CRASH_LEDGER": str(folder / "ledger"), "CRASH_STEP_SECONDS": "0.001"}
        exec_ids = [line["exec_id"] for line in forkserver.run("racing:ask", folder, environment, times=AT_ONCE)]
        answers = {exec_id: chance.randrange(1_000_000) for exec_id in exec_ids}
        with KitaruClient(folder / "store") as client:
            for exec_id, answer in answers.items():
                client.executions.input(exec_id, wait="n", value=answer)
        before = runs_by_key(folder)
        each = [{"exec_ids": exec_ids, "how": how} for how in ("resume", "recover") * (PROCESSES // 2)]
        going_on = forkserver.start_all("racing:go_on_with_each", folder, each, environment)
        said = [line for child in going_on for line in child.finish()]
        won.update(check_one_went_on(said, folder, before, answers))
    print(f"who won: {won}")
    assert len(won) == 2, "it was always the same command that won"


def check_one_went_on(said: list[dict], folder: Path, before: Counter[str], answers: dict[str, int]) -> Counter[str]:
    """Each was claimed once more, by the one that was not refused, and each body began once. Which command won."""
    runs = runs_by_key(folder)
    won = {line["exec_id"]: line["how"] for line in said if line.get("refused", "") is None}
    assert Counter(line["exec_id"] for line in said if line.get("refused", "") is None) == dict.fromkeys(answers, 1)
    assert Counter(line["refused"] for line in said if line.get("refused")) == {
        "KitaruStateError": (PROCESSES - 1) * len(won)
    }
    assert [line["error"] for line in said if line.get("error")] == []
    for exec_id, stream in read_streams(folder).items():
        assert stream.status == "completed"
        assert decode(stream.events[-1].payloads[0])[0] == answers[exec_id]
        kinds = Counter(event.type for event in stream.events)
        assert kinds["RunnerClaimed"] == 2
        assert kinds["WaitOpened"] == kinds["WaitResolved"] == 1
        assert kinds["ExecutionResumed"] == (won[exec_id] == "resume")
        calls = calls_of(stream)
        assert [call.invocation_id for call in calls.values()] == ["step", "step_2", "step_3"]
        assert [before[key] for key in calls] == [1, 0, 0]
        assert [runs[key] for key in calls] == [1, 1, 1]
    return Counter(won.values())


@tiers("stops", 20, 200)
def test_a_runner_that_was_stopped_past_its_lease_appends_nothing_more(
    stops: int, chance: random.Random, forkserver: ForkServer, tmp_path: Path
) -> None:
    for part in range(stops // STOPPED_AT_ONCE):
        folder = tmp_path / f"{part}"
        folder.mkdir()
        environment = {"CRASH_LEDGER": str(folder / "ledger"), "KITARU_LEASE_SECONDS": str(LEASE_SECONDS)}
        stopped: dict[str, Child] = {}
        for _ in range(STOPPED_AT_ONCE):
            inputs = {"file": "go", "before": chance.randrange(4), "after": chance.randrange(1, 4)}
            child = forkserver.start("running:run", folder, environment, flow="held", inputs=inputs)
            stopped[child.await_line()["exec_id"]] = child
        await_lines(folder, STOPPED_AT_ONCE)
        for child in stopped.values():
            child.signal(signal.SIGSTOP)
        time.sleep(LEASE_SECONDS * 1.5)
        taking_over = forkserver.start("running:recover", folder, environment)
        is_over_when_they_go_on = part % 2 == 0
        if is_over_when_they_go_on:
            (folder / "go").touch()
            taking_over.finish()
        else:
            await_lines(folder, 2 * STOPPED_AT_ONCE)
        lines = read_ledger(folder)
        for child in stopped.values():
            child.signal(signal.SIGCONT)
        (folder / "go").touch()
        assert Counter(line["exec_id"] for line in taking_over.finish()) == dict.fromkeys(stopped, 1)
        values = {exec_id: child.finish()[-1]["value"] for exec_id, child in stopped.items()}
        pids = {child.pid for child in stopped.values()}
        assert not [line for line in read_ledger(folder)[len(lines) :] if line["pid"] in pids], "a fenced runner ran a body"
        for exec_id, stream in read_streams(folder).items():
            assert stream.status == "completed"
            assert [event.body["epoch"] for event in stream.events if event.type == "RunnerClaimed"] == [1, 2]
            assert {call.attempts for call in calls_of(stream).values()} <= {1, 2}
            said = forkserver.run("running:recover", folder, environment, exec_id=exec_id)
            assert said == [{"value": values[exec_id]}]


def await_lines(folder: Path, waiting: int) -> None:
    """Until that many flows are in the body that waits for the file."""
    deadline = time.monotonic() + PATIENCE
    while sum(line["name"].startswith("waiting") for line in read_ledger(folder)) < waiting:
        assert time.monotonic() < deadline, "the flows did not get that far"
        time.sleep(0.01)
