"""The statistics grammar: what is taken, what is refused, and what a refusal says."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.analytics.grammar import (
    AGGREGATIONS,
    DIMENSIONS,
    GRANULARITIES,
    SOURCES,
    STATUSES_OF,
    Asked,
    ExecutionStatisticsGrouping,
    ExecutionStatisticsMetric,
    Grouping,
    Metric,
    Query,
    Selection,
    make_query,
)
from kitaru.domain.errors import KitaruUsageError
from kitaru.projections.listing import Condition

NOW = 1_700_000_000_000_000


def query(subject: str = "executions", selection: Selection | None = None, **asked: object) -> Query:
    return make_query(subject, "default", NOW, selection or {}, **asked)  # type: ignore[arg-type]


def refusal(subject: str = "executions", selection: Selection | None = None, **asked: object) -> str:
    with pytest.raises(KitaruUsageError) as caught:
        query(subject, selection, **asked)
    return caught.value.message


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("status", Grouping("status", "status")),
        ("flow", Grouping("flow", "flow_id")),
        ("stack", Grouping("stack", "stack_id")),
        ("tag", Grouping("tag", "tag")),
        ("time:hour", Grouping("time", "hour", "hour")),
        ("time:month", Grouping("time", "month", "month")),
        ("metadata:tier", Grouping("metadata", "tier", None, "tier")),
        ("metadata:a:b:c", Grouping("metadata", "a:b:c", None, "a:b:c")),
        ("metadata: ", Grouping("metadata", " ", None, " ")),
        ({"dimension": "status"}, Grouping("status", "status")),
        ({"dimension": "time", "time_granularity": "day", "name": "on"}, Grouping("time", "on", "day")),
        (ExecutionStatisticsGrouping("metadata", "Tier", metadata_key="tier"), Grouping("metadata", "Tier", None, "tier")),
        (ExecutionStatisticsGrouping("flow", name="which"), Grouping("flow", "which")),
    ],
)
def test_a_grouping_is_a_token_a_mapping_or_an_object(token: object, expected: Grouping) -> None:
    assert query(group_by=token).groupings == (expected,)
    assert query(group_by=[token]).groupings == (expected,)
    assert query(group_by=iter([token])).groupings == (expected,)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("n:duration:avg", Metric("n", "duration", "avg")),
        ("n:metadata:tier:sum", Metric("n", "metadata", "sum", "tier")),
        ("n:metadata:a:b:avg:sum", Metric("n", "metadata", "sum", "a:b:avg")),
        ("n:metadata:x'); DROP TABLE executions; --:max", Metric("n", "metadata", "max", "x'); DROP TABLE executions; --")),
        ({"name": "n", "source": "step_count", "aggregation": "p95"}, Metric("n", "step_count", "p95")),
        (ExecutionStatisticsMetric("n", "metadata", "min", "k"), Metric("n", "metadata", "min", "k")),
        ("n:llm_cost:sum", Metric("n", "metadata", "sum", "kitaru_llm_display_cost_usd_v1")),
        ("n:llm_tokens:avg", Metric("n", "metadata", "avg", "kitaru_llm_total_tokens_v1")),
    ],
)
def test_a_metric_is_a_spec_a_mapping_or_an_object(spec: object, expected: Metric) -> None:
    assert query(metrics=spec).metrics == (expected,)
    assert query(metrics=[spec]).metrics == (expected,)


def test_every_dimension_source_and_aggregation_of_every_subject_is_taken() -> None:
    for subject, dimensions in DIMENSIONS.items():
        for dimension in dimensions:
            tokens = {"time": [f"time:{each}" for each in GRANULARITIES], "metadata": ["metadata:k"]}
            for token in tokens.get(dimension, [dimension]):
                assert query(subject, group_by=token).groupings[0].dimension == dimension
    for subject, sources in SOURCES.items():
        for source in sources:
            for aggregation in AGGREGATIONS:
                spec = f"n:{source}:k:{aggregation}" if source == "metadata" else f"n:{source}:{aggregation}"
                assert query(subject, metrics=spec).metrics[0].aggregation == aggregation


@pytest.mark.parametrize(
    "token",
    [
        "", "Status", "status:", "status:x", "flow_id", "time", "time:", "time:year", "time:day:x", "metadata", "metadata:",
        ":", "day", "checkpoint", "tag:x", "\0", "status ", "metadata:\ud800", 3, None, b"status", {}, {"dimension": "time"},
        {"dimension": "status", "time_granularity": "day"}, {"dimension": "status", "metadata_key": "k"},
        {"dimension": "metadata"}, {"dimension": "metadata", "metadata_key": 3}, {"dimension": "status", "name": ""},
        {"dimension": "status", "name": 7}, {"dimension": "status", "title": "x"}, {"dimension": ["status"]}, {1: 2},
        ExecutionStatisticsGrouping("time:day"), ExecutionStatisticsMetric("n", "duration", "avg"), ["status"],
    ],
)  # fmt: skip
def test_a_grouping_that_is_none_is_refused_and_named_with_the_choices(token: object) -> None:
    message = refusal(group_by=[token])
    assert repr(token)[:60] in message or "{" in message
    assert any(
        choice in message
        for choice in ("status, flow, stack, tag", "hour, day, week, month", "only time", "metadata", "name of")
    )


@pytest.mark.parametrize(
    "spec",
    [
        "", "n", "n:duration", "n:duration:avg:x", "n:duration:median", "n:Duration:avg", "n:cost:avg", ":duration:avg",
        " :duration:avg", "n::avg", "n:metadata:avg", "n:metadata::avg", "n:metadata:k:", "n:metadata:k:mean", 3, None, {},
        {"name": "n", "source": "duration"}, {"name": "n", "source": "metadata", "aggregation": "avg"},
        {"name": "n", "source": "duration", "aggregation": "avg", "metadata_key": "k"},
        {"source": "duration", "aggregation": "avg"},
        {"name": "n", "source": "duration", "aggregation": "avg", "unit": "s"}, ExecutionStatisticsGrouping("status"),
        {"name": "n", "source": [], "aggregation": {}}, {"name": "x" * 257, "source": "duration", "aggregation": "avg"},
        "\ud800:duration:avg", "n:metadata:\udfff:avg",
    ],
)  # fmt: skip
def test_a_metric_that_is_none_is_refused_and_named_with_the_choices(spec: object) -> None:
    message = refusal(metrics=[spec])
    assert repr(spec)[:30] in message or "{" in message
    assert any(choice in message for choice in ("duration", "avg, sum, min, max", "<name>", "name", "key"))


def test_what_is_no_list_of_groupings_or_metrics_is_refused() -> None:
    for given_ in (3, b"status", 1.5, object()):
        assert "status, flow" in refusal(group_by=given_)
        assert "<name>:<source>:<aggregation>" in refusal(metrics=given_)


def test_a_time_is_grouped_by_once() -> None:
    assert "'time:hour'" in refusal(group_by=["time:day", "time:hour"])
    assert "once" in refusal(group_by=["time:day", {"dimension": "time", "time_granularity": "week", "name": "other"}])


def test_a_grouping_stands_there_once_whatever_it_is_called() -> None:
    assert "twice" in refusal(group_by=["status", "status"])
    assert "twice" in refusal(group_by=["metadata:a", {"dimension": "metadata", "metadata_key": "a", "name": "b"}])
    assert [each.name for each in query(group_by=["metadata:a", "metadata:b"]).groupings] == ["a", "b"]


def test_two_keys_of_one_name_are_refused_until_one_is_renamed() -> None:
    assert "'status'" in refusal(group_by=["status", "metadata:status"])
    renamed = {"dimension": "metadata", "metadata_key": "status", "name": "own status"}
    assert [each.name for each in query(group_by=["status", renamed]).groupings] == ["status", "own status"]


def test_names_of_metrics_are_unique() -> None:
    assert "'n'" in refusal(metrics=["n:duration:avg", "n:duration:sum"])


def test_there_may_be_no_more_groupings_and_metrics_than_a_limit() -> None:
    assert len(query(group_by=[f"metadata:{n}" for n in range(16)]).groupings) == 16
    assert "at most 16" in refusal(group_by=[f"metadata:{n}" for n in range(17)])
    assert len(query(metrics=[f"m{n}:duration:avg" for n in range(64)]).metrics) == 64
    assert "at most 64" in refusal(metrics=[f"m{n}:duration:avg" for n in range(65)])


@pytest.mark.parametrize("number", [0, 10_001, -1, True, 1.0, "5", None, 10**30])
def test_max_groups_is_a_whole_number_from_1_to_10000(number: object) -> None:
    assert "from 1 to 10000" in refusal(max_groups=number)


def test_the_bounds_of_max_groups_are_taken() -> None:
    assert [query(max_groups=number).max_groups for number in (1, 10_000)] == [1, 10_000]
    assert query().max_groups == 1000


@pytest.mark.parametrize(
    "zone",
    ["Mars/Olympus", "", "..", "../etc/passwd", "/etc/localtime", "America", "\0", "x" * 10_000, "\ud800", 3, None, "utc+2"],
)
def test_an_unknown_time_zone_is_refused_and_named(zone: object) -> None:
    message = refusal(timezone=zone)
    assert "time zone" in message
    assert "Europe/Berlin" in message


def test_known_time_zones_are_taken() -> None:
    assert [query(timezone=zone).timezone for zone in ("UTC", "Europe/Berlin", "Asia/Kathmandu")][1:] == [
        "Europe/Berlin",
        "Asia/Kathmandu",
    ]


def test_filters_are_those_of_a_list() -> None:
    selection: Selection = {
        "flow": "f", "stack": "local", "tags": ["a", "b"], "since": "7d", "until": "1d", "status": ["failed", "failed"],
        "where": {"tier": "pro", "score": {">=": 3}},
    }  # fmt: skip
    found = query(selection=selection).filters
    assert found.statuses == ("failed",)
    assert (found.flow, found.stack, found.tags) == ("f", "local", ("a", "b"))
    assert found.since == NOW - 7 * 86_400_000_000
    assert found.where == (Condition("tier", "=", "pro"), Condition("score", ">=", 3))


def test_since_after_until_is_refused_and_both_are_named() -> None:
    message = refusal(selection={"since": "2026-03-02", "until": "2026-03-01"})
    assert "2026-03-02" in message
    assert "2026-03-01" in message
    assert "7d" in refusal(selection={"since": "1d", "until": "7d"})


def test_an_operator_that_is_none_is_refused() -> None:
    assert "'~'" in refusal(selection={"where": {"k": {"~": 1}}})
    assert "True" in refusal(selection={"where": {"k": {">": True}}})


def test_statuses_are_those_of_the_subject() -> None:
    for subject, statuses in STATUSES_OF.items():
        assert query(subject, {"status": statuses}).filters.statuses == statuses
    assert "running, completed, failed, interrupted" in refusal("checkpoints", {"status": "waiting"})
    assert "running, waiting" in refusal("executions", {"status": "interrupted"})


def test_texts_that_no_store_can_hold_are_refused() -> None:
    for selection in ({"flow": "\ud800"}, {"tags": "\ud800"}, {"where": {"\ud800": 1}}, {"where": {"k": "\ud800"}}):
        assert "surrogate" in refusal(selection=selection)  # type: ignore[arg-type]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=9)
    | st.sampled_from(["status", "time:day", "metadata:", "n:duration:avg", "n:metadata:a:sum", "UTC", "dimension", "name"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text() | st.sampled_from(["dimension", "name"]), inner, max_size=4),
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(tuple(DIMENSIONS)), ANY, ANY, ANY, ANY, ANY)
def test_whatever_is_given_makes_a_query_or_a_usage_error(subject, group_by, metrics, zone, most, where) -> None:
    asked: Asked = {"group_by": group_by, "metrics": metrics, "timezone": zone, "max_groups": most}
    for one in ({name: value} for name, value in asked.items()):
        with suppress(KitaruUsageError):
            assert isinstance(query(subject, **one), Query)
    with suppress(KitaruUsageError):
        query(subject, {"where": where} if isinstance(where, dict) else {"flow": where})  # type: ignore[typeddict-item]
