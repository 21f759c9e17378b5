"""Checkpoint calls and their attempts: the order in which a runner may report them."""

from __future__ import annotations

import pytest

from kitaru.domain import commands as c
from kitaru.domain.errors import KitaruStateError
from kitaru.domain.events import (
    ArtifactSaved,
    AttemptFailed,
    AttemptStarted,
    CheckpointCompleted,
    CheckpointFailed,
    CheckpointReused,
    EventBase,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRetried,
    ExecutionSuspended,
    InputsDiffered,
    LLMUsageRecorded,
    MetadataLogged,
    WaitOpened,
)
from tests.domain.samples import Execution, opened, refused, sample


def again(call: int, attempt: int) -> AttemptStarted:
    """A later attempt of a call."""
    return sample(AttemptStarted, call=call, attempt=attempt)


def failed(call: int = 1, attempt: int = 1) -> AttemptFailed:
    """An attempt that raised."""
    return sample(AttemptFailed, call=call, attempt=attempt)


@pytest.fixture
def execution() -> Execution:
    return Execution()


@pytest.fixture
def in_flight(execution: Execution) -> Execution:
    """Attempt 1 of call 1 is in flight."""
    execution.report(opened(1))
    return execution


# --- opening ----------------------------------------------------------------------------------------------------------


def test_calls_are_numbered_from_1_without_a_gap(execution: Execution) -> None:
    assert refused(execution, opened(2))
    execution.report(opened(1))
    execution.report(opened(2))
    assert execution.state.calls == 2


def test_a_refusal_says_which_call_is_next(execution: Execution) -> None:
    with pytest.raises(KitaruStateError, match="AttemptStarted is not possible: the next call is 1"):
        execution.report(opened(2))


def test_a_call_is_opened_once(in_flight: Execution) -> None:
    assert refused(in_flight, opened(1))


@pytest.mark.parametrize("missing", ["invocation_id", "name", "input_digest"])
def test_the_attempt_that_opens_a_call_names_it(execution: Execution, missing: str) -> None:
    fields = {"invocation_id": "fetch", "name": "fetch", "input_digest": "d"} | {missing: None}
    assert refused(execution, sample(AttemptStarted, **fields))


@pytest.mark.parametrize("attempt", [2, 3])
def test_a_call_does_not_begin_with_a_later_attempt(execution: Execution, attempt: int) -> None:
    assert refused(execution, again(1, attempt))


def test_calls_may_be_in_flight_side_by_side(in_flight: Execution) -> None:
    in_flight.report(opened(2))
    assert in_flight.state.in_flight == 1 << 1 | 1 << 2


def test_no_call_is_opened_under_a_cancel(execution: Execution) -> None:
    execution.do(c.Cancel("ann", None))
    assert refused(execution, opened(1))


# --- attempts ---------------------------------------------------------------------------------------------------------


def test_an_attempt_in_flight_is_not_started_again(in_flight: Execution) -> None:
    assert refused(in_flight, again(1, 2))


def test_the_next_attempt_follows_a_failed_one(in_flight: Execution) -> None:
    in_flight.report(failed())
    assert in_flight.report(again(1, 2)) == ["AttemptStarted"]


@pytest.mark.parametrize("attempt", [3, 4])
def test_no_attempt_is_left_out(in_flight: Execution, attempt: int) -> None:
    in_flight.report(failed())
    assert refused(in_flight, again(1, attempt))


def test_no_attempt_is_made_twice(in_flight: Execution) -> None:
    in_flight.report(failed(), again(1, 2), failed(attempt=2))
    assert refused(in_flight, again(1, 2))


def test_no_attempt_is_started_under_a_cancel(in_flight: Execution) -> None:
    in_flight.report(failed())
    in_flight.do(c.Cancel("ann", None))
    assert refused(in_flight, again(1, 2))


def test_a_completed_call_takes_no_attempt(in_flight: Execution) -> None:
    in_flight.report(sample(CheckpointCompleted))
    assert refused(in_flight, again(1, 2))


def test_a_failed_call_takes_no_attempt(in_flight: Execution) -> None:
    in_flight.report(failed(), sample(CheckpointFailed))
    assert refused(in_flight, again(1, 2))


def test_a_reused_call_takes_no_attempt(execution: Execution) -> None:
    execution.report(sample(CheckpointReused))
    assert refused(execution, again(1, 1))
    assert refused(execution, again(1, 2))


