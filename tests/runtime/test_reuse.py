"""Results used again by other executions: when a recorded call may serve, and when it may not."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.events import CheckpointCompleted, CheckpointReused
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE, copy_of, prefixes, recovered
from tests.runtime.records import detail_of, events_of, of_type, types_of

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@checkpoint(cache=True)
def cached(x: object = 1) -> object:
    ran.append(x)
    return {"x": x}


@checkpoint(cache="v1")
def versioned(x: object = 1) -> object:
    ran.append(x)
    return x


@checkpoint(cache=False)
def never(x: object = 1) -> object:
    ran.append(x)
    return x


@checkpoint
def undecided(x: object = 1) -> object:
    ran.append(x)
    return x


def twice(body: Any, **options: Any) -> Any:
    """Run a flow with this body twice; the second handle."""
    tried = flow(body)
    tried.run(**options).wait(PATIENCE)
    handle = tried.run(**options)
    handle.wait(PATIENCE)
    return handle


def runs_when_made_twice(body: Any, **options: Any) -> int:
    twice(body, **options)
    return len(ran)


def test_without_cache_a_result_is_not_used_by_another_execution() -> None:
    assert runs_when_made_twice(lambda: undecided()) == 2


def test_with_cache_it_is() -> None:
    assert runs_when_made_twice(lambda: cached()) == 1


def test_a_reused_call_gives_the_recorded_value() -> None:
    assert twice(lambda: cached(5)).get() == {"x": 5}


def test_a_reused_call_is_completed_without_an_attempt_and_names_its_original(log: EventLog) -> None:
    tried = flow(lambda: cached())
    first = tried.run()
    first.wait(PATIENCE)
    second = tried.run()
    second.wait(PATIENCE)
    (call,) = detail_of(log, second.exec_id).calls.values()
    assert (call.status, call.attempts, call.original_call_id) == ("completed", [], f"{first.exec_id}.c1")


def test_a_reused_call_is_found_by_recovery_like_any_other(log: EventLog) -> None:
    tried = flow(lambda: [cached(), undecided(2)])
    tried.run().wait(PATIENCE)
    handle = tried.run()
    handle.wait(PATIENCE)
    left = next(e for e in prefixes(events_of(log, handle.exec_id)) if isinstance(e[-1], CheckpointReused))
    ran.clear()
    assert recovered(log, tried, copy_of(log, left)) == [{"x": 1}, 2]
    assert ran == [2]


def test_a_reused_call_can_be_reused_from_its_original_again(log: EventLog) -> None:
    tried = flow(lambda: cached())
    handles = [tried.run() for _ in range(1)]
    handles[0].wait(PATIENCE)
    for _ in range(2):
        handle = tried.run()
        handle.wait(PATIENCE)
        (event,) = of_type(log, handle.exec_id, CheckpointReused)
        assert event.original_call_id == f"{handles[0].exec_id}.c1"


def test_submitted_and_mapped_calls_are_reused() -> None:
    assert runs_when_made_twice(lambda: [cached.submit(1).result(), *cached.map([2, 3]).result()]) == 3


def test_async_calls_are_reused() -> None:
    @checkpoint(cache=True)
    async def acached() -> int:
        ran.append(1)
        return 1

    async def body() -> int:
        return await acached()

    assert runs_when_made_twice(body) == 1


def test_in_one_execution_a_call_may_reuse_an_earlier_one() -> None:
    @flow
    def body() -> list[object]:
        return [cached(), cached()]

    assert body.run().wait(PATIENCE) == [{"x": 1}, {"x": 1}]
    assert len(ran) == 1


def test_a_failed_call_is_not_reused() -> None:
    @checkpoint(cache=True)
    def fails() -> None:
        ran.append(1)
        raise ValueError

    tried = flow(lambda: fails())
    for _ in range(2):
        with pytest.raises(kitaru.KitaruUserCodeError):
            tried.run().wait(PATIENCE)
    assert len(ran) == 2


def test_a_call_of_a_deleted_execution_is_not_reused(log: EventLog) -> None:
    tried = flow(lambda: cached())
    first = tried.run()
    first.wait(PATIENCE)
    log.delete(first.exec_id)
    assert tried.run().wait(PATIENCE) == {"x": 1}
    assert len(ran) == 2


def test_a_call_whose_payload_was_erased_is_not_reused(log: EventLog) -> None:
    tried = flow(lambda: cached())
    first = tried.run()
    first.wait(PATIENCE)
    log.erase(first.exec_id, "me", 1)
    assert tried.run().wait(PATIENCE) == {"x": 1}
    assert len(ran) == 2


# --- who says so -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "on_flow", "configured", "environment", "given", "runs"),
    [
        (undecided, None, None, None, None, 2),
        (undecided, None, None, "true", None, 1),
        (undecided, None, False, "true", None, 2),
        (undecided, None, True, None, None, 1),
        (undecided, False, True, "true", None, 2),
        (undecided, True, False, None, None, 1),
        (undecided, "v9", None, None, None, 1),
        (never, True, True, "true", None, 2),
        (cached, False, False, "false", None, 1),
        (never, None, None, None, True, 1),
        (cached, None, None, None, False, 2),
    ],
)
def test_the_closest_setting_decides(
    monkeypatch: pytest.MonkeyPatch, step: Any, on_flow: Any, configured: Any, environment: Any, given: Any, runs: int
) -> None:
    if environment is not None:
        monkeypatch.setenv("KITARU_CACHE", environment)
    kitaru.configure(cache=configured)
    tried = flow(cache=on_flow)(lambda: step())
    for _ in range(2):
        tried.run(**({} if given is None else {"cache": given})).wait(PATIENCE)
    assert len(ran) == runs


# --- the key -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(1, 2), (1, 1.0), (1, True), ("a", b"a"), ([1], (1,))])
def test_other_inputs_are_another_call(first: object, second: object) -> None:
    for value in (first, second):
        flow(lambda value=value: cached(value)).run().wait(PATIENCE)
    assert len(ran) == 2


def test_an_argument_that_does_not_encode_is_never_reused() -> None:
    @checkpoint(cache=True)
    def takes(lock: object) -> int:
        ran.append(1)
        return 1

    assert runs_when_made_twice(lambda: takes(threading.Lock())) == 2


def test_a_value_by_position_and_by_name_is_the_same_call() -> None:
    for body in (lambda: cached(1), lambda: cached(x=1), lambda: cached()):
        flow(body).run().wait(PATIENCE)
    assert len(ran) == 1


SOURCE = """
from kitaru import checkpoint
ran = []

