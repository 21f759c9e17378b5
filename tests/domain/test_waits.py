"""Waits and timers: opened in order, closed once, by an answer, an abort or their time."""

from __future__ import annotations

import pytest

from kitaru.domain import commands as c
from kitaru.domain import limits
from kitaru.domain.decide import find_pending
from kitaru.domain.errors import KitaruStateError
from kitaru.domain.events import (
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRetried,
    ExecutionSuspended,
    WaitAborted,
    WaitExpired,
    WaitOpened,
    WaitResolved,
)
from kitaru.domain.state import ExecutionStatus, Pending
from tests.domain.samples import NOW, VALUE, Execution, refused, sample


@pytest.fixture
def execution() -> Execution:
    return Execution()


@pytest.fixture
def waiting(execution: Execution) -> Execution:
    """Wait 1 "approve" is open, its runner lives."""
    execution.report(sample(WaitOpened))
    return execution


# --- opening ----------------------------------------------------------------------------------------------------------


def test_an_open_wait_makes_the_execution_waiting(waiting: Execution) -> None:
    assert waiting.state.status is ExecutionStatus.WAITING


def test_a_pending_wait_keeps_what_the_next_decision_needs(execution: Execution) -> None:
    execution.report(sample(WaitOpened, name="budget", expires_at=NOW + 5))
    assert execution.state.pending == (Pending(1, "input", "budget", 3, NOW + 5),)


def test_waits_are_numbered_from_1_without_a_gap(execution: Execution) -> None:
    assert refused(execution, sample(WaitOpened, wait=2))
    execution.report(sample(WaitOpened, wait=1))
    assert refused(execution, sample(WaitOpened, wait=1))
    assert execution.report(sample(WaitOpened, wait=2)) == ["WaitOpened"]


def test_a_closed_waits_number_is_not_given_again(waiting: Execution) -> None:
    waiting.do(c.Answer("approve", VALUE, "ann"))
    assert refused(waiting, sample(WaitOpened, wait=1))
    assert waiting.report(sample(WaitOpened, wait=2)) == ["WaitOpened"]


def test_a_timer_has_a_time(execution: Execution) -> None:
    assert refused(execution, sample(WaitOpened, kind="timer"))
    assert execution.report(sample(WaitOpened, kind="timer", expires_at=NOW)) == ["WaitOpened"]


def test_no_wait_is_opened_under_a_cancel(execution: Execution) -> None:
    execution.do(c.Cancel("ann", None))
    assert refused(execution, sample(WaitOpened))


def test_the_most_open_waits_may_be_open_and_no_more(execution: Execution) -> None:
    execution.report(*(sample(WaitOpened, wait=n) for n in range(1, limits.MAX_OPEN_WAITS + 1)))
    assert len(execution.state.pending) == limits.MAX_OPEN_WAITS
    assert refused(execution, sample(WaitOpened, wait=limits.MAX_OPEN_WAITS + 1))


def test_a_closed_wait_makes_room_for_another(execution: Execution) -> None:
    execution.report(*(sample(WaitOpened, wait=n) for n in range(1, limits.MAX_OPEN_WAITS + 1)))
    execution.do(c.Answer("7", VALUE, "ann"))
    assert execution.report(sample(WaitOpened, wait=limits.MAX_OPEN_WAITS + 1)) == ["WaitOpened"]


# --- answering --------------------------------------------------------------------------------------------------------


def test_an_answer_closes_the_wait_and_the_execution_runs(waiting: Execution) -> None:
    assert waiting.do(c.Answer("approve", VALUE, "ann")) == ["WaitResolved"]
    assert (waiting.state.status, waiting.state.pending) == (ExecutionStatus.RUNNING, ())


def test_an_answer_keeps_its_value_and_who_gave_it(waiting: Execution) -> None:
    waiting.do(c.Answer("approve", VALUE, "ann"))
    assert waiting.events[-1] == WaitResolved(at=NOW, wait=1, value=VALUE, by="ann")


def test_an_answer_finds_its_wait_by_ordinal(waiting: Execution) -> None:
    waiting.do(c.Answer("1", VALUE, "ann"))
    assert waiting.state.pending == ()


def test_an_answer_goes_by_name_before_ordinal(waiting: Execution) -> None:
    waiting.report(sample(WaitOpened, wait=2, name="1"))
    waiting.do(c.Answer("1", VALUE, "ann"))
    assert [pending.wait for pending in waiting.state.pending] == [1]