def test_a_claim_interrupts_what_was_in_flight(in_flight: Execution) -> None:
    in_flight.do(c.Claim("r2", 1))
    assert in_flight.state.in_flight == 0
    assert refused(in_flight, sample(CheckpointCompleted))
    assert in_flight.report(again(1, 2)) == ["AttemptStarted"]


def test_an_interrupted_attempt_may_be_the_last(in_flight: Execution) -> None:
    in_flight.do(c.Claim("r2", 1))
    assert in_flight.report(sample(CheckpointFailed)) == ["CheckpointFailed"]


OUTCOMES = [AttemptFailed, CheckpointCompleted, ArtifactSaved, MetadataLogged]


@pytest.mark.parametrize("event_type", OUTCOMES)
def test_what_an_attempt_reports_is_of_the_attempt_in_flight(in_flight: Execution, event_type) -> None:
    in_flight.report(failed(), again(1, 2))
    assert refused(in_flight, sample(event_type, call=1, attempt=1))
    assert refused(in_flight, sample(event_type, call=1, attempt=3))
    assert in_flight.report(sample(event_type, call=1, attempt=2)) == [event_type.__name__]


@pytest.mark.parametrize("event_type", OUTCOMES)
def test_an_attempt_that_has_ended_reports_nothing_more(in_flight: Execution, event_type) -> None:
    in_flight.report(failed())
    assert refused(in_flight, sample(event_type, call=1, attempt=1))


@pytest.mark.parametrize("event_type", OUTCOMES)
def test_an_attempt_that_never_began_reports_nothing(execution: Execution, event_type) -> None:
    assert refused(execution, sample(event_type, call=1, attempt=1))


def used(call: int, attempt: int) -> LLMUsageRecorded:
    return sample(LLMUsageRecorded, call=call, attempt=attempt)


def test_usage_may_be_told_of_any_attempt_that_was_begun(in_flight: Execution) -> None:
    """An answer that comes after its attempt ran out of time was paid for all the same."""
    assert in_flight.report(used(1, 1)) == ["LLMUsageRecorded"]
    in_flight.report(failed(), again(1, 2))
    assert in_flight.report(used(1, 1)) == ["LLMUsageRecorded"]
    assert in_flight.report(used(1, 2)) == ["LLMUsageRecorded"]
    assert refused(in_flight, used(1, 3))
    assert refused(in_flight, used(2, 1))


def test_usage_is_told_before_the_result(in_flight: Execution) -> None:
    in_flight.report(sample(CheckpointCompleted))
    assert refused(in_flight, used(1, 1))


def test_a_reused_call_tells_the_usage_that_it_took_over(execution: Execution) -> None:
    together = execution.report(sample(CheckpointReused), used(1, 1), used(1, 2))
    assert together == ["CheckpointReused", "LLMUsageRecorded", "LLMUsageRecorded"]
    assert refused(execution, used(2, 1))


@pytest.mark.parametrize("event_type", [ArtifactSaved, MetadataLogged])
def test_a_checkpoints_fact_names_its_attempt(in_flight: Execution, event_type) -> None:
    assert refused(in_flight, sample(event_type, call=1))


@pytest.mark.parametrize("event_type", [ArtifactSaved, MetadataLogged])
def test_the_flow_body_reports_facts_with_nothing_in_flight(execution: Execution, event_type) -> None:
    assert execution.report(sample(event_type, key="log_1")) == [event_type.__name__]


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_call_completes_once(in_flight: Execution) -> None:
    in_flight.report(sample(CheckpointCompleted))
    assert refused(in_flight, sample(CheckpointCompleted))


def test_a_call_fails_with_its_last_attempt(in_flight: Execution) -> None:
    in_flight.report(failed(), again(1, 2), failed(attempt=2))
    assert refused(in_flight, sample(CheckpointFailed, attempt=1))
    assert refused(in_flight, sample(CheckpointFailed, attempt=3))
    assert in_flight.report(sample(CheckpointFailed, attempt=2)) == ["CheckpointFailed"]


def test_a_call_in_flight_has_not_failed(in_flight: Execution) -> None:
    assert refused(in_flight, sample(CheckpointFailed))


def test_a_call_fails_once(in_flight: Execution) -> None:
    in_flight.report(failed(), sample(CheckpointFailed))
    assert refused(in_flight, sample(CheckpointFailed))


