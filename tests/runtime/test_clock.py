"""R30: whatever the machine's clock does, nothing that is shown takes less than no time, and positions order."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kitaru import checkpoint, flow, sleep, wait
from kitaru.cli import main
from kitaru.client import KitaruClient
from kitaru.domain.errors import KitaruStateError, KitaruWaitExpiredError
from kitaru.domain.events import WaitExpired
from kitaru.runtime import operations, process, recovery
from kitaru.runtime.runner import Runner
from kitaru.store.log import EventLog
from kitaru.testing import FakeClock
from tests.runtime.crashing import PATIENCE, queue
from tests.runtime.records import of_type
from tests.runtime.waiting import answer, asked, gone_on, pending, until

HOUR = 3600.0
DAY = 24 * HOUR
MONTH = 30 * DAY
YEAR = 365 * DAY
JUMPS = (10 * YEAR, -10 * YEAR, HOUR, -HOUR, -1.0, -1e-6, 0.0)
ENDS = ("completed", "failed", "cancelled", "sleeping")
NEGATIVE = re.compile(r"(?:^|\s)-[\d.]")
AUTUMN = 1_699_163_999_000_000
"""2023-11-05 05:59:59 UTC, a second before New York's clocks go back."""
SPRING = 1_710_053_999_000_000
"""2024-03-10 06:59:59 UTC, a second before they go forward."""


class Jumps:
    """The clock as the bodies of this module see it, and what it does when they run."""

    clock: FakeClock | None = None
    chance = random.Random(0)
    end = "completed"

    @classmethod
    def jump(cls) -> None:
        if cls.clock is not None:
            cls.clock.advance(cls.chance.choice(JUMPS))


@pytest.fixture(autouse=True)
def nothing_left(store: Path) -> Iterator[None]:
    yield
    process.stop_all()
    Jumps.clock = None


@checkpoint(retries=2)
def shaky(number: int) -> int:
    Jumps.jump()
    if Jumps.chance.random() < 0.4:
        raise ConnectionError(number)
    return number


@flow(retries=20)
def jumpy() -> list[int]:
    found = [shaky(1), *shaky.map([2, 3]).result()]
    found.append(wait(schema=int, name="n", question="how many?", timeout=0, expires_in=20 * YEAR))
    sleep(HOUR)
    if Jumps.end == "failed":
        raise ValueError("no")
    return [*found, shaky(4)]


@flow
def asks(lifetime: float = MONTH) -> Any:
    return wait(schema=int, name="n", timeout=0, expires_in=lifetime)


@flow
def asks_with_default() -> int:
    return wait(schema=int, name="n", timeout=600, expires_in=MONTH, default=7)


def run_on(log: EventLog, exec_id: str) -> None:
    """Run it until its runner has left."""
    runner = recovery.take_over(log, exec_id, stay_seconds=0)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    until(log, lambda: not process.is_here(log.location, exec_id))


def jumped_to(log: EventLog, clock: FakeClock, end: str) -> str:
    """An execution whose every step met another time, and which ends so, or still sleeps."""
    Jumps.end = end
    exec_id = queue(log, jumpy)
    Jumps.jump()
    run_on(log, exec_id)
    Jumps.jump()
    answer(log, exec_id, "n", 2)
    Jumps.jump()
    run_on(log, exec_id)
    Jumps.jump()
    if end == "cancelled":
        operations.cancel(log, exec_id)
    elif end != "sleeping":
        (timer,) = log.head(exec_id).state.pending
        assert timer.expires_at is not None
        clock.advance((timer.expires_at - clock.now()) / 1e6)
        run_on(log, exec_id)
    return exec_id


def spans(shown: Any) -> Iterator[tuple[str, float]]:
    """Every duration anywhere in it, by name: what is called one, and from each beginning to its end; in seconds."""
    if isinstance(shown, list):
        for each in shown:
            yield from spans(each)
    if not isinstance(shown, dict):
        return
    for begun, ended in (
        ("started_at", "ended_at"),
        ("entered_waiting_at", "closed_at"),
        ("entered_waiting_at", "expires_at"),
    ):
        if shown.get(begun) and shown.get(ended):
            took = datetime.fromisoformat(shown[ended]) - datetime.fromisoformat(shown[begun])
            yield f"{begun} to {ended}", took.total_seconds()
    for name, value in shown.items():
        if "duration" in name and value is not None:
            yield name, value
        yield from spans(value)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("number", range(5))
def test_no_duration_is_negative_in_what_is_shown(
    log: EventLog, clock: FakeClock, store: Path, capsys: pytest.CaptureFixture[str], end: str, number: int
) -> None:
    seed = random.getrandbits(32)
    Jumps.clock, Jumps.chance = clock, random.Random(seed)
    exec_id = jumped_to(log, clock, end)
    capsys.readouterr()
    found: list[tuple[str, float]] = []
    for words in (("get", exec_id), ("list",), ("latest",), ("waits",)):
        assert main(["executions", *words, "--store", str(store), "-o", "json"]) == 0
        found += spans(json.loads(capsys.readouterr().out))
        assert main(["executions", *words, "--store", str(store)]) == 0
        text = capsys.readouterr().out
        assert not NEGATIVE.search(text), f"{text}, drawn by random.Random({seed})"
    print(f"random.Random({seed}) draws the same again")
    with KitaruClient(store) as client:
        shown = client.executions.get(exec_id)
        assert shown.status == ("waiting" if end == "sleeping" else end)
        found += spans(shown.model_dump(mode="json"))
        found += spans([each.model_dump(mode="json") for each in client.executions.list()])
    assert len(found) > 10
    assert [each for each in found if each[1] < 0] == []


