"""`list` against a plain filter over what was recorded, and against `get`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru.client import KitaruClient
from kitaru.compose import close_logs, open_log
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.projections.listing import sources
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog, Head
from kitaru.testing.events import fold, new_id
from tests.client.recording import append, completed, failure, opened, started, value, wait
from tests.projections.streams import Stream, streams

TIERS = (None, "pro", "free", 1, 1.0, "1", True, False, 2.5, 3, {"deep": 1}, [1])
ENDS = ("running", "waiting", "completed", "failed", "cancelled")
OPERATORS = {
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
}  # fmt: skip


def ended(log: EventLog, head: Head, how: str) -> None:
    if how == "waiting":
        append(log, head, wait(1))
    elif how == "completed":
        append(log, head, e.ExecutionCompleted(at=9, output=value(1)))
    elif how == "failed":
        append(log, head, failure())
    elif how == "cancelled":
        log.execute(head.exec_id, c.Cancel("me", head.state.epoch), 9)


Known = list[dict[str, object]]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[KitaruClient, Known]:
    """A store of 90 executions, and what a plain list knows of them, newest first."""
    location = str(tmp_path_factory.mktemp("filled") / "store")
    log = open_log(StoreChoice(location, "of the test"))
    known: Known = []
    for i in range(90):
        tags = tuple(tag for tag, every in (("two", 2), ("three", 3), ("rare", 29)) if i % every == 0)
        made: dict[str, object] = {
            "flow": f"f{i % 4}",
            "status": ENDS[i * 7 % 5],
            "stack": "worker" if i % 11 == 0 else "local",
            "tags": tags,
            "at": (i - 5 * (i % 3)) * 1_000_000,
            "tier": TIERS[i % len(TIERS)] if i % 5 else "missing",
            "project": "other" if i % 13 == 0 else "default",
        }
        tier = {} if made["tier"] == "missing" else {"tier": made["tier"]}
        head = started(
            log, str(made["flow"]), at=int(str(made["at"])), tags=tags, metadata=tier, stack=str(made["stack"]),
            project=str(made["project"]),
        )  # fmt: skip
        made["id"], made["flow_id"] = head.exec_id, None
        ended(log, head, str(made["status"]))
        known.insert(0, made)
    close_logs()
    return KitaruClient(location), known


def kind(value: object) -> str | None:
    return {bool: "b", int: "n", float: "n", str: "t"}.get(type(value))


def passes(made: dict[str, object], operator: str, wanted: object) -> bool:
    """A comparison of metadata, as documented: like with like, and what is missing or no scalar is None."""
    has = None if made["tier"] == "missing" or kind(made["tier"]) is None else made["tier"]
    if operator in ("=", "!="):
        return (kind(has) == kind(wanted) and has == wanted) == (operator == "=")
    return has is not None and kind(has) == kind(wanted) and OPERATORS[operator](has, wanted)


TEXTS_AND_NUMBERS = st.sampled_from(["pro", "free", "1", "z", 1, 2.5, 3, 0])
CONDITIONS = st.one_of(
    st.tuples(st.sampled_from(["=", "!="]), st.one_of(TEXTS_AND_NUMBERS, st.sampled_from([True, False, None]))),
    st.tuples(st.sampled_from([">", ">=", "<", "<="]), TEXTS_AND_NUMBERS),
)
MAYBE = st.none()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flow=MAYBE | st.sampled_from(["f0", "f1", "f3", "nope"]),
    status=MAYBE | st.sampled_from(ENDS) | st.lists(st.sampled_from(ENDS), max_size=3),
    stack=MAYBE | st.sampled_from(["local", "worker", "nope"]),
    tags=MAYBE | st.lists(st.sampled_from(["two", "three", "rare", "nope"]), max_size=3),
    since=MAYBE | st.integers(-5, 95),
    until=MAYBE | st.integers(-5, 95),
    conditions=st.dictionaries(st.sampled_from(["tier"]), CONDITIONS, max_size=1),
    limit=MAYBE | st.integers(0, 100),
    few=st.sampled_from([0, 10, 2000]),
)
def test_any_filters_list_what_a_plain_filter_lists(
    filled, monkeypatch, flow, status, stack, tags, since, until, conditions, limit, few
) -> None:
    client, known = filled
    monkeypatch.setattr(sources, "_FEW", few)
    if since is not None and until is not None and since > until:
        since, until = until, since
    found = client.executions.list(
        flow, status=status, stack=stack, tags=tags, limit=limit,
        since=None if since is None else datetime.fromtimestamp(since, UTC),
        until=None if until is None else datetime.fromtimestamp(until, UTC),
        where={key: {operator: wanted} for key, (operator, wanted) in conditions.items()},
    )  # fmt: skip
    statuses = ENDS if not status else [status] if isinstance(status, str) else status
    wanted_ids = [
        made["id"]
        for made in known
        if made["project"] == "default"
        and flow in (None, made["flow"])
        and made["status"] in statuses
        and stack in (None, made["stack"])
        and set(tags or ()) <= set(made["tags"])
        and (since is None or made["at"] >= since * 1_000_000)
        and (until is None or made["at"] < until * 1_000_000)
        and all(passes(made, *condition) for condition in conditions.values())
    ]
    assert [execution.exec_id for execution in found] == wanted_ids[:limit]


def test_pages_follow_one_another(filled: tuple[KitaruClient, Known]) -> None:
    client, known = filled
    pages = [client.executions.list(page=page, size=25) for page in (1, 2, 3, 4, 5)]
    ids = [execution.exec_id for page in pages for execution in page]
    assert ids == [made["id"] for made in known if made["project"] == "default"]
    assert [len(page) for page in pages[:2]] == [25, 25]


def test_a_flow_may_be_named_by_its_id(filled: tuple[KitaruClient, Known]) -> None:
    client, _ = filled
    by_name = client.executions.list("f1")
    assert client.executions.list(by_name[0].flow_id) == by_name


def test_another_project_is_another_list(filled: tuple[KitaruClient, Known]) -> None:
    client, known = filled
    other = KitaruClient(client.store.location, project="other").executions.list()
    assert [execution.exec_id for execution in other] == [made["id"] for made in known if made["project"] == "other"]


def test_equality_is_the_short_form(filled: tuple[KitaruClient, Known]) -> None:
    client, _ = filled
    assert client.executions.list(where={"tier": "pro"}) == client.executions.list(where={"tier": {"==": "pro"}}) != []


def test_an_age_is_a_time(client: KitaruClient, log: EventLog) -> None:
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    started(log, at=now - int(timedelta(days=8) / timedelta(microseconds=1)))
    young = started(log, at=now)
    assert [execution.exec_id for execution in client.executions.list(since="7d")] == [young.exec_id]


def test_an_iso_text_is_in_utc_unless_it_says_otherwise(client: KitaruClient, log: EventLog) -> None:
    started(log, at=3_600_000_000)
    assert client.executions.list(since="1970-01-01 01:00:00") != []
    assert client.executions.list(since="1970-01-01T01:00:00-01:00") == []


@pytest.mark.parametrize(
    "bad",
    [
        {"status": "done"}, {"status": 3}, {"since": "soon"}, {"until": 7}, {"since": "1d", "until": "2d"}, {"limit": -1},
        {"limit": True}, {"page": 0}, {"size": 0}, {"tags": [1]}, {"flow": 7}, {"where": {"a": {"~": 1}}},
        {"where": {"a": [1]}}, {"where": {"a": {">": True}}},
        {"where": {"a": {">": None}}}, {"where": {"a": float("nan")}}, {"where": {"a": 2**70}}, {"where": {1: 1}},
        {"where": "a"}, {"where": ["a"]}, {"where": {f"k{n}": n for n in range(65)}},
        {"tags": [f"t{n}" for n in range(101)]},
    ],
)  # fmt: skip
def test_bad_filters_are_usage_errors(client: KitaruClient, log: EventLog, bad: dict[str, object]) -> None:
    with pytest.raises(KitaruUsageError):
        client.executions.list(**bad)  # type: ignore[arg-type]


def test_text_from_anywhere_is_only_a_value(filled: tuple[KitaruClient, Known]) -> None:
    """R25: nothing that looks like SQL does anything."""
    client, known = filled
    for text in ("'; DROP TABLE executions; --", '" OR 1=1', "%", "_"):
        assert client.executions.list(text) == []
        assert client.executions.list(tags=text, stack=text, where={text: text}) == []
    assert len(client.executions.list()) == sum(made["project"] == "default" for made in known)


def test_a_list_has_no_parts_but_true_counts(client: KitaruClient, log: EventLog) -> None:
    append(log, started(log), opened(1), completed(1))
    (found,) = client.executions.list()
    assert (found.checkpoints, found.artifacts, found.waits) == (None, None, None)
    assert (found.checkpoint_count, found.artifact_count) == (1, 1)


def test_a_store_that_was_never_written_lists_nothing_and_is_not_made(client: KitaruClient) -> None:
    import os

    assert client.executions.list() == []
    assert not os.path.exists(client.store.location)


def test_the_latest_is_whole(client: KitaruClient, log: EventLog) -> None:
    started(log, "a")
    newest = append(log, started(log, "a"), opened(1))
    started(log, "b")
    found = client.executions.latest("a")
    assert found.exec_id == newest.exec_id
    assert found.checkpoints is not None


def test_no_latest_is_a_lookup_error(client: KitaruClient, log: EventLog) -> None:
    with pytest.raises(LookupError):
        client.executions.latest("nope")
    with pytest.raises(KitaruNotFoundError, match="given as the store"):
        client.executions.latest(status="failed")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=streams())
def test_a_list_and_get_never_disagree(log: EventLog, client: KitaruClient, stream: Stream) -> None:
    """R17, seen from outside: the row of an execution says what the fold of its events says."""
    first = stream[0]
    assert isinstance(first, e.ExecutionStarted)
    head, _ = log.execute(new_id(), c.Start(first, None), first.at)
    for event in stream[1:]:
        if isinstance(event, e.PayloadErased):
            head = head._replace(digest=log.erase(head.exec_id, event.by, event.at).digest, state=fold(head.state, [event]))
        else:
            head = append(log, head, event)
    whole = client.executions.get(head.exec_id)
    (listed,) = client.executions.list(limit=1)
    parts = dict.fromkeys(("checkpoints", "artifacts", "waits", "llm_usage_records"), True)
    parts |= {"frozen_execution_spec": {"model_registry"}}
    assert listed.model_dump(exclude=parts) == whole.model_dump(exclude=parts)
    assert (whole.checkpoint_count, whole.artifact_count) == (len(whole.checkpoints or ()), len(whole.artifacts or ()))