def test_an_answer_to_no_wait_lists_the_names_of_those_there_are(waiting: Execution) -> None:
    waiting.report(sample(WaitOpened, wait=2, name="budget"))
    with pytest.raises(KitaruStateError, match=r"'aprove'.*'approve', 'budget'"):
        waiting.do(c.Answer("aprove", VALUE, "ann"))


def test_a_timer_is_not_answered_and_not_listed(execution: Execution) -> None:
    execution.report(sample(WaitOpened, kind="timer", name="nap", expires_at=NOW + 5))
    for wait in ("nap", "1"):
        with pytest.raises(KitaruStateError, match="pending: none"):
            execution.do(c.Answer(wait, VALUE, "ann"))


def test_the_second_answer_is_refused(waiting: Execution) -> None:
    waiting.do(c.Answer("approve", VALUE, "ann"))
    with pytest.raises(KitaruStateError):
        waiting.do(c.Answer("approve", VALUE, "bob"))


def test_the_second_answer_is_refused_while_another_wait_is_open(waiting: Execution) -> None:
    waiting.report(sample(WaitOpened, wait=2, name="budget"))
    waiting.do(c.Answer("approve", VALUE, "ann"))
    with pytest.raises(KitaruStateError, match="'budget'"):
        waiting.do(c.Answer("approve", VALUE, "bob"))


def test_the_execution_waits_until_the_last_wait_is_closed(waiting: Execution) -> None:
    waiting.report(sample(WaitOpened, wait=2, name="budget"))
    waiting.do(c.Answer("approve", VALUE, "ann"))
    assert waiting.state.status is ExecutionStatus.WAITING
    waiting.do(c.Answer("budget", VALUE, "ann"))
    assert waiting.state.status is ExecutionStatus.RUNNING


def test_an_answer_is_taken_up_to_the_last_microsecond_and_no_longer(execution: Execution) -> None:
    execution.report(sample(WaitOpened, expires_at=NOW + 1))
    with pytest.raises(KitaruStateError, match="expired"):
        execution.do(c.Answer("approve", VALUE, "ann"), at=NOW + 1)
    assert execution.do(c.Answer("approve", VALUE, "ann"), at=NOW) == ["WaitResolved"]


def test_an_answer_needs_no_live_runner(waiting: Execution) -> None:
    waiting.report(sample(ExecutionSuspended))
    assert waiting.do(c.Answer("approve", VALUE, "ann")) == ["WaitResolved"]


def test_find_pending_gives_the_wait_itself(waiting: Execution) -> None:
    assert find_pending(waiting.state, "approve") is waiting.state.pending[0]


# --- aborting ---------------------------------------------------------------------------------------------------------


def test_an_abort_cancels_at_once_without_a_live_runner(waiting: Execution) -> None:
    waiting.report(sample(ExecutionSuspended))
    assert waiting.do(c.AbortWait("approve", "ann", None)) == ["WaitAborted", "CancelRequested", "ExecutionCancelled"]
    assert waiting.state.status is ExecutionStatus.CANCELLED


def test_an_abort_cancels_at_once_with_a_lost_runner(waiting: Execution) -> None:
    assert waiting.do(c.AbortWait("approve", "ann", 1))[-1] == "ExecutionCancelled"


def test_an_abort_asks_a_live_runner_to_stop(waiting: Execution) -> None:
    assert waiting.do(c.AbortWait("approve", "ann", None)) == ["WaitAborted", "CancelRequested"]
    assert (waiting.state.cancel_requested, waiting.state.pending) == (True, ())


def test_an_abort_under_a_cancel_does_not_ask_twice(waiting: Execution) -> None:
    waiting.do(c.Cancel("ann", None))
    assert waiting.do(c.AbortWait("approve", "ann", None)) == ["WaitAborted"]


def test_an_abort_says_which_wait_and_who(waiting: Execution) -> None:
    waiting.do(c.AbortWait("1", "ann", None))
    assert waiting.events[-2] == WaitAborted(at=NOW, wait=1, by="ann")


def test_an_abort_of_no_wait_lists_the_names(waiting: Execution) -> None:
    with pytest.raises(KitaruStateError, match="'approve'"):
        waiting.do(c.AbortWait("aprove", "ann", None))


def test_a_timer_is_not_aborted(execution: Execution) -> None:
    execution.report(sample(WaitOpened, kind="timer", name="nap", expires_at=NOW + 5))
    with pytest.raises(KitaruStateError, match="pending: none"):
        execution.do(c.AbortWait("nap", "ann", None))


