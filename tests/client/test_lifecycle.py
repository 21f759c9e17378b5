"""What the client asks of executions that wait, failed, or go on: snapshots at once, and the same answers as a list."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from kitaru.client import KitaruClient
from kitaru.compose import close_logs
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import (
    KitaruBackendError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruWaitValidationError,
)
from kitaru.runtime import process
from kitaru.runtime.code import target_of
from kitaru.runtime.trust import trust_tree
from kitaru.settings import StoreChoice
from kitaru.store.log import EventLog, Head
from kitaru.testing.events import new_id
from tests.client.recording import append, completed, failure, opened, started, value, wait

FLOW = """
from kitaru import checkpoint, flow

@checkpoint
def step():
    return 1

@flow
def simple(n: int = 1):
    return step() + n
"""


def suspended(log: EventLog, *events: e.EventBase) -> Head:
    return append(log, started(log), *events, e.ExecutionSuspended(at=5))


@pytest.fixture
def failed(log: EventLog, tmp_path: Path) -> Head:
    """A failed execution whose flow can be loaded."""
    file = tmp_path / "flows" / "lifecycle_flows.py"
    file.parent.mkdir()
    file.write_text(FLOW)
    trust_tree(log.store_id, str(file.parent))
    event = e.ExecutionStarted(
        at=1, flow_id="id", flow_name="simple", project="default", target=target_of(str(file), "simple"),
        options=e.FlowOptions(), stack="local", tags=(), inputs=value({"n": 1}),
    )  # fmt: skip
    head = log.execute(new_id(), c.Start(event, "gone"), 1)[0]
    return append(log, head, opened(1), completed(1), failure())


def test_the_inbox_is_over_all_executions_oldest_first(client: KitaruClient, log: EventLog) -> None:
    """The oldest is the one that was recorded first: times inform, positions order."""
    suspended(log, wait(1, "first", at=90))
    suspended(log, wait(1, "second", at=30), wait(2, "third", at=99))
    suspended(log, wait(1, "sleep", kind="timer", question=None, expires_at=10**17))
    assert [each.name for each in client.executions.pending_waits()] == ["first", "second", "third"]


def test_the_inbox_is_of_one_project(client: KitaruClient, log: EventLog) -> None:
    append(log, started(log, project="other"), wait(1))
    assert list(client.executions.pending_waits()) == []


def statements_of(client: KitaruClient, act: Callable[[], object]) -> list[str]:
    """What SQLite is asked meanwhile, transactions aside."""
    pool = client.executions._access.reader("anything")._pool
    connections, asked = [pool.take() for _ in range(3)], list[str]()
    for connection in connections:
        connection.set_trace_callback(asked.append)
        pool.give(connection)
    act()
    for connection in connections:
        connection.set_trace_callback(None)
    return [sql for sql in asked if sql not in ("BEGIN", "ROLLBACK")]


def test_the_inbox_is_one_statement_however_many_wait(client: KitaruClient, log: EventLog) -> None:
    for _ in range(3):
        suspended(log, *(wait(number, f"w{number}", metadata=value({"n": number})) for number in range(1, 11)))
    assert len(statements_of(client, client.executions.pending_waits)) == 1
    assert len(client.executions.pending_waits()) == 30


def test_a_list_asks_as_much_however_many_wait(client: KitaruClient, log: EventLog) -> None:
    suspended(log, wait(1))
    few = statements_of(client, client.executions.list)
    for _ in range(5):
        suspended(log, *(wait(number, f"w{number}") for number in range(1, 11)))
    assert len(statements_of(client, client.executions.list)) == len(few)


@pytest.mark.parametrize(
    "more",
    [
        {"question": None, "json_schema": None},
        {"metadata": value({"amount": 3, "nested": {"a": [1]}}), "expires_at": 10**15},
        {"question": value("long " * 4000)},
        {"json_schema": value({"enum": ["x" * 200] * 100})},
        {"metadata": value({"when": {"$": "float", "v": "nan"}}), "question": value("é\u2028 \\ end")},
    ],
    ids=["a gate", "metadata and a time", "a long question", "a long schema", "tagged values and odd characters"],
)
def test_the_inbox_says_what_the_execution_says(client: KitaruClient, log: EventLog, more: dict[str, object]) -> None:
    head = suspended(log, wait(1, **more))
    (found,) = client.executions.pending_waits()
    assert found == client.executions.get(head.exec_id).pending_waits[0]
    assert found.model_dump() == client.executions.list()[0].pending_waits[0].model_dump()


@pytest.mark.parametrize("damage", ["question = x'ff'", "whole = 0, version = 1", "opened_at = 'soon'"])
def test_a_damaged_row_of_the_inbox_is_read_from_its_events_and_told(
    client: KitaruClient, log: EventLog, choice: StoreChoice, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    heads = [suspended(log, wait(1)) for _ in range(2)]
    whole = [each.model_dump() for each in client.executions.pending_waits()]
    close_logs()
    damaged(choice, "pending_waits", damage, heads[0])
    assert [each.model_dump() for each in client.executions.pending_waits()] == whole
    assert [message.count(heads[0].exec_id) for message in caplog.messages] == [1]
    assert "`kitaru store rebuild`" in caplog.text
    listed = [each.model_dump() for each in client.executions.list()[::-1]]
    assert [pending for each in listed for pending in each["pending_waits"]] == whole
    assert len(caplog.messages) == 2


def damaged(choice: StoreChoice, table: str, damage: str, head: Head) -> None:
    """Change a row of a read model behind the store's back."""
    with contextlib.closing(sqlite3.connect(Path(choice.location) / "kitaru.db")) as db, db:
        db.execute(f"UPDATE {table} SET {damage} WHERE number = ?", (head.number,))


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        ("execution_details", "spec = substr(spec, 1, 9)"),
        ("execution_details", "tags = '['"),
        ("execution_details", "metadata = x'ff'"),
        ("executions", "status = 'complete'"),
        ("executions", "started_at = 'soon'"),
    ],
)
def test_a_damaged_row_hides_no_other_and_is_read_from_its_events_and_told(
    client: KitaruClient, log: EventLog, choice: StoreChoice, table: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    heads = [started(log, tags=("t",), metadata={"score": n}) for n in range(3)]
    whole = [each.model_dump() for each in client.executions.list()]
    close_logs()
    damaged(choice, table, damage, heads[1])
    assert [each.model_dump() for each in client.executions.list()] == whole
    (message,) = caplog.messages
    assert message.startswith(f"the read model's row of execution '{heads[1].exec_id}' is damaged")
    assert "`kitaru store rebuild`" in message
    assert client.executions.peek(heads[1].exec_id).model_dump() == whole[1]


def test_a_damaged_row_without_events_to_read_it_from_is_an_error(
    client: KitaruClient, log: EventLog, choice: StoreChoice
) -> None:
    head = started(log)
    close_logs()
    damaged(choice, "execution_details", "tags = '['", head)
    damaged(choice, "executions", "exec_id = 'another'", head)
    with pytest.raises(KitaruBackendError, match=r"row of execution 'another' is damaged.*kitaru store rebuild") as raised:
        client.executions.list()
    assert raised.value.code == "store-corrupt"


def test_an_inbox_without_a_store_is_empty(client: KitaruClient) -> None:
    assert list(client.executions.pending_waits()) == []


def test_a_pending_wait_names_its_execution(client: KitaruClient, log: EventLog) -> None:
    head = suspended(log, wait(1))
    (found,) = client.executions.pending_waits(head.exec_id[:30])
    assert (found.exec_id, found.wait_id) == (head.exec_id, f"{head.exec_id}.w1")


def test_an_answer_gives_the_execution_as_it_is_then(client: KitaruClient, log: EventLog) -> None:
    head = suspended(log, wait(1), wait(2, "other"))
    found = client.executions.input(head.exec_id, wait="approve", value=True, by="ann")
    assert (found.status, [each.name for each in found.pending_waits]) == ("waiting", ["other"])
    closed = (client.executions.get(head.exec_id).waits or ())[0]
    assert (closed.outcome, closed.value, closed.by) == ("answered", True, "ann")


def test_who_answers_is_the_user_of_the_machine_unless_it_is_said(client: KitaruClient, log: EventLog) -> None:
    head = suspended(log, wait(1))
    client.executions.input(head.exec_id, wait="approve", value=True)
    assert (client.executions.get(head.exec_id).waits or ())[0].by


@pytest.mark.parametrize("bad", ["yes", 1, None, float("nan"), object(), b"\xff", "\ud800"])
def test_an_answer_that_does_not_fit_changes_nothing(client: KitaruClient, log: EventLog, bad: object) -> None:
    head = suspended(log, wait(1))
    with pytest.raises(KitaruUsageError):
        client.executions.input(head.exec_id, wait="approve", value=bad)
    assert log.head(head.exec_id).version == head.version


def test_an_answer_that_fails_its_schema_is_a_validation_error(client: KitaruClient, log: EventLog) -> None:
    with pytest.raises(KitaruWaitValidationError, match="approve"):
        client.executions.input(suspended(log, wait(1)).exec_id, wait="approve", value="yes")


def test_an_unknown_wait_is_a_state_error_that_lists_the_names(client: KitaruClient, log: EventLog) -> None:
    with pytest.raises(KitaruStateError, match="'approve'"):
        client.executions.input(suspended(log, wait(1)).exec_id, wait="nope", value=True)


def test_an_abort_cancels(client: KitaruClient, log: EventLog) -> None:
    head = suspended(log, wait(1))
    assert client.executions.abort_wait(head.exec_id, wait="approve").status == "cancelled"
    assert (client.executions.get(head.exec_id).waits or ())[0].outcome == "aborted"


@pytest.mark.parametrize("close", ["answered", "answered-of-two", "expired", "stopped in the middle"])
def test_list_and_get_agree_on_an_execution_that_was_woken(client: KitaruClient, log: EventLog, close: str) -> None:
    if close == "expired":
        head = append(log, started(log), wait(1, expires_at=5), e.WaitExpired(at=9, wait=1), e.ExecutionSuspended(at=9))
    elif close == "stopped in the middle":
        head = append(log, started(log), wait(1), e.ExecutionSuspended(at=9, leaves_work=True))
    else:
        head = suspended(log, wait(1), *([wait(2, "b")] if close == "answered-of-two" else []))
        log.execute(head.exec_id, c.Answer("approve", value(True), "me"), 9)
    got, (listed,) = client.executions.get(head.exec_id), client.executions.list()
    whole = {"checkpoints": None, "artifacts": None, "waits": None, "llm_usage_records": None}
    assert got.model_copy(update=whole).model_dump() == listed.model_dump()


def test_peek_is_the_row_of_the_list(client: KitaruClient, log: EventLog) -> None:
    head = suspended(log, opened(1), completed(1), wait(1))
    assert client.executions.peek(head.exec_id).model_dump() == client.executions.list()[0].model_dump()
    with pytest.raises(KitaruNotFoundError):
        client.executions.peek("ffff")


def test_a_retry_goes_on_in_the_background_of_this_process(client: KitaruClient, failed: Head) -> None:
    found = client.executions.retry(failed.exec_id)
    assert (found.exec_id, found.failure, found.checkpoints) == (failed.exec_id, None, None)
    process.join_all()
    assert found.refresh().status == "completed"


def test_a_replay_is_a_new_execution(client: KitaruClient, failed: Head) -> None:
    found = client.executions.replay(failed.exec_id, from_="step", n=41)
    assert (found.original_exec_id, found.exec_id != failed.exec_id) == (failed.exec_id, True)
    process.join_all()
    assert found.refresh().status == "completed"


def test_a_snapshot_commands_its_execution_and_stays_as_it_was(client: KitaruClient, log: EventLog, failed: Head) -> None:
    snapshot = client.executions.get(failed.exec_id)
    assert snapshot.replay(from_="step").original_exec_id == failed.exec_id
    retried = snapshot.retry()
    process.join_all()
    assert (snapshot.status, retried.refresh().status) == ("failed", "completed")
    lost = client.executions.get(started(log).exec_id)
    assert (lost.cancel().status, lost.status) == ("cancelled", "running")
    with pytest.raises(KitaruStateError):
        lost.resume()
    with pytest.raises(ValidationError):
        snapshot.status = "completed"  # type: ignore[assignment, misc]


def test_a_detached_resume_is_left_to_a_worker(client: KitaruClient, log: EventLog) -> None:
    head = suspended(log)
    assert client.executions.resume(head.exec_id, detach=True).runner == "queued"


def test_bulk_commands_take_the_filters_of_a_list(client: KitaruClient, log: EventLog) -> None:
    wanted = started(log, "f", tags=("a", "b"), metadata={"tier": "pro"})
    started(log, "f", tags=("a",), metadata={"tier": "pro"})
    started(log, "g", tags=("a", "b"), metadata={"tier": "pro"})
    items = client.executions.cancel_all(flow="f", tags=["a", "b"], where={"tier": "pro"}, since="1970-01-01")
    assert [(item.execution.exec_id, item.outcome, item.execution.status) for item in items] == [
        (wanted.exec_id, "done", "cancelled")
    ]


def test_a_dry_run_changes_nothing(client: KitaruClient, log: EventLog) -> None:
    head = started(log)
    (item,) = client.executions.cancel_all(status="running", dry_run=True)
    assert (item.outcome, log.head(head.exec_id).version) == ("would", head.version)


@pytest.mark.parametrize("selection", [{}, {"status": "completed"}, {"status": []}, {"status": "nope"}, {"since": "soon"}])
def test_a_bulk_command_that_says_too_little_is_refused(
    client: KitaruClient, log: EventLog, selection: dict[str, object]
) -> None:
    head = started(log)
    with pytest.raises(KitaruUsageError):
        client.executions.cancel_all(**selection)  # type: ignore[arg-type]
    assert log.head(head.exec_id).version == head.version


def test_a_bulk_retry_runs_so_many_at_once(client: KitaruClient, failed: Head) -> None:
    with pytest.raises(KitaruUsageError):
        client.executions.retry_all(status="failed", concurrency=0)
    (item,) = client.executions.retry_all(status="failed", concurrency=1)
    process.join_all()
    assert (item.outcome, item.execution.refresh().status) == ("done", "completed")


def test_one_that_is_refused_says_why(client: KitaruClient, log: EventLog) -> None:
    append(log, started(log), failure())
    (item,) = client.executions.retry_all(status="failed")
    assert item.error is not None
    assert (item.outcome, item.error.type, item.error.code) == ("refused", "KitaruRuntimeError", "not-loadable")
