"""Going on with what is damaged, changed or odd: a refusal leaves it as it was, and nothing is silently another value."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.compose import close_logs
from kitaru.domain.errors import (
    KitaruBackendError,
    KitaruError,
    KitaruRuntimeError,
    KitaruUsageError,
    KitaruUserCodeError,
)
from kitaru.domain.events import AttemptStarted, CheckpointCompleted, ExecutionFailed, RunnerClaimed
from kitaru.domain.payload import Payload
from kitaru.domain.state import ExecutionStatus
from kitaru.runtime import code, operations, process, recovery
from kitaru.runtime.history import History
from kitaru.store.log import EventLog
from kitaru.store.sqlite.connection import database_path
from tests.runtime.crashing import PATIENCE
from tests.runtime.records import of_type

ran: list[object] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


def damage(store: Path, where: str) -> None:
    """Flip a bit of one event's body."""
    connection = sqlite3.connect(database_path(str(store)))
    ((position, body),) = connection.execute(f"SELECT position, body FROM events WHERE {where} LIMIT 1").fetchall()
    connection.execute(
        "UPDATE events SET body = ? WHERE position = ?", (body[:9] + bytes([body[9] ^ 1]) + body[10:], position)
    )
    connection.commit()
    connection.close()


# --- a refusal leaves it as it was -----------------------------------------------------------------------------------------


@checkpoint
def one(x: int) -> int:
    return x


@flow
def fails(x: int) -> int:
    one(x)
    raise ValueError(x)


@flow
def stops(x: int) -> int:
    found = one(x)
    process.stop_all()
    return one(found)


def test_a_retry_of_a_damaged_execution_leaves_it_failed(log: EventLog, store: Path) -> None:
    handle = fails.run(1)
    with pytest.raises(KitaruUserCodeError):
        handle.wait(PATIENCE)
    before = log.head(handle.exec_id)
    damage(store, "type = 'AttemptStarted'")
    with pytest.raises(KitaruBackendError, match="damaged"):
        operations.retry(log, handle.exec_id)
    assert log.head(handle.exec_id) == before


def test_taking_a_damaged_execution_claims_nothing(log: EventLog, store: Path) -> None:
    handle = stops.run(1)
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    before = log.head(handle.exec_id)
    damage(store, "type = 'AttemptStarted'")
    for _ in range(2):
        with pytest.raises(KitaruBackendError, match="damaged"):
            recovery.take_over(log, handle.exec_id)
    assert log.head(handle.exec_id) == before


def test_inputs_that_are_damaged_are_found_before_the_claim(log: EventLog, store: Path) -> None:
    handle = stops.run(x="long" * 50_000)  # type: ignore[arg-type]
    with pytest.raises(KitaruError):
        handle.wait(PATIENCE)
    before = log.head(handle.exec_id)
    connection = sqlite3.connect(database_path(str(store)))
    connection.execute("UPDATE blobs SET data = ?", (b"x" * 200_002,))
    connection.commit()
    connection.close()
    with pytest.raises(KitaruBackendError, match="damaged"):
        recovery.take_over(log, handle.exec_id)
    assert log.head(handle.exec_id) == before


@pytest.mark.parametrize(
    "events",
    [
        [CheckpointCompleted(at=1, call=1, attempt=1, output=Payload.of(b"1", "k1"))],
        [
            AttemptStarted(at=1, call=1, attempt=1, invocation_id="a", name="a", input_digest="d"),
            AttemptStarted(at=1, call=1, attempt=1, invocation_id="b", name="b", input_digest="d"),
        ],
        [
            AttemptStarted(at=1, call=1, attempt=1, invocation_id="a", name="a", input_digest="d"),
            AttemptStarted(at=1, call=2, attempt=1, invocation_id="a", name="a", input_digest="d"),
        ],
    ],
    ids=["an end without a start", "a call twice", "an id twice"],
)
def test_events_that_tell_no_story_are_a_damaged_store(events: list[Any]) -> None:
    with pytest.raises(KitaruBackendError, match="do not fit together"):
        History().extend(events)


# --- odd code ------------------------------------------------------------------------------------------------------------


@flow
async def exits() -> None:
    await asyncio.sleep(0)
    sys.exit(2)


