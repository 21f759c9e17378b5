"""LLM usage as executions record it: on which side it counts, and once, whatever becomes of attempt, call and runner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.client import Execution, TokenUsage, UsageRecord
from kitaru.domain.errors import KitaruContextError, KitaruStateError, KitaruUsageError
from kitaru.domain.events import LLMUsageRecorded
from kitaru.runtime import operations, process
from kitaru.runtime.flow import Flow
from kitaru.runtime.usage import record_usage
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE, CrashingLog, UnsureLog, queue, recovered, run_on
from tests.runtime.records import of_type, types_of

told: list[dict[str, Any]] = []
"""What the checkpoints of a test record, in turn."""
failing: set[int] = set()
"""The numbers of the bodies, from 1, that raise after they recorded."""
ran: list[str] = []


def used(tokens: int = 10, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "usage": {"input_tokens": tokens, "output_tokens": 1}, **fields}


def paid(dollars: float, tokens: int = 10, **fields: Any) -> dict[str, Any]:
    return used(tokens, cost={"actual_cost_usd": dollars, "source": "provider_reported"}, **fields)


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.clear()
    failing.clear()
    ran.clear()


def tell(word: str) -> str:
    ran.append(word)
    if told:
        record_usage(told[(len(ran) - 1) % len(told)])
    if len(ran) in failing:
        raise ConnectionError(word)
    return word


@checkpoint
def ask(word: str) -> str:
    return tell(word)


@checkpoint(retries=2)
def ask_again(word: str) -> str:
    return tell(word)


@checkpoint(cache=True)
def ask_once(word: str) -> str:
    return tell(word)


@checkpoint(runtime="isolated")
def ask_apart(word: str) -> str:
    record_usage({"record_id": "there", **paid(0.25)})
    record_usage({"record_id": "there", **paid(0.25)})
    return word


@flow
def one(word: str) -> str:
    return ask(word)


@flow
def persistent(word: str) -> str:
    return ask_again(word)


@flow
def thrifty(word: str) -> str:
    return ask_once(word)


@flow
def two(word: str) -> str:
    return ask(ask(word))


def run(body: Flow[..., Any], word: str = "why") -> Execution:
    handle = body.run(word)
    handle.wait(PATIENCE)
    return got(handle.exec_id)


def got(exec_id: str) -> Execution:
    """An execution as `get` shows it, which is as a list shows it."""
    with KitaruClient() as client:
        whole = client.executions.get(exec_id)
        listed = next(found for found in client.executions.list() if found.exec_id == exec_id)
    assert (listed.metadata, listed.llm_usage_summary) == (whole.metadata, whole.llm_usage_summary)
    assert listed.llm_usage_records is None
    return whole


# --- surface §4, as a table -------------------------------------------------------------------------------------------


def plainly() -> Execution:
    return run(two)


def retried_by_itself() -> Execution:
    failing.add(1)
    return run(persistent)


def retried_by_somebody() -> Execution:
    failing.add(1)
    handle = one.run("why")
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait(PATIENCE)
    operations.retry(kitaru.compose.open_log(_choice()), handle.exec_id, flow=one, by="Ada")
    process.join_all()
    return got(handle.exec_id)


def _choice() -> Any:
    from kitaru.settings import resolve_store

    return resolve_store()


def replayed() -> Execution:
    first = run(two)
    handle = two.replay(first.exec_id, from_="ask_2")
    handle.wait(PATIENCE)
    return got(handle.exec_id)


def reused() -> Execution:
    run(thrifty)
    return run(thrifty)


SUMS = (
    "usage_record_count", "incurred_usage_record_count", "reused_usage_record_count", "total_tokens",
    "incurred_total_tokens", "reused_total_tokens", "display_cost_usd", "records_without_cost_count",
)  # fmt: skip
BOTH = {"actual_cost_usd": 0.2, "estimated_cost_usd": 0.5, "source": "provider_reported"}
GUESS = {"estimated_cost_usd": 0.5, "source": "calculator"}
TABLE: dict[str, tuple[Callable[[], Execution], list[dict[str, Any]], tuple[float, ...]]] = {
    #                                                            all inc reu  tok inc reu   cost  without
    "executed": (plainly, [paid(0.5)],                          (2, 2, 0,   22, 22, 0,   1.0,  0)),
    "no cost source": (plainly, [used()],                       (2, 2, 0,   22, 22, 0,   0.0,  2)),
    "both costs": (plainly, [used(cost=BOTH)],                  (2, 2, 0,   22, 22, 0,   0.4,  0)),
    "an estimate": (plainly, [used(cost=GUESS)],                (2, 2, 0,   22, 22, 0,   1.0,  0)),
    "unknown": (plainly, [paid(0.5, billing_effect="unknown")], (2, 0, 0,   22, 0, 0,    1.0,  0)),
    "one unknown": (plainly, [paid(0.5), used(billing_effect="unknown")], (2, 1, 0, 22, 11, 0, 0.5, 1)),
    "a failed attempt": (retried_by_itself, [paid(0.5)],        (2, 2, 0,   22, 22, 0,   1.0,  0)),
    "a retry": (retried_by_somebody, [paid(0.5)],               (2, 2, 0,   22, 22, 0,   1.0,  0)),
    "a replay": (replayed, [paid(0.5)],                         (2, 1, 1,   22, 11, 11,  0.5,  0)),
    "a replay without costs": (replayed, [used()],              (2, 1, 1,   22, 11, 11,  0.0,  2)),
    "a replay of unknown": (replayed, [paid(0.5, billing_effect="unknown")], (2, 0, 1, 22, 0, 11, 0.5, 0)),
    "reused": (reused, [paid(0.5)],                             (1, 0, 1,   11, 0, 11,   0.0,  0)),
    "reused, both costs": (reused, [used(cost=BOTH)],           (1, 0, 1,   11, 0, 11,   0.0,  0)),
    "reused without costs": (reused, [used()],                  (1, 0, 1,   11, 0, 11,   0.0,  1)),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_the_surface(name: str) -> None:
    happens, records, expected = TABLE[name]
    told.extend(records)
    found = happens()
    assert found.llm_usage_summary is not None
    assert tuple(float(getattr(found.llm_usage_summary, field)) for field in SUMS) == expected
    assert tuple(found.metadata[f"kitaru_llm_{field}_v1"] for field in SUMS) == expected


def test_an_execution_without_records_has_no_summary_and_no_keys() -> None:
    found = run(two)
    assert (found.llm_usage_summary, found.llm_usage_records, found.metadata) == (None, (), {})
    assert [call.metadata for call in found.checkpoints or ()] == [{}, {}]


def test_a_running_execution_shows_what_it_has_used() -> None:
    seen: list[Execution] = []

    @checkpoint
    def looks() -> None:
        record_usage(paid(0.5))
        seen.append(got(kitaru.current_execution_id()))

    flow(lambda: looks()).run().wait(PATIENCE)
    assert (seen[0].status, seen[0].metadata["kitaru_llm_display_cost_usd_v1"]) == ("running", 0.5)


# --- where a record stands --------------------------------------------------------------------------------------------


def test_a_record_stands_on_its_attempt_its_call_and_the_execution() -> None:
    told.append(paid(0.5, record_id="r", event_id="e", provider="acme"))
    failing.add(1)
    found = run(persistent)
    (call,) = found.checkpoints or ()
    assert [[record.attempt for record in attempt.llm_usage_records] for attempt in call.attempts] == [[1], [2]]
    assert found.llm_usage_records == call.llm_usage_records
    assert [record.checkpoint_id for record in call.llm_usage_records] == [call.call_id] * 2
    assert list(call.metadata["llm_usage_v1"]) == ["1/r/e", "2/r/e"]  # type: ignore[call-overload]
    second = call.metadata["llm_usage_v1"]["2/r/e"]  # type: ignore[index]
    assert (second["schema_version"], second["provider"], second["checkpoint_name"]) == (1, "acme", "ask_again")
    assert (second["billing_effect"], second["cache_status"]) == ("incurred", "executed")


@pytest.mark.parametrize(("happens", "status"), [(reused, "checkpoint_cache_hit"), (replayed, "replay_reused")])
def test_a_reused_record_says_how_and_keeps_what_it_cost(happens: Callable[[], Execution], status: str) -> None:
    told.append(paid(0.5, record_id="r"))
    call = (happens().checkpoints or ())[0]
    (record,) = call.llm_usage_records
    assert (call.original_call_id is not None, call.attempts) == (True, ())
    assert (record.billing_effect, record.cache_status) == ("reused_not_incurred", status)
    assert (record.checkpoint_id, record.record_id, float(record.cost.actual_cost_usd or 0)) == (call.call_id, "r", 0.5)


def test_a_call_takes_over_the_records_of_all_attempts() -> None:
    told.append(paid(0.5))
    failing.update({1, 2})
    first = run(persistent)
    handle = persistent.replay(first.exec_id, from_="ask_again")
    handle.wait(PATIENCE)
    assert got(handle.exec_id).llm_usage_summary.incurred_usage_record_count == 1  # type: ignore[union-attr]

    @flow(name="persistent")
    def more(word: str) -> str:
        return ask(ask_again(word))

    handle = more.replay(first.exec_id, from_="ask_again", overrides={})
    handle.wait(PATIENCE)
    again = more.replay(handle.exec_id, from_="ask")
    again.wait(PATIENCE)
    taken = (got(again.exec_id).checkpoints or ())[0]
    assert len(taken.llm_usage_records) == len((got(handle.exec_id).checkpoints or ())[0].llm_usage_records) == 1


def test_a_replay_of_a_replay_takes_the_records_over_again() -> None:
    told.append(paid(0.5))
    first = run(two)
    second = two.replay(first.exec_id, from_="ask_2")
    second.wait(PATIENCE)
    third = two.replay(second.exec_id, from_="ask_2")
    third.wait(PATIENCE)
    summary = got(third.exec_id).llm_usage_summary
    assert summary is not None
    assert (summary.incurred_usage_record_count, summary.reused_usage_record_count) == (1, 1)


def test_an_overridden_result_was_asked_of_nobody() -> None:
    told.append(paid(0.5))
    first = run(two)
    asked = (first.checkpoints or ())[0].call_id
    handle = two.replay(first.exec_id, from_="ask_2", overrides={f"checkpoint.{asked}": "because"})
    handle.wait(PATIENCE)
    assert got(handle.exec_id).llm_usage_summary.usage_record_count == 1  # type: ignore[union-attr]


def test_a_result_is_reused_though_its_original_was_deleted_since_or_erased(log: EventLog) -> None:
    told.append(paid(0.5))
    first, second = run(thrifty), run(thrifty)
    assert second.llm_usage_summary.reused_usage_record_count == 1  # type: ignore[union-attr]
    log.delete(first.exec_id)
    assert got(second.exec_id).llm_usage_records[0].billing_effect == "reused_not_incurred"  # type: ignore[index]
    assert run(thrifty).llm_usage_summary.incurred_usage_record_count == 1  # type: ignore[union-attr]


def test_many_records_far_before_a_result_are_found(log: EventLog) -> None:
    @checkpoint(cache=True)
    def chatty(word: str) -> str:
        for number in range(30):
            record_usage(paid(0.001, record_id=f"r{number}"))
            kitaru.log(**{f"k{number}": "x"})
        for number in range(40):
            kitaru.log(**{f"k{number}": "y"})
        return word

    @flow
    def talk(word: str) -> str:
        return chatty(word)

    assert run(talk).llm_usage_summary.incurred_usage_record_count == 30  # type: ignore[union-attr]
    assert run(talk).llm_usage_summary.reused_usage_record_count == 30  # type: ignore[union-attr]


# --- once, whatever happens -------------------------------------------------------------------------------------------


def test_the_same_identity_is_recorded_once_in_an_attempt() -> None:
    @checkpoint
    def repeats() -> None:
        for event_id in ("e1", "e1", "e2", None, None):
            record_usage(paid(0.5, record_id="r", event_id=event_id))

    assert run(flow(lambda word: repeats())).llm_usage_summary.usage_record_count == 3  # type: ignore[union-attr]


def test_records_without_an_id_are_each_their_own() -> None:
    told.append(paid(0.5))
    found = run(two)
    assert len({record.record_id for record in found.llm_usage_records or ()}) == 2


def test_threads_of_a_checkpoint_record_each_identity_once() -> None:
    from contextvars import copy_context

    @checkpoint
    def threaded() -> None:
        def body() -> None:
            for number in range(20):
                record_usage(paid(0.5, record_id=str(number)))

        threads = [threading.Thread(target=copy_context().run, args=(body,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    summary = run(flow(lambda word: threaded())).llm_usage_summary
    assert (summary.usage_record_count, float(summary.display_cost_usd)) == (20, 10.0)  # type: ignore[union-attr]


def test_an_isolated_checkpoint_records_through_its_runner() -> None:
    found = run(flow(lambda word: ask_apart(word)))
    (record,) = found.llm_usage_records or ()
    assert (record.record_id, record.attempt, record.checkpoint_name) == ("there", 1, "ask_apart")
    assert found.metadata["kitaru_llm_display_cost_usd_v1"] == 0.25


@pytest.mark.parametrize("every", [2, 3, 4, 5])
def test_nothing_doubles_when_the_store_commits_and_does_not_say_so(log: EventLog, every: int) -> None:
    """R4: done, but reported failed."""
    told.append(paid(0.5))
    failing.add(1)
    exec_id = queue(log, persistent, word="why")
    run_on(UnsureLog(log, every), persistent, exec_id)
    summary = got(exec_id).llm_usage_summary
    assert (summary.usage_record_count, float(summary.display_cost_usd), len(ran)) == (2, 1.0, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_crash_at_any_append_loses_and_doubles_no_record_of_a_recorded_call(log: EventLog, at: int, after: bool) -> None:
    told.append(paid(0.5))
    exec_id = queue(log, two, word="why")
    run_on(CrashingLog(log, at, after=after), two, exec_id)
    before = len(of_type(log, exec_id, LLMUsageRecorded))
    assert recovered(log, two, exec_id) == "why"
    found = got(exec_id)
    records = found.llm_usage_records or ()
    assert len(of_type(log, exec_id, LLMUsageRecorded)) == len(records) >= max(2, before)
    assert found.llm_usage_summary.usage_record_count == len(records) <= len(ran)  # type: ignore[union-attr]
    for call in found.checkpoints or ():
        assert len(call.attempts[-1].llm_usage_records) == 1  # what it ended with was paid once
    assert len({(record.checkpoint_id, record.attempt) for record in records}) == len(records)


def test_going_on_appends_no_record_anew(log: EventLog) -> None:
    told.append(paid(0.5))

    @flow
    def stops(word: str) -> str:
        asked = ask(word)
        kitaru.wait(name="gate", timeout=0)
        return asked

    exec_id = queue(log, stops, word="why")
    run_on(log, stops, exec_id)
    operations.answer(log, exec_id, "gate", None, by="Ada")
    assert recovered(log, stops, exec_id) == "why"
    assert types_of(log, exec_id).count("LLMUsageRecorded") == 1


def test_what_comes_after_its_attempt_ran_out_of_time_is_recorded_until_the_call_has_its_result() -> None:
    goes_on, told_late = threading.Event(), threading.Event()
    tries: list[int] = []

    @checkpoint(timeout=0.2, retries=1)
    def slow() -> str:
        tries.append(1)
        if len(tries) == 1:
            goes_on.wait(PATIENCE)
            record_usage(paid(0.5))
            told_late.set()
            return "late"
        goes_on.set()
        assert told_late.wait(PATIENCE)
        return "done"

    found = run(flow(lambda word: slow()))
    (call,) = found.checkpoints or ()
    assert [len(attempt.llm_usage_records) for attempt in call.attempts] == [1, 0]
    assert found.metadata["kitaru_llm_display_cost_usd_v1"] == 0.5


def test_usage_after_the_result_is_refused() -> None:
    from contextvars import Context, copy_context

    contexts: list[Context] = []

    @checkpoint
    def leaks() -> None:
        contexts.append(copy_context())

    @checkpoint
    def later() -> None:
        with pytest.raises(KitaruStateError, match="has its result"):
            contexts[0].run(record_usage, paid(0.5))

    @flow
    def body(word: str) -> None:
        leaks()
        later()

    assert run(body).llm_usage_summary is None


# --- what is given ----------------------------------------------------------------------------------------------------


def test_a_record_may_be_a_model() -> None:
    told.append(UsageRecord(record_id="r", usage=TokenUsage(input_tokens=3, output_tokens=4)))  # type: ignore[arg-type]
    (record,) = run(one).llm_usage_records or ()
    assert (record.record_id, record.usage.total_tokens, record.attempt) == ("r", 7, 1)


@pytest.mark.parametrize("raw", [{"x": object()}, {"x": float("nan")}, {"x": "y" * 9_000}, "text", [1], {"s": "\ud800"}])
def test_a_raw_usage_that_cannot_be_kept_is_left_out_and_the_record_stays(raw: object) -> None:
    told.append({"usage": {"input_tokens": 3, "raw": raw}})
    (record,) = run(one).llm_usage_records or ()
    assert (record.usage.raw, record.usage.input_tokens, len(record.warnings)) == (None, 3, 1)


def test_a_raw_usage_is_kept_as_it_was_said() -> None:
    told.append({"usage": {"raw": {"prompt_tokens": 3, "details": {"cached": [1, 2.5, None]}}}})
    (record,) = run(one).llm_usage_records or ()
    assert record.usage.raw == {"prompt_tokens": 3, "details": {"cached": [1, 2.5, None]}}


WRONG: dict[str, Any] = {
    "no dict": 5,
    "a field that is none": {"tokens": 3},
    "another surface": {"surface": "phone"},
    "a long name": {"model": "m" * 300},
    "an adapter that is none": {"adapter": "mine"},
    "a surrogate": {"model": "\ud800"},
    "a usage that is none": {"usage": 3},
    "too much text": {"warnings": ["w"], "cost": {"source_label": "x" * 20_000}},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_record_is_refused_and_says_what_is_wrong(name: str) -> None:
    @checkpoint
    def asks() -> str:
        with pytest.raises(KitaruUsageError) as refused:
            record_usage(WRONG[name])
        return str(refused.value)

    handle = flow(lambda: asks()).run()
    assert "usage record" in handle.wait(PATIENCE)
    assert got(handle.exec_id).llm_usage_summary is None


@pytest.mark.parametrize("key", ["llm_usage_v1", "llm_usage_summary_v1", "kitaru_llm_total_tokens_v1"])
def test_the_keys_of_usage_are_nobody_elses(key: str) -> None:
    @flow
    def logs() -> None:
        with pytest.raises(KitaruUsageError, match="kept for"):
            kitaru.log(**{key: 1})

    logs.run().wait(PATIENCE)
    with pytest.raises(KitaruUsageError, match="kept for"):
        logs.options(metadata={key: 1}).run()


def test_usage_belongs_to_a_checkpoint() -> None:
    with pytest.raises(KitaruContextError, match="outside a checkpoint"):
        record_usage(used())

    @flow
    def body() -> None:
        with pytest.raises(KitaruContextError, match="outside a checkpoint"):
            record_usage(used())

    body.run().wait(PATIENCE)
