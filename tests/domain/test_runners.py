"""Who may go on with an execution, and who is fenced: start, claim, resume, cancel, and reports by epoch."""

from __future__ import annotations

import pytest

from kitaru.domain import commands as c
from kitaru.domain.errors import KitaruFencedError, KitaruStateError
from kitaru.domain.events import (
    CheckpointCompleted,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionResumed,
    ExecutionRetried,
    ExecutionSuspended,
    MetadataLogged,
    RunnerClaimed,
    TagsChanged,
    WaitExpired,
    WaitOpened,
)
from kitaru.domain.state import ExecutionStatus
from tests.domain.samples import NOW, SECOND, VALUE, Execution, opened, sample


@pytest.fixture
def execution() -> Execution:
    return Execution()


def waiting(*, expires_at: int | None = None, kind: str = "input", runner: str | None = None) -> Execution:
    """An execution with one wait "approve" open, and a runner only if named."""
    execution = Execution()
    execution.report(sample(WaitOpened, kind=kind, expires_at=expires_at))
    if runner is None:
        execution.report(sample(ExecutionSuspended))
    return execution


# --- start ------------------------------------------------------------------------------------------------------------


def test_a_start_with_a_runner_is_claimed_in_the_same_step_as_epoch_1() -> None:
    execution = Execution("r1")
    assert execution.events[1:] == [RunnerClaimed(at=NOW, epoch=1, runner="r1")]
    assert (execution.state.epoch, execution.state.runner) == (1, "r1")


def test_a_start_without_a_runner_is_queued_as_running() -> None:
    execution = Execution(None)
    assert (execution.state.status, execution.state.runner, execution.state.epoch) == (ExecutionStatus.RUNNING, None, 0)


def test_a_queued_execution_is_claimed_by_a_worker() -> None:
    execution = Execution(None)
    assert execution.do(c.Claim("w1", None)) == ["RunnerClaimed"]
    assert (execution.state.epoch, execution.state.runner) == (1, "w1")


# --- claim and resume -------------------------------------------------------------------------------------------------

GO_ON = pytest.mark.parametrize(
    "go_on",
    [lambda lost: c.Claim("r2", lost), lambda lost: c.Resume("ann", "r2", lost)],
    ids=["claim", "resume"],
)


@GO_ON
def test_a_live_runner_is_not_replaced(execution: Execution, go_on) -> None:
    with pytest.raises(KitaruStateError, match="live runner"):
        execution.do(go_on(None))


@GO_ON
def test_a_lost_runner_is_replaced_under_the_next_epoch(execution: Execution, go_on) -> None:
    execution.do(go_on(1))
    assert (execution.state.epoch, execution.state.runner) == (2, "r2")


@GO_ON
def test_a_runner_that_claimed_since_the_loss_was_seen_is_not_replaced(execution: Execution, go_on) -> None:
    execution.do(c.Claim("r2", 1))
    with pytest.raises(KitaruStateError, match="live runner"):
        execution.do(go_on(1))


@GO_ON
def test_an_execution_whose_runner_left_goes_on(execution: Execution, go_on) -> None:
    execution.report(sample(ExecutionSuspended))
    execution.do(go_on(None))
    assert (execution.state.epoch, execution.state.runner) == (2, "r2")


@GO_ON
def test_what_waits_for_input_is_refused_with_the_names(go_on) -> None:
    execution = Execution()
    execution.report(sample(WaitOpened), sample(WaitOpened, wait=2, name="budget"), sample(ExecutionSuspended))
    with pytest.raises(KitaruStateError, match="'approve', 'budget'"):
        execution.do(go_on(None))


@GO_ON
def test_what_waits_goes_on_where_its_runner_left_work_behind(go_on) -> None:
    execution = Execution()
    execution.report(sample(WaitOpened), sample(ExecutionSuspended, leaves_work=True))
    assert execution.do(go_on(None))[-1] == "RunnerClaimed"
    execution.report(sample(ExecutionSuspended), epoch=2)
    with pytest.raises(KitaruStateError, match="'approve'"):
        execution.do(go_on(None))


@GO_ON
def test_what_was_answered_goes_on(go_on) -> None:
    execution = waiting()
    execution.do(c.Answer("approve", VALUE, "ann"))
    assert execution.do(go_on(None))[-1] == "RunnerClaimed"


