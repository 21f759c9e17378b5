"""What flows and checkpoints record beside results: log, save, load, tag, progress; and what they may ask."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.commands import ChangeTags
from kitaru.domain.errors import KitaruContextError, KitaruNotFoundError, KitaruRuntimeError, KitaruUsageError
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE, CrashingLog, copy_of, prefixes, queue, recovered, run_on
from tests.runtime.records import detail_of, events_of, types_of

seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


def forget(*values: Any) -> None:
    """A flow's body that returns nothing."""


def ended(body: Any, **options: Any) -> Any:
    handle = flow(**options)(body).run()
    handle.wait(PATIENCE)
    return handle


def cause_of(body: Any) -> BaseException:
    with pytest.raises(kitaru.KitaruExecutionError) as raised:
        ended(body)
    assert raised.value.__cause__ is not None
    return raised.value.__cause__


def metadata_of(log: EventLog, body: Any) -> Any:
    return detail_of(log, ended(body).exec_id).metadata


# --- log ---------------------------------------------------------------------------------------------------------------


def test_in_the_body_metadata_lands_on_the_execution(log: EventLog) -> None:
    assert metadata_of(log, lambda: kitaru.log(a=1, b="x")) == {"a": 1, "b": "x"}


def test_in_a_checkpoint_metadata_lands_on_the_call(log: EventLog) -> None:
    @checkpoint
    def step() -> None:
        kitaru.log(a=1)

    detail = detail_of(log, ended(lambda: step()).exec_id)
    assert (detail.metadata, detail.calls[1].metadata) == ({}, {"a": 1})


def test_of_scalars_the_last_wins_and_dicts_merge(log: EventLog) -> None:
    def body() -> None:
        kitaru.log(n=1, d={"a": 1, "deep": {"x": 1}}, kind={"a": 1}, items=[1])
        kitaru.log(n=2, d={"b": 2, "deep": {"y": 2}}, kind="text", items=[2])

    assert metadata_of(log, body) == {
        "n": 2,
        "d": {"a": 1, "deep": {"x": 1, "y": 2}, "b": 2},
        "kind": "text",
        "items": [2],
    }


def test_metadata_of_options_and_of_the_body_merge(log: EventLog) -> None:
    handle = flow(lambda: kitaru.log(d={"b": 2})).options(metadata={"d": {"a": 1}}).run()
    handle.wait(PATIENCE)
    assert detail_of(log, handle.exec_id).metadata == {"d": {"a": 1, "b": 2}}


def test_what_each_attempt_logged_stands_on_the_attempt(log: EventLog) -> None:
    @checkpoint(retries=1)
    def step() -> None:
        seen.append(1)
        kitaru.log(attempt=len(seen))
        if len(seen) == 1:
            raise ValueError

    (call,) = detail_of(log, ended(lambda: step()).exec_id).calls.values()
    assert [attempt.metadata for attempt in call.attempts] == [{"attempt": 1}, {"attempt": 2}]


def test_logging_nothing_records_nothing(log: EventLog) -> None:
    assert types_of(log, ended(lambda: kitaru.log()).exec_id) == ["ExecutionCompleted"]


def test_a_value_that_does_not_encode_is_refused() -> None:
    assert isinstance(cause_of(lambda: kitaru.log(lock=threading.Lock())), KitaruUsageError)


@pytest.mark.parametrize("key", ["", " ", "a\nb", "k" * 257], ids=["empty", "blank", "control", "long"])
def test_a_wrong_metadata_key_is_refused(key: str) -> None:
    assert isinstance(cause_of(lambda: kitaru.log(**{key: 1})), KitaruUsageError)


@pytest.mark.parametrize("percent", [-1, 100.5, float("nan"), "half", True], ids=repr)
def test_a_wrong_percentage_is_refused(percent: Any) -> None:
    assert isinstance(cause_of(lambda: kitaru.progress("x", percent=percent)), KitaruUsageError)


def test_progress_keeps_its_last_word(log: EventLog) -> None:
    def body() -> None:
        kitaru.progress("reading", percent=10, file="a")
        kitaru.progress("ranking", percent=90)

    assert metadata_of(log, body)["progress"]["message"] == "ranking"


def test_progress_without_a_percentage_takes_the_last_one_back(log: EventLog) -> None:
    def body() -> None:
        kitaru.progress("reading", percent=10)
        kitaru.progress("ranking")

    assert metadata_of(log, body) == {"progress": {"message": "ranking", "percent": None}}


