"""What happens when an execution goes on with changed code.

| change of the code between the crash and the recovery          | outcome                                                |
|----------------------------------------------------------------|--------------------------------------------------------|
| none                                                           | recorded results, nothing recorded anew                |
| a completed checkpoint removed                                 | KitaruDivergenceError that names it, origin divergence |
| fewer elements in a map                                        | the same: their calls are not made any more            |
| a checkpoint renamed                                           | the new name runs anew; the old result is optional     |
| a checkpoint added before, between or behind                   | it runs; what was recorded is still used               |
| a removed one behind an added one                              | no divergence: since the added one ran, it is optional |
| checkpoints of different names reordered                       | each keeps its own result, nothing runs                |
| calls of one name reordered                                    | ids go by order: recorded results, with a warning event|
| inputs changed                                                 | recorded result, InputsDiffered once                   |
| inputs changed, @flow(strict=True)                             | KitaruDivergenceError, even if the body catches it     |
| a default changed                                              | inputs changed                                         |
| the return annotation changed                                  | recorded result                                        |
| the body of a checkpoint changed                               | recorded result                                        |
| calls moved into a helper function                             | recorded results                                       |
| calls moved into a task of an async flow                       | the task's path is part of the id: they run anew       |
| an extra element in a map                                      | it alone runs                                          |
| a checkpoint turned async, the flow with it                    | recorded results                                       |
| an id pinned to the recorded id                                | recorded result                                        |
| retries, timeout, cache or type changed                        | recorded result                                        |
| a call that failed removed                                     | no divergence: it has no result                        |
| a flow that raises instead of making its calls                 | its exception                                          |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import kitaru
from kitaru import FailureOrigin, checkpoint, flow
from kitaru.domain.events import ExecutionCompleted, ExecutionFailed, InputsDiffered
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE, copy_of, recovered, run_on
from tests.runtime.records import events_of, of_type, types_of

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


def made(name: str, **options: Any) -> Any:
    """A checkpoint of this name that gives its name and its argument."""

    def body(x: Any = 0) -> str:
        ran.append(name)
        return f"{name}({x})"

    body.__name__ = body.__qualname__ = name
    return checkpoint(**options)(body)


a, b, c, new = (made(name) for name in ("a", "b", "c", "new"))


def original() -> list[Any]:
    return [a(1), b(2), c(3)]


RESULTS = ["a(1)", "b(2)", "c(3)"]


def changed(log: EventLog, after: Any, before: Any = original, **options: Any) -> Any:
    """The value that `after` comes to when it goes on with an execution that `before` did everything of but the end."""
    return recovered(log, flow(**options)(after), unended(log, before, **options))


def unended(log: EventLog, before: Any = original, **options: Any) -> str:
    handle = flow(**options)(before).run()
    with suppress(kitaru.KitaruExecutionError):
        handle.wait(PATIENCE)
    events = [e for e in events_of(log, handle.exec_id) if not isinstance(e, (ExecutionCompleted, ExecutionFailed))]
    ran.clear()
    return copy_of(log, events)


def diverged(log: EventLog, after: Any, before: Any = original, **options: Any) -> kitaru.KitaruDivergenceError:
    exec_id = unended(log, before, **options)
    with pytest.raises(kitaru.KitaruDivergenceError) as raised:
        recovered(log, flow(**options)(after), exec_id)
    assert (raised.value.exec_id, raised.value.failure_origin) == (exec_id, FailureOrigin.DIVERGENCE)
    assert of_type(log, exec_id, ExecutionFailed)[0].origin == "divergence"
    return raised.value


def test_unchanged_code_runs_nothing_and_records_only_the_claim_and_the_end(log: EventLog) -> None:
    exec_id = unended(log)
    before = len(events_of(log, exec_id))
    assert recovered(log, flow(original), exec_id) == RESULTS
    assert (ran, types_of(log, exec_id)[before - 2 :]) == ([], ["RunnerClaimed", "ExecutionCompleted"])


@pytest.mark.parametrize("removed", ["a", "b", "c"])
def test_a_removed_completed_checkpoint_is_divergence_that_names_it(log: EventLog, removed: str) -> None:
    def after() -> list[Any]:
        return [call(x) for call, x in ((a, 1), (b, 2), (c, 3)) if call.name != removed]

    assert f"'{removed}'" in str(diverged(log, after))
    assert ran == []


def makes_no_calls() -> list[Any]:
    return []


def test_a_flow_that_makes_no_calls_any_more_is_divergence_that_names_them_all(log: EventLog) -> None:
    assert "'a', 'b', 'c'" in str(diverged(log, makes_no_calls))


def test_fewer_elements_in_a_map_are_divergence(log: EventLog) -> None:
    error = diverged(log, lambda: a.map([1, 2]).result(), lambda: a.map([1, 2, 3]).result())
    assert "'a_3'" in str(error)


def test_divergence_is_not_retried(log: EventLog) -> None:
    diverged(log, lambda: [a(1)], retries=3)
    assert ran == []


def test_a_renamed_checkpoint_runs_anew_and_its_old_result_is_optional(log: EventLog) -> None:
    assert changed(log, lambda: [a(1), new(2), c(3)]) == ["a(1)", "new(2)", "c(3)"]
    assert ran == ["new"]


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_an_added_checkpoint_runs_and_the_recorded_results_are_used(log: EventLog, at: int) -> None:
    def after() -> list[Any]:
        calls: list[Callable[[], Any]] = [lambda: a(1), lambda: b(2), lambda: c(3)]
        calls.insert(at, lambda: new(9))
        return [call() for call in calls]

    expected = list(RESULTS)
    expected.insert(at, "new(9)")
    assert changed(log, after) == expected
    assert ran == ["new"]


def test_a_removed_checkpoint_behind_an_added_one_is_optional(log: EventLog) -> None:
    assert changed(log, lambda: [a(1), new(2)]) == ["a(1)", "new(2)"]


def test_a_removed_checkpoint_before_an_added_one_is_divergence(log: EventLog) -> None:
    assert "'a'" in str(diverged(log, lambda: [b(2), new(2), c(3)]))


def test_reordered_checkpoints_keep_their_results(log: EventLog) -> None:
    assert changed(log, lambda: [c(3), a(1), b(2)]) == ["c(3)", "a(1)", "b(2)"]
    assert ran == []


def test_reordered_calls_of_one_name_get_the_results_by_order_with_a_warning(log: EventLog) -> None:
    exec_id = unended(log, lambda: [a(1), a(2)])
    assert recovered(log, flow(lambda: [a(2), a(1)]), exec_id) == ["a(1)", "a(2)"]
    assert [event.call for event in of_type(log, exec_id, InputsDiffered)] == [1, 2]


def test_changed_inputs_get_the_recorded_result_and_a_warning_event(log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    exec_id = unended(log)
    assert recovered(log, flow(lambda: [a(1), b(99), c(3)]), exec_id) == RESULTS
    assert [event.call for event in of_type(log, exec_id, InputsDiffered)] == [2]
    assert "inputs differ" in caplog.text
    assert ran == []


def test_the_same_changed_inputs_warn_once(log: EventLog) -> None:
    exec_id = unended(log)
    after = flow(lambda: [a(1), b(99), c(3)])
    recovered(log, after, exec_id)
    again = copy_of(log, [e for e in events_of(log, exec_id) if not isinstance(e, ExecutionCompleted)])
    assert recovered(log, after, again) == RESULTS
    assert len(of_type(log, again, InputsDiffered)) == 1


def test_changed_inputs_of_a_strict_flow_are_divergence_that_names_the_call(log: EventLog) -> None:
    assert "'b'" in str(diverged(log, lambda: [a(1), b(99), c(3)], strict=True))


def test_a_strict_flow_cannot_catch_its_divergence(log: EventLog) -> None:
    def after() -> list[Any]:
        found = [a(1)]
        try:
            b(99)
        except Exception:
            found.append("caught")
        return [*found, c(3)]

    diverged(log, after, strict=True)


def test_a_strict_flow_diverges_by_submitted_calls_too(log: EventLog) -> None:
    diverged(log, lambda: a.map([1, 5]).result(), lambda: a.map([1, 2]).result(), strict=True)
    diverged(log, lambda: len(a.map([1, 5])), lambda: a.map([1, 2]).result(), strict=True)


def test_unchanged_inputs_of_a_strict_flow_are_no_divergence(log: EventLog) -> None:
    assert changed(log, original, strict=True) == RESULTS


def test_a_changed_default_is_a_changed_input(log: EventLog) -> None:
    def with_default(default: int) -> Any:
        def step(x: int = default) -> int:
            return x

        return checkpoint(step)

    before, after = with_default(1), with_default(2)
    exec_id = unended(log, lambda: before())
    assert recovered(log, flow(lambda: after()), exec_id) == 1
    assert len(of_type(log, exec_id, InputsDiffered)) == 1


def test_a_changed_return_annotation_changes_no_result(log: EventLog) -> None:
    @checkpoint
    def step() -> list[int]:
        return [1]

    before = step

    @checkpoint  # type: ignore[no-redef]
    def step() -> tuple[str, ...]:
        return ()

    assert changed(log, lambda: step(), lambda: before()) == [1]


def test_a_changed_checkpoint_body_changes_no_result(log: EventLog) -> None:
    def other(x: Any = 0) -> str:
        return "other"

    other.__name__ = "b"
    assert changed(log, lambda: [a(1), checkpoint(other)(2), c(3)]) == RESULTS


@pytest.mark.parametrize("options", [{"retries": 3}, {"timeout": 5}, {"cache": True}, {"type": "x"}], ids=repr)
def test_changed_options_of_a_checkpoint_change_no_result(log: EventLog, options: Any) -> None:
    assert changed(log, lambda: [a(1), made("b", **options)(2), c(3)]) == RESULTS
    assert ran == []


def test_calls_moved_into_a_helper_keep_their_results(log: EventLog) -> None:
    def helper() -> list[Any]:
        return [a(1), b(2)]

    assert changed(log, lambda: [*helper(), c(3)]) == RESULTS
    assert ran == []


def test_calls_turned_into_submitted_ones_keep_their_results(log: EventLog) -> None:
    assert changed(log, lambda: [a.submit(1).result(), b.map([2])[0].result(), c(3)]) == RESULTS
    assert ran == []


def test_calls_moved_into_a_task_run_anew(log: EventLog) -> None:
    async def before() -> list[Any]:
        return [a(1), b(2)]

    async def after() -> list[Any]:
        async def helper() -> Any:
            return b(2)

        return [a(1), *(await asyncio.gather(helper()))]

    assert changed(log, after, before) == ["a(1)", "b(2)"]
    assert ran == ["b"]


def test_an_extra_element_of_a_map_alone_runs(log: EventLog) -> None:
    assert changed(log, lambda: a.map(range(4)).result(), lambda: a.map(range(3)).result()) == [
        "a(0)",
        "a(1)",
        "a(2)",
        "a(3)",
    ]
    assert ran == ["a"]


def test_a_checkpoint_turned_async_keeps_its_result(log: EventLog) -> None:
    async def turned(x: Any = 0) -> str:
        ran.append("turned")
        return "other"

    turned.__name__ = "b"
    async_b = checkpoint(turned)

    async def after() -> list[Any]:
        return [a(1), await async_b(2), c(3)]

    assert changed(log, after) == RESULTS
    assert ran == []


def test_an_id_pinned_to_the_recorded_one_keeps_the_result(log: EventLog) -> None:
    assert changed(log, lambda: [a(1), new(2, id="b"), c(3)]) == RESULTS
    assert ran == []


def test_a_removed_call_that_had_failed_is_no_divergence(log: EventLog) -> None:
    @checkpoint
    def fails() -> None:
        raise ValueError

    def before() -> list[Any]:
        with suppress(ValueError):
            fails()
        return [a(1)]

    assert changed(log, lambda: [a(1)], before) == ["a(1)"]


def test_a_removed_call_that_was_only_begun_is_no_divergence(log: EventLog) -> None:
    exec_id = unended(log)
    left = copy_of(log, events_of(log, exec_id)[:-1])  # c was begun
    assert recovered(log, flow(lambda: [a(1), b(2)]), left) == ["a(1)", "b(2)"]


def test_a_body_that_raises_before_its_recorded_calls_fails_with_its_own_exception(log: EventLog) -> None:
    def after() -> None:
        a(1)
        raise LookupError("changed")

    with pytest.raises(kitaru.KitaruUserCodeError, match="LookupError"):
        changed(log, after)


def test_another_branch_after_a_retry_is_no_divergence(log: EventLog) -> None:
    """`a` fails, its fallback `b` completes, something fails; in the retry `a` succeeds and `b` is never called."""
    runs: list[int] = []

    @checkpoint
    def first() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise ConnectionError
        return "first"

    @flow(retries=1)
    def body() -> list[Any]:
        try:
            found = first()
        except ConnectionError:
            found = b(2)
        if len(runs) == 1:
            raise ValueError("again")
        return [found, c(3)]

    assert body.run().wait(PATIENCE) == ["first", "c(3)"]


def test_a_diverged_execution_keeps_what_was_recorded(log: EventLog) -> None:
    exec_id = unended(log)
    before = events_of(log, exec_id)
    run_on(log, flow(lambda: [a(1)]), exec_id)
    assert events_of(log, exec_id)[: len(before)] == before


def test_facts_that_the_code_no_longer_makes_are_no_divergence(log: EventLog) -> None:
    def before() -> list[Any]:
        kitaru.log(x=1)
        kitaru.tag("t")
        return original()

    assert changed(log, original, before) == RESULTS
