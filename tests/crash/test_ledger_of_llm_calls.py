"""R4, R20: flows of LLM calls are killed and recovered, and the store's figures are held against the provider's own books.

The provider is a loopback server in this process: what it charged, it charged, whoever died since. Its books know nothing
of kitaru; the store's figures are read out of the file.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru.client import KitaruClient
from tests.crash.children import ForkServer
from tests.crash.inspection import Stream, last_position, read_streams
from tests.crash.tiers import tiers
from tests.llm.servers import Asked, Reply, Server, Step, completes, refuses, running, says

FLOWS: dict[str, dict[str, Any]] = {"asked": {"questions": 6}, "asked_together": {"questions": 5}}
REQUESTS = {"asked": 8, "asked_together": 6}
"""How many answers each flow needs."""
UNITS_OF_A_MICRODOLLAR = 10**4


@pytest.fixture(scope="module")
def asking() -> Iterator[ForkServer]:
    """A fork server whose children have the SDK at hand."""
    server = ForkServer({"CRASH_PRELOADED": "kitaru.runtime.llm.call pydantic_ai.direct pydantic_ai.models.openai openai"})
    yield server
    server.close()


@pytest.fixture
def provider(chance: random.Random) -> Iterator[Server]:
    """It answers with prices of its own mind, sometimes late, sometimes not at all, sometimes for nothing.

    Never twice in a row not at all: a call tries three times, and one in four hundred would fail for good.
    """
    guarded = random.Random(chance.random())
    refused: set[str] = set()

    def answers(server: Server, asked: Asked) -> Reply:
        with server.guard:
            kind, seconds = guarded.random(), guarded.uniform(0, 0.008)
            if asked.prompt in refused:
                refused.remove(asked.prompt)
                kind = 1.0
            elif kind < 0.13:
                refused.add(asked.prompt)
            tokens, cost = (guarded.randrange(1, 1_000), guarded.randrange(1, 500)), guarded.randrange(10_000)
        step: Step = completes(f"answer to {asked.prompt}", prompt=tokens[0], completion=tokens[1], cost=cost)
        if kind < 0.05:
            step = refuses(500, retry_after="0")
        elif kind < 0.1:
            step = refuses(429, retry_after_ms="1")
        elif kind < 0.13:
            step = says("<html>")
        reply = step(server, asked)
        reply.seconds = seconds
        if kind < 0.13:
            reply.headers["retry-after-ms"] = "1"
        return reply

    with running(answers) as server:
        yield server


def environment_of(server: Server) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "sk-of-the-test", "NO_PROXY": "127.0.0.1"}


def figures_of(stream: Stream) -> list[dict[str, Any]]:
    """The figures of the records that were incurred."""
    found = [event.body["figures"] for event in stream.events if event.type == "LLMUsageRecorded"]
    return [figures for figures in found if figures.get("billing_effect", "incurred") == "incurred"]


def completed_prompts(stream: Stream) -> set[str]:
    """What was asked by the calls in the body that are recorded as completed."""
    asked: dict[int, set[str]] = {}
    for event in stream.events:
        if event.type == "ArtifactSaved" and event.body["kind"] == "prompt":
            asked.setdefault(event.body["call"], set()).update(
                part for part in [event.payloads[0].decode("utf-8", "replace")]
            )
    done = {event.body["call"] for event in stream.events if event.type == "CheckpointCompleted"}
    return {prompt for call in done for prompt in asked.get(call, ())}


def paid(server: Server, prompts: set[str]) -> Counter[str]:
    """How often each of these was charged."""
    with server.guard:
        return Counter(line.prompt for line in server.books if any(line.prompt in prompt for prompt in prompts))


def check_books(stream: Stream, server: Server, lost: int) -> None:
    """Every incurred record is a line of the books, once, to the token and the digit; at most `lost` lines are no record."""
    books = {line.id: line for line in server.books}
    recorded = Counter(figures["event_id"] for figures in figures_of(stream))
    assert set(recorded) <= set(books), "the store knows a response that was never given"
    assert set(recorded.values()) <= {1}, "a response was recorded twice"
    assert len(books) - len(recorded) <= lost, f"{len(books) - len(recorded)} paid responses are not in the store"
    for figures in figures_of(stream):
        line = books[figures["event_id"]]
        assert (figures["input_tokens"], figures["output_tokens"]) == (line.input_tokens, line.output_tokens)
        assert figures["actual_cost"] == line.cost * UNITS_OF_A_MICRODOLLAR


def check_asked_once(stream: Stream) -> None:
    """A call of a flow's body whose answer is recorded was not asked again, whenever it was killed."""
    own = {event.body["call"] for event in stream.events if event.body.get("checkpoint_type") == "llm_call"}
    answered = Counter(
        event.body["call"]
        for event in stream.events
        if event.type == "LLMUsageRecorded" and event.body["figures"].get("status", "completed") == "completed"
    )
    assert own, "the flow asks in its body"
    assert {call: answered[call] for call in own if answered[call] > 1} == {}


