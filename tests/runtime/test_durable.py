"""One call of a flow's body made durable: what `kitaru.llm` and the adapters of frameworks stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from kitaru import KitaruClient, flow
from kitaru.client import Execution
from kitaru.domain.errors import KitaruContextError, KitaruUserCodeError
from kitaru.domain.events import AttemptFailed
from kitaru.runtime.durable import call_durably, call_durably_async
from kitaru.runtime.scope import CallScope, current
from kitaru.runtime.usage import record_usage
from kitaru.store.log import EventLog
from kitaru.testing import FakeClock
from tests.runtime.crashing import PATIENCE, CrashingLog, queue, recovered, run_on
from tests.runtime.records import ids_of, of_type

ran: list[str] = []
failing: set[int] = set()


class Client:
    """What no record can hold."""


class BusyError(Exception):
    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()
    failing.clear()


def answer(client: Client, prompt: str) -> str:
    scope = current.get()
    assert isinstance(scope, CallScope)
    ran.append(scope.name)
    record_usage({"usage": {"total_tokens": 5}})
    if len(ran) in failing:
        raise BusyError(7.5)
    return prompt.upper()


async def answer_async(client: Client, prompt: str) -> str:
    await asyncio.sleep(0)
    return answer(client, prompt)


def ask(prompt: str, **options: Any) -> object:
    chosen = {"name": "model", "type": "llm_call", "numbered": True, **options}
    return call_durably(answer, Client(), prompt, inputs={"prompt": prompt}, **chosen)


def ask_async(prompt: str) -> Coroutine[object, object, object]:
    return call_durably_async(
        answer_async, Client(), prompt, inputs={"prompt": prompt}, name="model", type="llm_call", numbered=True
    )


def got(exec_id: str) -> Execution:
    with KitaruClient() as client:
        return client.executions.get(exec_id)


@flow
def three() -> list[object]:
    return [ask("a"), ask("b"), ask("c", name="last", numbered=False)]


def test_each_call_is_a_checkpoint_with_an_id_a_type_and_an_attempt(log: EventLog) -> None:
    handle = three.run()
    assert handle.wait(PATIENCE) == ["A", "B", "C"]
    assert ids_of(log, handle.exec_id) == ran == ["model_1", "model_2", "last"]
    calls = got(handle.exec_id).checkpoints or ()
    assert [(call.name, call.checkpoint_type, len(call.attempts)) for call in calls] == [
        ("model_1", "llm_call", 1), ("model_2", "llm_call", 1), ("last", "llm_call", 1),
    ]  # fmt: skip
    assert [call.llm_usage_records[0].checkpoint_name for call in calls] == ["model_1", "model_2", "last"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 10))
def test_a_recorded_call_is_not_made_again(log: EventLog, at: int, after: bool) -> None:
    exec_id = queue(log, three)
    run_on(CrashingLog(log, at, after=after), three, exec_id)
    assert recovered(log, three, exec_id) == ["A", "B", "C"]
    assert len(ran) <= 4
    assert all(call.attempts[-1].status == "completed" for call in got(exec_id).checkpoints or ())


def test_what_failed_says_when_it_is_tried_again(log: EventLog, clock: FakeClock) -> None:
    failing.update({1, 2})

    def pause(error: BaseException, failed: int) -> float | None:
        return error.retry_after if isinstance(error, BusyError) and failed < 2 else None

    handle = flow(lambda: ask("a", pause_after=pause)).run()
    assert handle.wait(PATIENCE) == "A"
    assert [event.retry_after for event in of_type(log, handle.exec_id, AttemptFailed)] == [7.5, 7.5]
    (call,) = got(handle.exec_id).checkpoints or ()
    assert [(attempt.status, len(attempt.llm_usage_records)) for attempt in call.attempts] == [
        ("failed", 1), ("failed", 1), ("completed", 1),
    ]  # fmt: skip


def test_without_a_word_on_it_a_failure_is_final() -> None:
    failing.add(1)
    with pytest.raises(KitaruUserCodeError):
        flow(lambda: ask("a")).run().wait(PATIENCE)
    assert ran == ["model_1"]


def test_calls_of_an_async_flow_keep_their_ids_under_gather(log: EventLog) -> None:
    @flow
    async def gathers() -> list[object]:
        return list(await asyncio.gather(*(ask_async(prompt) for prompt in "abc")))

    handle = gathers.run()
    assert handle.wait(PATIENCE) == ["A", "B", "C"]
    assert sorted(ids_of(log, handle.exec_id)) == ["model_1", "model_2", "model_3"]


def test_a_call_with_other_inputs_runs_anew_in_a_replay() -> None:
    @flow(name="asks")
    def asks(prompt: str) -> list[object]:
        return [ask(prompt), ask("b"), ask("c")]

    first = asks.run("a")
    first.wait(PATIENCE)
    ran.clear()
    replay = asks.replay(first.exec_id, from_="model_3", prompt="other")
    assert replay.wait(PATIENCE) == ["OTHER", "B", "C"]
    assert "model_1" in ran


def test_a_call_belongs_in_the_body_of_a_flow() -> None:
    with pytest.raises(KitaruContextError):
        ask("a")
    with pytest.raises(KitaruContextError):
        ask_async("a")

    @flow
    def plain() -> None:
        with pytest.raises(KitaruContextError, match="not"):
            ask_async("a")

    plain.run().wait(PATIENCE)
