"""A call in a flow's body is a checkpoint whose tries are attempts; in a checkpoint each try is a record of its attempt."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.errors import KitaruContextError, KitaruRuntimeError
from kitaru.testing import FakeClock
from tests.llm.asking import FLOWS, calls_of, execution_of, records_of, start
from tests.llm.servers import Server, answers, breaks, completes, refuses, says, slowly

MODEL = "openai/gpt-4o-mini"
WHERE = pytest.mark.parametrize("where", FLOWS)


@WHERE
def test_the_answer_is_the_models_text(server: Server, where: str) -> None:
    assert start(where=where, model=server.model).wait(60) == "four"


def test_in_the_body_a_call_is_a_checkpoint_of_its_own(openai: Server) -> None:
    (call,) = calls_of(start(model=MODEL))
    assert (call.invocation_id, call.name, call.checkpoint_type, call.status) == ("llm_1", "llm_1", "llm_call", "completed")
    assert [artifact.name for artifact in call.artifacts] == ["llm_1_prompt", "llm_1_response", "llm_1"]
    assert [artifact.kind for artifact in call.artifacts][:2] == ["prompt", "response"]


def test_ids_count_from_one_and_a_name_is_its_own_id(openai: Server) -> None:
    @flow
    def several() -> None:
        kitaru.llm("a", model=MODEL)
        kitaru.llm("b", model=MODEL, name="draft")
        kitaru.llm("c", model=MODEL)
        kitaru.llm("d", model=MODEL, name="draft")

    found = calls_of(several.run())
    assert [call.invocation_id for call in found] == ["llm_1", "draft", "llm_2", "draft_2"]
    assert [call.name for call in found] == ["llm_1", "draft", "llm_2", "draft"]
    assert [call.artifacts[0].name for call in found] == ["llm_1_prompt", "draft_prompt", "llm_2_prompt", "draft_2_prompt"]


def test_gathered_calls_take_their_ids_when_they_are_made(openai: Server) -> None:
    openai.answers = lambda server, asked: completes(f"answer to {asked.prompt}")(server, asked)

    @flow
    async def several() -> list[str]:
        return list(await asyncio.gather(*(kitaru.llm_async(f"{place}", model=MODEL) for place in range(5))))

    handle = several.run()
    assert handle.wait(60) == [f"answer to {place}" for place in range(5)]
    assert {call.invocation_id for call in calls_of(handle)} == {f"llm_{place + 1}" for place in range(5)}


def test_calls_in_a_checkpoint_are_named_there(openai: Server) -> None:
    @checkpoint
    def both() -> None:
        kitaru.llm("a", model=MODEL)
        kitaru.llm("b", model=MODEL)
        kitaru.llm("c", model=MODEL, name="draft")

    @flow
    def twice() -> None:
        both()
        both()

    handle = twice.run()
    first, second = calls_of(handle)
    assert [artifact.name for artifact in first.artifacts][:2] == ["llm_1_prompt", "llm_1_response"]
    assert [record["call_name"] for record in records_of(handle)] == ["llm_1", "llm_2", "draft"] * 2
    assert len(second.artifacts) == 7


def test_the_prompt_is_kept_as_it_was_given(openai: Server) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    for prompt, options, kept in (
        ("2 + 2?", {}, "2 + 2?"),
        (messages, {}, messages),
        (
            "2 + 2?",
            {"system": "be brief"},
            [{"role": "system", "content": "be brief"}, {"role": "user", "content": "2 + 2?"}],
        ),
    ):
        handle = start(prompt, model=MODEL, **options)
        handle.wait(60)
        assert kitaru.load(handle.exec_id, "llm_1_prompt") == kept
        assert kitaru.load(handle.exec_id, "llm_1_response") == "four"


@pytest.mark.parametrize("where", ["body", "async body"])
def test_each_try_in_the_body_is_an_attempt_with_a_record(server: Server, where: str, clock: FakeClock) -> None:
    server.script = [refuses(500), refuses(429)]
    handle = start(where=where, model=server.model)
    assert handle.wait(60) == "four"
    (call,) = calls_of(handle)
    assert [attempt.status for attempt in call.attempts] == ["failed", "failed", "completed"]
    assert [[record.status for record in attempt.llm_usage_records] for attempt in call.attempts] == [
        ["failed"], ["failed"], ["completed"]
    ]  # fmt: skip
    assert len(server.asked) == 3


@pytest.mark.parametrize("where", ["checkpoint", "async checkpoint"])
def test_each_try_in_a_checkpoint_is_a_record_of_its_attempt(server: Server, where: str, clock: FakeClock) -> None:
    server.script = [refuses(500), refuses(429)]
    handle = start(where=where, model=server.model)
    assert handle.wait(60) == "four"
    (call,) = calls_of(handle)
    (attempt,) = call.attempts
    assert [record.status for record in attempt.llm_usage_records] == ["failed", "failed", "completed"]
    assert len(server.asked) == 3


RETRIED = {
    "500": refuses(500), "503": refuses(503), "529": refuses(529), "429": refuses(429), "408": refuses(408),
    "no json": says("<html>"), "no answer": says("{}"), "broken": breaks(answers()), "late": slowly(answers(), 3),
}  # fmt: skip


@pytest.mark.parametrize("what", RETRIED)
def test_what_may_pass_is_tried_again(server: Server, what: str, clock: FakeClock) -> None:
    server.script = [RETRIED[what]]
    assert start(model=server.model, timeout=1 if what == "late" else 30).wait(60) == "four"
    assert len(server.asked) == 2


CODES = {
    "400": ("llm-refused", refuses(400)), "401": ("llm-credentials", refuses(401)),
    "403": ("llm-credentials", refuses(403)), "404": ("llm-refused", refuses(404)), "422": ("llm-refused", refuses(422)),
    "quota": ("llm-rate-limit", refuses(429, "no money", "insufficient_quota")),
    "asks for a day": ("llm-rate-limit", refuses(429, retry_after="86400")),
}  # fmt: skip


@WHERE
@pytest.mark.parametrize("what", CODES)
def test_what_does_not_pass_is_not_tried_again(openai: Server, where: str, what: str) -> None:
    openai.script = [CODES[what][1]]
    (call,) = calls_of(start(where=where, model=MODEL))
    assert call.status == "failed"
    assert len(openai.asked) == 1
    assert call.failure is not None
    assert call.failure.exception_type == "kitaru.domain.errors.KitaruRuntimeError"


@pytest.mark.parametrize("what", CODES)
def test_the_flow_gets_a_typed_error_with_a_code(openai: Server, what: str) -> None:
    code, step = CODES[what]
    openai.script = [step]

    @flow
    def careful() -> str:
        try:
            return kitaru.llm("2 + 2?", model=MODEL)
        except KitaruRuntimeError as error:
            return error.code

    assert careful.run().wait(60) == code


FINAL = {
    "llm-server": refuses(500), "llm-rate-limit": refuses(429), "llm-malformed": says("<html>"),
    "llm-connection": breaks(answers()), "llm-timeout": slowly(answers(), 2),
}  # fmt: skip


@pytest.mark.parametrize("code", FINAL)
def test_a_typed_error_is_what_is_left_after_the_last_try(server: Server, code: str, clock: FakeClock) -> None:
    server.script = [FINAL[code]] * 2

    @flow
    def careful() -> str:
        try:
            return kitaru.llm("2 + 2?", model=server.model, retries=1, timeout=0.5 if code == "llm-timeout" else 30)
        except KitaruRuntimeError as error:
            return error.code

    assert careful.run().wait(60) == code
    assert len(server.asked) == 2


def test_nobody_at_the_address_is_a_typed_error(openai: Server, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    (call,) = calls_of(start(model=MODEL))
    assert len(call.attempts) == 3
    assert call.failure is not None
    assert "could not be reached" in call.failure.message


@pytest.mark.parametrize("header", ["retry_after", "retry_after_ms"])
@WHERE
def test_retry_after_is_honoured(openai: Server, where: str, header: str, clock: FakeClock) -> None:
    openai.script = [refuses(429, **{header: "17" if header == "retry_after" else "17000"})]
    before = clock.now()
    start(where=where, model=MODEL).wait(60)
    assert clock.now() - before == 17_000_000


def test_without_it_pauses_double(openai: Server, clock: FakeClock) -> None:
    openai.script = [refuses(500)] * 4
    before = clock.now()
    start(model=MODEL, retries=4).wait(60)
    assert clock.now() - before == (1 + 2 + 4 + 8) * 1_000_000


def test_no_retries_is_one_request(server: Server) -> None:
    server.script = [refuses(500)]
    assert execution_of(start(model=server.model, retries=0)).status == "failed"
    assert len(server.asked) == 1


def test_a_failed_call_is_an_outcome_that_retry_reopens(openai: Server) -> None:
    openai.script = [refuses(400)]
    handle = start(model=MODEL)
    assert execution_of(handle).status == "failed"
    with kitaru.KitaruClient() as client:
        client.executions.retry(handle.exec_id)
    assert execution_of(handle).status == "completed"
    assert len(openai.asked) == 2


def test_an_answer_is_paid_once_however_often_the_body_runs(openai: Server) -> None:
    runs: list[int] = []

    @flow(retries=2)
    def again() -> str:
        answer = kitaru.llm("2 + 2?", model=MODEL)
        runs.append(1)
        if len(runs) < 3:
            raise ConnectionError("not yet")
        return answer

    assert again.run().wait(60) == "four"
    assert (len(runs), len(openai.asked)) == (3, 1)


def test_a_replay_pays_for_what_changed_only(openai: Server) -> None:
    @flow
    def two(question: str) -> list[str]:
        return [kitaru.llm("always", model=MODEL), kitaru.llm(question, model=MODEL), kitaru.llm("last", model=MODEL)]

    first = two.run("a")
    first.wait(60)
    two.replay(first.exec_id, from_="llm_3", question="b").wait(60)
    assert [asked.prompt for asked in openai.asked] == ["always", "a", "last", "b", "last"]


@pytest.mark.parametrize("change", [{"system": "s"}, {"temperature": 0.5}, {"max_tokens": 5}, {"model": "openai/gpt-4o"}])
def test_whatever_is_asked_otherwise_is_another_call(openai: Server, change: dict[str, Any]) -> None:
    options: dict[str, Any] = {"model": MODEL}

    @flow
    def changing() -> str:
        return kitaru.llm("2 + 2?", **options) + kitaru.llm("last", model=MODEL)

    first = changing.run()
    first.wait(60)
    options |= change
    changing.replay(first.exec_id, from_="llm_2").wait(60)
    assert len(openai.asked) == 4


def test_timeout_and_retries_may_change(openai: Server) -> None:
    options: dict[str, Any] = {"model": MODEL}

    @flow
    def changing() -> str:
        return kitaru.llm("2 + 2?", **options) + kitaru.llm("last", model=MODEL)

    first = changing.run()
    first.wait(60)
    options |= {"timeout": 5, "retries": 7}
    changing.replay(first.exec_id, from_="llm_2").wait(60)
    assert len(openai.asked) == 3


def test_a_going_on_execution_needs_no_credential_for_what_is_recorded(
    openai: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_ready: list[bool] = []

    @flow
    def halting() -> str:
        answer = kitaru.llm("2 + 2?", model=MODEL)
        if not is_ready:
            raise ConnectionError("not yet")
        return answer

    handle = halting.run()
    execution_of(handle)
    monkeypatch.delenv("OPENAI_API_KEY")
    is_ready.append(True)
    with kitaru.KitaruClient() as client:
        client.executions.retry(handle.exec_id)
    assert handle.wait(60) == "four"


@pytest.mark.parametrize("call", [kitaru.llm, kitaru.llm_async])
def test_outside_a_flow_it_is_refused(call: Any) -> None:
    with pytest.raises(KitaruContextError, match="outside a flow"):
        call("2 + 2?", model=MODEL)


def test_the_async_form_in_a_plain_flow_names_the_other(openai: Server) -> None:
    @flow
    def plain() -> object:
        with pytest.raises(KitaruContextError, match=r"kitaru\.llm,"):
            kitaru.llm_async("2 + 2?", model=MODEL)
        return True

    assert plain.run().wait(60) is True


def test_a_cancelled_execution_gives_its_request_up(openai: Server) -> None:
    openai.script = [slowly(answers(), 30)]
    handle = start(model=MODEL)
    while not openai.asked:
        time.sleep(0.005)
    with kitaru.KitaruClient() as client:
        client.executions.cancel(handle.exec_id)
    assert execution_of(handle).status == "cancelled"


def test_a_cancelled_task_records_an_interrupted_try(openai: Server) -> None:
    openai.script = [slowly(answers(), 30)]

    @flow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.3):
                return await kitaru.llm_async("2 + 2?", model=MODEL)
        except TimeoutError:
            return "gave up"

    handle = impatient.run()
    assert handle.wait(60) == "gave up"
    (record,) = records_of(handle)
    assert (record["status"], record["billing_effect"]) == ("interrupted", "unknown")
