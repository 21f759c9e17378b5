"""R20: LLM usage adds up the same in any order and any split, and its sides are all of it. The rules for one record."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kitaru.domain.usage import (
    COSTS,
    FLAT_KEYS,
    MAX_SUM,
    RESERVED_KEYS,
    Totals,
    UsageFigures,
    UsageRecord,
    UsageSeen,
    dollars,
    figures_of,
    flat,
    normalised,
    record_key,
    seen_with,
    summarised,
    totals_of,
)
from tests.domain import usage_oracle as oracle

WRONG = [math.nan, math.inf, -math.inf, -1, -0.5, True, "many", None, 10**13, [1], Decimal("NaN"), Decimal("-Infinity")]
TOKENS = st.one_of(st.integers(0, 10**12), st.integers(0, 50), st.sampled_from(WRONG), st.just(1.5))
AMOUNTS = st.one_of(
    st.floats(0, 1e6),
    st.decimals(0, 1_000_000, places=12),
    st.integers(0, 1000),
    st.sampled_from([*WRONG, "0.1", "1e-7", 0.1, 1e-11, -0.0]),
)
RECORDS = st.fixed_dictionaries(
    {
        "call": st.integers(1, 2),
        "attempt": st.integers(1, 3),
        "record_id": st.sampled_from("abc"),
        "event_id": st.sampled_from([None, "e1", "e2"]),
        "billing_effect": st.sampled_from(["incurred", "reused_not_incurred", "unknown"]),
        "usage": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(["input_tokens", "output_tokens", "total_tokens"], TOKENS)
        ),
        "cost": st.fixed_dictionaries({}, optional=dict.fromkeys(["actual_cost_usd", "estimated_cost_usd"], AMOUNTS)),
    }
)


def record_of(given: dict[str, Any]) -> UsageRecord:
    """The record that is kept of what an adapter says."""
    return UsageRecord.model_validate(normalised({name: value for name, value in given.items() if name != "call"}))


def added(records: list[dict[str, Any]]) -> Totals:
    """The sums over records, as they are recorded: of each identity the first."""
    distinct = {(r["call"], r["attempt"], r["record_id"], r["event_id"]): r for r in reversed(records)}
    totals = Totals()
    for record in distinct.values():
        totals = totals.plus(totals_of(figures_of(record_of(record))))
    return totals


def shown(totals: Totals) -> dict[str, Any]:
    values = {name: dollars(value) if name in COSTS else value for name, value in totals._asdict().items()}
    return {name: oracle.exact(value) for name, value in values.items()}


@settings(max_examples=2_000, deadline=None)
@given(st.lists(RECORDS, max_size=12))
def test_the_sums_are_those_of_the_oracle(records: list[dict[str, Any]]) -> None:
    assert shown(added(records)) == {name: oracle.exact(value) for name, value in oracle.sums(records).items()}


@settings(max_examples=2_000, deadline=None)
@given(st.lists(RECORDS, max_size=12), st.randoms(use_true_random=False), st.lists(st.integers(0, 12), max_size=3))
def test_any_order_and_any_split_give_the_same_sums(records: list[dict[str, Any]], chance: Any, cuts: list[int]) -> None:
    each = [totals_of(figures_of(record_of(record))) for record in records]
    together = Totals()
    for one in each:
        together = together.plus(one)
    chance.shuffle(each)
    parts, before = [], 0
    for cut in [*sorted(cuts), len(each)]:
        part = Totals()
        for one in each[before:cut]:
            part = part.plus(one)
        parts.append(part)
        before = max(before, cut)
    for order in permutations(parts) if len(parts) <= 3 else [parts]:
        split = Totals()
        for part in order:
            split = part.plus(split)
        assert split == together


@settings(max_examples=2_000, deadline=None)
@given(st.lists(RECORDS, max_size=12))
def test_incurred_reused_and_unknown_are_all_of_it(records: list[dict[str, Any]]) -> None:
    def of(*effects: str) -> Totals:
        totals = Totals()
        for record in records:
            if record["billing_effect"] in effects:
                totals = totals.plus(totals_of(figures_of(record_of(record))))
        return totals

    whole = of("incurred", "reused_not_incurred", "unknown")
    incurred, reused, unknown = of("incurred"), of("reused_not_incurred"), of("unknown")
    assert incurred.plus(reused).plus(unknown) == whole
    for name in ("usage_record_count", "total_tokens", "input_tokens", "output_tokens"):
        assert getattr(whole, f"incurred_{name}") == getattr(incurred, name)
        assert getattr(whole, f"reused_{name}") == getattr(reused, name)
    for name in COSTS:
        assert getattr(reused, name) == 0
        assert getattr(whole, name) == getattr(incurred, name) + getattr(unknown, name)


def test_a_sum_of_tenths_is_exact() -> None:
    tenths = [totals_of(UsageFigures(actual_cost=figures_of(record_of(cost(actual_cost_usd=0.1))).actual_cost))] * 10
    totals = Totals()
    for tenth in tenths:
        totals = totals.plus(tenth)
    assert dollars(totals.display_cost_usd) == 1


def test_a_sum_stops_at_the_largest_that_a_store_can_add_to() -> None:
    nearly = Totals(total_tokens=MAX_SUM - 1)
    assert nearly.plus(Totals(total_tokens=10**12)).total_tokens == MAX_SUM


# --- one record -------------------------------------------------------------------------------------------------------


def used(**usage: object) -> dict[str, Any]:
    return {"record_id": "r", "usage": usage}


def cost(**amounts: object) -> dict[str, Any]:
    return {"record_id": "r", "cost": amounts}


@pytest.mark.parametrize(
    ("usage", "total"),
    [
        ({"input_tokens": 3, "output_tokens": 4}, 7),
        ({"input_tokens": 3}, 3),
        ({"output_tokens": 4}, 4),
        ({"input_tokens": 3, "output_tokens": 4, "total_tokens": 9}, 9),
        ({"input_tokens": 3, "output_tokens": 4, "total_tokens": -9}, 7),
        ({"cached_input_tokens": 3}, None),
        ({}, None),
    ],
)
def test_a_total_is_the_sum_where_nobody_says(usage: dict[str, object], total: int | None) -> None:
    assert record_of(used(**usage)).usage.total_tokens == total


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "12", math.nan, 10**13])
def test_a_count_that_cannot_be_is_left_out_with_a_warning(wrong: object) -> None:
    record = record_of(used(input_tokens=wrong, output_tokens=2))
    assert (record.usage.input_tokens, record.usage.total_tokens) == (None, 2)
    assert len(record.warnings) == 1
    assert record.warnings[0].startswith("input_tokens ")


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.01, True, "free", 1_000_001, [1]])
def test_a_cost_that_cannot_be_is_left_out_with_a_warning(wrong: object) -> None:
    record = record_of(cost(actual_cost_usd=wrong, estimated_cost_usd=0.5))
    assert (record.cost.actual_cost_usd, record.cost.estimated_cost_usd) == (None, Decimal("0.5"))
    assert [warning.partition(" ")[0] for warning in record.warnings] == ["actual_cost_usd"]


@pytest.mark.parametrize("given", [0.1, "0.1", Decimal("0.10000000001")])
def test_a_cost_has_ten_places(given: object) -> None:
    assert figures_of(record_of(cost(actual_cost_usd=given))).actual_cost == 1_000_000_000


def test_a_cost_of_nothing_is_a_cost() -> None:
    figures = figures_of(record_of(cost(actual_cost_usd=-0.0, estimated_cost_usd=3)))
    assert (figures.display_cost, totals_of(figures).records_without_cost_count) == (0, 0)


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, "fast", True])
def test_a_latency_that_cannot_be_is_left_out_with_a_warning(wrong: object) -> None:
    record = record_of({"record_id": "r", "latency_ms": wrong})
    assert (record.latency_ms, len(record.warnings)) == (None, 1)


def test_warnings_are_few_and_short() -> None:
    record = record_of({"record_id": "r", "warnings": [f"{n} {'x' * 1000}" for n in range(50)]})
    assert (len(record.warnings), max(map(len, record.warnings))) == (10, 256)


@pytest.mark.parametrize(
    "wrong",
    [{"surface": "phone"}, {"billing_effect": "free"}, {"adapter": 5}, {"status": "odd"}, {"model": "m" * 257}, {"more": 1},
     {"usage": {"tokens": 1}}, {"cost": {"source": "guess"}}, {"cost": {"currency": "EUR"}}, {"schema_version": 2}],
)  # fmt: skip
def test_what_is_no_field_of_a_record_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        record_of({"record_id": "r", **wrong})


def test_the_key_of_a_record_is_its_identity() -> None:
    record = record_of({"record_id": "r", "attempt": 2})
    assert record_key(record) == "2/r"
    assert record_key(record.model_copy(update={"event_id": "e"})) == "2/r/e"


# --- the summary ------------------------------------------------------------------------------------------------------


def test_the_flat_keys_are_the_sixteen_of_the_surface() -> None:
    names = """usage_record_count incurred_usage_record_count reused_usage_record_count total_tokens incurred_total_tokens
        reused_total_tokens actual_cost_usd estimated_cost_usd display_cost_usd records_without_cost_count input_tokens
        output_tokens incurred_input_tokens incurred_output_tokens reused_input_tokens reused_output_tokens"""
    assert list(FLAT_KEYS) == [f"kitaru_llm_{name}_v1" for name in names.split()]
    assert {*FLAT_KEYS, "llm_usage_summary_v1", "llm_usage_v1"} == RESERVED_KEYS


def test_flat_values_are_numbers_in_dollars_and_whole_tokens() -> None:
    found = flat(Totals(total_tokens=7, display_cost_usd=12_345))
    assert (found["kitaru_llm_total_tokens_v1"], found["kitaru_llm_display_cost_usd_v1"]) == (7, 0.0000012345)
    assert all(type(found[key]) is (float if FLAT_KEYS[key] in COSTS else int) for key in found)


def test_a_summary_names_what_was_seen_once_in_order() -> None:
    seen = UsageSeen()
    for model, warning in (("b", "odd"), ("a", "odd"), ("b", "dear"), (None, "odd")):
        seen = seen_with(seen, UsageFigures(model=model, warnings=(warning,)))
    summary = summarised(Totals(usage_record_count=4), seen)
    assert (summary.adapters, summary.models, summary.warnings) == (("kitaru.llm",), ("b", "a"), ("odd", "dear"))
    assert summary.model_dump(mode="json")["display_cost_usd"] == 0.0
