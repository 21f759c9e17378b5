"""One execution in full, folded from its own events: calls, attempts, waits, artifacts, failure.

Pure: nothing is read but the events handed in; payloads stay payloads, and logged metadata is merged as parsed trees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, cast

from orjson import loads

from kitaru.domain import events as e
from kitaru.domain.metadata import Tree, is_tree, merged
from kitaru.domain.payload import Payload
from kitaru.domain.state import ABSENT, ExecutionState, evolve
from kitaru.domain.usage import Totals, UsageSeen, seen_with, totals_of

AttemptStatus = Literal["running", "completed", "failed", "interrupted"]
Load = Callable[[Payload], bytes | None]
"""A payload's bytes, or None when they were erased."""


@dataclass(slots=True)
class Attempt:
    """One try of a call. Nobody saw an interrupted one end: `ended_at` is None."""

    number: int
    started_at: int
    status: AttemptStatus = "running"
    ended_at: int | None = None
    failure: e.FailureFields | None = None
    metadata: Tree = field(default_factory=dict[str, object])


@dataclass(slots=True)
class Artifact:
    """A saved value, or a call's result: `saved` is None for a result."""

    version: int
    at: int
    call: int | None
    value: Payload
    saved: e.ArtifactSaved | None = None


@dataclass(slots=True)
class Call:
    """One checkpoint call."""

    call: int
    invocation_id: str
    name: str
    checkpoint_type: str | None
    parents: tuple[int, ...]
    started_at: int
    status: AttemptStatus = "running"
    ended_at: int | None = None
    original_call_id: str | None = None
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    artifacts: list[Artifact] = field(default_factory=list[Artifact])
    metadata: Tree = field(default_factory=dict[str, object])
    usage: list[e.LLMUsageRecorded] = field(default_factory=list[e.LLMUsageRecorded])
    """Of all attempts; of a call that took its result over, what the original recorded."""

    @property
    def failure(self) -> e.FailureFields | None:
        """Why the call failed, if it did."""
        return self.attempts[-1].failure if self.status == "failed" and self.attempts else None


@dataclass(slots=True)
class Wait:
    """A wait or a timer; `outcome` None while it is open."""

    opened: e.WaitOpened
    outcome: Literal["answered", "aborted", "expired", "cancelled"] | None = None
    closed_at: int | None = None
    value: Payload | None = None
    by: str | None = None

    def close(self, outcome: Literal["answered", "aborted", "expired", "cancelled"], at: int) -> None:
        """It ended so; no clock makes it end before it began."""
        self.outcome, self.closed_at = outcome, max(at, self.opened.at)