@GO_ON
def test_a_sleeper_that_is_not_due_is_refused(go_on) -> None:
    execution = waiting(kind="timer", expires_at=NOW + 1)
    with pytest.raises(KitaruStateError, match="not due"):
        execution.do(go_on(None))


@GO_ON
def test_a_sleeper_goes_on_at_the_very_microsecond_it_is_due(go_on) -> None:
    execution = waiting(kind="timer", expires_at=NOW + 1)
    assert execution.do(go_on(None), at=NOW + 1)[-1] == "RunnerClaimed"


@GO_ON
def test_one_due_sleeper_of_two_is_enough(go_on) -> None:
    execution = Execution()
    execution.report(
        sample(WaitOpened, kind="timer", expires_at=NOW),
        sample(WaitOpened, wait=2, kind="timer", expires_at=NOW + 1),
        sample(ExecutionSuspended),
    )
    assert execution.do(go_on(None))[-1] == "RunnerClaimed"


@GO_ON
def test_an_input_that_has_expired_no_longer_holds_the_execution(go_on) -> None:
    execution = waiting(expires_at=NOW)
    assert execution.do(go_on(None))[-1] == "RunnerClaimed"


@GO_ON
def test_an_input_with_time_left_holds_the_execution(go_on) -> None:
    execution = waiting(expires_at=NOW + 1)
    with pytest.raises(KitaruStateError, match="'approve'"):
        execution.do(go_on(None))


@GO_ON
def test_going_on_leaves_the_waits_open(go_on) -> None:
    execution = waiting(expires_at=NOW)
    execution.do(go_on(None))
    assert execution.state.status is ExecutionStatus.WAITING
    assert [pending.name for pending in execution.state.pending] == ["approve"]


def test_a_resume_says_who_asked_and_which_source() -> None:
    execution = Execution(None)
    execution.do(c.Resume("ann", None, None, file_digest="d2"))
    assert execution.events[-1] == ExecutionResumed(at=NOW, by="ann", file_digest="d2")


def test_a_resume_without_a_runner_leaves_it_to_a_worker() -> None:
    execution = Execution(None)
    assert execution.do(c.Resume("ann", None, None)) == ["ExecutionResumed"]
    assert execution.state.runner is None


# --- fencing ----------------------------------------------------------------------------------------------------------


def test_a_report_of_an_earlier_epoch_is_fenced(execution: Execution) -> None:
    execution.do(c.Claim("r2", 1))
    with pytest.raises(KitaruFencedError):
        execution.report(sample(MetadataLogged), epoch=1)


def test_a_report_of_an_epoch_that_never_was_is_fenced(execution: Execution) -> None:
    with pytest.raises(KitaruFencedError):
        execution.report(sample(MetadataLogged), epoch=2)


def test_a_runner_that_left_is_fenced(execution: Execution) -> None:
    execution.report(sample(ExecutionSuspended))
    with pytest.raises(KitaruFencedError):
        execution.report(sample(MetadataLogged))


def test_the_runner_that_failed_is_fenced_once_the_execution_is_retried(execution: Execution) -> None:
    execution.report(sample(ExecutionFailed))
    execution.do(c.Retry("ann", None))
    with pytest.raises(KitaruFencedError):
        execution.report(sample(MetadataLogged), epoch=1)


def test_a_fenced_report_is_fenced_even_if_it_would_not_be_possible_anyway(execution: Execution) -> None:
    execution.do(c.Claim("r2", 1))
    with pytest.raises(KitaruFencedError):
        execution.report(sample(CheckpointCompleted, call=9), epoch=1)


def test_the_new_runner_reports_under_its_own_epoch(execution: Execution) -> None:
    execution.do(c.Claim("r2", 1))
    assert execution.report(sample(MetadataLogged), epoch=2) == ["MetadataLogged"]


def test_facts_reported_together_are_recorded_together_or_not_at_all(execution: Execution) -> None:
    with pytest.raises(KitaruStateError):
        execution.report(sample(MetadataLogged), sample(WaitExpired))
    assert execution.state.version == 2


def test_a_fact_may_build_on_the_one_reported_before_it(execution: Execution) -> None:
    assert execution.report(opened(1), sample(CheckpointCompleted)) == ["AttemptStarted", "CheckpointCompleted"]


def test_nothing_follows_the_end_within_one_report(execution: Execution) -> None:
    with pytest.raises(KitaruStateError):
        execution.report(sample(ExecutionCompleted), sample(MetadataLogged))


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_cancel_with_a_live_runner_only_asks_for_it(execution: Execution) -> None:
    assert execution.do(c.Cancel("ann", None)) == ["CancelRequested"]
    assert (execution.state.status, execution.state.cancel_requested) == (ExecutionStatus.RUNNING, True)


