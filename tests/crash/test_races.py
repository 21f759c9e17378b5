"""R8: answer, abort, cancel, expiry and retry race for one execution, and what comes of it some order explains."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from kitaru import compose
from kitaru.settings import StoreChoice
from kitaru.store.values import decode
from tests.crash.children import ForkServer
from tests.crash.inspection import StoredEvent, read_streams
from tests.crash.serial_order import Done, Raced, Recorded, explain
from tests.crash.tiers import tiers

PROCESSES = 6
AT_ONCE = 125
MOST_SECONDS_BETWEEN = 0.004
MOST_SECONDS_OF_PATIENCE = 0.02
"""How long an answer is tried again: so it meets a wait in the moment in which it was opened, and is being left."""
ENDED_BY_COMMAND = 0.4
"""How many races know a cancel, and how many an abort: it would win over most of the rest."""
THINGS = {
    "queued": {"recover": 4, "resume": 2, "answer": 4, "abort": 2, "cancel": 1, "retry": 2},
    "suspended": {"recover": 5, "resume": 3, "answer": 4, "abort": 2, "cancel": 1, "retry": 3},
    "failed": {"recover": 2, "resume": 1, "answer": 3, "abort": 2, "cancel": 1, "retry": 5},
}
"""What is done to an execution that begins so, and how often of so many. Who goes on with it past its time expires it."""


@tiers("races", 500, 20_000, parts=2)
def test_what_comes_of_a_race_some_order_explains(
    races: int, chance: random.Random, forkserver: ForkServer, tmp_path: Path
) -> None:
    outcomes: Counter[str] = Counter()
    for part in range(races // AT_ONCE):
        folder = tmp_path / f"{part}"
        folder.mkdir()
        outcomes += run_races(chance, forkserver, folder)
        assert compose.verify_store(StoreChoice(str(folder / "store"), "of a test")).is_whole
    print(dict(sorted(outcomes.items())))
    for do in THINGS["failed"]:
        assert outcomes[do], f"{do} never won"
        assert outcomes[f"{do}, refused"], f"{do} never lost"
    assert outcomes["(WaitExpired)"], "no wait ever expired"


def run_races(chance: random.Random, forkserver: ForkServer, folder: Path) -> Counter[str]:
    """As many races as are run at once, each explained. How often what was done, and how often refused."""
    starts = [drawn_start(chance) for _ in range(AT_ONCE)]
    prepared = forkserver.run("racing:prepare", folder, starts=starts)
    each: list[dict[str, Any]] = [{"process": process, "rounds": []} for process in range(PROCESSES)]
    for start, line in zip(starts, prepared, strict=True):
        ends = {do for do in ("cancel", "abort") if chance.random() < ENDED_BY_COMMAND}
        weights = {do: often for do, often in THINGS[start["status"]].items() if do not in ("cancel", "abort") or do in ends}
        late = chance.choice([0.0, 0.5, 0.7])
        for process in each:
            process["rounds"].append({"exec_id": line["exec_id"], **drawn_part(chance, weights, late)})
    said = [child.finish() for child in forkserver.start_all("racing:race", folder, each)]
    runners = {lines[0]["runner"]: process for process, lines in enumerate(said)}
    streams = read_streams(folder)
    outcomes: Counter[str] = Counter()
    for number, (start, line) in enumerate(zip(starts, prepared, strict=True)):
        exec_id = line["exec_id"]
        parts = [process["rounds"][number] for process in each]
        done = [done_of(process, parts[process], said[process]) for process in range(PROCESSES)]
        recorded = [reduced(event, runners) for event in streams[exec_id].events[line["version"] :]]
        order = explain(state_of(start), done, recorded, [part["late"] for part in parts])
        assert order is not None, f"no order explains it: {start} {parts} {recorded} {said_of(exec_id, said)}"
        assert streams[exec_id].runner is None
        outcomes.update(f"{what.do}, refused" if what.is_refused else what.do for did in done for what in did)
        outcomes.update(f"({kind})" for kind, *_ in recorded)
    return outcomes


def drawn_start(chance: random.Random) -> dict[str, Any]:
    value = chance.choice([None, 3]) if (status := chance.choice(list(THINGS))) == "failed" else None
    stay = chance.choice([0.0, 0.0, 0.001, 0.01])
    return {
        "stay": stay,
        "status": status,
        "default": None if status == "failed" else chance.choice([None, 4, 5]),
        "value": value,
    }


def drawn_part(chance: random.Random, weights: dict[str, int], late: float) -> dict[str, Any]:
    """What one process does in one race, and whether its clock is past the time of the wait."""
    things: list[dict[str, Any]] = []
    for do in chance.choices(list(weights), list(weights.values()), k=chance.choice([1, 1, 2])):
        thing: dict[str, Any] = {"do": do, "after": chance.choice([0.0, chance.uniform(0, MOST_SECONDS_BETWEEN)])}
        if do == "answer":
            thing.update(value=chance.randrange(100), patience=chance.choice([0.0, 0.0, MOST_SECONDS_OF_PATIENCE]))
        if do in ("resume", "retry"):
            thing["detach"] = chance.random() < 0.4
        things.append(thing)
    return {"things": things, "late": chance.random() < late}


def state_of(start: dict[str, Any]) -> Raced:
    """What the model begins with."""
    if start["status"] == "queued":
        return Raced("running", "none", default=start["default"])
    if start["status"] == "suspended":
        return Raced("waiting", "open", default=start["default"])
    return Raced("failed", "expired" if start["value"] is None else "answered", start["value"])


def said_of(exec_id: str, said: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [line for lines in said for line in lines if line.get("exec_id") == exec_id]


def done_of(process: int, part: dict[str, Any], said: list[dict[str, Any]]) -> list[Done]:
    """What a process did in one race. Whatever was refused was refused by KitaruStateError."""
    lines = said_of(part["exec_id"], [said])
    found = [line for line in lines if "by" in line]
    assert {line["refused"] for line in found} <= {None, "KitaruStateError"}, found
    ends = {line["ended"] for line in lines if "by" not in line}
    assert ends <= {"ValueError", "KitaruWaitExpiredError", "KitaruExecutionError"}, ends
    return [
        Done(
            process, thing["do"], line["by"], line["refused"] is not None, line["began"], line["ended"],
            thing.get("value"), thing.get("detach", False),
        )
        for thing, line in zip(part["things"], found, strict=True)
    ]  # fmt: skip


def reduced(event: StoredEvent, runners: dict[str, int]) -> Recorded:
    """An event as the model writes it."""
    match event.type:
        case "WaitResolved":
            return event.type, event.body["by"], decode(event.payloads[0])
        case "ExecutionCompleted":
            return event.type, decode(event.payloads[0])
        case "RunnerClaimed":
            return event.type, runners[event.body["runner"]]
        case "WaitAborted" | "CancelRequested" | "ExecutionResumed" | "ExecutionRetried":
            return event.type, event.body["by"]
        case _:
            return (event.type,)


# --- the judge can say no ----------------------------------------------------------------------------------------------

WAITING = Raced("waiting", "open")


def test_two_answers_that_both_won_no_order_explains() -> None:
    done = [[Done(0, "answer", "a", False, 0, 1, 2)], [Done(1, "answer", "b", False, 0, 1, 4)]]
    assert explain(WAITING, done, [("WaitResolved", "a", 2), ("WaitResolved", "b", 4)], [False, False]) is None
    assert explain(WAITING, done, [("WaitResolved", "a", 2)], [False, False]) is None


def test_a_refusal_without_a_reason_no_order_explains() -> None:
    refused = Done(1, "answer", "b", True, 0, 1, 4)
    assert explain(WAITING, [[], [refused]], [], [False, False]) is None
    won = Done(0, "answer", "a", False, 0, 1, 2)
    assert explain(WAITING, [[won], [refused]], [("WaitResolved", "a", 2)], [False, False]) == [
        "a answer",
        "b answer is refused",
    ]


def test_a_reason_that_came_afterwards_is_none() -> None:
    refused = Done(1, "answer", "b", True, 0, 1, 4)
    won = Done(0, "answer", "a", False, 2, 3, 2)
    assert explain(WAITING, [[won], [refused]], [("WaitResolved", "a", 2)], [False, False]) is None


def test_an_expiry_that_nobody_s_clock_allows_no_order_explains() -> None:
    resumed = [[Done(0, "resume", "a", False, 0, 1)]]
    recorded = [("ExecutionResumed", "a"), ("RunnerClaimed", 0), ("WaitExpired",), ("ExecutionFailed",)]
    assert explain(WAITING, resumed, recorded, [True]) == ["a resume", *["the runner of 0"] * 2]
    assert explain(WAITING, resumed, recorded, [False]) is None


def test_an_end_that_was_not_recorded_no_order_explains() -> None:
    done = [[Done(0, "cancel", "a", False, 0, 1)]]
    assert explain(WAITING, done, [("CancelRequested", "a"), ("ExecutionCancelled",)], [False]) == ["a cancel"]
    assert explain(WAITING, done, [("CancelRequested", "a")], [False]) is None