def test_many_threads_of_a_checkpoint_may_log(log: EventLog) -> None:
    import contextvars

    @checkpoint
    def step() -> None:
        contexts = [contextvars.copy_context() for _ in range(8)]
        threads = [
            threading.Thread(target=context.run, args=(lambda i=i: kitaru.log(**{f"k{i}": i}),))
            for i, context in enumerate(contexts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    (call,) = detail_of(log, ended(lambda: step()).exec_id).calls.values()
    assert call.metadata == {f"k{i}": i for i in range(8)}


def test_facts_of_two_branches_are_not_mixed_up_by_a_recovery(log: EventLog) -> None:
    @checkpoint
    async def astep(x: int) -> int:
        await asyncio.sleep(0)
        return x

    @flow
    async def body() -> list[int]:
        async def branch(x: int) -> int:
            await astep(x)
            kitaru.log(**{f"k{x}": x})
            return await astep(x)

        return list(await asyncio.gather(*(branch(x) for x in range(3))))

    for at in range(1, 20):
        exec_id = queue(log, body)
        run_on(CrashingLog(log, at, after=True), body, exec_id)
        if log.head(exec_id).state.status != "completed":
            recovered(log, body, exec_id)
        assert detail_of(log, exec_id).metadata == {"k0": 0, "k1": 1, "k2": 2}, f"crash at append {at}"


# --- save and load -----------------------------------------------------------------------------------------------------


@checkpoint
def step(x: Any = 0) -> Any:
    return x


def test_a_saved_value_is_loaded_with_its_type(log: EventLog) -> None:
    handle = ended(lambda: kitaru.save("report", {"a": (1, 2)}))
    assert kitaru.load(handle.exec_id, "report") == {"a": (1, 2)}


def test_a_value_saved_in_a_checkpoint_is_loaded_too() -> None:
    @checkpoint
    def saving() -> None:
        kitaru.save("inner", [1])

    assert kitaru.load(ended(lambda: saving()).exec_id, "inner") == [1]


def test_a_name_saved_twice_is_its_last_value() -> None:
    def body() -> None:
        kitaru.save("report", 1)
        kitaru.save("report", 2)

    assert kitaru.load(ended(body).exec_id, "report") == 2


def test_a_checkpoints_result_is_loaded_by_its_name_and_by_its_invocation_id() -> None:
    handle = ended(lambda: forget(step(5, id="mine")))
    assert [kitaru.load(handle.exec_id, name) for name in ("step", "mine")] == [5, 5]


def test_a_later_call_is_loaded_by_its_invocation_id() -> None:
    handle = ended(lambda: forget(step(5), step(6)))
    assert kitaru.load(handle.exec_id, "step_2") == 6


def test_a_name_of_several_results_is_ambiguous_and_the_error_says_what_to_use() -> None:
    handle = ended(lambda: forget(step(5), step(6)))
    with pytest.raises(KitaruRuntimeError, match=r"2 values.*\.a4"):
        kitaru.load(handle.exec_id, "step")


def test_a_name_that_nothing_has_is_not_found() -> None:
    handle = ended(lambda: None)
    with pytest.raises(KitaruRuntimeError, match="'nothing'"):
        kitaru.load(handle.exec_id, "nothing")


def test_loading_from_an_unknown_execution_is_not_found() -> None:
    with pytest.raises(KitaruNotFoundError):
        kitaru.load("01a206ec-0000-7000-8000-000000000000", "x")


def test_loading_in_a_flow_and_in_a_checkpoint_reads_another_execution() -> None:
    first = ended(lambda: kitaru.save("report", [1]))

    @checkpoint
    def loading() -> Any:
        return kitaru.load(first.exec_id, "report")

    assert ended(lambda: [kitaru.load(first.exec_id, "report"), loading()]).get() == [[1], [1]]


def test_a_large_value_is_saved_and_loaded() -> None:
    handle = ended(lambda: kitaru.save("large", "x" * 300_000))
    assert kitaru.load(handle.exec_id, "large") == "x" * 300_000


@pytest.mark.parametrize(
    "call",
    [
        lambda: kitaru.save("", 1),
        lambda: kitaru.save("a\0b", 1),
        lambda: kitaru.save("x", threading.Lock()),
        lambda: kitaru.save("x", 1, type="picture"),  # type: ignore[arg-type]
        lambda: kitaru.save("x", 1, tags="one"),
        lambda: kitaru.save("x", bytes(65 * 1024 * 1024)),
    ],
    ids=["no-name", "NUL", "lock", "type", "tags", "large"],
)
def test_a_wrong_save_is_refused(call: Any) -> None:
    assert isinstance(cause_of(call), KitaruUsageError)


def test_an_artifacts_type_and_tags_are_recorded(log: EventLog) -> None:
    handle = ended(lambda: kitaru.save("x", 1, type="context", tags=["a", "b"]))
    (saved,) = [artifact.saved for artifact in detail_of(log, handle.exec_id).artifacts]
    assert saved is not None
    assert (saved.kind, saved.tags) == ("context", ("a", "b"))


# --- tag ---------------------------------------------------------------------------------------------------------------


def test_tags_are_added_to_those_of_the_flow(log: EventLog) -> None:
    handle = ended(lambda: kitaru.tag("late", "early"), tags=["early"])
    assert list(detail_of(log, handle.exec_id).tags) == ["early", "late"]


def test_a_wrong_tag_is_refused() -> None:
    assert isinstance(cause_of(lambda: kitaru.tag("")), KitaruUsageError)


def test_tags_changed_from_outside_do_not_disturb_the_runner(log: EventLog) -> None:
    def body() -> int:
        log.execute(kitaru.current_execution_id(), ChangeTags(("outside",), (), "me"), 1)
        kitaru.tag("inside")
        return step(1)

    handle = ended(body)
    assert handle.get() == 1
    assert list(detail_of(log, handle.exec_id).tags) == ["outside", "inside"]


# --- what may be asked -------------------------------------------------------------------------------------------------


def test_the_execution_id_is_known_in_flows_and_checkpoints() -> None:
    @checkpoint
    def asks() -> str:
        return kitaru.current_execution_id()

    handle = ended(lambda: [kitaru.current_execution_id(), asks()])
    assert handle.get() == [handle.exec_id] * 2


def test_is_replay_is_true_after_a_recovery(log: EventLog) -> None:
    @flow
    def body() -> bool:
        found = kitaru.is_replay()
        step()
        return found

    handle = body.run()
    assert handle.wait(PATIENCE) is False
    assert recovered(log, body, copy_of(log, events_of(log, handle.exec_id)[:-1])) is True


@checkpoint(retries=3)
def keyed(fails: int) -> list[str]:
    seen.append(kitaru.idempotency_key())
    if len(seen) <= fails:
        raise ValueError
    return list(seen)


def test_the_idempotency_key_is_the_same_for_every_attempt() -> None:
    keys = ended(lambda: keyed(2)).get()
    assert (len(keys), len(set(keys))) == (3, 1)


def test_the_idempotency_key_is_the_same_after_a_crash(log: EventLog) -> None:
    body = flow(lambda: keyed(0))
    exec_id = queue(log, body)
    run_on(CrashingLog(log, 2), body, exec_id)
    recovered(log, body, exec_id)
    assert (len(seen), len(set(seen))) == (2, 1)


def test_the_idempotency_key_differs_between_calls_and_executions() -> None:
    for _ in range(2):
        ended(lambda: [keyed(0), keyed(0)])
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda: kitaru.log(a=1),
        lambda: kitaru.save("x", 1),
        lambda: kitaru.tag("x"),
        lambda: kitaru.progress("x"),
        kitaru.current_execution_id,
        kitaru.is_replay,
        kitaru.idempotency_key,
    ],
    ids=["log", "save", "tag", "progress", "current_execution_id", "is_replay", "idempotency_key"],
)
def test_outside_a_flow_it_is_refused(call: Any) -> None:
    with pytest.raises(KitaruContextError, match="outside"):
        call()