def test_a_completed_call_does_not_fail(in_flight: Execution) -> None:
    in_flight.report(sample(CheckpointCompleted))
    assert refused(in_flight, sample(CheckpointFailed))


def test_a_call_that_never_began_does_not_fail(execution: Execution) -> None:
    assert refused(execution, sample(CheckpointFailed))


def test_a_reused_call_is_the_next_one_and_complete(execution: Execution) -> None:
    assert refused(execution, sample(CheckpointReused, call=2))
    execution.report(sample(CheckpointReused, call=1))
    assert (execution.state.calls, execution.state.completed) == (1, 1 << 1)


def test_no_call_is_reused_under_a_cancel(execution: Execution) -> None:
    execution.do(c.Cancel("ann", None))
    assert refused(execution, sample(CheckpointReused))


@pytest.mark.parametrize("outcome", [[sample(CheckpointCompleted)], [failed(), sample(CheckpointFailed)]])
def test_inputs_differ_from_those_of_a_call_with_an_outcome(in_flight: Execution, outcome: list[EventBase]) -> None:
    assert refused(in_flight, sample(InputsDiffered))
    in_flight.report(*outcome)
    assert in_flight.report(sample(InputsDiffered)) == ["InputsDiffered"]


# --- the flow's end and its retries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", [sample(ExecutionCompleted), sample(ExecutionSuspended), sample(ExecutionRetried, automatic=True)]
)
def test_a_flow_does_not_end_over_a_call_in_flight(in_flight: Execution, end: EventBase) -> None:
    assert refused(in_flight, end)
    in_flight.report(sample(CheckpointCompleted))
    assert in_flight.report(end) == [type(end).__name__]


def test_a_flow_fails_over_a_call_in_flight_and_interrupts_it(in_flight: Execution) -> None:
    in_flight.report(sample(ExecutionFailed))
    assert in_flight.state.in_flight == 0


def test_a_retry_reopens_failed_calls_only(in_flight: Execution) -> None:
    in_flight.report(
        sample(CheckpointCompleted), opened(2), failed(2), sample(CheckpointFailed, call=2), sample(ExecutionFailed)
    )
    in_flight.do(c.Retry("ann", "r2"))
    assert refused(in_flight, again(1, 2))
    assert in_flight.report(again(2, 2)) == ["AttemptStarted"]


def test_a_retry_counts_attempts_on(in_flight: Execution) -> None:
    in_flight.report(failed(), sample(CheckpointFailed), sample(ExecutionFailed))
    in_flight.do(c.Retry("ann", "r2"))
    assert refused(in_flight, opened(1))
    assert refused(in_flight, again(1, 3))


def test_a_retry_goes_on_with_a_call_that_the_failure_interrupted(in_flight: Execution) -> None:
    in_flight.report(sample(ExecutionFailed))
    in_flight.do(c.Retry("ann", "r2"))
    assert in_flight.report(again(1, 2)) == ["AttemptStarted"]


def test_the_flows_own_retry_reopens_failed_calls_only(in_flight: Execution) -> None:
    in_flight.report(sample(CheckpointCompleted), opened(2), failed(2), sample(CheckpointFailed, call=2))
    in_flight.report(sample(ExecutionRetried, automatic=True))
    assert refused(in_flight, again(1, 2))
    assert in_flight.report(again(2, 2)) == ["AttemptStarted"]


def test_the_flows_own_retry_keeps_runner_and_epoch(execution: Execution) -> None:
    execution.report(sample(ExecutionRetried, automatic=True))
    assert (execution.state.epoch, execution.state.runner) == (1, "r1")


def test_a_runner_does_not_report_somebody_elses_retry(execution: Execution) -> None:
    assert refused(execution, sample(ExecutionRetried, automatic=False))


def test_a_failed_call_stays_failed_when_the_execution_is_resumed(in_flight: Execution) -> None:
    in_flight.report(failed(), sample(CheckpointFailed))
    in_flight.do(c.Resume("ann", "r2", 1))
    assert refused(in_flight, again(1, 2))


def test_calls_go_on_beside_an_open_wait(execution: Execution) -> None:
    execution.report(sample(WaitOpened))
    assert execution.report(opened(1), sample(CheckpointCompleted)) == ["AttemptStarted", "CheckpointCompleted"]
