"""Is there an order of what several processes did to one execution that explains what each was told and what is recorded?

A naive model of the flow `raced`, which asks one question, and a search over the orders in which the commands and the
steps of runners could have happened one after the other. Nothing of the product's rules is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

Recorded = tuple[Any, ...]
"""An event: its type, and what tells it from another of that type."""


class Done(NamedTuple):
    """What one process did, and what it was told. Times are those of one clock that no process can set."""

    process: int
    do: Literal["answer", "abort", "cancel", "retry", "resume", "recover"]
    by: str
    is_refused: bool
    began: float
    ended: float
    value: int | None = None
    detach: bool = False


@dataclass(frozen=True)
class Raced:
    """The execution as the model has it."""

    status: str
    wait: Literal["none", "open", "answered", "expired", "aborted"]
    value: int | None = None
    default: int | None = None
    runner: int | None = None
    is_cancelling: bool = False
    is_opened_late: bool = False


def explain(
    start: Raced, done: Sequence[Sequence[Done]], recorded: Sequence[Recorded], late: Sequence[bool]
) -> list[str] | None:
    """The order that explains it all, or None. `done` is by process; `late` are those whose clock is past the expiry.

    What ended before something else began stands before it.
    """
    seen: set[tuple[tuple[int, ...], int, Raced]] = set()

    def search(places: tuple[int, ...], at: int, state: Raced, order: list[str]) -> list[str] | None:
        if at == len(recorded) and state.runner is None and all(map(_is_all, places, done)):
            return order
        if (places, at, state) in seen:
            return None
        seen.add((places, at, state))
        steps: list[tuple[tuple[int, ...], str, tuple[Recorded, ...], Raced]] = []
        for process in _may_be_next(places, done):
            what = done[process][places[process]]
            after = (*places[:process], places[process] + 1, *places[process + 1 :])
            allowed = _effect(state, what, is_late=late[process])
            if allowed is None and what.is_refused:
                steps.append((after, f"{what.by} {what.do} is refused", (), state))
            elif allowed is not None and not what.is_refused:
                steps.append((after, f"{what.by} {what.do}", *allowed))
        if state.runner is not None:
            steps += [
                (places, f"the runner of {state.runner}", events, then)
                for events, then in _runner_steps(state, is_late=late[state.runner])
            ]
        for after, name, events, then in steps:
            if tuple(recorded[at : at + len(events)]) == events:
                found = search(after, at + len(events), then, [*order, name])
                if found is not None:
                    return found
        return None

    return search((0,) * len(done), 0, start, [])


def _is_all(place: int, did: Sequence[Done]) -> bool:
    return place == len(did)


def _may_be_next(places: tuple[int, ...], done: Sequence[Sequence[Done]]) -> Iterator[int]:
    left = [did[place] for place, did in zip(places, done, strict=True) if place < len(did)]
    for what in left:
        if not any(other.ended < what.began for other in left):
            yield what.process


def _is_due(state: Raced, *, is_late: bool) -> bool:
    return state.wait == "open" and is_late and not state.is_opened_late


def _effect(state: Raced, what: Done, *, is_late: bool) -> tuple[tuple[Recorded, ...], Raced] | None:
    """The events of a command, and what is then; None when it has to be refused."""
    cancels: tuple[Recorded, ...] = () if state.is_cancelling else (("CancelRequested", what.by),)
    ends: tuple[Recorded, ...] = (("ExecutionCancelled",),) if state.runner is None else ()
    cancelled = replace(state, is_cancelling=True, status="cancelled" if ends else "running")
    if what.do == "answer":
        if state.status != "waiting" or _is_due(state, is_late=is_late):
            return None
        answered = replace(state, status="running", wait="answered", value=what.value)
        return (("WaitResolved", what.by, what.value),), answered
    if what.do == "abort":
        if state.status != "waiting" or _is_due(state, is_late=is_late):
            return None
        return (("WaitAborted", what.by), *cancels, *ends), replace(cancelled, wait="aborted")
    if what.do == "cancel":
        if state.status not in ("running", "waiting"):
            return None
        return (*cancels, *ends), cancelled if ends else replace(state, is_cancelling=True)
    claims: tuple[Recorded, ...] = () if what.detach else (("RunnerClaimed", what.process),)
    runner = None if what.detach else what.process
    if what.do == "retry":
        if state.status != "failed":
            return None
        is_asked_anew = state.wait == "expired" and state.default is None
        retried = replace(state, status="running", runner=runner, is_cancelling=False)
        return (("ExecutionRetried", what.by), *claims), replace(retried, wait="none") if is_asked_anew else retried
    if state.status not in ("running", "waiting") or state.runner is not None:
        return None
    if state.wait == "open" and not _is_due(state, is_late=is_late):
        return None
    resumed: tuple[Recorded, ...] = (("ExecutionResumed", what.by),) if what.do == "resume" else ()
    return (*resumed, *claims), replace(state, runner=runner)


def _runner_steps(state: Raced, *, is_late: bool) -> Iterator[tuple[tuple[Recorded, ...], Raced]]:
    """What the runner may do next. One that has not heard of a cancel yet may still end as if there were none."""
    if state.is_cancelling:
        yield (("ExecutionCancelled",),), replace(state, status="cancelled", runner=None)
    elif state.wait == "none":
        yield (("WaitOpened",),), replace(state, status="waiting", wait="open", is_opened_late=is_late)
    elif state.wait == "open" and not _is_due(state, is_late=is_late):
        yield (("ExecutionSuspended",),), replace(state, runner=None)
    if _is_due(state, is_late=is_late):
        yield (("WaitExpired",),), replace(state, status="running", wait="expired", value=state.default)
    if state.wait in ("answered", "expired"):
        if state.value is not None and state.value % 2 == 0:
            yield (("ExecutionCompleted", state.value),), replace(state, status="completed", runner=None)
        else:
            yield (("ExecutionFailed",),), replace(state, status="failed", runner=None)