def make(closed):
    @checkpoint(cache={cache!r})
    def step(x{default}){annotation}:
        ran.append(x)
        return [x, closed, {text!r}]
    return step

step = make({closed!r})
"""


@pytest.fixture
def module_of(tmp_path: Path) -> Iterator[Any]:
    """Writes and imports one module again and again."""
    count = 0

    def write(**changes: Any) -> ModuleType:
        nonlocal count
        count += 1
        what = {"cache": True, "default": "=1", "annotation": "", "text": "a", "closed": 1, **changes}
        file = tmp_path / f"version{count}" / "stepping.py"
        file.parent.mkdir()
        file.write_text(SOURCE.format(**what))
        spec = importlib.util.spec_from_file_location("stepping", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["stepping"] = module
        spec.loader.exec_module(module)
        return module

    yield write
    sys.modules.pop("stepping", None)


def runs_of(module: Any, *args: Any) -> int:
    flow(lambda: module.step(*args)).run().wait(PATIENCE)
    return len(module.ran)


def test_the_same_code_in_another_process_is_the_same_call(module_of: Any) -> None:
    assert [runs_of(module_of()), runs_of(module_of())] == [1, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "b"},
        {"default": "=2"},
        {"annotation": " -> list"},
        {"closed": 2},
        {"closed": 1.0},
        {"cache": "v1"},
    ],
    ids=repr,
)
def test_a_change_of_the_function_is_another_call(module_of: Any, changes: Any) -> None:
    assert [runs_of(module_of(), 1), runs_of(module_of(**changes), 1)] == [1, 1]


def test_another_version_text_is_another_call_and_the_same_is_the_same(module_of: Any) -> None:
    assert [runs_of(module_of(cache=text)) for text in ("v1", "v2", "v1")] == [1, 1, 0]


def test_a_closure_that_does_not_encode_is_never_reused() -> None:
    lock = threading.Lock()

    @checkpoint(cache=True)
    def closes_over() -> int:
        with lock:
            ran.append(1)
        return 1

    assert runs_when_made_twice(lambda: closes_over()) == 2


def test_functions_of_one_name_in_two_modules_are_two_calls(module_of: Any) -> None:
    first, second = module_of(), module_of()
    second.step.fn.__module__ = "other"
    assert [runs_of(first), runs_of(second)] == [1, 1]


def test_without_cache_no_key_is_recorded(log: EventLog) -> None:
    handle = flow(lambda: undecided()).run()
    handle.wait(PATIENCE)
    assert [event.reuse_key for event in of_type(log, handle.exec_id, CheckpointCompleted)] == [None]


def test_what_a_reused_call_logged_is_not_logged_again(log: EventLog) -> None:
    @checkpoint(cache=True)
    def logs() -> int:
        kitaru.log(a=1)
        return 1

    handle = twice(lambda: logs())
    assert types_of(log, handle.exec_id) == ["CheckpointReused", "ExecutionCompleted"]


def test_a_run_without_cache_leaves_no_result_to_reuse() -> None:
    @checkpoint(cache=True)
    def counts() -> int:
        ran.append(1)
        return len(ran)

    tried = flow(lambda: counts())
    tried.run().wait(PATIENCE)
    tried.run(cache=False).wait(PATIENCE)
    assert tried.run().wait(PATIENCE) == 1