class Detail:
    """Everything about one execution after the events added so far."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.started: e.ExecutionStarted | None = None
        self.state: ExecutionState = ABSENT
        self.queued = False
        self.ended_at: int | None = None
        self.failure: e.ExecutionFailed | None = None
        self.tags: dict[str, None] = {}
        self.metadata: Tree = {}
        self.calls: dict[int, Call] = {}
        self.waits: dict[int, Wait] = {}
        self.artifacts: list[Artifact] = []
        self.erased_through = 0
        self.usage = Totals()
        self.usage_seen = UsageSeen()
        self.dropped: e.HistoryDropped | None = None

    def add(self, event: e.EventBase) -> None:
        """Take the next event in."""
        self.state = evolve(self.state, event)  # type: ignore[arg-type]
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def add_all(self, events: Iterable[e.EventBase]) -> Detail:
        """Take events in, in their order."""
        for event in events:
            self.add(event)
        return self

    @property
    def open_waits(self) -> list[Wait]:
        """The waits and timers that are open, oldest first."""
        return [wait for wait in self.waits.values() if wait.outcome is None]

    def started_(self, event: e.ExecutionStarted) -> None:
        self.started = event
        self.queued = True
        self.tags = dict.fromkeys(event.tags)
        self.metadata = self._tree(event.metadata)

    def claimed(self, event: e.RunnerClaimed) -> None:
        self.queued = False
        self._interrupt()

    def suspended(self, event: e.ExecutionSuspended) -> None:
        self.queued = event.leaves_work

    def resumed(self, event: e.ExecutionResumed) -> None:
        self.queued = True

    def retried(self, event: e.ExecutionRetried) -> None:
        self.queued = not event.automatic
        self.ended_at = self.failure = None

    def ended(self, event: e.ExecutionCompleted | e.ExecutionFailed | e.ExecutionCancelled) -> None:
        assert self.started is not None
        self.queued = False
        self.ended_at = max(event.at, self.started.at)
        self.failure = event if isinstance(event, e.ExecutionFailed) else None
        self._interrupt()
        for call in self.calls.values():
            if call.status == "running":
                last = call.attempts[-1]
                call.status = last.status
                call.ended_at = None if last.ended_at is None else max(last.ended_at, call.started_at)
        for wait in self.open_waits:
            wait.close("cancelled", event.at)

    def _interrupt(self) -> None:
        for call in self.calls.values():
            last = call.attempts[-1] if call.attempts else None
            if last is not None and last.status == "running":
                last.status = call.status = "interrupted"

    def attempt_started(self, event: e.AttemptStarted) -> None:
        if event.attempt == 1:
            named = (event.invocation_id or "", event.name or "", event.checkpoint_type)
            self.calls[event.call] = Call(event.call, *named, event.parents, event.at)
        call = self.calls[event.call]
        call.status, call.ended_at = "running", None
        call.attempts.append(Attempt(event.attempt, event.at))

    def attempt_failed(self, event: e.AttemptFailed) -> None:
        attempt = self.calls[event.call].attempts[-1]
        attempt.status, attempt.ended_at, attempt.failure = "failed", max(event.at, attempt.started_at), event

    def call_failed(self, event: e.CheckpointFailed) -> None:
        call = self.calls[event.call]
        call.status, call.ended_at = "failed", max(event.at, call.started_at)

    def call_completed(self, event: e.CheckpointCompleted) -> None:
        call = self.calls[event.call]
        attempt = call.attempts[-1]
        call.status = attempt.status = "completed"
        call.ended_at, attempt.ended_at = max(event.at, call.started_at), max(event.at, attempt.started_at)
        self._keep(Artifact(self.state.version, event.at, event.call, event.output))

    def call_reused(self, event: e.CheckpointReused) -> None:
        call = Call(event.call, event.invocation_id, event.name, event.checkpoint_type, event.parents, event.at)
        call.status, call.ended_at, call.original_call_id = "completed", event.at, event.original_call_id
        self.calls[event.call] = call
        self._keep(Artifact(self.state.version, event.at, event.call, event.output))

    def wait_opened(self, event: e.WaitOpened) -> None:
        self.waits[event.wait] = Wait(event)

    def wait_resolved(self, event: e.WaitResolved) -> None:
        wait = self.waits[event.wait]
        wait.close("answered", event.at)
        wait.value, wait.by = event.value, event.by
        self.queued = self.state.runner is None

    def wait_aborted(self, event: e.WaitAborted) -> None:
        wait = self.waits[event.wait]
        wait.close("aborted", event.at)
        wait.by = event.by
        self.queued = self.state.runner is None

    def wait_expired(self, event: e.WaitExpired) -> None:
        self.waits[event.wait].close("expired", event.at)
        self.queued = self.state.runner is None

    def artifact_saved(self, event: e.ArtifactSaved) -> None:
        self._keep(Artifact(self.state.version, event.at, event.call, event.value, event))

    def _keep(self, artifact: Artifact) -> None:
        self.artifacts.append(artifact)
        if artifact.call is not None:
            self.calls[artifact.call].artifacts.append(artifact)

    def metadata_logged(self, event: e.MetadataLogged) -> None:
        logged = self._tree(event.values)
        if event.call is None:
            self.metadata = merged(self.metadata, logged)
            return
        call = self.calls[event.call]
        call.metadata = merged(call.metadata, logged)
        call.attempts[-1].metadata = merged(call.attempts[-1].metadata, logged)

    def usage_recorded(self, event: e.LLMUsageRecorded) -> None:
        self.usage = self.usage.plus(totals_of(event.figures))
        self.usage_seen = seen_with(self.usage_seen, event.figures)
        call = self.calls[event.call]
        if call.attempts and event.attempt > len(call.attempts):
            raise LookupError(f"attempt {event.attempt}")
        call.usage.append(event)

    def tags_changed(self, event: e.TagsChanged) -> None:
        self.tags |= dict.fromkeys(event.add)
        for tag in event.remove:
            self.tags.pop(tag, None)

    def erased(self, event: e.PayloadErased) -> None:
        """What the events up to there said in payloads is gone, also where the bytes are still at hand."""
        self.erased_through = event.through
        self.metadata = {}
        for call in self.calls.values():
            call.metadata = {}
            for attempt in call.attempts:
                attempt.metadata = {}

    def history_dropped(self, event: e.HistoryDropped) -> None:
        """Nothing is known from here on but how it ended."""
        self.dropped = event

    def _tree(self, payload: Payload | None) -> Tree:
        data = None if payload is None else self._load(payload)
        tree = None if data is None else loads(data)
        return cast("Tree", tree) if is_tree(tree) else {}


_HANDLERS: dict[type[e.EventBase], Callable[..., None]] = {
    e.ExecutionStarted: Detail.started_,
    e.RunnerClaimed: Detail.claimed,
    e.ExecutionSuspended: Detail.suspended,
    e.ExecutionResumed: Detail.resumed,
    e.ExecutionRetried: Detail.retried,
    e.ExecutionCompleted: Detail.ended,
    e.ExecutionFailed: Detail.ended,
    e.ExecutionCancelled: Detail.ended,
    e.AttemptStarted: Detail.attempt_started,
    e.AttemptFailed: Detail.attempt_failed,
    e.CheckpointFailed: Detail.call_failed,
    e.CheckpointCompleted: Detail.call_completed,
    e.CheckpointReused: Detail.call_reused,
    e.WaitOpened: Detail.wait_opened,
    e.WaitResolved: Detail.wait_resolved,
    e.WaitAborted: Detail.wait_aborted,
    e.WaitExpired: Detail.wait_expired,
    e.ArtifactSaved: Detail.artifact_saved,
    e.MetadataLogged: Detail.metadata_logged,
    e.LLMUsageRecorded: Detail.usage_recorded,
    e.TagsChanged: Detail.tags_changed,
    e.PayloadErased: Detail.erased,
    e.HistoryDropped: Detail.history_dropped,
}
