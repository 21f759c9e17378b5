"""`client.executions.statistics`: the models, bad input, and that it never disagrees with `list`."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from random import Random
from statistics import fmean

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru.client import (
    ExecutionStatistics,
    ExecutionStatisticsGrouping,
    ExecutionStatisticsMetric,
    KitaruClient,
)
from kitaru.domain import events as e
from kitaru.domain.errors import KitaruUsageError
from kitaru.store.log import EventLog
from tests.client.recording import append, failure, started, value, wait

TIERS = ("pro", "free", 1, 2.5, True, None, [1])
ENDS = ("completed", "failed", "cancelled", "running", "waiting")


def fill(log: EventLog, count: int) -> None:
    """Executions of any kind, around a New Year."""
    rng = Random(7)
    for number in range(count):
        at = 1_767_225_600_000_000 + rng.randrange(-(10**12), 10**12)
        head = started(
            log, f"f{rng.randrange(3)}", at=at, tags=tuple(rng.sample(("a", "b", "c"), rng.randrange(3))),
            stack=rng.choice(("local", "worker")), metadata={"tier": rng.choice(TIERS), "n": number},
        )  # fmt: skip
        at += rng.randrange(10**9)
        match rng.choice(ENDS):
            case "completed":
                append(log, head, e.ExecutionCompleted(at=at, output=value(1)))
            case "failed":
                append(log, head, failure(at=at))
            case "cancelled":
                append(log, head, e.ExecutionCancelled(at=at))
            case "waiting":
                append(log, head, wait(1, at=at))
            case _:
                pass


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "flow": st.sampled_from(["f0", "f1", "nope"]),
        "status": st.sampled_from(ENDS) | st.lists(st.sampled_from(ENDS), max_size=3),
        "stack": st.sampled_from(["local", "worker"]),
        "tags": st.lists(st.sampled_from("ab"), max_size=2),
        "since": st.datetimes(datetime(2025, 12, 20), datetime(2026, 1, 2)),
        "until": st.datetimes(datetime(2026, 1, 2), datetime(2026, 1, 12)),
        "where": st.dictionaries(st.just("tier"), st.sampled_from(["pro", 1, True, {">": 1}, {"!=": "free"}])),
    },
)


@pytest.fixture
def filled(log: EventLog, client: KitaruClient) -> KitaruClient:
    fill(log, 120)
    return client


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILTERS)
def test_statistics_never_disagree_with_a_list(filled: KitaruClient, filters: dict[str, object]) -> None:
    listed = filled.executions.list(**filters)  # type: ignore[arg-type]
    found = filled.executions.statistics(
        group_by=["status", "flow"],
        metrics=["avg:duration:avg", "n:metadata:n:sum"],
        **filters,  # type: ignore[arg-type]
    )
    counted = {(group.keys["status"], group.keys["flow_id"]): group for group in found.groups}
    assert {keys: group.execution_count for keys, group in counted.items()} == Counter(
        (each.status.value, each.flow_id) for each in listed
    )
    for (status, flow_id), group in counted.items():
        same = [each for each in listed if (each.status, each.flow_id) == (status, flow_id)]
        durations = [each.duration for each in same if each.duration is not None]
        assert group.metrics["avg"] == (pytest.approx(fmean(durations), rel=1e-9) if durations else None)
        assert group.metrics["n"] == sum(int(str(each.metadata["n"])) for each in same)
    tags = filled.executions.statistics(group_by="tag", **filters).groups  # type: ignore[arg-type]
    wanted = Counter(tag for each in listed for tag in each.tags or (None,))
    assert {group.keys["tag"]: group.execution_count for group in tags} == wanted


def test_days_are_those_of_the_listed_starts(filled: KitaruClient) -> None:
    zone = timedelta(hours=5, minutes=45)
    days = filled.executions.statistics(group_by="time:day", timezone="Asia/Kathmandu").groups
    wanted = Counter((each.started_at + zone).date().isoformat() for each in filled.executions.list())
    assert [(group.keys["day"], group.execution_count) for group in days] == sorted(wanted.items())


def test_what_was_just_committed_is_counted(log: EventLog, client: KitaruClient) -> None:
    for number in range(1, 6):
        head = started(log, metadata={"n": number})
        (group,) = client.executions.statistics(metrics="n:metadata:n:max").groups
        assert (group.execution_count, group.metrics) == (number, {"n": number})
        append(log, head, e.ExecutionCompleted(at=2_000_000, output=value(1)))
        assert client.executions.statistics(group_by="status").groups[0].keys == {"status": "completed"}


def test_a_deleted_execution_is_not_counted(log: EventLog, client: KitaruClient) -> None:
    head = append(log, started(log), e.ExecutionCompleted(at=2_000_000, output=value(1)))
    assert client.executions.statistics().groups[0].execution_count == 1
    client.executions.delete(head.exec_id)
    assert client.executions.statistics().groups[0].execution_count == 0


def test_a_store_that_is_not_there_counts_nothing(client: KitaruClient) -> None:
    (group,) = client.executions.statistics(metrics=["a:duration:avg", "c:duration:count"]).groups
    assert (group.keys, group.execution_count, group.metrics) == ({}, 0, {"a": None, "c": 0})
    assert client.executions.statistics(group_by="status") == ExecutionStatistics(groups=(), truncated=False)


def test_objects_and_mappings_ask_what_tokens_ask(filled: KitaruClient) -> None:
    spelled = filled.executions.statistics(
        group_by=[ExecutionStatisticsGrouping("status"), {"dimension": "metadata", "metadata_key": "tier", "name": "t"}],
        metrics=[
            ExecutionStatisticsMetric("n", "metadata", "sum", "n"),
            {"name": "d", "source": "duration", "aggregation": "p90"},
        ],
    )
    asked = filled.executions.statistics(
        group_by=["status", "metadata:tier"], metrics=["n:metadata:n:sum", "d:duration:p90"]
    )
    assert [(group.execution_count, group.metrics) for group in spelled.groups] == [
        (group.execution_count, group.metrics) for group in asked.groups
    ]
    assert list(spelled.groups[0].keys) == ["status", "t"]


def test_keys_keep_their_kinds_in_the_model_and_in_json(log: EventLog, client: KitaruClient) -> None:
    for plain in (1, 1.0, "1", True, False, 2.5, None, "", 2**53 + 1):
        started(log, metadata={"k": plain})
    found = client.executions.statistics(group_by="metadata:k")
    kinds = [(type(group.keys["k"]), group.keys["k"], group.execution_count) for group in found.groups]
    assert kinds == [
        (int, 1, 2), (bool, False, 1), (bool, True, 1), (float, 2.5, 1), (int, 2**53 + 1, 1), (str, "", 1), (str, "1", 1),
        (type(None), None, 1),
    ]  # fmt: skip
    shown = json.loads(found.model_dump_json())
    assert [group["keys"]["k"] for group in shown["groups"]] == [1, False, True, 2.5, 2**53 + 1, "", "1", None]
    assert (shown["group_count"], shown["truncated"]) == (8, False)


def test_a_sum_past_what_a_float_holds_is_json_all_the_same(log: EventLog, client: KitaruClient) -> None:
    for _ in range(2):
        started(log, metadata={"k": 1.7e308})
    found = client.executions.statistics(metrics=["s:metadata:k:sum", "m:metadata:k:max"])
    assert json.loads(found.model_dump_json(), parse_constant=pytest.fail)["groups"][0]["metrics"]["m"] == 1.7e308


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"group_by": "bogus"}, "time:hour|day|week|month"), ({"group_by": "time:year"}, "'time:year'"),
        ({"group_by": ["status", "status"]}, "'status'"), ({"metrics": "n:duration:mean"}, "p95"),
        ({"metrics": "n:latency:avg"}, "duration, active_duration"), ({"timezone": "Mars/Olympus"}, "'Mars/Olympus'"),
        ({"max_groups": 0}, "10000"), ({"max_groups": 10_001}, "10000"), ({"status": "done"}, "running, waiting"),
        ({"since": "1d", "until": "2d"}, "1d"), ({"where": {"k": {"~": 1}}}, "'~'"), ({"where": {"k": [1]}}, "'k'"),
        ({"where": "k"}, "'k'"), ({"where": {f"k{n}": n for n in range(65)}}, "at most 64"),
        ({"tags": [f"t{n}" for n in range(101)]}, "at most 100"),
        ({"flow": 7}, "flow"), ({"tags": [1]}, "tags"), ({"since": "soon"}, "'soon'"),
    ],
)  # fmt: skip
def test_bad_input_is_a_usage_error_that_names_it(client: KitaruClient, asked: dict[str, object], named: str) -> None:
    with pytest.raises(KitaruUsageError) as caught:
        client.executions.statistics(**asked)  # type: ignore[arg-type]
    assert named in caught.value.message


def test_a_key_that_is_sql_is_only_a_key(log: EventLog, client: KitaruClient) -> None:
    for key in ("x'); DROP TABLE executions; --", 'k" FROM executions --', "$1", "?", "{p}", "\0", "a:b", " "):
        started(log, metadata={key: 3})
        (group,) = client.executions.statistics(
            group_by=f"metadata:{key}", metrics=f"n:metadata:{key}:sum", where={key: 3}
        ).groups
        assert (group.keys, group.execution_count, group.metrics) == ({key: 3}, 1, {"n": 3})
    assert client.executions.statistics().groups[0].execution_count == 8


TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(["\0", "\ud800", "x" * 100_000, "%", "'; --", '"'])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, TEXTS, TEXTS, st.none() | st.integers() | st.floats() | st.booleans() | TEXTS)
def test_whatever_is_asked_has_an_answer_or_a_typed_error(filled: KitaruClient, key, name, tag, plain) -> None:
    """R24."""
    for asked in (
        {"group_by": f"metadata:{key}"}, {"group_by": key}, {"group_by": {"dimension": "status", "name": name}},
        {"metrics": f"{name}:metadata:{key}:sum"}, {"flow": name}, {"stack": name}, {"tags": tag}, {"since": name},
        {"where": {key: plain}}, {"where": {key: {">=": plain}}}, {"timezone": name}, {"max_groups": plain},
        {"status": name},
    ):  # fmt: skip
        try:
            found = filled.executions.statistics(**asked)  # type: ignore[arg-type]
        except KitaruUsageError:
            continue
        assert isinstance(found, ExecutionStatistics)


def test_a_hundred_thousand_groups_are_cut_to_what_was_asked_for(log: EventLog, client: KitaruClient) -> None:
    for number in range(1_000):
        started(log, tags=tuple(f"{number * 100 + place:06}" for place in range(100)))
    found = client.executions.statistics(group_by="tag", max_groups=10_000)
    assert [group.keys["tag"] for group in found.groups] == [f"{place:06}" for place in range(10_000)]
    assert (found.truncated, found.group_count) == (True, 10_000)
