"""R15: decide and evolve against the naive model, step by step, on random requests that are mostly possible.

`KITARU_TIER=N` makes a million steps of it. What fails prints the blob that reproduces it.
"""

from __future__ import annotations

import os
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kitaru.domain import commands as c
from kitaru.domain.decide import advance, decide
from kitaru.domain.errors import FailureOrigin, KitaruError, KitaruFencedError, KitaruStateError
from kitaru.domain.events import Event, EventBase, ExecutionStarted, FlowOptions, Target
from kitaru.domain.payload import Payload
from kitaru.domain.state import ABSENT, ExecutionState, evolve
from tests.model.naive import Fenced, Naive, Refused

TIER_N = os.environ.get("KITARU_TIER") == "N"
EXAMPLES, STEPS = (10_000, 100) if TIER_N else (500, 50)

VALUE = Payload.of(b"value", "k1")
START = 1_700_000_000_000_000
STARTED = ExecutionStarted(
    at=START, flow_id="f", flow_name="f", project="p", target=Target(file=None, qualname="f"), options=FlowOptions(),
    stack="local", inputs=VALUE,
)  # fmt: skip
TYPES: dict[str, type[EventBase]] = {event_type.__name__: event_type for event_type in get_args(get_args(Event)[0])}

# --- a request, as the product's command ------------------------------------------------------------------------------

FAILURE: dict[str, object] = {"origin": FailureOrigin.USER_CODE, "exception_type": "E", "message": VALUE}
BESIDES: dict[str, dict[str, object]] = {
    "ExecutionStarted": STARTED.model_dump(),
    "RunnerClaimed": {"epoch": 9, "runner": "r"},
    "ExecutionResumed": {"by": "ann"},
    "ExecutionRetried": {"by": "ann"},
    "CancelRequested": {"by": "ann"},
    "ExecutionFailed": FAILURE,
    "ExecutionCompleted": {"output": VALUE},
    "AttemptFailed": FAILURE,
    "CheckpointCompleted": {"output": VALUE},
    "CheckpointReused": {
        "invocation_id": "i",
        "name": "i",
        "input_digest": "d",
        "output": VALUE,
        "original_call_id": "x.c1",
    },
    "InputsDiffered": {"input_digest": "d"},
    "WaitResolved": {"wait": 1, "value": VALUE, "by": "ann"},
    "WaitAborted": {"wait": 1, "by": "ann"},
    "ArtifactSaved": {"name": "report", "kind": "output", "value": VALUE},
    "MetadataLogged": {"values": VALUE},
    "LLMUsageRecorded": {"record_id": "u", "record": VALUE},
    "PayloadErased": {"by": "ann", "through": 1},
}
NAMED: dict[str, object] = {"invocation_id": "i", "name": "i", "input_digest": "d"}


def event_of(fact: dict, now: int) -> EventBase:
    """The event that a fact tells of."""
    fields = {name: value for name, value in fact.items() if name not in ("fact", "named", "until")}
    if fact.get("named"):
        fields |= NAMED
    if fact["fact"] == "WaitOpened":
        fields |= {"invocation_id": fields["name"], "expires_at": fact["until"]}
    return TYPES[fact["fact"]](**{"at": now} | BESIDES.get(fact["fact"], {}) | fields)


def command_of(request: dict, now: int) -> c.Command:
    """The command that a request asks."""
    match request:
        case {"do": "start", "runner": runner}:
            return c.Start(STARTED, runner)
        case {"do": "claim", "runner": runner, "lost": lost}:
            return c.Claim(runner, lost)
        case {"do": "resume", "runner": runner, "lost": lost}:
            return c.Resume("ann", runner, lost)
        case {"do": "retry", "runner": runner}:
            return c.Retry("ann", runner)
        case {"do": "answer", "wait": wait}:
            return c.Answer(wait, VALUE, "ann")
        case {"do": "abort", "wait": wait, "lost": lost}:
            return c.AbortWait(wait, "ann", lost)
        case {"do": "cancel", "lost": lost}:
            return c.Cancel("ann", lost)
        case {"do": "tag"}:
            return c.ChangeTags(("a",), ("b",), "ann")
        case {"do": "erase"}:
            return c.Erase("ann")
        case {"do": "report", "epoch": epoch, "facts": facts}:
            return c.Report(epoch, tuple(event_of(fact, now) for fact in facts))
        case _:
            raise AssertionError(request)


