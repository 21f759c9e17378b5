"""Starting flows: what `run` checks, records and gives back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.errors import KitaruFeatureNotAvailableError, KitaruUsageError
from kitaru.domain.events import ExecutionStarted, RunnerClaimed
from kitaru.runtime.options import ImageSettings
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import detail_of, events_of, types_of

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
    with pytest.raises(KitaruUsageError, match=r"'b' does not encode.*bytes"):
        adding.run(1, b=bytes(65 * 1024 * 1024))


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
    ("given", "error"),
    [
        ({"retries": -1}, KitaruUsageError),
        ({"retries": True}, KitaruUsageError),
        ({"cache": 5}, KitaruUsageError),
        ({"cache": ""}, KitaruUsageError),
        ({"stack": "moon"}, KitaruUsageError),
        ({"stack": "worker"}, KitaruFeatureNotAvailableError),
        ({"image": 5}, KitaruUsageError),
    ],
    ids=repr,
)
def test_wrong_run_options_are_refused(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        adding.run(1, **given)


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


# --- what is set closest wins ------------------------------------------------------------------------------------------


@flow(retries=1)
def with_retries() -> None: ...


@pytest.mark.parametrize(
    ("configured", "tried", "given", "expected"),
    [(None, adding, {}, 0), (3, adding, {}, 3), (3, with_retries, {}, 1), (3, with_retries, {"retries": 0}, 0)],
    ids=["nothing", "configure", "flow", "run"],
)
def test_the_closest_retries_win(log: EventLog, configured: int | None, tried: Any, given: Any, expected: int) -> None:
    kitaru.configure(retries=configured)
    inputs = {"a": 1} if tried is adding else {}
    handle = tried.run(**inputs, **given)
    assert started_of(log, handle.exec_id).options.retries == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("0", False), ("v7", "v7"), ("", None)], ids=["true", "zero", "text", "empty"]
)
def test_the_environments_cache_is_the_flows_default(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, text: str, expected: Any
) -> None:
    monkeypatch.setenv("KITARU_CACHE", text)
    assert started_of(log, adding.run(1).exec_id).options.default_cache == expected


def test_configures_cache_wins_over_the_environments(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_CACHE", "v7")
    kitaru.configure(cache=False)
    assert started_of(log, adding.run(1).exec_id).options.default_cache is False


# --- images ------------------------------------------------------------------------------------------------------------


def image_flow(name: str, **options: Any) -> Any:
    @flow(name=name, **options)
    def pictured() -> int:
        return 1

    return pictured


def test_an_image_is_recorded_and_warned_about_once(log: EventLog) -> None:
    pictured = image_flow("pictured once", image="python:3.13")
    with pytest.warns(UserWarning, match="pictured once") as caught:
        handle = pictured.run()
        pictured.run()
    assert len(caught) == 1
    assert started_of(log, handle.exec_id).options.image == "python:3.13"


def test_the_warning_about_an_image_points_at_the_callers_line() -> None:
    pictured = image_flow("pictured line", image="python:3.13")
    with pytest.warns(UserWarning) as caught:
        pictured.run()
    assert caught[0].filename == __file__


def test_image_settings_are_recorded(log: EventLog) -> None:
    pictured = image_flow("pictured settings")
    with pytest.warns(UserWarning):
        handle = pictured.run(image=ImageSettings(base_image="python:3.13"))
    assert "python:3.13" in (started_of(log, handle.exec_id).options.image or "")


# --- what a flow returns -----------------------------------------------------------------------------------------------


@checkpoint
def boxes() -> Box:
    return Box((1, 2))


received: list[object] = []


@flow
def receiving() -> Box:
    received.append(boxes())
    return Box((3,))


def test_the_flow_receives_the_decoded_value_the_first_time_too() -> None:
    made = boxes.fn()
    receiving.run().wait(PATIENCE)
    assert received.pop() == made


def test_handles_give_the_flows_value_with_its_exact_type() -> None:
    value = receiving.run().wait(PATIENCE)
    assert (type(value), type(value.items)) == (Box, tuple)


class Subclass(dict[str, int]):
    pass


@checkpoint
def sub() -> Subclass:
    return Subclass(a=1)


@flow
def through_a_subclass() -> list[object]:
    first = sub()
    return [type(first).__name__, first is sub.fn]


def test_a_value_comes_back_as_its_subclass() -> None:
    assert through_a_subclass.run().wait(PATIENCE)[0] == "Subclass"


shared: list[list[int]] = [[1]]


@checkpoint
def gives_shared() -> list[int]:
    return shared[0]


@flow
def changes_what_it_gets() -> list[int]:
    gives_shared().append(2)
    return gives_shared()


def test_what_the_flow_receives_is_not_the_object_that_the_body_returned() -> None:
    assert changes_what_it_gets.run().wait(PATIENCE) == [1]


@flow
def returns_a_lock() -> object:
    return {"items": [1, threading.Lock()]}


def test_a_return_value_that_does_not_encode_fails_the_execution_and_names_type_and_path() -> None:
    with pytest.raises(kitaru.KitaruUserCodeError, match=r"_thread\.lock at \$\.items\[1\]"):
        returns_a_lock.run().wait(PATIENCE)


@flow
def returns_bytes(size: int) -> bytes:
    return bytes(size)


@pytest.mark.parametrize("size", [64 * 1024 * 1024 + 1, 1_000_000_000], ids=["over-64MiB", "1GB"])
def test_a_return_value_past_the_limit_fails_the_execution_and_names_its_size(size: int) -> None:
    with pytest.raises(kitaru.KitaruUserCodeError, match=f"{size:,} bytes"):
        returns_bytes.run(size).wait(PATIENCE)


def test_a_value_of_a_gigabyte_is_refused_without_encoding_it() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(kitaru.KitaruUserCodeError):
        returns_bytes.run(1_000_000_000).wait(PATIENCE)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 300_000_000


@checkpoint
def one_more(value: int) -> int:
    return value + 1


@flow
def loads_a_plain_value() -> int:
    return one_more(1).load()  # type: ignore[attr-defined]


def test_load_on_a_plain_value_gets_the_note_that_calls_return_values() -> None:
    with pytest.raises(kitaru.KitaruUserCodeError) as raised:
        loads_a_plain_value.run().wait(PATIENCE)
    cause = raised.value.__cause__
    assert isinstance(cause, AttributeError)
    assert "plain value" in "".join(getattr(cause, "__notes__", []))


def test_nothing_is_recorded_behind_the_end(log: EventLog) -> None:
    handle = adding.run(1)
    handle.wait(PATIENCE)
    assert types_of(log, handle.exec_id) == ["ExecutionCompleted"]
