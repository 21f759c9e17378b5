"""R2 with waits and timers: a flow that asks and sleeps is killed, answered from elsewhere meanwhile, and goes on."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.crash.children import Child, ForkServer
from tests.crash.inspection import StoredEvent, Stream, last_position, read_streams
from tests.crash.records import calls_of, check_call, runs_by_key, runs_of_completed
from tests.crash.tiers import tiers

SLEEP_SECONDS = 0.1
STAYS = (0.0, 0.005, 60.0)
"""Seconds for which a runner stays for an answer: it leaves at once, it leaves soon, it is there when the answer comes."""
MANY = 100
KILLED_WITHIN_SECONDS = 0.35
WAITS = {
    "interview": {"second", "third", "gate"},
    "interviews": {"1/of 0", "3/of 2", "4/of 3"},
}
TIMERS = {"interview": 2, "interviews": 2}
CALLS = {"interview": 7, "interviews": 7}


def environment_of(folder: Path) -> dict[str, str]:
    return {"CRASH_LEDGER": str(folder / "ledger"), "CRASH_STEP_SECONDS": "0.002"}


@pytest.fixture
def answering(forkserver: ForkServer, folder: Path, seed: int) -> Iterator[Child]:
    """The process that answers what any execution asks."""
    child = forkserver.start("seeing:answer_all", folder, seed=seed)
    yield child
    child.kill()


@pytest.fixture
def results(forkserver: ForkServer, folder: Path, answering: Child) -> dict[str, Any]:
    """What each flow returns when nobody kills it."""
    return {name: begun(forkserver, folder, name, 60.0).finish()[-1]["value"] for name in WAITS}


def begun(forkserver: ForkServer, folder: Path, name: str, stay: float) -> Child:
    return forkserver.start("seeing:begin", folder, environment_of(folder), flow=name, stay=stay, seconds=SLEEP_SECONDS)


@tiers("flows", 50, 500, 5_000, parts=2)
def test_a_killed_flow_that_waits_and_sleeps_ends_as_if_it_had_not_been_killed(
    flows: int, chance: random.Random, forkserver: ForkServer, folder: Path, answering: Child, results: dict[str, Any]
) -> None:
    answered: list[StoredEvent] = []
    overslept: list[float] = []
    killed_in: Counter[str] = Counter()
    for _ in range(flows):
        name = chance.choice(list(WAITS))
        (folder / "ledger").unlink(missing_ok=True)
        position = last_position(folder)
        child = begun(forkserver, folder, name, chance.choice(STAYS))
        exec_id = child.await_line()["exec_id"]
        kills = chance.choice((1, 1, 2, 3))
        completed: dict[str, int] = {}
        for kill in range(kills):
            time.sleep(chance.uniform(0, KILLED_WITHIN_SECONDS))
            child.kill()
            stream = read_streams(folder, after=position, thorough=False)[exec_id]
            killed_in[pending_in(stream)] += 1
            completed = runs_of_completed(stream, folder, completed)
            if kill < kills - 1:
                child = seeing_through(chance, forkserver, folder, exec_id)
        assert seeing_through(chance, forkserver, folder, exec_id).finish()[-1] == {"value": results[name]}
        stream = read_streams(folder, after=position, thorough=False)[exec_id]
        runs_of_completed(stream, folder, completed)
        check_runs(stream, folder, name, kills)
        answered += check_waits(stream, name)
        overslept += check_timers(stream, name)
    (folder / "enough").touch()
    read_streams(folder)
    check_all_answered_once(answering, answered, flows)
    print(f"killed in: {dict(killed_in)}; timers over a kill went off {median(overslept):.4f} s after they could")
    everywhere = {"input", "timer"} if flows < MANY else {"", "input", "timer"}  # few kills hit the moments between
    assert everywhere <= killed_in.keys(), "no kill hit a wait, or a sleep, or neither"
    assert median(overslept) < SLEEP_SECONDS / 2, "timers start again after a kill"


def seeing_through(chance: random.Random, forkserver: ForkServer, folder: Path, exec_id: str) -> Child:
    how = chance.choice(("resume", "recover"))
    return forkserver.start("seeing:see_through", folder, environment_of(folder), exec_id=exec_id, how=how)


def pending_in(stream: Stream) -> str:
    """The kinds of what is open in an unfinished execution, as text; `over` for a finished one."""
    opened = {event.body["wait"]: event.body["kind"] for event in stream.events if event.type == "WaitOpened"}
    closed = {event.body["wait"] for event in stream.events if event.type in ("WaitResolved", "WaitExpired")}
    kinds = {kind for wait, kind in opened.items() if wait not in closed}
    return "over" if stream.status == "completed" else " and ".join(sorted(kinds))


def check_runs(stream: Stream, folder: Path, name: str, kills: int) -> None:
    """Every call completed once; its body began at most once more for each kill."""
    assert stream.status == "completed"
    runs = runs_by_key(folder)
    calls = calls_of(stream)
    assert len(calls) == CALLS[name]
    assert runs.keys() == calls.keys()
    for key, call in calls.items():
        check_call(call, runs[key], kills)


def check_waits(stream: Stream, name: str) -> list[StoredEvent]:
    """Each question was asked once, and has one answer, from the one who answers; the answers."""
    opened = [event.body for event in stream.events if event.type == "WaitOpened" and event.body["kind"] == "input"]
    assert Counter(body["name"] for body in opened) == dict.fromkeys(WAITS[name], 1)
    answers = [event for event in stream.events if event.type == "WaitResolved"]
    assert sorted(event.body["wait"] for event in answers) == sorted(body["wait"] for body in opened)
    assert {event.body["by"] for event in answers} == {"far away"}
    return answers


def check_timers(stream: Stream, name: str) -> list[float]:
    """Each timer was set once and went off once, when it was due; how late those did that outlived a runner, in seconds.

    Late is counted from when it was due, or from when the next runner came, if that was later.
    """
    opened = [event for event in stream.events if event.type == "WaitOpened" and event.body["kind"] == "timer"]
    assert len(opened) == TIMERS[name]
    late: list[float] = []
    for timer in opened:
        due = timer.body["at"] + round(SLEEP_SECONDS * 1_000_000)
        assert timer.body["expires_at"] == due
        wait = timer.body["wait"]
        (expired,) = (event for event in stream.events if event.type == "WaitExpired" and event.body["wait"] == wait)
        assert expired.body["at"] >= due
        between = stream.events[timer.version : expired.version]
        claims = [event.body["at"] for event in between if event.type == "RunnerClaimed"]
        if claims:
            late.append((expired.body["at"] - max(due, claims[-1])) / 1_000_000)
    return late


def check_all_answered_once(answering: Child, answered: list[StoredEvent], flows: int) -> None:
    """No answer was lost that the one who answers was told was taken, and none was given twice."""
    told = Counter(line["wait_id"] for line in answering.finish())
    assert set(told.values()) == {1}
    undisturbed = sum(len(waits) for waits in WAITS.values())
    assert len(told) == len(answered) + undisturbed == 3 * flows + undisturbed