def seen(state: ExecutionState) -> dict[str, object]:
    """All that an observer may know of the product's state, in the model's words."""

    def call(n: int) -> tuple[str, int | None]:
        if state.completed >> n & 1:
            return "completed", None
        became = "failed" if state.failed >> n & 1 else "in flight" if state.in_flight >> n & 1 else "open"
        return became, state.attempts.get(n)

    return {
        "status": None if state.status is None else str(state.status),
        "runner": state.runner,
        "epoch": state.epoch,
        "cancelling": state.cancel_requested,
        "events": state.version,
        "waits": state.waits,
        "pending": [(p.wait, p.name, p.kind, p.expires_at) for p in state.pending],
        "calls": [call(n) for n in range(1, state.calls + 1)],
    }


# --- what is drawn ----------------------------------------------------------------------------------------------------

RUNNERS = st.sampled_from(["r1", "r2", "r3", None])
LOST = st.sampled_from([None, "this", "this", "before"])
WORDS = st.sampled_from(["first", "last", "first", "its number", "approve", "2", "nobody"])
NAMES = st.sampled_from(["approve", "review", "2"])
DELAYS = st.sampled_from([None, None, -1, 0, 1, 5, 20])
PICKS = st.integers(0, 7)
# How far an ordinal is beside the right one: mostly not at all.
OFF = st.sampled_from([0] * 14 + [1, -1])
YES = st.sampled_from([True] * 15 + [False])
WORK = ["AttemptStarted"] * 6 + ["CheckpointCompleted"] * 3 + ["AttemptFailed"] * 4 + ["CheckpointFailed"] * 2
RARER = ["CheckpointReused", "InputsDiffered", "MetadataLogged", "ArtifactSaved", "LLMUsageRecorded", "TagsChanged"]
FACTS = WORK + RARER
BOUNDARIES = ["ExecutionSuspended"] * 4 + ["ExecutionRetried", "ExecutionFailed"] * 3
BOUNDARIES += ["ExecutionCompleted", "ExecutionCancelled"]
NO_REPORTS = [
    "ExecutionStarted", "RunnerClaimed", "ExecutionResumed", "CancelRequested", "WaitResolved", "WaitAborted",
    "PayloadErased",
]  # fmt: skip
DRAWN_FACTS = st.tuples(st.sampled_from(FACTS), PICKS, OFF, OFF, YES)


