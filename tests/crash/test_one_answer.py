"""R5: many processes answer one wait, and one does; the others are told so by a typed error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from kitaru.store.values import decode
from tests.crash.children import Child, ForkServer
from tests.crash.inspection import Stream, read_streams
from tests.crash.tiers import tiers

PROCESSES = 8
AT_ONCE = 100
LIVE_AT_ONCE = 25
DECIDED_LATE = "Answer is not possible"
"""How the refusal begins of who found the wait open, and came second to the store's lock."""


@tiers("waits", 200, 5_000)
def test_of_eight_processes_that_answer_a_wait_one_wins(waits: int, forkserver: ForkServer, tmp_path: Path) -> None:
    decided_late = 0
    for part in range(waits // AT_ONCE):
        folder = tmp_path / f"{part}"
        folder.mkdir()
        environment = {"CRASH_LEDGER": str(folder / "ledger")}
        exec_ids = [line["exec_id"] for line in forkserver.run("racing:ask", folder, environment, times=AT_ONCE)]
        said = answered(forkserver, folder, exec_ids)
        check_one_won_each(said, read_streams(folder), exec_ids)
        decided_late += sum(line["message"].startswith(DECIDED_LATE) for line in said if line["refused"])
    print(f"second by less than a transaction: {decided_late}")
    assert decided_late, "nobody was ever second by less than the time of a transaction: it was no race"


@tiers("waits", 50, 500)
def test_a_runner_that_stays_gets_the_answer_that_won(waits: int, forkserver: ForkServer, tmp_path: Path) -> None:
    for part in range(waits // LIVE_AT_ONCE):
        folder = tmp_path / f"{part}"
        folder.mkdir()
        environment = {"CRASH_LEDGER": str(folder / "ledger")}
        staying = forkserver.start("racing:ask_and_stay", folder, environment, times=LIVE_AT_ONCE)
        exec_ids = asked(staying, LIVE_AT_ONCE)
        won = check_one_won_each(answered(forkserver, folder, exec_ids), read_streams(folder), exec_ids)
        values = {line["exec_id"]: line["value"][0] for line in staying.finish() if "value" in line}
        assert values == won


def asked(child: Child, times: int) -> list[str]:
    """The ids that it says once their waits are open."""
    child.await_line(lambda _: len(child.said()) >= times)
    return [line["exec_id"] for line in child.said()[:times]]


def answered(forkserver: ForkServer, folder: Path, exec_ids: list[str]) -> list[dict[str, Any]]:
    """What the processes say that answer them all."""
    each = [{"exec_ids": exec_ids, "number": number} for number in range(PROCESSES)]
    said: list[dict[str, Any]] = []
    for number, child in enumerate(forkserver.start_all("racing:answer_each", folder, each)):
        said += [{**line, "number": number} for line in child.finish()]
    return said


def check_one_won_each(said: list[dict[str, Any]], streams: dict[str, Stream], exec_ids: list[str]) -> dict[str, int]:
    """One winner for each, whose answer is the recorded one; the others got KitaruStateError. Who won."""
    assert streams.keys() == set(exec_ids)
    winners = {line["exec_id"]: line["number"] for line in said if line["refused"] is None}
    tried = Counter((line["exec_id"], line["refused"]) for line in said)
    for exec_id in exec_ids:
        assert tried[exec_id, None] == 1
        assert tried[exec_id, "KitaruStateError"] == PROCESSES - 1
        (resolved,) = (event for event in streams[exec_id].events if event.type == "WaitResolved")
        assert resolved.body["by"] == f"process {winners[exec_id]}"
        assert decode(resolved.payloads[0]) == winners[exec_id]
    return winners
