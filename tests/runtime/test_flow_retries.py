"""The flow's own retries: the whole body again, completed checkpoints reused."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.events import ExecutionRetried
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import of_type

gate = threading.Event()
ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    ran.clear()
    gate.clear()
    yield
    gate.set()


@checkpoint
def step(x: int = 0) -> int:
    ran.append(x)
    return x + 1


@checkpoint
async def astep(x: int = 0) -> int:
    await asyncio.sleep(0)
    ran.append(x)
    return x + 1


body_runs: list[int] = []


@flow(retries=2)
def second_time_lucky(failures: int) -> int:
    body_runs.append(1)
    got = step(1)
    if len(body_runs) <= failures:
        raise ValueError("not yet")
    return step(got)


@pytest.fixture
def no_body_runs() -> None:
    body_runs.clear()


@pytest.mark.usefixtures("no_body_runs")
def test_flow_retries_run_the_body_again_and_reuse_completed_checkpoints() -> None:
    assert second_time_lucky.run(2).wait(PATIENCE) == 3
    assert (len(body_runs), ran) == (3, [1, 2])


@pytest.mark.usefixtures("no_body_runs")
def test_flow_retries_are_recorded_as_automatic(log: EventLog) -> None:
    handle = second_time_lucky.run(1)
    handle.wait(PATIENCE)
    assert [e.automatic for e in of_type(log, handle.exec_id, ExecutionRetried)] == [True]


@pytest.mark.usefixtures("no_body_runs")
def test_flow_retries_end(log: EventLog) -> None:
    handle = second_time_lucky.run(9)
    with pytest.raises(kitaru.KitaruUserCodeError, match="not yet"):
        handle.wait(PATIENCE)
    assert (len(body_runs), ran) == (3, [1])


@pytest.mark.usefixtures("no_body_runs")
def test_retries_given_to_run_win_over_the_flows() -> None:
    with pytest.raises(kitaru.KitaruUserCodeError):
        second_time_lucky.run(9, retries=0).wait(PATIENCE)
    assert len(body_runs) == 1


def test_a_flow_retry_runs_a_failed_checkpoint_again() -> None:
    @checkpoint
    def second_call_lucky() -> str:
        ran.append("tried")
        if len(ran) == 1:
            raise ConnectionError
        return "ok"

    @flow(retries=1)
    def retried() -> str:
        return second_call_lucky()

    assert retried.run().wait(PATIENCE) == "ok"


def test_a_flow_retry_of_an_async_flow_reuses_completed_checkpoints() -> None:
    @flow(retries=1)
    async def retried() -> list[int]:
        found = list(await asyncio.gather(astep(1), astep(10)))
        if len(body_runs) == 0:
            body_runs.append(1)
            raise ValueError
        return found

    body_runs.clear()
    assert retried.run().wait(PATIENCE) == [2, 11]
    assert sorted(ran) == [1, 10]


def test_an_exit_is_not_retried() -> None:
    body_runs.clear()

    @flow(retries=3)
    def exits() -> None:
        body_runs.append(1)
        sys.exit(1)

    with pytest.raises(kitaru.KitaruUserCodeError, match="SystemExit"):
        exits.run().wait(PATIENCE)
    assert len(body_runs) == 1


# --- is_replay ---------------------------------------------------------------------------------------------------------


@flow(retries=1)
def says_whether_replayed() -> list[bool]:
    ran.append(kitaru.is_replay())
    step()
    if len(ran) == 2:
        raise ValueError
    return [seen for seen in ran if isinstance(seen, bool)]


def test_is_replay_is_false_at_first_and_true_in_a_retry() -> None:
    assert says_whether_replayed.run().wait(PATIENCE) == [False, True]