class ExecutionMachine(RuleBasedStateMachine):
    """One execution, asked the same in both."""

    def __init__(self) -> None:
        super().__init__()
        self.naive = Naive()
        self.state = ABSENT
        self.events: list[EventBase] = []
        self.now = START

    def ask(self, **request: object) -> None:
        """Ask both; what they answer and what can be seen afterwards has to be the same."""
        command = command_of(request, self.now)
        before = self.state._replace(attempts=dict(self.state.attempts))
        try:
            expected: object = self.naive.ask(request, self.now)
        except Refused as refusal:
            expected = type(refusal)
        try:
            events = decide(self.state, command, self.now)
            got: object = [type(event).__name__ for event in events]
        except KitaruStateError as error:
            events = ()
            got = Fenced if isinstance(error, KitaruFencedError) and expected is Fenced else Refused
        assert got == expected, f"{request}: {got}, the model says {expected}"
        assert self.state == before
        if not isinstance(command, c.Report):
            self.ask_of_the_head(command, events)
        for event in events:
            self.state = evolve(self.state, event)
        self.events.extend(events)
        if isinstance(command, c.Report) and expected == got and isinstance(expected, list):
            assert advance(before, command, self.now) == self.state

    def ask_of_the_head(self, command: c.Command, events: tuple[EventBase, ...]) -> None:
        """A command from outside is decided on the head row, which knows nothing of the calls."""
        head = self.state._replace(calls=0, attempts={}, in_flight=0, completed=0, failed=0)
        try:
            assert decide(head, command, self.now) == events
        except KitaruError:
            assert events == ()

    def lost(self, lost: str | None) -> int | None:
        """The epoch that the caller has seen to be dead."""
        return {None: None, "this": self.naive.epoch, "before": self.naive.epoch - 1}[lost]

    def wait(self, word: str) -> str:
        """How the caller names a wait."""
        waits = self.naive.open_waits()
        if not waits:
            return word
        known = {"first": waits[0]["name"], "last": waits[-1]["name"], "its number": str(waits[0]["number"])}
        return known.get(word, word)

    @invariant()
    def looks_the_same(self) -> None:
        assert seen(self.state) == self.naive.seen()

    @invariant()
    def is_waiting_if_and_only_if_something_is_pending(self) -> None:
        assert (self.state.status == "waiting") is bool(self.state.pending)

    def teardown(self) -> None:
        state = ABSENT
        for event in self.events:
            state = evolve(state, event)
        assert state == self.state

    # --- from outside ---

    @initialize(runner=RUNNERS, begin=YES)
    def begins(self, runner: str | None, begin: bool) -> None:
        if begin:
            self.start(runner)

    def start(self, runner: str | None) -> None:
        self.ask(do="start", runner=runner)

    def claim(self, runner: str, lost: str | None) -> None:
        self.ask(do="claim", runner=runner, lost=self.lost(lost))

    def resume(self, runner: str | None, lost: str | None) -> None:
        self.ask(do="resume", runner=runner, lost=self.lost(lost))

    def retry(self, runner: str | None) -> None:
        self.ask(do="retry", runner=runner)

    @rule(how=st.sampled_from(["claim", "claim", "resume", "retry"]), runner=RUNNERS, lost=LOST)
    def somebody_goes_on(self, how: str, runner: str | None, lost: str | None) -> None:
        match how:
            case "claim":
                self.claim(runner or "r4", lost)
            case "resume":
                self.resume(runner, lost)
            case _:
                self.retry(runner)

    @rule(word=WORDS)
    def answer(self, word: str) -> None:
        self.ask(do="answer", wait=self.wait(word))

    @rule(word=WORDS, lost=LOST, do=st.sampled_from(["tag", "start", "erase", "cancel", "abort"]))
    def one_of_the_rarer(self, word: str, lost: str | None, do: str) -> None:
        self.ask(do=do, wait=self.wait(word), lost=self.lost(lost), runner=None)

    @rule(seconds=st.sampled_from([1, 1, 5, 30, -10]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    # --- from the runner ---

    def report(self, *facts: dict, on_time: bool = True) -> None:
        """Report from the present runner, or from one that is too late."""
        self.ask(do="report", epoch=self.naive.epoch - (not on_time), facts=list(facts))

    def fact(self, naive: Naive, drawn: tuple[str, int, int, int, bool]) -> dict:
        """A fact about a call that could be, beside the right numbers by what was drawn."""
        fact, pick, off, attempt_off, good = drawn
        needs = {"AttemptStarted": "open", "CheckpointFailed": "open", "InputsDiffered": "completed"}
        fitting = [n for n, call in enumerate(naive.calls, 1) if call["became"] == needs.get(fact, "in flight")]
        if fact == "LLMUsageRecorded" and pick < 4:  # of attempts that have ended, and of calls that were reused
            fitting = [n for n, call in enumerate(naive.calls, 1) if call["became"] != "completed" or not call["tries"]]
        number, tries = len(naive.calls) + 1, 0
        if fitting and not (fact == "AttemptStarted" and pick < 3) and fact != "CheckpointReused":
            number = fitting[pick % len(fitting)]
            tries = naive.calls[number - 1]["tries"]
        call = max(1, number + off)
        attempt = max(1, tries + attempt_off + (fact == "AttemptStarted"))
        match fact:
            case "AttemptStarted":
                return {"fact": fact, "call": call, "attempt": attempt, "named": good and attempt == 1}
            case "CheckpointReused" | "InputsDiffered":
                return {"fact": fact, "call": call}
            case "MetadataLogged" | "ArtifactSaved" if pick < 4:
                return {"fact": fact, "call": None, "attempt": None}
            case "TagsChanged":
                return {"fact": fact}
            case _:
                return {"fact": fact, "call": call, "attempt": attempt}

    def work(self, drawn: list[tuple[str, int, int, int, bool]], on_time: bool) -> None:
        """Report facts together; each is drawn as if those before it had been taken."""
        facts: list[dict] = []
        ahead = Naive()
        ahead.calls = [dict(call) for call in self.naive.calls]
        ahead.exists, ahead.runner = True, "ahead"
        for one in drawn:
            facts.append(self.fact(ahead, one))
            try:
                ahead.ask({"do": "report", "epoch": 0, "facts": facts[-1:]}, self.now)
            except Refused:
                break
        self.report(*facts, on_time=on_time)

    def revive(self) -> None:
        """Go on, if somebody may: else most of what is reported would come too late."""
        if self.naive.end == "failed":
            self.retry("r1")
        elif self.naive.exists and self.naive.runner is None and not self.naive.end:
            self.claim("r1", None)

    @rule(drawn=st.lists(DRAWN_FACTS, min_size=1, max_size=4), on_time=YES)
    def reports(self, drawn: list[tuple[str, int, int, int, bool]], on_time: bool) -> None:
        self.work(drawn, on_time)

    @rule(fact=st.sampled_from(FACTS), pick=PICKS, off=OFF, attempt_off=OFF, revive=YES)
    def reports_one(self, fact: str, pick: int, off: int, attempt_off: int, revive: bool) -> None:
        if revive:
            self.revive()
        self.work([(fact, pick, off, attempt_off, True)], on_time=True)

    @rule(fact=st.sampled_from(WORK), pick=PICKS)
    def reports_work(self, fact: str, pick: int) -> None:
        self.revive()
        self.work([(fact, pick, 0, 0, True)], on_time=True)

    @rule(name=NAMES, kind=st.sampled_from(["input", "input", "timer"]), off=OFF, delay=DELAYS, on_time=YES)
    def opens_a_wait(self, name: str, kind: str, off: int, delay: int | None, on_time: bool) -> None:
        number = max(1, len(self.naive.waits) + 1 + off)
        until = None if delay is None else self.now + delay
        self.report({"fact": "WaitOpened", "wait": number, "kind": kind, "name": name, "until": until}, on_time=on_time)

    @rule(pick=PICKS, on_time=YES)
    def lets_a_wait_expire(self, pick: int, on_time: bool) -> None:
        waits = sorted(self.naive.open_waits(), key=lambda wait: (wait["until"] is None, wait["until"]))
        number = waits[pick % min(2, len(waits))]["number"] if waits else pick + 1
        self.report({"fact": "WaitExpired", "wait": number}, on_time=on_time)

    @rule(fact=st.sampled_from([*BOUNDARIES, *NO_REPORTS]), automatic=YES, on_time=YES)
    def comes_to_a_boundary_or_past_it(self, fact: str, automatic: bool, on_time: bool) -> None:
        more = {"ExecutionRetried": {"automatic": automatic}, "ExecutionSuspended": {"leaves_work": not automatic}}
        self.report({"fact": fact} | more.get(fact, {}), on_time=on_time)


TestExecution = ExecutionMachine.TestCase
TestExecution.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, print_blob=True)
if TIER_N:
    TestExecution = pytest.mark.crash(pytest.mark.timeout(1800)(TestExecution))
