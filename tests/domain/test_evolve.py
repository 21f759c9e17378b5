"""Laws of evolve and decide: total, pure, and the same by any split of the history."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kitaru.domain import commands as c
from kitaru.domain import state as state_module
from kitaru.domain import status as status_module
from kitaru.domain.decide import decide
from kitaru.domain.errors import KitaruError
from kitaru.domain.events import (
    AttemptStarted,
    CheckpointCompleted,
    Event,
    EventBase,
    ExecutionRetried,
    ExecutionStarted,
    RunnerClaimed,
    WaitResolved,
)
from kitaru.domain.outline import CallCompleted, CallStarted
from kitaru.domain.state import ABSENT, ExecutionState, ExecutionStatus, evolve
from tests.domain.samples import EVENT_TYPES, VALUE, fold, sample
from tests.domain.strategies import EVENTS, HISTORIES, LONG_HISTORIES, NUMBERS, ORDINALS

EVENT: TypeAdapter[EventBase] = TypeAdapter(Event)
ANY = settings(max_examples=150, deadline=None, print_blob=True)

WORDS = st.sampled_from(["approve", "1", "2", ""])
RUNNERS = st.none() | st.sampled_from(["r1", "r2"])
LOST = st.none() | ORDINALS
COMMANDS: st.SearchStrategy[c.Command] = st.one_of(
    st.builds(c.Start, st.just(sample(ExecutionStarted)), RUNNERS),
    st.builds(c.Claim, st.just("r2"), LOST),
    st.builds(c.Resume, WORDS, RUNNERS, LOST),
    st.builds(c.Retry, WORDS, RUNNERS),
    st.builds(c.Answer, WORDS, st.just(VALUE), WORDS),
    st.builds(c.AbortWait, WORDS, WORDS, LOST),
    st.builds(c.Cancel, WORDS, LOST),
    st.builds(c.ChangeTags, st.just(("a",)), st.just(()), WORDS),
    st.builds(c.Erase, WORDS),
    st.builds(c.Report, ORDINALS, st.lists(EVENTS, max_size=3).map(tuple)),
)


def frozen(state: ExecutionState, *rest: object) -> object:
    """A copy that shares nothing with the state and what goes with it."""
    return state._replace(attempts=dict(state.attempts)), copy.deepcopy(rest)


def outcome(state: ExecutionState, command: c.Command, at: int) -> object:
    """The events of a decision, else the class and words of its refusal. Any other exception is a failure."""
    try:
        return decide(state, command, at)
    except KitaruError as error:
        return type(error), str(error), error.code


@ANY
@given(HISTORIES)
def test_evolve_never_refuses_and_counts_every_event(events: list[EventBase]) -> None:
    assert fold(events).version == len(events)


@ANY
@given(HISTORIES)
def test_evolve_is_pure(events: list[EventBase]) -> None:
    state = ABSENT
    for event in events:
        before = frozen(state, event)
        after = fold([event], state)
        assert frozen(state, event) == before
        assert fold([event], state) == after
        state = after


@ANY
@given(HISTORIES, st.data())
def test_a_history_folds_the_same_by_any_split(events: list[EventBase], data: st.DataObject) -> None:
    split = data.draw(st.integers(0, len(events)))
    assert fold(events[split:], fold(events[:split])) == fold(events)


@ANY
@given(LONG_HISTORIES, st.data())
def test_fold_gives_what_evolve_gives_one_by_one_from_any_state(events: list[EventBase], data: st.DataObject) -> None:
    split = data.draw(st.integers(0, len(events)))
    state = fold(events[:split])
    before = frozen(state)
    assert state_module.fold(state, events[split:]) == fold(events)  # type: ignore[arg-type]
    assert frozen(state) == before


def outlined(event: EventBase) -> object:
    """The event as a store outlines it."""
    if isinstance(event, AttemptStarted) and event.invocation_id and event.name and event.input_digest:
        return CallStarted(event.call, event.attempt, event.invocation_id, event.name, event.input_digest)
    if isinstance(event, CheckpointCompleted):
        return CallCompleted(event.call, event.output.codec, event.output.data or b"")
    return event


@ANY
@given(LONG_HISTORIES)
def test_an_outlined_history_folds_the_same(events: list[EventBase]) -> None:
    assert state_module.fold(ABSENT, map(outlined, events)) == fold(events)  # type: ignore[arg-type]


@ANY
@given(HISTORIES)
def test_a_history_read_back_without_its_payloads_folds_the_same(events: list[EventBase]) -> None:
    assert fold([EVENT.validate_json(event.model_dump_json()) for event in events]) == fold(events)


@ANY
@given(HISTORIES, COMMANDS, NUMBERS)
def test_decide_refuses_by_its_own_errors_only_and_is_pure(events: list[EventBase], command: c.Command, at: int) -> None:
    state = fold(events)
    before = frozen(state, command)
    first = outcome(state, command, at)
    assert frozen(state, command) == before
    assert outcome(state, command, at) == first


@ANY
@given(HISTORIES, COMMANDS.filter(lambda command: not isinstance(command, c.Report)), NUMBERS)
def test_a_command_from_outside_needs_no_knowledge_of_the_calls(
    events: list[EventBase], command: c.Command, at: int
) -> None:
    state = fold(events)
    head = state._replace(calls=0, attempts={}, in_flight=0, completed=0, failed=0)
    assert outcome(head, command, at) == outcome(state, command, at)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_evolve_takes_every_event_type_first(event_type: type[EventBase]) -> None:
    assert fold([sample(event_type)]).version == 1


def test_an_execution_that_does_not_exist_has_no_status() -> None:
    assert (ABSENT.version, ABSENT.status, ABSENT.runner) == (0, None, None)


def test_a_claim_takes_the_epoch_that_was_recorded() -> None:
    assert evolve(ABSENT, sample(RunnerClaimed, epoch=7, runner="r7")).epoch == 7


def test_a_fold_leaves_no_trace_in_the_state_it_began_with() -> None:
    fold([sample(event_type) for event_type in EVENT_TYPES])
    assert ExecutionState() == ABSENT
    assert ABSENT.attempts == {}


def test_a_retry_opens_the_failed_execution() -> None:
    failed = ABSENT._replace(status=ExecutionStatus.FAILED, failed=0b1010, cancel_requested=True)
    retried = evolve(failed, sample(ExecutionRetried))
    assert (retried.status, retried.failed, retried.cancel_requested) == (ExecutionStatus.RUNNING, 0, False)


@pytest.mark.parametrize("status", [ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED])
def test_a_wait_that_closes_after_the_end_does_not_open_the_execution_again(status: ExecutionStatus) -> None:
    assert evolve(ABSENT._replace(status=status), sample(WaitResolved)).status is status


FINISHED = [ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED]


@pytest.mark.parametrize("status", ExecutionStatus)
def test_three_statuses_are_finished_and_one_is_successful(status: ExecutionStatus) -> None:
    assert status.is_finished is (status in FINISHED)
    assert status.is_successful is (status is ExecutionStatus.COMPLETED)


def test_there_is_one_class_of_statuses() -> None:
    assert status_module.ExecutionStatus is ExecutionStatus


def test_the_statuses_are_the_five_documented_words() -> None:
    assert [str(status) for status in ExecutionStatus] == ["running", "waiting", "completed", "failed", "cancelled"]
