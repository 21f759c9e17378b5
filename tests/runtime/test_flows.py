"""Starting flows: what `run` checks, records and gives back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import kitaru
from kitaru import flow
from kitaru.domain.errors import KitaruUsageError
from kitaru.domain.events import ExecutionStarted, RunnerClaimed
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import detail_of, events_of

gate = threading.Event()


@pytest.fixture
def closed_gate() -> Iterator[threading.Event]:
    """Flows that wait at the gate stay there until the test, or its end, opens it."""
    gate.clear()
    yield gate
    gate.set()


@dataclass
class Box:
    items: tuple[int, ...]
    label: str = "box"


@flow
def waits_at_gate() -> str:
    gate.wait(PATIENCE)
    return "through"


@flow
def raising() -> None:
    raise LookupError("from the body")


@flow
def adding(a: int, b: int = 2, *, c: int = 3) -> int:
    return a + b + c


@flow
def boxed(box: Box) -> Box:
    assert type(box) is Box
    return box


@flow
def with_option_like_inputs(tags: str, metadata: str, idempotency_key: str, max_tokens: str, self: str) -> str:
    return tags + metadata + idempotency_key + max_tokens + self


@flow
def with_any_inputs(**inputs: int) -> dict[str, int]:
    return inputs


def started_of(log: EventLog, exec_id: str) -> ExecutionStarted:
    first = events_of(log, exec_id)[0]
    assert isinstance(first, ExecutionStarted)
    return first


def test_run_returns_before_the_body_runs(closed_gate: threading.Event) -> None:
    handle = waits_at_gate.run()
    assert handle.status == "running"
    closed_gate.set()
    assert handle.wait(PATIENCE) == "through"


def test_run_never_raises_what_the_body_raises() -> None:
    handle = raising.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait(PATIENCE)


def test_the_start_and_the_claim_are_recorded_when_run_returns(log: EventLog, closed_gate: threading.Event) -> None:
    handle = waits_at_gate.run()
    assert [type(event) for event in events_of(log, handle.exec_id)[:2]] == [ExecutionStarted, RunnerClaimed]


def test_calling_a_flow_directly_is_refused_and_says_run() -> None:
    with pytest.raises(KitaruUsageError, match=r"adding\.run\("):
        adding(1)


def test_inputs_are_given_by_position_by_name_and_by_default() -> None:
    assert adding.run(1, c=10).wait(PATIENCE) == 13


@pytest.mark.parametrize(
    ("args", "inputs", "named"),
    [((), {}, "'a'"), ((1, 2, 3), {}, "too many"), ((1,), {"a": 2}, "'a'"), ((1,), {"d": 2}, "'d'")],
    ids=["missing", "too-many", "twice", "unknown"],
)
def test_inputs_that_do_not_bind_are_refused_by_name(args: Any, inputs: Any, named: str) -> None:
    with pytest.raises(KitaruUsageError, match=named):
        adding.run(*args, **inputs)


def test_an_input_that_does_not_encode_is_refused_by_name() -> None:
    with pytest.raises(KitaruUsageError, match="'b' does not encode"):
        adding.run(1, b=threading.Lock())


def test_an_input_past_the_payload_limit_is_refused_by_name() -> None:
    with pytest.raises(KitaruUsageError, match=r"the input 'b', of type bytes, takes 67,108,865 bytes") as raised:
        adding.run(1, b=bytes(64 * 1024 * 1024 + 1))
    assert raised.value.code == "value-too-large"


def test_a_refused_run_records_nothing(log: EventLog) -> None:
    with pytest.raises(KitaruUsageError):
        adding.run()
    assert log.last_position() == 0


def test_the_body_receives_decoded_inputs_and_not_the_callers_objects() -> None:
    given = Box((1, 2))
    handle = boxed.run(given)
    given.label = "changed"
    assert handle.wait(PATIENCE) == Box((1, 2))


@pytest.mark.parametrize("name", ["stack", "cache", "retries", "image", "exec_id", "from_", "overrides"])
def test_a_flow_with_a_reserved_parameter_is_refused_when_decorated(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def bad({name}): return 1", namespace)
    with pytest.raises(KitaruUsageError, match=f"'{name}'"):
        flow(namespace["bad"])


def test_a_flow_with_var_positional_parameters_is_refused_when_decorated() -> None:
    with pytest.raises(KitaruUsageError, match=r"\*args"):

        @flow
        def bad(*args: int) -> None: ...


def test_inputs_named_like_settings_never_collide_with_options() -> None:
    tuned = with_option_like_inputs.options(tags=["t"], metadata={"m": 1}, max_tokens=5)
    handle = tuned.run(tags="a", metadata="b", idempotency_key="c", max_tokens="d", self="e")
    assert handle.wait(PATIENCE) == "abcde"


def test_a_flow_with_var_keyword_parameters_gets_them_as_its_inputs() -> None:
    assert with_any_inputs.run(x=1, inputs=2).wait(PATIENCE) == {"x": 1, "inputs": 2}


def test_options_record_tags_and_metadata(log: EventLog) -> None:
    handle = adding.options(tags=["nightly", "b"], metadata={"tier": "enterprise"}).run(1)
    handle.wait(PATIENCE)
    detail = detail_of(log, handle.exec_id)
    assert (list(detail.tags), detail.metadata) == (["nightly", "b"], {"tier": "enterprise"})


def test_options_leave_the_flow_that_they_are_made_from_alone(log: EventLog) -> None:
    adding.options(tags=["nightly"])
    handle = adding.run(1)
    assert started_of(log, handle.exec_id).tags == ()


def test_options_given_twice_add_tags_and_keep_the_rest(log: EventLog) -> None:
    handle = adding.options(tags=["a"], metadata={"m": 1}).options(tags=["b"]).run(1)
    assert started_of(log, handle.exec_id).tags == ("a", "b")
    assert started_of(log, handle.exec_id).metadata is not None


@pytest.mark.parametrize(
    "options",
    [
        {"tags": "nightly"},
        {"tags": [""]},
        {"tags": ["a\nb"]},
        {"tags": [f"t{i}" for i in range(101)]},
        {"metadata": {"": 1}},
        {"metadata": {1: 1}},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 257},
        {"max_cost_usd": -1},
        {"max_cost_usd": float("nan")},
        {"max_cost_usd": float("inf")},
        {"max_cost_usd": "1"},
        {"max_cost_usd": True},
        {"max_tokens": -1},
        {"max_tokens": 1.5},
    ],
    ids=repr,
)
def test_wrong_options_are_refused(options: Any) -> None:
    with pytest.raises(KitaruUsageError):
        adding.options(**options)


def test_metadata_that_does_not_encode_is_refused_at_run() -> None:
    with pytest.raises(KitaruUsageError, match="cannot be recorded"):
        adding.options(metadata={"lock": threading.Lock()}).run(1)


@pytest.mark.parametrize(
    "given",
    [{"retries": -1}, {"retries": True}, {"cache": 5}, {"cache": ""}, {"stack": "moon"}, {"stack": []}, {"image": 5}],
    ids=repr,
)
def test_wrong_run_options_are_refused(given: Any) -> None:
    with pytest.raises(KitaruUsageError):
        adding.run(1, **given)


def test_what_was_left_to_a_worker_is_not_run_by_who_waits_for_it() -> None:
    handle = adding.run(1, stack="worker")
    with pytest.raises(TimeoutError):
        handle.wait(0.2)
    assert handle.status == "running"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 257, 5])
def test_a_wrong_flow_name_is_refused(name: Any) -> None:
    with pytest.raises(KitaruUsageError):

        @flow(name=name)
        def named() -> None: ...


@pytest.mark.parametrize("thing", [5, int, "text", print])
def test_only_a_function_becomes_a_flow(thing: Any) -> None:
    with pytest.raises(KitaruUsageError, match="function"):
        flow(thing)


def test_the_flow_id_is_the_same_for_every_run_of_a_name(log: EventLog) -> None:
    first, second = adding.run(1), adding.run(2)
    assert started_of(log, first.exec_id).flow_id == started_of(log, second.exec_id).flow_id


def test_flows_of_two_names_have_two_flow_ids(log: EventLog) -> None:
    first, second = adding.run(1), raising.run()
    assert started_of(log, first.exec_id).flow_id != started_of(log, second.exec_id).flow_id


def test_the_project_is_recorded_and_parts_flow_ids(log: EventLog) -> None:
    first = adding.run(1)
    kitaru.configure(project="other")
    second = adding.run(1)
    assert started_of(log, second.exec_id).project == "other"
    assert started_of(log, first.exec_id).flow_id != started_of(log, second.exec_id).flow_id