def test_an_exit_of_an_async_flow_says_nothing_on_the_side(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(KitaruUserCodeError, match="SystemExit: 2"):
        exits.run().wait(PATIENCE)
    gc.collect()
    assert caplog.records == []


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        ran.append("logged")
        return fn(*args, **kwargs)

    return wrapper


def test_a_flow_may_stand_on_a_decorated_function() -> None:
    @flow
    @logged
    def plain(x: int, y: int = 2) -> int:
        return x + y

    assert plain.run(1).wait(PATIENCE) == 3
    assert ran == ["logged"]


def test_a_decorated_parameter_may_not_have_an_options_name() -> None:
    def stacked(stack: str) -> str:
        return stack

    with pytest.raises(KitaruUsageError, match="'stack'"):
        flow(logged(stacked))


def test_an_attribute_of_the_function_hides_nothing() -> None:
    def body(x: int) -> int:
        return x

    body.run = "a text"  # type: ignore[attr-defined]
    assert flow(body).run(x=2).wait(PATIENCE) == 2


@checkpoint
def squared(x: int) -> int:
    return x * x


@checkpoint
def total(held: Any) -> int:
    return sum(held.values() if isinstance(held, dict) else held)


@flow
def sums(kind: str) -> int:
    futures = [squared.submit(2), squared.submit(3)]
    held: Any = {"list": futures, "tuple": tuple(futures), "dict": dict(enumerate(futures))}[kind]
    return total(held) + total(held=held)


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_futures_that_an_argument_holds_are_awaited_and_are_parents(log: EventLog, kind: str) -> None:
    handle = sums.run(kind)
    assert handle.wait(PATIENCE) == 26
    assert [event.parents for event in of_type(log, handle.exec_id, AttemptStarted)][2:] == [(1, 2), (1, 2)]


@flow
def fails_twice() -> None:
    ran.append(len(ran))
    raise ValueError(len(ran))


def test_the_cause_of_an_error_is_that_of_the_last_try(log: EventLog) -> None:
    handle = fails_twice.run()
    with pytest.raises(KitaruUserCodeError) as first:
        handle.wait(PATIENCE)
    assert str(first.value.__cause__) == "1"
    operations.retry(log, handle.exec_id, flow=fails_twice)
    with pytest.raises(KitaruUserCodeError) as second:
        handle.wait(PATIENCE)
    assert str(second.value.__cause__) in {"2", "None"}


def test_a_client_sees_the_store_that_is_there_now(store: Path) -> None:
    client = KitaruClient(store=store)
    first = squares.run(1)
    first.wait(PATIENCE)
    assert [each.exec_id for each in client.executions.list()] == [first.exec_id]
    close_logs()
    shutil.rmtree(store)
    second = squares.run(2)
    second.wait(PATIENCE)
    assert [each.exec_id for each in client.executions.list()] == [second.exec_id]


@flow
def squares(x: int) -> int:
    return squared(x)


# --- code in files -------------------------------------------------------------------------------------------------------

CACHED = "from kitaru import checkpoint, flow\n\n@checkpoint(cache=True)\ndef price(x):\n    return 'old ' + x\n\n"
CACHED += "@flow\ndef priced(x):\n    return price(x)\n"


@pytest.mark.usefixtures("loaded_modules")
def test_code_that_was_edited_since_it_was_loaded_is_neither_reused_nor_recorded_as_the_files(
    log: EventLog, tmp_path: Path
) -> None:
    file = tmp_path / "edited_since.py"
    file.write_text(CACHED)
    old = code.load_flow(f"{file}:priced")
    file.write_text(CACHED.replace("old ", "quite new "))
    handle = old.run("a")
    assert handle.wait(PATIENCE) == "old a"
    started = next(iter(log.read(handle.exec_id))).event
    assert started.target.digest is None  # type: ignore[attr-defined]
    assert all(event.reuse_key is None for event in of_type(log, handle.exec_id, CheckpointCompleted))


@pytest.mark.usefixtures("loaded_modules")
def test_going_on_with_code_that_was_edited_since_it_was_loaded_says_so_once(
    log: EventLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "loaded_before.py"
    file.write_text(CACHED)
    handles = [code.load_flow(f"{file}:priced").run("a", stack="worker") for _ in range(2)]
    file.write_text(CACHED + "# changed\n")
    with caplog.at_level(logging.WARNING, "kitaru"):
        for handle in handles:
            runner = recovery.take_over(log, handle.exec_id)
            assert runner is not None
            assert runner.done.wait(PATIENCE)
    assert ["restart to run the new code" in record.message for record in caplog.records] == [True]


@pytest.mark.usefixtures("loaded_modules")
def test_a_claim_records_that_the_source_changed(log: EventLog, tmp_path: Path) -> None:
    file = tmp_path / "claimed_later.py"
    file.write_text(CACHED)
    handle = code.load_flow(f"{file}:priced").run("a", stack="worker")
    file.write_text(CACHED + "# changed\n")
    runner = recovery.take_over(log, handle.exec_id)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    assert [event.file_digest for event in of_type(log, handle.exec_id, RunnerClaimed)] == [code.file_digest(str(file))]


@pytest.mark.usefixtures("loaded_modules")
@pytest.mark.parametrize("name", ["time", "sys", "itertools"])
def test_a_file_may_be_named_like_a_module_that_is_built_in(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text(CACHED)
    assert code.load_flow(f"{file}:priced").run("a").wait(PATIENCE) == "old a"


@pytest.mark.usefixtures("loaded_modules")
def test_a_script_inside_a_package_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "of_scripts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "lies_beside_it.py").write_text("")
    (package / "script.py").write_text("import lies_beside_it\n" + CACHED)
    assert code.load_flow(f"{package / 'script.py'}:priced").run("a").wait(PATIENCE) == "old a"


@pytest.mark.usefixtures("loaded_modules")
def test_a_file_that_raises_anything_cannot_be_loaded(tmp_path: Path) -> None:
    file = tmp_path / "raises_anything.py"
    file.write_text("class Odd(BaseException): ...\nraise Odd('at import')\n")
    with pytest.raises(KitaruRuntimeError, match="Odd: at import"):
        code.load_flow(f"{file}:priced")


WAITING = (
    "import kitaru\n\n@kitaru.flow\nasync def waits({name}):\n    return await kitaru.wait_async(schema=int, timeout=0)\n"
)


@pytest.mark.usefixtures("loaded_modules")
def test_an_async_flow_whose_parameters_changed_fails(log: EventLog, tmp_path: Path) -> None:
    file = tmp_path / "renamed_parameter.py"
    file.write_text(WAITING.format(name="x"))
    handle = code.load_flow(f"{file}:waits").run(x=1)
    deadline = PATIENCE
    while process.is_here(log.location, handle.exec_id) and deadline > 0:
        deadline -= 0.01
        log.changes.wait(log.changes.token(), 0.01)
    operations.answer(log, handle.exec_id, "wait", 1)
    del sys.modules["renamed_parameter"]
    for key in [key for key in code.flows if key[0] == str(file)]:
        del code.flows[key]
    file.write_text(WAITING.format(name="another_name"))
    runner = recovery.take_over(log, handle.exec_id)
    assert runner is not None
    assert runner.done.wait(PATIENCE)
    assert log.head(handle.exec_id).state.status is ExecutionStatus.FAILED
    assert of_type(log, handle.exec_id, ExecutionFailed)[0].exception_type == "builtins.TypeError"


# --- a body that does not let itself be ended ----------------------------------------------------------------------------


@flow
def swallows(rounds: int) -> str:
    for _ in range(rounds):
        try:
            kitaru.wait(name="n", timeout=0)
        except BaseException as error:
            ran.append(type(error).__name__)
    return "left at last"


def test_a_body_that_swallows_its_end_is_told_of_and_does_not_spin(log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kitaru"):
        handle = swallows.run(24)
        deadline = PATIENCE
        while log.head(handle.exec_id).state.runner is not None and deadline > 0:
            deadline -= 0.01
            log.changes.wait(log.changes.token(), 0.01)
    assert log.head(handle.exec_id).state.status is ExecutionStatus.WAITING
    assert [record.message for record in caplog.records] == [
        f"the flow of {handle.exec_id} catches what ends its body, and goes on: catch Exception, not BaseException"
    ]
