"""Retry from outside, erasure, the limit on events, and the words of a refusal."""

from __future__ import annotations

import pytest

from kitaru.domain import commands as c
from kitaru.domain import limits
from kitaru.domain.decide import decide
from kitaru.domain.errors import KitaruRuntimeError, KitaruStateError
from kitaru.domain.events import (
    AttemptFailed,
    CheckpointFailed,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRetried,
    ExecutionStarted,
    ExecutionSuspended,
    MetadataLogged,
    PayloadErased,
)
from kitaru.domain.state import ExecutionStatus
from tests.domain.samples import NOW, Execution, opened, sample

# --- retry ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def failed() -> Execution:
    execution = Execution()
    execution.report(sample(ExecutionFailed))
    return execution


def test_a_retry_runs_the_same_execution_under_a_new_runner(failed: Execution) -> None:
    assert failed.do(c.Retry("ann", "r2")) == ["ExecutionRetried", "RunnerClaimed"]
    assert (failed.state.status, failed.state.runner, failed.state.epoch) == (ExecutionStatus.RUNNING, "r2", 2)


def test_a_retry_without_a_runner_is_left_to_a_worker(failed: Execution) -> None:
    assert failed.do(c.Retry("ann", None)) == ["ExecutionRetried"]
    assert failed.do(c.Claim("w1", None)) == ["RunnerClaimed"]


def test_a_retry_says_who_asked_and_which_source(failed: Execution) -> None:
    failed.do(c.Retry("ann", None, file_digest="d2"))
    assert failed.events[-1] == ExecutionRetried(at=NOW, by="ann", automatic=False, file_digest="d2")


def test_a_retry_drops_a_cancel_that_came_too_late() -> None:
    execution = Execution()
    execution.do(c.Cancel("ann", None))
    execution.report(sample(ExecutionFailed))
    execution.do(c.Retry("ann", "r2"))
    assert not execution.state.cancel_requested
    assert execution.report(opened(1)) == ["AttemptStarted"]


def test_a_retry_can_fail_and_be_retried_again(failed: Execution) -> None:
    failed.do(c.Retry("ann", "r2"))
    failed.report(sample(ExecutionFailed))
    assert failed.do(c.Retry("ann", "r3")) == ["ExecutionRetried", "RunnerClaimed"]


# --- erase ------------------------------------------------------------------------------------------------------------


def test_an_erasure_reaches_to_the_last_event_before_it(failed: Execution) -> None:
    version = failed.state.version
    failed.do(c.Erase("ann"))
    assert failed.events[-1] == PayloadErased(at=NOW, by="ann", through=version)


# --- the limit on events ----------------------------------------------------------------------------------------------


def at_version(version: int) -> Execution:
    """An execution of that many events; call 1 is in flight."""
    execution = Execution()
    execution.report(opened(1))
    execution.state = execution.state._replace(version=version)
    return execution


def test_the_last_event_under_the_limit_is_taken() -> None:
    assert at_version(limits.MAX_EVENTS - 1).report(sample(MetadataLogged)) == ["MetadataLogged"]


def test_an_event_past_the_limit_is_refused_by_a_code_of_its_own() -> None:
    with pytest.raises(KitaruRuntimeError) as caught:
        at_version(limits.MAX_EVENTS).report(sample(MetadataLogged))
    assert caught.value.code == "event-limit"
    assert "1000000" in str(caught.value)


def test_a_report_that_would_cross_the_limit_is_refused_whole() -> None:
    execution = at_version(limits.MAX_EVENTS - 1)
    with pytest.raises(KitaruRuntimeError):
        execution.report(sample(MetadataLogged), sample(MetadataLogged))
    assert execution.state.version == limits.MAX_EVENTS - 1


def test_what_ends_the_execution_may_follow_the_limit() -> None:
    execution = at_version(limits.MAX_EVENTS)
    assert execution.report(sample(AttemptFailed), sample(CheckpointFailed), sample(ExecutionFailed))


@pytest.mark.parametrize("end", [ExecutionSuspended, ExecutionCompleted])
def test_a_flow_may_leave_and_complete_past_the_limit(end) -> None:
    execution = Execution()
    execution.state = execution.state._replace(version=limits.MAX_EVENTS)
    assert execution.report(sample(end)) == [end.__name__]


def test_an_execution_is_cancelled_past_the_limit() -> None:
    execution = at_version(limits.MAX_EVENTS)
    assert execution.do(c.Cancel("ann", None)) == ["CancelRequested"]
    assert execution.report(sample(ExecutionCancelled)) == ["ExecutionCancelled"]


# --- the words of a refusal -------------------------------------------------------------------------------------------


def test_a_refusal_says_what_the_status_is_and_has_to_be() -> None:
    with pytest.raises(KitaruStateError, match="Retry is not possible: the execution is running; it has to be failed"):
        Execution().do(c.Retry("ann", None))


@pytest.mark.parametrize(
    ("status", "command", "hint"),
    [
        ("running", c.Retry("ann", None), "resume EXECUTION, or kitaru recover$"),
        ("waiting", c.Retry("ann", None), "resume EXECUTION, or kitaru recover$"),
        ("completed", c.Retry("ann", None), "replay EXECUTION --from CHECKPOINT$"),
        ("cancelled", c.Retry("ann", None), "replay EXECUTION --from CHECKPOINT$"),
        ("failed", c.Resume("ann", None, None), "retry EXECUTION$"),
        ("completed", c.Resume("ann", None, None), "replay EXECUTION --from CHECKPOINT$"),
        ("cancelled", c.Resume("ann", None, None), "replay EXECUTION --from CHECKPOINT$"),
    ],
)
def test_a_refusal_says_what_is_possible_instead(status: str, command: c.Command, hint: str) -> None:
    state = Execution().state._replace(status=ExecutionStatus(status))
    with pytest.raises(KitaruStateError, match=f"the execution is {status}.* kitaru executions {hint}"):
        decide(state, command, NOW)


def test_a_second_start_is_told_that_the_execution_exists() -> None:
    with pytest.raises(KitaruStateError, match="the execution is running; it has to be absent"):
        Execution().do(c.Start(sample(ExecutionStarted), None))


def test_a_refusal_of_an_event_that_is_no_report_says_so() -> None:
    with pytest.raises(KitaruStateError, match="PayloadErased cannot be reported"):
        Execution().report(sample(PayloadErased))


def test_a_refusal_has_the_code_of_its_class(failed: Execution) -> None:
    with pytest.raises(KitaruStateError) as caught:
        failed.do(c.Cancel("ann", None))
    assert caught.value.code == "state"
