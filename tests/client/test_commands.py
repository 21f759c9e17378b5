"""What the client changes: tags, deletion, recovery."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kitaru.client import KitaruClient
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import (
    KitaruFeatureNotAvailableError,
    KitaruNotFoundError,
    KitaruRuntimeError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.store.log import EventLog, Head
from tests.client.recording import append, failure, started, value, wait


def test_tags_are_added_and_removed(client: KitaruClient, log: EventLog) -> None:
    head = started(log, tags=("a", "b"))
    assert client.executions.tag(head.exec_id[:30], add=["c", "c"], remove="a").tags == ("b", "c")
    assert client.executions.list(tags=["a"]) == []


def test_a_tag_says_who_gave_it(client: KitaruClient, log: EventLog) -> None:
    head = started(log)
    client.executions.tag(head.exec_id, add="x")
    last = client.executions.events(head.exec_id)[-1]
    assert (last.type, bool(last.data["by"])) == ("TagsChanged", True)


@pytest.mark.parametrize("add", ["", " ", "a\nb", "\x1b[31m", "x" * 257, [3], ["ok", ""], [str(i) for i in range(101)]])
def test_what_cannot_be_a_tag_is_refused_and_changes_nothing(client: KitaruClient, log: EventLog, add: object) -> None:
    head = started(log)
    with pytest.raises(KitaruUsageError):
        client.executions.tag(head.exec_id, add=add)  # type: ignore[arg-type]
    assert log.head(head.exec_id) == log.head(head.exec_id)._replace(digest=head.digest)


def test_no_tag_at_all_is_refused(client: KitaruClient, log: EventLog) -> None:
    with pytest.raises(KitaruUsageError):
        client.executions.tag(started(log).exec_id)


def test_a_finished_execution_is_deleted(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), e.ExecutionCompleted(at=9, output=value(1)))
    client.executions.delete(head.exec_id)
    assert client.executions.list() == []
    with pytest.raises(KitaruNotFoundError):
        client.executions.get(head.exec_id)


def test_a_running_execution_is_not_deleted(client: KitaruClient, log: EventLog) -> None:
    head = started(log)
    with pytest.raises(KitaruStateError):
        client.executions.delete(head.exec_id)
    assert len(client.executions.list()) == 1


def test_what_is_lost_is_found_oldest_first(client: KitaruClient, log: EventLog) -> None:
    lost = [started(log, runner="gone").exec_id, started(log, runner="gone too").exec_id]
    append(log, started(log, runner="gone"), e.ExecutionCompleted(at=9, output=value(1)))
    assert client.executions.find_lost() == lost


LEFT = e.ExecutionSuspended(at=4)
QUEUED: dict[str, Callable[[EventLog], Head]] = {
    "started for a worker": lambda log: started(log, stack="worker", runner=None),
    "left by a worker that was stopped": lambda log: append(log, started(log, stack="worker"), LEFT),
    "resumed for a worker": lambda log: execute(log, append(log, started(log), LEFT), c.Resume("me", None, None)),
    "retried for a worker": lambda log: execute(log, append(log, started(log), failure()), c.Retry("me", None)),
    "answered on a worker's stack": lambda log: execute(
        log, append(log, started(log, stack="worker"), wait(1), LEFT), c.Answer("approve", value(True), "me")
    ),
}
LOST: dict[str, Callable[[EventLog], Head]] = {
    "of a dead process": started,
    "of a dead worker": lambda log: started(log, stack="worker"),
    "retried by a process that died": lambda log: execute(log, append(log, started(log), failure()), c.Retry("me", "gone")),
    "stopped by Ctrl-C": lambda log: append(log, started(log), LEFT),
    "answered": lambda log: execute(log, append(log, started(log), wait(1), LEFT), c.Answer("approve", value(True), "me")),
    "stopped in the middle of a branch": lambda log: append(
        log, started(log), wait(1), e.ExecutionSuspended(at=5, leaves_work=True)
    ),
}


def execute(log: EventLog, head: Head, command: c.Command) -> Head:
    """Ask it, and tag it afterwards: what came last is not what it was left by."""
    log.execute(head.exec_id, command, 9)
    return log.execute(head.exec_id, c.ChangeTags(("seen",), (), "me"), 10)[0]


@pytest.mark.parametrize("how", QUEUED)
def test_what_is_queued_for_workers_is_left_to_them(client: KitaruClient, log: EventLog, how: str) -> None:
    head = QUEUED[how](log)
    assert client.executions.find_lost() == []
    assert client.executions.recover() == []
    assert log.head(head.exec_id).version == head.version


@pytest.mark.parametrize("how", QUEUED)
def test_what_is_queued_for_workers_is_recovered_by_its_id(client: KitaruClient, log: EventLog, how: str) -> None:
    head = QUEUED[how](log)
    assert client.executions.find_lost(head.exec_id) == [head.exec_id]


@pytest.mark.parametrize("how", LOST)
def test_what_no_worker_was_asked_to_do_is_lost(client: KitaruClient, log: EventLog, how: str) -> None:
    head = LOST[how](log)
    assert client.executions.find_lost() == [head.exec_id]


def test_recovering_what_is_not_lost_is_refused(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), e.ExecutionCompleted(at=9, output=value(1)))
    with pytest.raises(KitaruStateError, match="not lost"):
        client.executions.recover(head.exec_id)


def test_a_recovery_whose_code_is_not_trusted_is_refused_and_changes_nothing(client: KitaruClient, log: EventLog) -> None:
    head = started(log, file=__file__)
    with pytest.raises(KitaruRuntimeError, match="kitaru trust"):
        client.executions.recover(head.exec_id)
    assert log.head(head.exec_id).version == head.version


def test_nothing_lost_recovers_nothing(client: KitaruClient, log: EventLog) -> None:
    assert client.executions.recover() == []


@pytest.mark.parametrize("server", [{"server_url": "https://example.org"}, {"auth_token": "t"}, {"store": "https://x.org"}])
def test_a_server_is_not_available_yet(server: dict[str, str]) -> None:
    with pytest.raises(KitaruFeatureNotAvailableError):
        KitaruClient(**server)  # type: ignore[arg-type]