def test_a_call_that_was_given_up_between_attempts_took_no_negative_time(
    log: EventLog, clock: FakeClock, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @checkpoint(retries=5)
    def fails(exec_id: str) -> None:
        clock.advance(-10 * YEAR)
        tries.append(exec_id)
        if len(tries) == 2:
            live = process.find(log.location, exec_id)
            assert isinstance(live, Runner)
            live.stop()
        raise ConnectionError

    @flow
    def gives_up() -> None:
        fails(started[0])

    tries: list[str] = []
    started = [queue(log, gives_up)]
    runner = recovery.take_over(log, started[0], gives_up)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    operations.cancel(log, started[0])
    with KitaruClient(store) as client:
        (call,) = client.executions.get(started[0]).checkpoints or ()
    assert (call.status, len(call.attempts)) == ("failed", 2)
    assert call.ended_at is not None
    assert call.ended_at >= call.started_at
    assert main(["executions", "get", started[0], "--store", str(store)]) == 0
    assert not NEGATIVE.search(capsys.readouterr().out)


# --- positions order ---------------------------------------------------------------------------------------------------


@pytest.fixture
def backwards(log: EventLog, clock: FakeClock) -> list[str]:
    """Executions that wait, each begun ten years before the one before it."""
    found = []
    for _ in range(4):
        found.append(queue(log, asks))
        run_on(log, found[-1])
        clock.advance(-10 * YEAR)
    return found


def test_the_newest_is_the_one_that_came_last_whatever_the_clock_said(backwards: list[str], store: Path) -> None:
    with KitaruClient(store) as client:
        assert [each.exec_id for each in client.executions.list()] == backwards[::-1]
        assert [each.exec_id for each in client.executions.list(page=2, size=2)] == backwards[1::-1]
        assert client.executions.latest().exec_id == backwards[-1]


def test_the_oldest_wait_is_the_one_that_was_opened_first_whatever_the_clock_said(backwards: list[str], store: Path) -> None:
    with KitaruClient(store) as client:
        assert [each.exec_id for each in client.executions.pending_waits()] == backwards


def test_waits_are_in_the_order_in_which_they_were_opened_not_in_that_of_their_executions(
    log: EventLog, clock: FakeClock, store: Path
) -> None:
    first, second = queue(log, asks), queue(log, asks)
    run_on(log, second)
    run_on(log, first)
    with KitaruClient(store) as client:
        assert [each.exec_id for each in client.executions.pending_waits()] == [second, first]


def test_what_is_lost_is_found_oldest_first_whatever_the_clock_said(log: EventLog, backwards: list[str]) -> None:
    for exec_id in reversed(backwards):
        answer(log, exec_id, "n", 1)
    assert recovery.lost_executions(log, "default") == backwards


def test_events_are_shown_in_the_order_of_their_positions(
    log: EventLog, clock: FakeClock, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Jumps.clock, Jumps.chance = clock, random.Random(1)
    exec_id = jumped_to(log, clock, "completed")
    with KitaruClient(store) as client:
        events = list(client.executions.events(exec_id))
    times = [event.at for event in events]
    assert times != sorted(times), "the clock never went back"
    positions = [event.position for event in events]
    assert positions == sorted(positions)
    assert main(["executions", "events", exec_id, "--store", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(events) + 1))


# --- a month in milliseconds -------------------------------------------------------------------------------------------


def test_a_wait_of_30_days_takes_an_answer_on_its_last_day(log: EventLog, clock: FakeClock) -> None:
    begun = time.monotonic()
    exec_id = queue(log, asks)
    run_on(log, exec_id)
    clock.advance(MONTH - 1e-6)
    answer(log, exec_id, "n", 5)
    clock.advance(10 * YEAR)
    assert gone_on(log, asks, exec_id) == 5
    assert time.monotonic() - begun < 5


def test_a_wait_of_30_days_takes_none_when_they_are_over(log: EventLog, clock: FakeClock) -> None:
    exec_id = queue(log, asks)
    run_on(log, exec_id)
    clock.advance(MONTH)
    with pytest.raises(KitaruStateError, match="expired"):
        answer(log, exec_id, "n", 5)
    assert pending(log, exec_id) == ["n"]
    runner = recovery.take_over(log, exec_id, asks)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    assert type(runner.error) is KitaruWaitExpiredError


def test_a_runner_that_stays_is_given_the_default_when_30_days_are_over(log: EventLog, clock: FakeClock) -> None:
    handle = asks_with_default.run()
    asked(log, handle, "n")
    clock.advance(MONTH)
    assert handle.wait(PATIENCE) == 7
    (expired,) = of_type(log, handle.exec_id, WaitExpired)
    assert expired.at == clock.now()


# --- summer time -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["UTC", "America/New_York", "Pacific/Auckland"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The machine's time zone."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize("now", [AUTUMN, SPRING], ids=["back", "forward"])
def test_an_hour_is_an_hour_over_a_change_to_summer_time(
    zone: str, now: int, log: EventLog, clock: FakeClock, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.advance((now - clock.now()) / 1e6)
    exec_id = queue(log, asks, lifetime=HOUR)
    run_on(log, exec_id)
    clock.advance(HOUR - 1e-6)
    answer(log, exec_id, "n", 1)
    clock.advance(1e-6)
    gone_on(log, asks, exec_id)
    with KitaruClient(store) as client:
        shown = client.executions.get(exec_id)
    assert shown.duration == HOUR
    assert shown.started_at.utcoffset() == timedelta(0)
    assert main(["executions", "get", exec_id, "--store", str(store)]) == 0
    text = capsys.readouterr().out
    begun = {AUTUMN: "2023-11-05 05:59:59Z", SPRING: "2024-03-10 06:59:59Z"}[now]
    assert begun in text
    assert "1h 0m" in text