@pytest.mark.parametrize("call", [lambda: kitaru.tag("x"), kitaru.is_replay], ids=["tag", "is_replay"])
def test_inside_a_checkpoint_it_is_refused(call: Any) -> None:
    @checkpoint
    def asks() -> None:
        call()

    assert isinstance(cause_of(lambda: asks()), KitaruContextError)


def test_the_idempotency_key_in_a_flows_body_is_refused() -> None:
    assert isinstance(cause_of(lambda: kitaru.idempotency_key()), KitaruContextError)


def test_a_fact_from_a_thread_of_ones_own_in_a_flows_body_is_refused() -> None:
    async def body() -> None:
        await asyncio.to_thread(kitaru.log, a=1)

    assert isinstance(cause_of(body), KitaruContextError)


def test_facts_before_the_frontier_are_captured_once(log: EventLog) -> None:
    """What a recovery would log with other values stays as it was first recorded."""

    @flow
    def body() -> int:
        seen.append(1)
        kitaru.log(run=len(seen))
        kitaru.save("run", len(seen))
        return step(1)

    handle = body.run()
    handle.wait(PATIENCE)
    left = prefixes(events_of(log, handle.exec_id))[-1]
    exec_id = copy_of(log, left)
    recovered(log, body, exec_id)
    assert (detail_of(log, exec_id).metadata, kitaru.load(exec_id, "run")) == ({"run": 1}, 1)