def check_summary(stream: Stream, server: Server, client: KitaruClient) -> None:
    """What the client shows is what the books say for the recorded calls."""
    recorded = {figures["event_id"] for figures in figures_of(stream)}
    lines = [line for line in server.books if line.id in recorded]
    summary = client.executions.get(stream.exec_id).llm_usage_summary
    assert summary is not None
    assert summary.incurred_usage_record_count == len(lines)
    assert summary.incurred_input_tokens == sum(line.input_tokens for line in lines)
    assert summary.incurred_output_tokens == sum(line.output_tokens for line in lines)
    assert summary.incurred_total_tokens == sum(line.input_tokens + line.output_tokens for line in lines)
    assert summary.actual_cost_usd * 10**6 == sum(line.cost for line in lines)
    assert summary.reused_usage_record_count == 0


@tiers("kills", 20, 200, 2_000, parts=2)
def test_the_stores_figures_are_the_providers_books(
    kills: int, chance: random.Random, asking: ForkServer, folder: Path, provider: Server
) -> None:
    environment = environment_of(provider)
    left = kills
    with KitaruClient(folder / "store") as client:
        while left > 0:
            name = chance.choice(list(FLOWS))
            provider.books.clear()
            position = last_position(folder)
            child = asking.start("running:run", folder, environment, flow=name, inputs=FLOWS[name])
            exec_id = child.await_line()["exec_id"]
            mine = min(left, chance.choice((1, 1, 2, 3)))
            for kill in range(mine):
                time.sleep(chance.uniform(0, 0.25 if name == "asked" else 0.1))
                child.kill()
                stream = read_streams(folder, after=position, thorough=False)[exec_id]
                done = completed_prompts(stream)
                before = paid(provider, done)
                if kill < mine - 1:
                    child = asking.start("running:recover", folder, environment)
            said = asking.run("running:recover", folder, environment, exec_id=exec_id)
            assert "value" in said[-1], said
            stream = read_streams(folder, after=position, thorough=False)[exec_id]
            assert stream.status == "completed"
            assert paid(provider, done) == before, "a recorded call was paid twice"
            check_asked_once(stream)
            check_books(stream, provider, lost=mine * (1 if name == "asked" else FLOWS[name]["questions"]))
            assert len(figures_of(stream)) >= REQUESTS[name]
            check_summary(stream, provider, client)
            left -= mine
    read_streams(folder)


@pytest.mark.parametrize("says_unknown", [True, False], ids=["unknown", "error"])
def test_a_commit_that_is_reported_as_failed_changes_no_bill(says_unknown: bool, asking: ForkServer, tmp_path: Path) -> None:
    inputs = {"questions": 2}
    expected: Any = None
    at = commits = 0
    while at <= commits:
        folder = tmp_path / f"{at}"
        folder.mkdir()
        with running(lambda server, asked: completes(asked.prompt, cost=17)(server, asked)) as provider:
            environment = environment_of(provider)
            said = asking.run(
                "faults:run_lied_to", folder, environment, flow="asked", inputs=inputs, at=at, says_unknown=says_unknown
            )[-1]
            if at == 0:
                expected, commits = said["value"], said["commits"]
            (exec_id,) = read_streams(folder)
            done = completed_prompts(read_streams(folder)[exec_id])
            before = paid(provider, done)
            value = asking.run("running:recover", folder, environment, exec_id=exec_id)[-1]["value"]
            assert value == expected
            assert paid(provider, done) == before, "a recorded call was paid twice"
            stream = read_streams(folder)[exec_id]
            check_asked_once(stream)
            check_books(stream, provider, lost=0)
            with KitaruClient(folder / "store") as client:
                check_summary(stream, provider, client)
            if says_unknown:
                assert len(provider.books) == 3
        at += 1
    assert at > 8
