"""Checkpoints in a process of their own: their values, their facts, their deaths."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.domain.errors import KitaruRuntimeError, KitaruUsageError
from kitaru.store.log import EventLog
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import detail_of, types_of


@dataclass
class Point:
    x: int
    label: str = "p"


class OwnError(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@checkpoint(runtime="isolated")
def everything(point: Point, scale: int = 2) -> list[Any]:
    """Values, facts, prints and its own process, in one: a process takes a while to start."""
    print("printed by the body")
    sys.stdout.write("and written\n")
    os.write(1, b"\x00\x00\x00\x00\x00\x00\x00\x04spam")
    subprocess.run([sys.executable, "-c", "print('a grandchild')"], check=True)
    kitaru.log(scaled=scale, nested={"a": 1})
    kitaru.save("points", (point, {1, 2}), tags=["t"])
    kitaru.progress("half", percent=50)
    return [
        Point(point.x * scale, "q"),
        os.getpid(),
        kitaru.current_execution_id(),
        kitaru.idempotency_key(),
        sys.stdin.read(),
    ]


@checkpoint(runtime="isolated", retries=1)
def dies(ledger: str, how: str) -> str:
    with open(ledger, "a") as file:
        file.write("ran\n")
    if len(Path(ledger).read_text().splitlines()) > 1:
        return "second try"
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "sys.exit":
        sys.exit(4)
    elif how == "abort":
        os.abort()
    return "?"


@checkpoint(runtime="isolated")
def always_dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@checkpoint(runtime="isolated")
def raises_own() -> None:
    raise OwnError("mine", 7)


@checkpoint(runtime="isolated", timeout=4.0)
def sleeps(pid_file: str) -> None:
    Path(pid_file).write_text(str(os.getpid()))
    time.sleep(60)


@checkpoint(runtime="isolated")
async def async_isolated(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


@checkpoint(runtime="isolated", retries=3)
def returns_lock() -> object:
    return {"here": threading.Lock()}


@checkpoint(runtime="isolated", retries=3)
def takes_anything(x: object) -> str:
    return "ran"


@checkpoint(runtime="isolated")
def loads(exec_id: str) -> object:
    return kitaru.load(exec_id, "points")


@checkpoint(runtime="isolated")
def calls_another() -> None:
    always_dies()


@checkpoint(runtime="isolated")
def megabytes(data: bytes) -> bytes:
    return data * 2


def cause_of(body: Any, log: EventLog | None = None) -> tuple[BaseException, list[str]]:
    handle = flow(body).run()
    with pytest.raises(kitaru.KitaruExecutionError) as raised:
        handle.wait(PATIENCE)
    assert raised.value.__cause__ is not None
    return raised.value.__cause__, types_of(log, handle.exec_id) if log is not None else []


def test_an_isolated_body_runs_in_its_own_process_with_values_and_facts(
    log: EventLog, capfd: pytest.CaptureFixture[str]
) -> None:
    handle = flow(lambda: everything(Point(4), scale=3)).run()
    point, pid, exec_id, key, stdin = handle.wait(PATIENCE)
    assert (point, exec_id, stdin) == (Point(12, "q"), handle.exec_id, "")
    assert pid != os.getpid()
    assert len(key) == 32
    (call,) = detail_of(log, handle.exec_id).calls.values()
    assert call.metadata == {"scaled": 3, "nested": {"a": 1}, "progress": {"message": "half", "percent": 50}}
    assert kitaru.load(handle.exec_id, "points") == (Point(4), {1, 2})
    out, err = capfd.readouterr()
    assert out == ""
    assert "printed by the body\nand written\n" in err.replace("\x00", "") or "printed by the body" in err


@pytest.mark.parametrize("how", ["kill", "exit", "abort"])
def test_a_process_that_dies_is_a_failed_attempt(log: EventLog, tmp_path: Path, how: str) -> None:
    handle = flow(lambda: dies(str(tmp_path / "ledger"), how)).run()
    assert handle.wait(PATIENCE) == "second try"
    (call,) = detail_of(log, handle.exec_id).calls.values()
    assert [attempt.status for attempt in call.attempts] == ["failed", "completed"]


def test_a_killed_process_is_told_by_its_signal() -> None:
    error, _ = cause_of(lambda: always_dies())
    assert isinstance(error, KitaruRuntimeError)
    assert "killed by signal 9" in str(error)


def test_sys_exit_in_an_isolated_body_is_system_exit_in_the_flow(tmp_path: Path) -> None:
    error, _ = cause_of(lambda: dies(str(tmp_path / "ledger"), "sys.exit"))
    assert isinstance(error, SystemExit)
    assert error.code == 4


def test_an_exception_comes_back_with_its_class_attributes_and_traceback() -> None:
    error, _ = cause_of(lambda: raises_own())
    assert isinstance(error, OwnError)
    assert (error.args, error.code) == (("mine",), 7)
    assert "raises_own" in "".join(error.__notes__)


def test_past_its_timeout_the_process_is_killed(tmp_path: Path) -> None:
    error, _ = cause_of(lambda: sleeps(str(tmp_path / "pid")))
    assert isinstance(error, TimeoutError)
    assert "killed" in str(error)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_async_bodies_may_be_isolated() -> None:
    assert flow(lambda: async_isolated.submit(1).result()).run().wait(PATIENCE) == 2


def test_isolated_calls_may_be_awaited_in_an_async_flow() -> None:
    @flow
    async def body() -> list[int]:
        return list(await asyncio.gather(async_isolated(1), async_isolated(2)))

    assert body.run().wait(PATIENCE) == [2, 3]


def test_an_isolated_call_that_its_async_flow_cancels_is_no_call_in_flight(log: EventLog, tmp_path: Path) -> None:
    @flow
    async def body() -> str:
        try:
            async with asyncio.timeout(0.05):
                await async_isolated(1)
        except TimeoutError:
            return "gave up"
        return "?"

    handle = body.run()
    assert handle.wait(PATIENCE) == "gave up"
    assert types_of(log, handle.exec_id)[-1] == "ExecutionCompleted"


def test_a_function_of_a_function_is_refused_and_not_tried_again(log: EventLog) -> None:
    @checkpoint(runtime="isolated", retries=3)
    def local() -> None: ...

    error, types = cause_of(lambda: local(), log)
    assert isinstance(error, KitaruUsageError)
    assert "top level" in str(error)
    assert types.count("AttemptStarted") == 1


def test_an_argument_that_does_not_encode_is_refused_and_not_tried_again(log: EventLog) -> None:
    error, types = cause_of(lambda: takes_anything(threading.Lock()), log)
    assert isinstance(error, KitaruUsageError)
    assert "_thread.lock" in str(error)
    assert types.count("AttemptStarted") == 1


def test_a_result_that_does_not_encode_is_refused_and_not_tried_again(log: EventLog) -> None:
    error, types = cause_of(lambda: returns_lock(), log)
    assert isinstance(error, KitaruUsageError)
    assert "_thread.lock at $.here" in str(error)
    assert types.count("AttemptStarted") == 1


def test_an_isolated_body_reads_from_the_store_of_its_flow() -> None:
    @flow
    def saving() -> None:
        kitaru.save("points", [1, 2])

    first = saving.run()
    first.wait(PATIENCE)
    assert flow(lambda: loads(first.exec_id)).run().wait(PATIENCE) == [1, 2]


def test_a_checkpoint_called_in_an_isolated_body_is_refused() -> None:
    error, _ = cause_of(lambda: calls_another())
    assert type(error).__name__ == "KitaruContextError"
    assert "inside the checkpoint 'calls_another'" in str(error)


def test_megabytes_go_both_ways() -> None:
    assert flow(lambda: len(megabytes(bytes(8_000_000)))).run().wait(PATIENCE) == 16_000_000


def test_isolated_checkpoints_run_at_the_same_time_by_map() -> None:
    assert flow(lambda: async_isolated.map([1, 2, 3]).result()).run().wait(PATIENCE) == [2, 3, 4]