def test_a_wait_is_given_up_to_the_last_microsecond_and_no_longer(execution: Execution) -> None:
    execution.report(sample(WaitOpened, expires_at=NOW + 1))
    with pytest.raises(KitaruStateError, match=r"has expired.* kitaru executions resume"):
        execution.do(c.AbortWait("approve", "ann", None), at=NOW + 1)
    assert execution.do(c.AbortWait("approve", "ann", None), at=NOW)[0] == "WaitAborted"


def test_an_answer_that_comes_too_late_is_told_how_to_go_on(execution: Execution) -> None:
    execution.report(sample(WaitOpened, expires_at=NOW))
    with pytest.raises(KitaruStateError, match=r"has expired.* kitaru executions resume EXECUTION.* a worker"):
        execution.do(c.Answer("approve", VALUE, "ann"))


@pytest.mark.parametrize("command", [c.Answer("approve", VALUE, "bob"), c.AbortWait("approve", "bob", None)])
@pytest.mark.parametrize("others", [0, 1])
def test_a_closed_wait_is_said_to_be_open_no_more(waiting: Execution, command: c.Command, others: int) -> None:
    waiting.report(*(sample(WaitOpened, wait=2 + n, name="budget") for n in range(others)))
    waiting.do(c.Answer("approve", VALUE, "ann"))
    with pytest.raises(KitaruStateError, match=r"not open any more: .*answered"):
        waiting.do(command)


def test_a_closed_wait_is_said_to_be_open_no_more_by_its_number(waiting: Execution) -> None:
    waiting.do(c.Answer("approve", VALUE, "ann"))
    with pytest.raises(KitaruStateError, match="wait '1' is not open any more"):
        find_pending(waiting.state, "1")


def test_nothing_is_said_of_closed_waits_where_none_was_opened(execution: Execution) -> None:
    with pytest.raises(KitaruStateError, match=r"no wait 'approve' is pending here; pending: none$"):
        find_pending(execution.state, "approve")


# --- expiry -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["input", "timer"])
def test_a_wait_expires_when_its_time_has_come_and_not_before(execution: Execution, kind: str) -> None:
    execution.report(sample(WaitOpened, kind=kind, expires_at=NOW + 1))
    assert refused(execution, sample(WaitExpired))
    assert execution.report(sample(WaitExpired), at=NOW + 1) == ["WaitExpired"]
    assert execution.state.status is ExecutionStatus.RUNNING


def test_a_wait_without_a_time_never_expires(waiting: Execution) -> None:
    assert refused(waiting, sample(WaitExpired))


def test_a_wait_does_not_expire_by_the_time_of_another(waiting: Execution) -> None:
    waiting.report(sample(WaitOpened, wait=2, name="budget", expires_at=NOW))
    assert refused(waiting, sample(WaitExpired, wait=1))
    assert refused(waiting, sample(WaitExpired, wait=3))


def test_a_wait_expires_once(waiting: Execution) -> None:
    waiting.report(sample(WaitOpened, wait=2, expires_at=NOW), sample(WaitExpired, wait=2))
    assert refused(waiting, sample(WaitExpired, wait=2))


def test_an_answered_wait_does_not_expire(waiting: Execution) -> None:
    waiting.report(sample(WaitOpened, wait=2, name="budget", expires_at=NOW + 1))
    waiting.do(c.Answer("budget", VALUE, "ann"))
    with pytest.raises(KitaruStateError, match="not due"):
        waiting.report(sample(WaitExpired, wait=2), at=NOW + 1)


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [ExecutionCompleted, ExecutionFailed])
def test_the_end_of_the_execution_closes_its_waits(waiting: Execution, end) -> None:
    waiting.report(sample(end))
    assert waiting.state.pending == ()


def test_leaving_keeps_the_execution_waiting(waiting: Execution) -> None:
    waiting.report(sample(ExecutionSuspended))
    assert (waiting.state.status, waiting.state.runner) == (ExecutionStatus.WAITING, None)


def test_the_flows_own_retry_under_an_open_wait_stays_waiting(waiting: Execution) -> None:
    waiting.report(sample(ExecutionRetried, automatic=True))
    assert waiting.state.status is ExecutionStatus.WAITING
    assert waiting.do(c.Answer("approve", VALUE, "ann")) == ["WaitResolved"]


def test_waits_opened_after_a_retry_are_numbered_on(waiting: Execution) -> None:
    waiting.report(sample(ExecutionFailed))
    waiting.do(c.Retry("ann", "r2"))
    assert refused(waiting, sample(WaitOpened, wait=1))
    assert waiting.report(sample(WaitOpened, wait=2)) == ["WaitOpened"]
