"""What an execution of the population went through: its events, drawn from a seed. No store, no file, no clock.

Flows, tags and keys are Zipf-distributed, durations lognormal; most executions are short and a few are long. Number n of a
seed and size is the same execution whatever was drawn before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import exp, pi, sin
from random import Random
from typing import Literal, NamedTuple

from benchmarks.population.usage import usage_record
from kitaru.domain.errors import FailureOrigin
from kitaru.domain.events import (
    ArtifactSaved,
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    CheckpointCompleted,
    CheckpointFailed,
    CheckpointReused,
    EventBase,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRetried,
    ExecutionStarted,
    ExecutionSuspended,
    FlowOptions,
    LLMUsageRecorded,
    MetadataLogged,
    RunnerClaimed,
    TagsChanged,
    Target,
    WaitAborted,
    WaitExpired,
    WaitOpened,
    WaitResolved,
)
from kitaru.domain.ids import call_id, flow_id, uuid7
from kitaru.domain.payload import Payload
from kitaru.store.values import CODEC
from kitaru.store.values.text import write

START = 1_767_225_600_000_000
"""2026-01-01, in microseconds since 1970."""
SPAN = 90 * 86_400_000_000
"""Ninety days, in microseconds, whatever the size."""
SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR

Ending = Literal["completed", "failed", "retried", "cancelled", "running", "waiting"]
_ENDINGS: tuple[Ending, ...] = ("completed", "failed", "retried", "cancelled", "running", "waiting")
_ENDING_WEIGHTS = tuple(accumulate((860, 75, 10, 20, 10, 25)))
_CALLS = (1, 2, 3, 4, 6, 10, 25, 60)
_CALL_WEIGHTS = tuple(accumulate((600, 180, 90, 60, 40, 20, 7, 3)))
_STACKS = ("local", "staging", "batch-pool", "gpu-pool")
_STACK_WEIGHTS = tuple(accumulate((70, 15, 10, 5)))
_TIERS = ("free", "team", "enterprise", "trial")
_TIER_WEIGHTS = tuple(accumulate((55, 25, 12, 8)))
_REGIONS = ("eu-west", "us-east", "us-west", "ap-south", "München", "東京")
_ERRORS = ("ValueError", "TimeoutError", "KeyError", "ConnectionError", "kitaru.domain.errors.KitaruRuntimeError")
_STEPS = ("plan", "fetch", "search", "extract", "classify", "draft", "review", "publish", "store", "notify")
_TYPES = ("tool_call", None, "tool_call", "llm_call", "llm_call", "llm_call", None, None, None, "tool_call")
FLOWS = tuple(
    f"{verb}_{noun}"
    for verb in ("research", "triage", "summarise", "invoice", "enrich", "audit", "sync", "score")
    for noun in ("tickets", "reports", "accounts", "orders", "papers")
)
TAGS = ("nightly", "customer", "batch", "urgent", "canary", *(f"team-{n:02d}" for n in range(35)))
RARE_KEYS = tuple(f"label.{n:02d}" for n in range(60))
_RUNNER = "population-0"


def _zipf(count: int, exponent: float) -> tuple[float, ...]:
    return tuple(accumulate(1 / (rank + 1) ** exponent for rank in range(count)))


_FLOW_WEIGHTS = _zipf(len(FLOWS), 1.1)
_TAG_WEIGHTS = _zipf(len(TAGS), 1.0)
_KEY_WEIGHTS = _zipf(len(RARE_KEYS), 1.2)


class Drawn(NamedTuple):
    """One execution: its id and everything that happened to it."""

    exec_id: str
    events: list[EventBase]
    event_ids: list[str]


def payload(value: object) -> Payload:
    """A JSON-native value as the runner would record it."""
    return Payload.of(write(value), CODEC)


_DONE = tuple(payload(text) for text in ("done", "nothing to do", "published", "stored"))
_OUTPUTS = tuple(payload({"ok": True, "items": n, "note": "x" * (n % 50)}) for n in range(200))
_INPUTS = tuple(payload({"question": f"number {n}", "depth": n % 5}) for n in range(500))
_MESSAGES = tuple(payload(f"it broke for customer {n}") for n in range(100))
_TRACEBACK = payload('Traceback (most recent call last):\n  File "flow.py", line 7, in step\n' + "    call()\n" * 8)
_QUESTION, _APPROVED = payload("May this go out?"), payload(True)
_OPTIONS = FlowOptions()
_USER_CODE = FailureOrigin.USER_CODE


class Population:
    """Draws the executions of one seed and size."""

    def __init__(self, seed: int, size: int, store_id: str) -> None:
        self.size = size
        self._seed = seed
        self._flow_ids = tuple(flow_id(store_id, "default", name) for name in FLOWS)
        self._targets = tuple(Target(file=None, qualname=name) for name in FLOWS)

    def execution(self, number: int) -> Drawn:
        """Execution `number`, from 1."""
        return _Execution(self, Random(self._seed << 40 ^ number), number).drawn()

    def started_at(self, number: int, jitter: float) -> int:
        """When it began, microseconds: rising with the number, with busy and quiet hours."""
        days, day_share = divmod((number - 1 + jitter) / self.size * SPAN, DAY)
        share = day_share / DAY
        return START + int((days + share - 0.13 * sin(2 * pi * share)) * DAY)

    def flow(self, place: int) -> tuple[str, str, Target]:
        """The id, name and target of a flow."""
        return self._flow_ids[place], FLOWS[place], self._targets[place]


class _Execution:
    """One execution as it is drawn: a clock of its own, and the events so far."""

    def __init__(self, population: Population, rng: Random, number: int) -> None:
        self._population = population
        self._rng = rng
        self._number = number
        self._started_at = population.started_at(number, rng.random())
        self._at = self._started_at
        self._exec_id = uuid7(self._at // 1000, rng.getrandbits(74))
        self._events: list[EventBase] = []
        self._flow = self._one(_FLOW_WEIGHTS)
        self._ending: Ending = _ENDINGS[self._one(_ENDING_WEIGHTS)]
        self._epoch = 0

    def drawn(self) -> Drawn:
        self._start()
        calls = _CALLS[self._one(_CALL_WEIGHTS)]
        has_wait = self._ending == "waiting" or (
            self._ending in {"completed", "retried", "cancelled"} and self._rng.random() < 0.05
        )
        for call in range(1, calls + 1):
            self._call(call, is_last=call == calls)
        if has_wait:
            self._wait()
        if self._ending not in {"waiting", "running"}:
            self._log()
            self._end()
        high, bits = self._rng.getrandbits(48), self._rng.getrandbits(62)
        ids = [uuid7(high, bits + place) for place in range(len(self._events))]
        return Drawn(self._exec_id, self._events, ids)

    def _one(self, weights: Sequence[float]) -> int:
        """A place in a list of cumulative weights."""
        return self._rng.choices(range(len(weights)), cum_weights=weights)[0]

    def _later(self, median_seconds: float, spread: float = 1.0) -> int:
        self._at += int(median_seconds * exp(self._rng.gauss(0.0, spread)) * SECOND) + 1
        return self._at

    # --- what happens --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        ident, name, target = self._population.flow(self._flow)
        tags = {TAGS[self._one(_TAG_WEIGHTS)] for _ in range(self._one((3, 6, 8, 9)))}
        metadata = self._first_metadata()
        self._events.append(
            ExecutionStarted(
                at=self._at, flow_id=ident, flow_name=name, project="default", target=target, options=_OPTIONS,
                stack=_STACKS[self._one(_STACK_WEIGHTS)], tags=tuple(sorted(tags)),
                inputs=_INPUTS[self._number % len(_INPUTS)], metadata=payload(metadata) if metadata else None,
            )
        )  # fmt: skip
        self._claim()

    def _claim(self) -> None:
        self._epoch += 1
        self._events.append(RunnerClaimed(at=self._later(0.002), epoch=self._epoch, runner=_RUNNER))

    def _call(self, call: int, *, is_last: bool) -> None:
        rng, place = self._rng, (self._flow + call) % len(_STEPS)
        name, kind = _STEPS[place], _TYPES[place]
        invocation = name if call <= len(_STEPS) else f"{name}_{call}"
        digest = f"{rng.getrandbits(256):064x}"
        parents = () if call == 1 else (call - 1,)
        output = _OUTPUTS[rng.getrandbits(16) % len(_OUTPUTS)]
        chance = rng.random()
        if chance < 0.05 and not is_last:
            self._events.append(
                CheckpointReused(
                    at=self._later(0.001), call=call, invocation_id=invocation, name=name, checkpoint_type=kind,
                    input_digest=digest, parents=parents, output=output, original_call_id=self._earlier_call(call),
                )
            )  # fmt: skip
            return
        self._events.append(
            AttemptStarted(
                at=self._later(0.002), call=call, attempt=1, invocation_id=invocation, name=name, checkpoint_type=kind,
                input_digest=digest, parents=parents,
            )
        )  # fmt: skip
        attempt = 1
        if chance > 0.97:
            self._fail_attempt(call, attempt, retry_after=1.0)
            attempt = 2
            self._events.append(AttemptStarted(at=self._later(1.0, 0.1), call=call, attempt=attempt))
        if kind == "llm_call":
            self._use_model(call, attempt)
        if is_last:
            if self._ending == "running":
                return
            if self._ending in {"failed", "retried"}:
                attempt = self._fail(call, attempt)
                if self._ending == "failed":
                    return
            elif rng.random() < 0.08:
                self._save(call, attempt)
        done_at = self._later(2.0 if kind == "llm_call" else 0.2)
        self._events.append(CheckpointCompleted(at=done_at, call=call, attempt=attempt, output=output))

    def _earlier_call(self, call: int) -> str:
        return call_id(uuid7((self._started_at - HOUR) // 1000, self._rng.getrandbits(74)), call)

    def _fail_attempt(self, call: int, attempt: int, retry_after: float | None) -> None:
        failure = {"exception_type": _ERRORS[self._rng.getrandbits(8) % len(_ERRORS)], "traceback": _TRACEBACK}
        message = _MESSAGES[self._rng.getrandbits(8) % len(_MESSAGES)]
        self._events.append(
            AttemptFailed(
                at=self._later(0.5), origin=_USER_CODE, message=message, call=call, attempt=attempt,
                retry_after=retry_after, **failure,
            )
        )  # fmt: skip

    def _fail(self, call: int, attempt: int) -> int:
        """The call fails, and the execution with it; when it is retried, the number of the attempt that runs then."""
        self._fail_attempt(call, attempt, retry_after=None)
        self._events.append(CheckpointFailed(at=self._at, call=call, attempt=attempt))
        if self._ending == "failed":
            return attempt
        self._end_failed()
        self._events.append(ExecutionRetried(at=self._later(600), by="user"))
        self._claim()
        self._events.append(AttemptStarted(at=self._later(0.002), call=call, attempt=attempt + 1))
        return attempt + 1

    def _use_model(self, call: int, attempt: int) -> None:
        for place in range(1 + (self._rng.random() < 0.15)):
            self._later(0.8)
            ident = f"{call}.{attempt}.{place}"
            record, figures = usage_record(self._rng, ident, call_id(self._exec_id, call), attempt)
            self._events.append(
                LLMUsageRecorded(
                    at=self._at, call=call, attempt=attempt, record_id=ident, record=payload(record), figures=figures
                )
            )

    def _save(self, call: int, attempt: int) -> None:
        value = _OUTPUTS[self._number % len(_OUTPUTS)]
        self._events.append(
            ArtifactSaved(at=self._later(0.01), call=call, attempt=attempt, name="draft", kind="output", value=value)
        )

    def _wait(self) -> None:
        is_timer = self._ending != "waiting" and self._rng.random() < 0.2
        expires = self._at + HOUR if is_timer else None
        self._events.append(
            WaitOpened(
                at=self._at, wait=1, kind="timer" if is_timer else "input", invocation_id="approve", name="approve",
                question=None if is_timer else _QUESTION, expires_at=expires,
            )
        )  # fmt: skip
        self._events.append(ExecutionSuspended(at=self._at))
        if self._ending == "waiting":
            return
        if is_timer:
            self._at += HOUR
            self._events.append(WaitExpired(at=self._at, wait=1))
        elif self._ending == "cancelled":
            self._events.append(WaitAborted(at=self._later(3600), wait=1, by="cli"))
            return
        else:
            self._events.append(WaitResolved(at=self._later(3600), wait=1, value=_APPROVED, by="cli"))
        self._claim()

    def _log(self) -> None:
        if self._rng.random() < 0.5:
            values = payload(self._later_metadata())
            self._events.append(MetadataLogged(at=self._later(0.001), key="#log.1", values=values))
        if self._rng.random() < 0.02:
            self._events.append(TagsChanged(at=self._at, by="cli", add=("reviewed",), remove=("nightly",)))

    def _end(self) -> None:
        if self._ending == "failed":
            self._end_failed()
        elif self._ending == "cancelled":
            self._events.append(CancelRequested(at=self._at, by="cli"))
            self._events.append(ExecutionCancelled(at=self._later(0.1)))
        else:
            done = _DONE[self._rng.getrandbits(2)]
            self._events.append(ExecutionCompleted(at=self._later(0.002), output=done))

    def _end_failed(self) -> None:
        failed = next(event for event in reversed(self._events) if isinstance(event, AttemptFailed))
        kind, message = failed.exception_type, failed.message
        self._events.append(
            ExecutionFailed(at=self._at, origin=_USER_CODE, exception_type=kind, message=message, traceback=_TRACEBACK)
        )

    # --- metadata ------------------------------------------------------------------------------------------------------

    def _first_metadata(self) -> dict[str, object]:
        rng = self._rng
        if rng.random() < 0.1:
            return {}
        found: dict[str, object] = {"customer_tier": _TIERS[self._one(_TIER_WEIGHTS)], "score": rng.getrandbits(16) % 100}
        if rng.random() < 0.7:
            found["region"] = _REGIONS[rng.getrandbits(8) % len(_REGIONS)]
        if rng.random() < 0.3:
            found["ticket"] = f"T-{rng.getrandbits(20)}"
        if rng.random() < 0.2:
            found[RARE_KEYS[self._one(_KEY_WEIGHTS)]] = rng.getrandbits(3)
        return found

    def _later_metadata(self) -> dict[str, object]:
        rng = self._rng
        found: dict[str, object] = {
            "accuracy": rng.random(),
            "passed": rng.random() < 0.8,
            "amount": round(exp(rng.gauss(3, 1.5)), 2),
        }
        if rng.random() < 0.3:
            found["result"] = (7, 7.0, "7", True, None, {"code": 7}, [7], "seven")[rng.getrandbits(3)]
        if rng.random() < 0.05:
            found["trace"] = 2**53 + rng.getrandbits(9)
            found["details"] = {"host": f"w{rng.getrandbits(4)}", "steps": [1, 2, 3]}
        return found
