"""What `get` says of an execution: calls, attempts, waits, artifacts, failures, and the state as it was."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kitaru.client import Execution, KitaruClient
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.store.log import EventLog
from tests.client.recording import append, completed, failure, opened, started, value, wait


def test_a_completed_execution(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log, at=1_000_000), e.ExecutionCompleted(at=3_500_000, output=value(1)))
    found = client.executions.get(head.exec_id)
    assert (found.status, found.duration, found.runner, found.status_reason) == ("completed", 2.5, "none", None)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_execution_as_it_was_has_no_runner_of_today(client: KitaruClient, log: EventLog, at: int) -> None:
    head = append(log, started(log), opened(1), e.ExecutionCompleted(at=9, output=value(1)))
    found = client.executions.get(head.exec_id, at)
    assert (found.status, found.runner, found.status_reason) == ("running", "none", None)


def test_the_newest_version_has_its_runner(client: KitaruClient, log: EventLog) -> None:
    head = started(log)
    assert client.executions.get(head.exec_id, head.version) == client.executions.get(head.exec_id)
    assert client.executions.get(head.exec_id, head.version).runner == "lost"


def test_times_are_aware_and_in_utc(client: KitaruClient, log: EventLog) -> None:
    found = client.executions.get(started(log, at=1_000_000).exec_id)
    assert found.started_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert found.started_at.tzinfo is UTC


def test_an_unfinished_execution_has_no_duration(client: KitaruClient, log: EventLog) -> None:
    found = client.executions.get(started(log).exec_id)
    assert (found.ended_at, found.duration) == (None, None)


def test_no_duration_is_negative(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log, at=1_000_000), e.ExecutionCompleted(at=5, output=value(1)))
    assert client.executions.get(head.exec_id).duration == 0


def test_each_try_is_an_attempt_of_one_call(client: KitaruClient, log: EventLog) -> None:
    tries = (opened(1), failure(1), e.AttemptStarted(at=6, call=1, attempt=2), completed(1, attempt=2))
    head = append(log, started(log), *tries)
    (call,) = client.executions.get(head.exec_id).checkpoints or ()
    assert [(a.number, a.status) for a in call.attempts] == [(1, "failed"), (2, "completed")]
    assert (call.status, call.failure) == ("completed", None)


def test_a_failed_call_has_the_failure_of_its_last_attempt(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), opened(1), failure(1), e.CheckpointFailed(at=6, call=1, attempt=1))
    (call,) = client.executions.get(head.exec_id).checkpoints or ()
    assert call.failure is not None
    assert (call.status, call.failure.message, call.failure.origin) == ("failed", "no", "user_code")


def test_an_attempt_in_flight_when_another_runner_comes_is_interrupted(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), opened(1))
    log.execute(head.exec_id, c.Claim("other", 1), 10)
    (call,) = client.executions.get(head.exec_id).checkpoints or ()
    assert [(a.status, a.ended_at) for a in call.attempts] == [("interrupted", None)]


def test_a_parent_is_named_by_its_call(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1), opened(2, "next", parents=(1,)))
    calls = client.executions.get(head.exec_id).checkpoints or ()
    assert calls[1].parent_call_ids == (f"{head.exec_id}.c1",)


def test_a_reused_call_has_an_original_and_no_attempt(client: KitaruClient, log: EventLog) -> None:
    reused = e.CheckpointReused(
        at=2, call=1, invocation_id="s", name="s", input_digest="0", output=value(7), original_call_id="other.c4"
    )
    (call,) = client.executions.get(append(log, started(log), reused).exec_id).checkpoints or ()
    assert (call.status, call.original_call_id, call.attempts) == ("completed", "other.c4", ())


def test_metadata_lands_where_it_was_logged(client: KitaruClient, log: EventLog) -> None:
    inside = e.MetadataLogged(at=3, call=1, attempt=1, values=value({"tokens": 3}))
    outside = e.MetadataLogged(at=4, key="k", values=value({"deep": {"b": 2}}))
    head = append(log, started(log, metadata={"deep": {"a": 1}}), opened(1), inside, outside)
    found = client.executions.get(head.exec_id)
    assert found.metadata == {"deep": {"a": 1, "b": 2}}
    assert found.checkpoints is not None
    assert (found.checkpoints[0].metadata, found.checkpoints[0].attempts[0].metadata) == ({"tokens": 3}, {"tokens": 3})


def test_a_pending_wait_is_whole(client: KitaruClient, log: EventLog) -> None:
    found = client.executions.get(append(log, started(log), wait(1)).exec_id)
    assert found.status == "waiting"
    assert found.status_reason == "waiting for approve"
    assert found.pending_wait is not None
    assert (found.pending_wait.question, found.pending_wait.schema_) == ("ok?", {"type": "boolean"})


@pytest.mark.parametrize("listed", [False, True])
def test_an_expired_wait_is_the_reason_and_what_to_do_next(client: KitaruClient, log: EventLog, listed: bool) -> None:
    waits = (wait(1, expires_at=10), wait(2, "budget", expires_at=10**17))
    head = append(log, started(log), *waits, e.ExecutionSuspended(at=5))
    found = client.executions.list()[0] if listed else client.executions.get(head.exec_id)
    assert found.status_reason == (
        "waiting for approve (expired), budget; "
        f"go on with: kitaru executions resume {head.exec_id} (or leave it to a worker)"
    )


def test_the_past_knows_of_no_expiry(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), wait(1, expires_at=10))
    append(log, head, e.ExecutionSuspended(at=5))
    assert client.executions.get(head.exec_id, at=head.version).status_reason == "waiting for approve"


def test_an_answered_wait_says_how_it_was_closed(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), wait(1))
    log.execute(head.exec_id, c.Answer("approve", value(True), "ann"), 9)
    found = client.executions.get(head.exec_id)
    assert found.pending_waits == ()
    assert found.waits is not None
    assert (found.waits[0].outcome, found.waits[0].value, found.waits[0].by) == ("answered", True, "ann")


def test_a_timer_is_waiting_without_a_pending_wait(client: KitaruClient, log: EventLog) -> None:
    timer = wait(1, kind="timer", question=None, expires_at=60_000_000)
    found = client.executions.get(append(log, started(log), timer).exec_id)
    assert (found.status, found.pending_wait) == ("waiting", None)
    assert found.status_reason == "sleeping until 1970-01-01T00:01:00+00:00"


def test_progress_is_the_reason_of_a_live_run(client: KitaruClient, log: EventLog) -> None:
    told = e.MetadataLogged(at=2, key="k", values=value({"progress": {"message": "reading", "percent": 40}}))
    found = client.executions.get(append(log, started(log, runner=log.leases.acquire()), told).exec_id)
    assert (found.runner, found.status_reason) == ("alive", "reading, 40 %")


def test_a_runner_that_died_is_lost(client: KitaruClient, log: EventLog) -> None:
    found = client.executions.get(started(log, runner="gone").exec_id)
    assert found.runner == "lost"
    assert "kitaru recover" in (found.status_reason or "")


def test_what_nobody_has_claimed_yet_is_queued(client: KitaruClient, log: EventLog) -> None:
    found = client.executions.get(started(log, stack="worker", runner=None).exec_id)
    assert (found.status, found.runner, found.status_reason) == ("running", "queued", "queued on the stack worker")


def test_a_requested_cancel_is_the_reason(client: KitaruClient, log: EventLog) -> None:
    head = started(log)
    log.execute(head.exec_id, c.Cancel("me", None), 9)
    assert "cancel requested" in (client.executions.get(head.exec_id).status_reason or "")


def test_a_failed_execution_says_why(client: KitaruClient, log: EventLog) -> None:
    found = client.executions.get(append(log, started(log), failure()).exec_id)
    assert found.failure is not None
    assert (found.failure.message, found.failure.exception_type) == ("no", "builtins.ValueError")


def test_a_retry_takes_the_failure_back(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), failure())
    log.execute(head.exec_id, c.Retry("me", "other"), 9)
    found = client.executions.get(head.exec_id)
    assert (found.status, found.failure, found.ended_at) == ("running", None, None)


def test_a_large_question_is_loaded(client: KitaruClient, log: EventLog) -> None:
    found = client.executions.get(append(log, started(log), wait(1, question="q" * 20_000)).exec_id)
    assert found.pending_wait is not None
    assert found.pending_wait.question == "q" * 20_000


def test_it_can_be_seen_as_it_was(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1), e.ExecutionCompleted(at=9, output=value(1)))
    was = client.executions.get(head.exec_id, at=3)
    assert (was.version, was.status, was.checkpoint_count, was.artifact_count) == (3, "running", 1, 0)


@pytest.mark.parametrize("at", [0, -1, True, 99])
def test_a_version_that_it_never_had_is_refused(client: KitaruClient, log: EventLog, at: int) -> None:
    with pytest.raises(KitaruUsageError):
        client.executions.get(started(log).exec_id, at=at)


def test_secrets_among_the_options_are_masked(client: KitaruClient, log: EventLog) -> None:
    from kitaru.client.shown import masked

    assert masked({"env": [{"API_KEY": "x", "db_password": "y", "max_tokens": 3}]}) == {
        "env": [{"API_KEY": "***", "db_password": "***", "max_tokens": 3}]
    }


def test_what_was_erased_says_so(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log, metadata={"a": 1}), opened(1), completed(1), failure())
    log.erase(head.exec_id, "me", 20)
    found = client.executions.get(head.exec_id)
    assert found.metadata == {}
    assert found.failure is not None
    assert found.failure.message == "(erased)"
    with pytest.raises(KitaruNotFoundError, match="erased"):
        found.list_artifacts()[0].load()


def test_json_holds_whole_objects(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1), wait(1))
    found = client.executions.get(head.exec_id)
    plain = found.model_dump(mode="json", by_alias=True)
    assert plain["pending_wait"]["schema"] == {"type": "boolean"}
    assert plain["checkpoints"][0]["attempts"][0]["status"] == "completed"
    assert plain["started_at"].endswith("Z")


def test_json_gives_the_same_model_again(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log, tags=("a",), metadata={"x": [1]}), opened(1), failure(1), wait(1))
    for found in (client.executions.get(head.exec_id), client.executions.list()[0]):
        assert Execution.model_validate_json(found.model_dump_json(by_alias=True)).model_dump() == found.model_dump()


def test_a_snapshot_asks_its_client_for_a_newer_one(client: KitaruClient, log: EventLog) -> None:
    head = started(log)
    was = client.executions.get(head.exec_id)
    append(log, head, e.ExecutionCompleted(at=9, output=value(1)))
    assert (was.status, was.refresh().status) == ("running", "completed")


def test_a_snapshot_cannot_be_changed(client: KitaruClient, log: EventLog) -> None:
    found = client.executions.get(started(log).exec_id)
    with pytest.raises(ValueError, match="frozen"):
        found.status = "failed"  # type: ignore[misc,assignment]


@pytest.mark.parametrize("at", [-(2**62), 2**62])
def test_a_time_past_the_calendar_is_its_end(client: KitaruClient, log: EventLog, at: int) -> None:
    assert client.executions.get(started(log, at=at).exec_id).started_at.year in (1, 9999)
