"""Idempotency keys: one execution for a key, a flow and inputs; children of a flow's body are started once."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.errors import KitaruStateError
from kitaru.domain.events import CheckpointCompleted
from kitaru.runtime.flow import Flow
from kitaru.store.log import EventLog
from tests.runtime import scripts
from tests.runtime.crashing import PATIENCE, CrashingLog, copy_of, prefixes, queue, recovered, run_on
from tests.runtime.records import events_of

ran: list[Any] = []
gate = threading.Event()


@flow
def doubled(x: int) -> int:
    ran.append(x)
    return x * 2


@flow
def failing(x: int) -> int:
    ran.append(x)
    raise ValueError(x)


@flow
def slow(x: int) -> int:
    gate.wait(PATIENCE)
    return x


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()
    gate.clear()


def test_the_same_key_flow_and_inputs_give_the_same_execution() -> None:
    first, second = (doubled.options(idempotency_key="k").run(4) for _ in range(2))
    assert first.exec_id == second.exec_id
    assert second.wait(PATIENCE) == 8


def test_the_body_runs_once_for_a_key() -> None:
    for _ in range(3):
        doubled.options(idempotency_key="k").run(4).wait(PATIENCE)
    assert ran == [4]


def test_a_key_with_other_inputs_is_refused() -> None:
    doubled.options(idempotency_key="k").run(4)
    with pytest.raises(KitaruStateError, match="other inputs") as raised:
        doubled.options(idempotency_key="k").run(5)
    assert raised.value.code == "idempotency-conflict"


def test_a_key_belongs_to_its_flow() -> None:
    first = doubled.options(idempotency_key="k").run(4)
    second = slow.options(idempotency_key="k").run(4)
    gate.set()
    assert first.exec_id != second.exec_id


def test_a_key_of_a_running_execution_gives_that_execution() -> None:
    first, second = (slow.options(idempotency_key="k").run(4) for _ in range(2))
    assert (first.exec_id, second.status) == (second.exec_id, "running")
    gate.set()
    assert second.wait(PATIENCE) == 4


def test_a_key_of_a_failed_execution_gives_that_execution() -> None:
    first = failing.options(idempotency_key="k").run(4)
    with pytest.raises(kitaru.KitaruUserCodeError):
        first.wait(PATIENCE)
    second = failing.options(idempotency_key="k").run(4)
    assert (second.exec_id, second.status, ran) == (first.exec_id, "failed", [4])


def test_the_second_handle_of_a_running_execution_has_the_cause_too() -> None:
    failing.options(idempotency_key="k").run(4)
    second = failing.options(idempotency_key="k").run(4)
    with pytest.raises(kitaru.KitaruUserCodeError):
        second.wait(PATIENCE)


def test_inputs_are_the_same_however_they_are_given() -> None:
    first = doubled.options(idempotency_key="k").run(4)
    assert doubled.options(idempotency_key="k").run(x=4).exec_id == first.exec_id


def test_threads_that_run_a_key_at_once_get_one_execution() -> None:
    barrier = threading.Barrier(8)

    def start(_: int) -> str:
        barrier.wait(PATIENCE)
        handle = doubled.options(idempotency_key="k").run(4)
        assert handle.wait(PATIENCE) == 8
        return handle.exec_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1
    assert ran == [4]


def test_processes_that_run_a_key_at_once_get_one_execution(tmp_path: Path, store: Path) -> None:
    script = scripts.write(
        tmp_path / "code" / "keyed.py",
        """
        @flow
        def keyed(x):
            note("ran")
            return x * 2

        if __name__ == "__main__":
            while time.time() < float(sys.argv[1]):
                pass
            handle = keyed.options(idempotency_key="k").run(4)
            print(handle.exec_id, handle.wait(20))
        """,
    )
    import time

    together = [scripts.start(script, store, str(time.time() + 1.0)) for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in together]
    assert [process.returncode for process in together] == [0, 0], ends
    assert len({out for out, _ in ends}) == 1
    assert scripts.ledger(store) == ["ran"]


# --- children of a flow's body -----------------------------------------------------------------------------------------


@checkpoint
def before(x: int) -> int:
    return x


@flow
def child(x: int) -> int:
    ran.append(x)
    return x * 10


@flow
def parent(x: int) -> list[int]:
    first = child.run(before(x))
    second = child.run(x + 1)
    return [first.wait(PATIENCE), second.wait(PATIENCE), before(3)]


@flow
async def async_parent(x: int) -> list[int]:
    import asyncio

    async def one(y: int) -> int:
        return await child.run(y)

    return list(await asyncio.gather(one(x), one(x + 1), one(x + 2)))


def test_runs_in_a_flows_body_are_executions_of_their_own() -> None:
    assert parent.run(1).wait(PATIENCE) == [10, 20, 3]


def test_a_child_is_started_once_however_often_its_parent_recovers(log: EventLog) -> None:
    exec_id = queue(log, parent, x=1)
    for at in range(1, 6):
        run_on(CrashingLog(log, at, after=True), parent, exec_id)
        if log.head(exec_id).state.status == "completed":
            break
    assert ran == [1, 2]


def test_children_of_gathered_branches_keep_their_inputs_when_the_parent_recovers(log: EventLog) -> None:
    exec_id = queue(log, async_parent, x=1)
    run_on(CrashingLog(log, 1), async_parent, exec_id)
    assert recovered(log, async_parent, exec_id) == [10, 20, 30]
    assert sorted(ran) == [1, 2, 3]


def test_a_child_that_failed_fails_its_parent_by_its_error() -> None:
    @flow
    def with_bad_child() -> int:
        return failing.run(1).wait(PATIENCE)

    with pytest.raises(kitaru.KitaruUserCodeError, match="ValueError"):
        with_bad_child.run().wait(PATIENCE)


@checkpoint
def starts_a_child(x: int) -> int:
    return child.run(x).wait(PATIENCE)


@flow
def by_checkpoint(x: int) -> list[int]:
    return [starts_a_child(x), starts_a_child(x)]


def test_a_run_inside_a_checkpoint_starts_one_execution_for_each_attempt() -> None:
    assert by_checkpoint.run(1).wait(PATIENCE) == [10, 10]
    assert ran == [1, 1]


def test_a_checkpoint_that_started_a_child_is_not_run_again(log: EventLog) -> None:
    handle = by_checkpoint.run(1)
    handle.wait(PATIENCE)
    left = next(e for e in prefixes(events_of(log, handle.exec_id)) if isinstance(e[-1], CheckpointCompleted))
    ran.clear()
    assert recovered(log, by_checkpoint, copy_of(log, left)) == [10, 10]
    assert ran == [1]


@flow
async def runs_in_a_thread() -> int:
    import asyncio

    handle = await asyncio.to_thread(child.run, 1)
    return await handle


def test_a_run_from_a_thread_of_ones_own_inside_a_flow_is_refused() -> None:
    with pytest.raises(kitaru.KitaruUserCodeError, match="KitaruContextError"):
        runs_in_a_thread.run().wait(PATIENCE)


def test_a_long_flow_name_does_not_make_two_children_one(log: EventLog) -> None:
    def named(name: str) -> Flow[..., Any]:
        @flow(name=name)
        def long(x: int) -> str:
            return name[-1]

        return long

    one, two = named("n" * 255 + "1"), named("n" * 255 + "2")

    @flow
    def long_parent() -> list[str]:
        return [one.run(1).wait(PATIENCE), two.run(1).wait(PATIENCE), one.run(2).wait(PATIENCE)]

    assert long_parent.run().wait(PATIENCE) == ["1", "2", "1"]


def test_a_child_that_gets_other_inputs_after_a_recovery_is_a_conflict(log: EventLog) -> None:
    handle = parent.run(1)
    handle.wait(PATIENCE)
    changed = json.loads("[7]")

    @flow(name="parent")
    def changed_parent(x: int) -> int:
        return child.run(changed[0]).wait(PATIENCE)

    exec_id = queue(log, parent, x=1)
    run_on(CrashingLog(log, 3, after=True), parent, exec_id)
    with pytest.raises(kitaru.KitaruExecutionError, match="other inputs"):
        recovered(log, changed_parent, exec_id)