def test_cancel_of_a_queued_execution_ends_it_at_once() -> None:
    execution = Execution(None)
    assert execution.do(c.Cancel("ann", None)) == ["CancelRequested", "ExecutionCancelled"]
    assert execution.state.status is ExecutionStatus.CANCELLED


def test_cancel_of_a_suspended_wait_ends_it_at_once_and_closes_the_wait() -> None:
    execution = waiting()
    execution.do(c.Cancel("ann", None))
    assert (execution.state.status, execution.state.pending) == (ExecutionStatus.CANCELLED, ())


def test_cancel_with_a_lost_runner_ends_it_at_once(execution: Execution) -> None:
    assert execution.do(c.Cancel("ann", 1)) == ["CancelRequested", "ExecutionCancelled"]


def test_cancel_that_saw_an_earlier_runner_lost_only_asks_the_present_one(execution: Execution) -> None:
    execution.do(c.Claim("r2", 1))
    assert execution.do(c.Cancel("ann", 1)) == ["CancelRequested"]


def test_a_second_cancel_appends_nothing(execution: Execution) -> None:
    execution.do(c.Cancel("ann", None))
    assert execution.do(c.Cancel("bob", None)) == []


def test_a_second_cancel_ends_it_once_the_runner_is_lost(execution: Execution) -> None:
    execution.do(c.Cancel("ann", None))
    assert execution.do(c.Cancel("bob", 1)) == ["ExecutionCancelled"]


def test_the_runner_ends_what_was_cancelled(execution: Execution) -> None:
    execution.do(c.Cancel("ann", None))
    execution.report(sample(ExecutionCancelled))
    assert (execution.state.status, execution.state.runner) == (ExecutionStatus.CANCELLED, None)


def test_a_runner_does_not_cancel_what_nobody_asked_for(execution: Execution) -> None:
    with pytest.raises(KitaruStateError, match="nobody asked"):
        execution.report(sample(ExecutionCancelled))


@pytest.mark.parametrize("end", [ExecutionCompleted, ExecutionFailed])
def test_a_flow_that_ends_before_its_boundary_ends_as_it_did(execution: Execution, end) -> None:
    execution.do(c.Cancel("ann", None))
    assert execution.report(sample(end)) == [end.__name__]


def test_an_attempt_in_flight_finishes_under_a_cancel(execution: Execution) -> None:
    execution.report(opened(1))
    execution.do(c.Cancel("ann", None))
    assert execution.report(sample(CheckpointCompleted)) == ["CheckpointCompleted"]


@GO_ON
def test_going_on_with_what_is_being_cancelled_ends_the_cancel(execution: Execution, go_on) -> None:
    execution.do(c.Cancel("ann", None))
    execution.do(go_on(1))
    assert execution.state.status is ExecutionStatus.CANCELLED


def test_a_runner_does_not_suspend_what_is_being_cancelled(execution: Execution) -> None:
    execution.do(c.Cancel("ann", None))
    with pytest.raises(KitaruStateError, match="being cancelled"):
        execution.report(sample(ExecutionSuspended))


def test_an_acknowledged_cancel_is_not_forgotten_by_the_flows_own_retry(execution: Execution) -> None:
    execution.do(c.Cancel("ann", None))
    with pytest.raises(KitaruStateError, match="being cancelled"):
        execution.report(sample(ExecutionRetried, automatic=True))
    assert execution.state.cancel_requested


def test_cancel_says_who_asked(execution: Execution) -> None:
    execution.do(c.Cancel("ann", None))
    assert execution.events[-1].by == "ann"


# --- tags -------------------------------------------------------------------------------------------------------------


def test_tags_from_outside_need_no_runner_and_say_who(execution: Execution) -> None:
    execution.report(sample(ExecutionCompleted))
    execution.do(c.ChangeTags(("good",), ("new",), "ann"))
    assert execution.events[-1] == TagsChanged(at=NOW, by="ann", add=("good",), remove=("new",))


def test_a_clock_that_went_back_leaves_the_sleeper_asleep() -> None:
    execution = waiting(kind="timer", expires_at=NOW)
    with pytest.raises(KitaruStateError, match="not due"):
        execution.do(c.Claim("r2", None), at=NOW - 10 * SECOND)
