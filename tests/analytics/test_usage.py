"""The sums of LLM usage are metadata keys like any other: grouped by, measured, filtered by, on every kind of store."""

from __future__ import annotations

import pytest

from kitaru.domain import events as e
from kitaru.domain.usage import FLAT_KEYS, UsageFigures
from kitaru.store.log import EventLog
from kitaru.testing.events import append
from tests.analytics.counting import Place, counts, measured, raw
from tests.analytics.filling import payload, run

COST, TOKENS = "kitaru_llm_display_cost_usd_v1", "kitaru_llm_total_tokens_v1"


def spend(log: EventLog, *costs: int, flow: str = "flow", tags: tuple[str, ...] = ()) -> None:
    """An execution with a record for each cost, in units of 10^-10 USD."""
    head = run(log, flow, seconds=None, tags=tags, metadata={"tier": "pro"})
    opened = e.AttemptStarted(at=1, call=1, attempt=1, invocation_id="c", name="c", input_digest="00")
    records = [
        e.LLMUsageRecorded(
            at=1, call=1, attempt=1, record_id=f"r{number}", record=payload({}),
            figures=UsageFigures(actual_cost=cost, total_tokens=10, input_tokens=7, output_tokens=3),
        )
        for number, cost in enumerate(costs)
    ]  # fmt: skip
    append(log, head, opened, *records)


def filled(log: EventLog) -> None:
    spend(log, 10**9, 2 * 10**9, tags=("x",))
    spend(log, 1, flow="g")
    run(log)


def test_costs_and_tokens_are_measured(place: Place) -> None:
    filled(place.log)
    specs = ("c:llm_cost:sum", "t:llm_tokens:sum", "i:llm_input_tokens:max", "o:llm_output_tokens:min", "n:llm_cost:count")
    assert measured(place, *specs) == (0.3000000001, 30, 14, 3, 2)
    assert measured(place, "c:llm_cost:p50", "a:llm_tokens:avg", flow="flow") == (0.3, 20.0)
    assert {g.keys[0]: g.metrics for g in raw(place, "tag", "c:llm_cost:sum")} == {"x": (0.3,), None: (1e-10,)}


def test_the_sums_are_grouped_by(place: Place) -> None:
    filled(place.log)
    assert counts(place, f"metadata:{TOKENS}") == {20: 1, 10: 1, None: 1}
    assert counts(place, f"metadata:{COST}") == {0.3: 1, 1e-10: 1, None: 1}
    assert counts(place, ["tag", f"metadata:{TOKENS}"]) == {("x", 20): 1, (None, 10): 1, (None, None): 1}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({COST: 0.3}, 1), ({COST: {">": 0.1}}, 1), ({COST: {"<=": 0.3}}, 2), ({COST: None}, 1), ({COST: {"!=": None}}, 2),
        ({COST: {"!=": 0.3}}, 2), ({COST: "0.3"}, 0), ({COST: {"!=": "x"}}, 3), ({TOKENS: 20}, 1), ({TOKENS: {"<": 20}}, 1),
        ({TOKENS: 20.5}, 0), ({TOKENS: {">=": 10}, "tier": "pro"}, 2), ({TOKENS: True}, 0),
    ],
)  # fmt: skip
def test_where_compares_the_sums(place: Place, where: dict[str, object], found: int) -> None:
    filled(place.log)
    assert counts(place, where=where) == {(): found}


def test_calls_and_records_know_their_executions_sums(place: Place) -> None:
    filled(place.log)
    assert counts(place, f"metadata:{TOKENS}", subject="checkpoints") == {20: 1, 10: 1}
    assert counts(place, subject="llm_usage", where={COST: {">": 0.1}}) == {(): 2}


@pytest.mark.parametrize("key", FLAT_KEYS)
def test_every_sum_is_a_key(place: Place, key: str) -> None:
    filled(place.log)
    values = counts(place, f"metadata:{key}")
    assert values[None] == 1
    assert sum(values.values()) == 3
    assert measured(place, f"m:metadata:{key}:count") == (2,)
