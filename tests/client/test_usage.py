"""LLM usage in lists: filtered by like any metadata key, the same before and after an upgrade, an erasure, a retention."""

from __future__ import annotations

import operator
import sqlite3
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru.client import KitaruClient
from kitaru.client.history import read_detail
from kitaru.client.snapshots import from_detail
from kitaru.client.upkeep import Kept, collect
from kitaru.compose import close_logs, open_log, verify_store
from kitaru.domain import events as e
from kitaru.domain.payload import Payload
from kitaru.domain.usage import COSTS, FLAT_KEYS, UsageFigures
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog, Head
from tests.client.recording import append, completed, failure, opened, started, value

TOKENS, COST = "kitaru_llm_total_tokens_v1", "kitaru_llm_display_cost_usd_v1"
OPERATORS = {
    "=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


def used(number: int = 1, of: int = 1, **figures: Any) -> e.LLMUsageRecorded:
    told = UsageFigures(**{"model": "m", "total_tokens": 10, "actual_cost": 5 * 10**9, **figures})
    record = {"record_id": f"r{number}", "attempt": 1, "usage": {"total_tokens": told.total_tokens}}
    return e.LLMUsageRecorded(at=2, call=of, attempt=1, record_id=f"r{number}", record=value(record), figures=told)


def asked(log: EventLog, *records: e.LLMUsageRecorded) -> Head:
    """A finished execution of one call with these records."""
    return append(log, started(log), opened(1), *records, completed(1), e.ExecutionCompleted(at=9, output=value(1)))


def found(client: KitaruClient, **where: object) -> list[str]:
    return [execution.exec_id for execution in client.executions.list(where=where)]


def test_executions_are_found_by_their_sums(log: EventLog, client: KitaruClient) -> None:
    none = append(log, started(log), opened(1), completed(1)).exec_id
    little = asked(log, used(total_tokens=5, actual_cost=None)).exec_id
    much = asked(log, used(1), used(2)).exec_id
    assert found(client, **{TOKENS: {">": 10}}) == [much]
    assert found(client, **{TOKENS: {"<=": 20}}) == [much, little]
    assert found(client, **{COST: 1}) == found(client, **{COST: 1.0}) == [much]
    assert found(client, **{COST: {"!=": 1}}) == [little, none]
    assert found(client, **{COST: None}) == [none]
    assert found(client, **{COST: {"!=": None}}) == [much, little]
    assert found(client, **{TOKENS: "20"}) == found(client, **{TOKENS: True}) == found(client, **{TOKENS: {">": "a"}}) == []
    assert found(client, **{TOKENS: {"!=": "20"}}) == [much, little, none]
    assert found(client, **{TOKENS: {">": 1, "<": 10}}) == [little]
    assert found(client, kitaru_llm_records_without_cost_count_v1={">=": 1}) == [little]


NUMBERS = st.one_of(
    st.integers(-3, 60), st.floats(-1, 60), st.sampled_from([0.1, 0.3, 0.30000000000000004, 1e-10, 2.5e-10, 1e300, 2**62])
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3 * 10**9)), max_size=3), max_size=5),
    st.sampled_from(list(FLAT_KEYS)),
    st.sampled_from(list(OPERATORS)),
    NUMBERS,
)
def test_a_condition_finds_what_is_shown(
    tmp_path_factory: pytest.TempPathFactory, plans: list[list[tuple[int, int]]], key: str, sign: str, limit: float
) -> None:
    choice = StoreChoice(str(tmp_path_factory.mktemp("store")), "of the test")
    log = open_log(choice)
    for plan in plans:
        asked(log, *(used(n, total_tokens=tokens, actual_cost=cost) for n, (tokens, cost) in enumerate(plan)))
    with KitaruClient(choice.location) as client:
        shown = {execution.exec_id: execution.metadata.get(key) for execution in client.executions.list()}
        expected = [
            exec_id
            for exec_id, number in shown.items()
            if (sign == "!=" if number is None else OPERATORS[sign](number, limit))
        ]
        assert found(client, **{key: {sign: limit}}) == expected
    close_logs()


def test_a_list_costs_the_same_statements_with_usage(log: EventLog, client: KitaruClient) -> None:
    def statements() -> int:
        seen: list[str] = []
        reader = client.executions._access.find_reader()
        assert reader is not None
        with reader._reading() as connection:
            connection.set_trace_callback(seen.append)
        client.executions.list()
        return len(seen)

    for _ in range(3):
        append(log, started(log), opened(1), completed(1))
    before = statements()
    for _ in range(3):
        asked(log, *(used(number) for number in range(50)))
    assert statements() == before > 0


