"""R20 on executions: whatever is run, retried, reused and replayed, the sums are those of a plain ledger of the calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru import KitaruClient, checkpoint, flow
from kitaru.client import Execution
from kitaru.runtime.usage import record_usage
from tests.domain.usage_oracle import exact, sums
from tests.runtime.crashing import PATIENCE

TOKENS = st.sampled_from([None, 0, 1, 250, -3])
AMOUNTS = st.sampled_from([None, 0, 0.1, 0.0000000001, 1.25, float("nan")])
RECORDS = st.fixed_dictionaries(
    {
        "record_id": st.sampled_from("ab"),
        "event_id": st.sampled_from([None, "e"]),
        "billing_effect": st.sampled_from(["incurred", "incurred", "unknown"]),
        "usage": st.fixed_dictionaries({"input_tokens": TOKENS, "output_tokens": TOKENS, "total_tokens": TOKENS}),
        "cost": st.fixed_dictionaries({"actual_cost_usd": AMOUNTS, "estimated_cost_usd": AMOUNTS}),
    }
)
CALLS = st.fixed_dictionaries(
    {"tries": st.lists(st.lists(RECORDS, max_size=3), min_size=1, max_size=3), "cached": st.booleans()}
)
PLANS = st.lists(CALLS, min_size=1, max_size=4)

plan: list[dict[str, Any]] = []
attempts: dict[int, int] = {}
ledger: list[dict[str, Any]] = []
"""What the present execution has told, each with its call and attempt."""


def work(place: int, number: int) -> int:
    tries = plan[place]["tries"]
    attempts[place] = attempt = attempts.get(place, 0) + 1
    for record in tries[attempt - 1]:
        record_usage(record)
        ledger.append({**record, "call": place + 1, "attempt": attempt})
    if attempt < len(tries):
        raise ConnectionError(place)
    return place


@checkpoint(retries=2)
def step(place: int, number: int) -> int:
    return work(place, number)


@checkpoint(retries=2, cache=True)
def step_cached(place: int, number: int) -> int:
    return work(place, number)


@flow(name="planned")
def planned(number: int) -> list[int]:
    return [(step_cached if call["cached"] else step)(place, number, id=f"call_{place}") for place, call in enumerate(plan)]


def reused(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**record, "billing_effect": "reused_not_incurred"} for record in records]


def ended(handle: Any) -> Execution:
    handle.wait(PATIENCE)
    with KitaruClient() as client:
        whole = client.executions.get(handle.exec_id)
        (listed,) = client.executions.list(limit=1)
    assert (listed.exec_id, listed.metadata) == (whole.exec_id, whole.metadata)
    return whole


def agrees(found: Execution, records: list[dict[str, Any]]) -> None:
    """The execution says what the ledger does."""
    if not records:
        assert (found.llm_usage_summary, found.metadata) == (None, {})
        return
    assert found.llm_usage_summary is not None
    expected = sums(records)
    assert {name: exact(getattr(found.llm_usage_summary, name)) for name in expected} == {
        name: exact(value) for name, value in expected.items()
    }
    assert found.llm_usage_summary.usage_record_count == len(found.llm_usage_records or ())


seed = 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PLANS, st.integers(0, 3))
def test_the_sums_of_executions_are_those_of_the_ledger(store: Path, calls: list[dict[str, Any]], chosen: int) -> None:
    global seed
    seed += 1  # inputs of its own: nothing is reused from the example before
    plan[:] = calls
    attempts.clear()
    ledger.clear()
    first = ended(planned.run(seed))
    told = list(ledger)
    agrees(first, told)

    attempts.clear()
    ledger.clear()
    second = ended(planned.run(seed))
    cached = {place + 1 for place, call in enumerate(calls) if call["cached"]}
    agrees(second, reused([record for record in told if record["call"] in cached]) + ledger)
    assert not any(record["call"] in cached for record in ledger)

    attempts.clear()
    ledger.clear()
    place = chosen % len(calls)
    third = ended(planned.replay(first.exec_id, from_=f"call_{place}"))
    before = [record for record in told if record["call"] <= place]
    agrees(third, reused(before) + ledger)
    assert {record["call"] for record in ledger} <= {number + 1 for number in range(place, len(calls))}
