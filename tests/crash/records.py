"""What a store's record says of flows, next to what their ledger says."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.inspection import Stream


class Call(NamedTuple):
    """A checkpoint call as its stream has it."""

    key: str
    invocation_id: str
    attempts: int
    is_completed: bool
    is_failed: bool


def calls_of(stream: Stream) -> dict[str, Call]:
    """By the idempotency key that the call's body sees."""
    found: dict[int, Call] = {}
    for event in stream.events:
        body: dict[str, Any] = event.body
        if event.type == "AttemptStarted":
            if body["attempt"] == 1:
                text = f"{stream.exec_id}\0{body['invocation_id']}"
                key = blake2b(text.encode(), digest_size=16).hexdigest()
                found[body["call"]] = Call(key, body["invocation_id"], 1, False, False)
            else:
                assert found[body["call"]].attempts == body["attempt"] - 1
                found[body["call"]] = found[body["call"]]._replace(attempts=body["attempt"])
        elif event.type == "CheckpointCompleted":
            assert not found[body["call"]].is_completed, "a call was completed twice"
            found[body["call"]] = found[body["call"]]._replace(is_completed=True)
        elif event.type == "CheckpointFailed":
            found[body["call"]] = found[body["call"]]._replace(is_failed=True)
    return {call.key: call for call in found.values()}


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """Every run of every body, in order."""
    path = folder / "ledger"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def runs_by_key(folder: Path) -> Counter[str]:
    """How often each call's body has begun."""
    return Counter(line["key"] for line in read_ledger(folder))


def runs_of_completed(stream: Stream, folder: Path, before: dict[str, int]) -> dict[str, int]:
    """How often the body of each completed call has begun; those of `before` have not begun again since."""
    runs = runs_by_key(folder)
    found = {key: runs[key] for key, call in calls_of(stream).items() if call.is_completed}
    assert {key: found.get(key) for key in before} == before, "a completed checkpoint ran again"
    return found


def check_call(call: Call, runs: int, kills: int) -> None:
    """It completed; its body began at least once, and at most once more for each kill."""
    assert call.is_completed
    assert 1 <= runs <= 1 + kills, f"{call.invocation_id} ran {runs} times with {kills} kills"
    assert runs <= call.attempts <= 1 + kills