def test_the_first_read_of_a_store_of_an_earlier_version_folds_its_usage(
    log: EventLog, client: KitaruClient, choice: StoreChoice
) -> None:
    exec_id = asked(log, used()).exec_id
    close_logs()
    database = sqlite3.connect(f"{choice.location}/kitaru.db")
    database.execute("DROP TABLE llm_usage")
    database.execute("DELETE FROM meta WHERE key = 'projection:llm_usage'")
    database.commit()
    database.close()
    (listed,) = client.executions.list()
    assert (listed.exec_id, listed.metadata[TOKENS]) == (exec_id, 10)
    assert verify_store(choice).problems == ()


def test_sums_stay_when_payloads_are_erased_and_when_histories_are_dropped(
    log: EventLog, client: KitaruClient, choice: StoreChoice
) -> None:
    erased, dropped = asked(log, used(1), used(2)), asked(log, used(1, warnings=("odd",)))
    log.erase(erased.exec_id, "me", 10)
    whole = client.executions.get(erased.exec_id)
    assert (whole.llm_usage_records, whole.metadata[TOKENS]) == ((), 20)
    before = {found.exec_id: (found.metadata, found.llm_usage_summary) for found in client.executions.list()}
    collect(choice, Kept(2**60))
    after = {found.exec_id: (found.metadata, found.llm_usage_summary) for found in client.executions.list()}
    assert after == before
    assert [event.type for event in client.executions.events(dropped.exec_id)] == ["HistoryDropped"]
    assert client.executions.get(dropped.exec_id).llm_usage_summary == before[dropped.exec_id][1]
    open_log(choice).rebuild()  # type: ignore[attr-defined]
    assert {found.exec_id: (found.metadata, found.llm_usage_summary) for found in client.executions.list()} == before


def test_a_deleted_execution_leaves_no_sums(log: EventLog, client: KitaruClient, choice: StoreChoice) -> None:
    log.delete(asked(log, used()).exec_id)
    database = sqlite3.connect(f"{choice.location}/kitaru.db")
    assert database.execute("SELECT count(*) FROM llm_usage").fetchall() == [(0,)]
    database.close()
    assert found(client, **{TOKENS: {">": 0}}) == []


def test_an_execution_as_it_was_has_the_usage_of_then(log: EventLog, client: KitaruClient) -> None:
    head = asked(log, used(1), used(2))
    then = client.executions.get(head.exec_id, at=4)
    assert (then.metadata[TOKENS], len(then.llm_usage_records or ())) == (10, 1)
    assert client.executions.get(head.exec_id, at=3).llm_usage_summary is None


def test_each_record_is_read_and_built_once(log: EventLog, client: KitaruClient) -> None:
    """An execution, its calls and its attempts show the same records: 10,000 of them are not built three times."""
    first = (opened(1), used(1), used(2), failure(1), opened(1).model_copy(update={"attempt": 2}))
    second = used(3).model_copy(update={"attempt": 2})
    head = append(log, started(log), *first, second, completed(1, attempt=2), opened(2, "other"), used(4, of=2))
    read: list[str] = []
    detail = read_detail(client._access, head.exec_id)  # pyright: ignore[reportPrivateUsage]

    def load(payload: Payload) -> bytes | None:
        read.append(payload.digest)
        return payload.data

    execution = from_detail(head.exec_id, detail, load, None)
    assert [record.record_id for record in execution.llm_usage_records or ()] == ["r1", "r2", "r3", "r4"]
    recorded = [used(number).record.digest for number in range(1, 5)]
    assert [read.count(digest) for digest in recorded] == [1, 1, 1, 1]
    calls = execution.checkpoints or ()
    attempts = [attempt for call in calls for attempt in call.attempts]
    assert [len(attempt.llm_usage_records) for attempt in attempts] == [2, 1, 1]
    for shown in (calls, attempts):
        each = [record for part in shown for record in part.llm_usage_records]
        assert [id(record) for record in each] == [id(record) for record in execution.llm_usage_records or ()]


def test_the_json_of_an_execution_holds_numbers(log: EventLog, client: KitaruClient) -> None:
    plain = client.executions.get(asked(log, used()).exec_id).model_dump(mode="json", by_alias=True)
    summary = plain["llm_usage_summary"]
    assert summary == plain["metadata"]["llm_usage_summary_v1"]
    assert all(type(summary[name]) is (float if name in COSTS else int) for name in FLAT_KEYS.values())
    assert plain["llm_usage_records"][0] == plain["checkpoints"][0]["metadata"]["llm_usage_v1"]["1/r1"]
