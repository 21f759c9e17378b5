"""Ids by prefix, and errors that name the store."""

from __future__ import annotations

import pytest

from kitaru.client import KitaruClient
from kitaru.domain.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.store.log import EventLog
from tests.client.recording import append, completed, opened, started


def test_the_beginning_of_an_id_is_enough(client: KitaruClient, log: EventLog) -> None:
    head = started(log)
    assert client.executions.get(head.exec_id[:20].upper()).exec_id == head.exec_id


def test_an_ambiguous_beginning_lists_the_candidates(client: KitaruClient, log: EventLog) -> None:
    one, two = started(log), started(log)
    with pytest.raises(KitaruUsageError) as caught:
        client.executions.get("0")
    assert one.exec_id in caught.value.message
    assert two.exec_id in caught.value.message
    assert caught.value.code == "ambiguous-id"
    assert caught.value.message.endswith("; type more of the id; see: kitaru executions list")


@pytest.mark.parametrize("unknown", ["zzz", "%", "_", "\0", "\ud800", "../x", "x" * 5000])
def test_an_unknown_id_names_the_store(client: KitaruClient, log: EventLog, unknown: str) -> None:
    started(log)
    with pytest.raises(KitaruNotFoundError) as caught:
        client.executions.get(unknown)
    assert client.store.location in caught.value.message


def test_a_store_that_was_never_written_has_no_execution(client: KitaruClient) -> None:
    with pytest.raises(KitaruNotFoundError):
        client.executions.get("0")


@pytest.mark.parametrize("nothing", ["", "  ", None, 3])
def test_no_id_is_a_usage_error(client: KitaruClient, log: EventLog, nothing: object) -> None:
    with pytest.raises(KitaruUsageError):
        client.executions.get(nothing)  # type: ignore[arg-type]


def test_an_artifact_is_found_by_a_shortened_id(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1, {"a": 1}))
    (whole,) = client.artifacts.list(head.exec_id)
    short = whole.artifact_id.replace(head.exec_id, head.exec_id[:30])
    assert client.artifacts.get(short) == whole


@pytest.mark.parametrize("wrong", ["", "a1", "0.c1", "0.ax", "0.a-1", "0.a0", None])
def test_what_is_no_artifact_id_is_a_usage_error(client: KitaruClient, log: EventLog, wrong: object) -> None:
    started(log)
    with pytest.raises(KitaruUsageError):
        client.artifacts.get(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [1, 99])
def test_an_event_that_is_no_artifact_is_not_found(client: KitaruClient, log: EventLog, version: int) -> None:
    head = started(log)
    for ask in (client.artifacts.get, client.artifacts.load):
        with pytest.raises(KitaruNotFoundError):
            ask(f"{head.exec_id}.a{version}")
