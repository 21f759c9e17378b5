"""What an execution has already done, by invocation id: the index that a run from the top reads instead of working."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Literal, Self, cast

from kitaru.domain.errors import KitaruBackendError, KitaruDivergenceError
from kitaru.domain.events import (
    ArtifactSaved,
    AttemptFailed,
    AttemptStarted,
    CheckpointCompleted,
    CheckpointFailed,
    CheckpointReused,
    EventBase,
    ExecutionFailed,
    ExecutionRetried,
    ExecutionStarted,
    FailureFields,
    InputsDiffered,
    LLMUsageRecorded,
    MetadataLogged,
    TagsChanged,
    WaitAborted,
    WaitExpired,
    WaitOpened,
    WaitResolved,
)
from kitaru.domain.outline import CallCompleted, CallStarted
from kitaru.domain.payload import Payload
from kitaru.domain.usage import Totals, totals_of
from kitaru.store.log import Reads
from kitaru.store.outline import Outlined


class RecordedCall:
    """One checkpoint call as recorded: open, completed or failed."""

    attempt = 0
    failures = 0
    completed: CallCompleted | CheckpointCompleted | CheckpointReused | None = None
    failure: FailureFields | None = None
    consumed = False
    is_optional = False
    """Whether a call before it failed and ran again since: with another outcome the code may not make this one."""

    def __init__(self, call: int, name: str, input_digest: str) -> None:
        self.call = call
        self.name = name
        self.input_digests: tuple[str, ...] = (input_digest,)

    @property
    def output(self) -> Payload | None:
        """The result, None when there is none."""
        return None if self.completed is None else self.completed.output

    @property
    def has_outcome(self) -> bool:
        """Whether the call completed or failed."""
        return self.completed is not None or self.failure is not None


class RecordedWait:
    """A wait or timer as recorded. `outcome` is None while it is open."""

    __slots__ = ("default", "expires_at", "kind", "name", "outcome", "value", "wait")

    def __init__(self, opened: WaitOpened) -> None:
        self.wait = opened.wait
        self.kind = opened.kind
        self.name = opened.name
        self.default = opened.default
        self.expires_at = opened.expires_at
        self.value: Payload | None = None
        self.outcome: Literal["resolved", "expired", "aborted"] | None = None

    @property
    def has_failed(self) -> bool:
        """Whether nobody answered in time, and nothing stands in for the answer."""
        return self.kind == "input" and self.outcome == "expired" and self.default is None


class History:
    """The recorded calls and facts of one execution, and which of them this run of the body has made again."""

    def __init__(self) -> None:
        self._by_id: dict[str, RecordedCall] = {}
        self._by_call: dict[int, RecordedCall] = {}
        self._keys: set[str] = set()
        self._waits: dict[str, RecordedWait] = {}
        self._wait_of: dict[int, RecordedWait] = {}
        self._last_failure: dict[int, FailureFields] = {}
        self._reached = 0
        self._anew_after: int | None = None
        self._usage_lock = threading.Lock()
        self._told: dict[tuple[int, int, str, str | None], object] = {}
        self.usage_of: dict[int, list[LLMUsageRecorded]] = {}
        """The LLM usage records of each call that has some."""
        self.usage = Totals()
        """What all of them add up to."""
        self.automatic_retries = 0
        self.started: ExecutionStarted | None = None

    @classmethod
    def read(cls, log: Reads, exec_id: str) -> Self:
        """The index of everything that is recorded of an execution. Raises KitaruNotFoundError."""
        history = cls()
        for batch in log.outline(exec_id):
            history.extend(batch)
        return history

    def extend(self, events: Iterable[Outlined]) -> None:
        """Take recorded events in, in stream order. Raises KitaruBackendError when they tell no story."""
        by_id, by_call = self._by_id, self._by_call
        try:
            for event in events:
                if type(event) is CallStarted:
                    if event.call in by_call or event.invocation_id in by_id:
                        raise LookupError(event.invocation_id)
                    recorded = RecordedCall(event.call, event.name, event.input_digest)
                    recorded.attempt = event.attempt
                    by_id[event.invocation_id] = by_call[event.call] = recorded
                elif type(event) is CallCompleted:
                    by_call[event.call].completed = event
                else:
                    self.add(cast("EventBase", event))
        except LookupError as error:
            raise KitaruBackendError(
                f"the recorded events do not fit together ({error}): they were not written by kitaru. Restore a backup",
                code="store-corrupt",
            ) from error

    def add(self, event: EventBase) -> None:
        """Take one recorded event in."""
        match event:
            case AttemptStarted():
                if event.invocation_id is not None and event.name is not None and event.input_digest is not None:
                    self._open(event.call, event.invocation_id, event.name, event.input_digest)
                self._by_call[event.call].attempt = event.attempt
            case CheckpointCompleted():
                self._by_call[event.call].completed = event
            case AttemptFailed():
                call = self._by_call[event.call]
                call.failures += event.retry_after is not None
                self._last_failure[event.call] = event
            case CheckpointFailed():
                self._by_call[event.call].failure = self._last_failure.get(event.call)
            case CheckpointReused():
                self._open(event.call, event.invocation_id, event.name, event.input_digest).completed = event
            case InputsDiffered():
                self._by_call[event.call].input_digests += (event.input_digest,)
            case ExecutionRetried():
                self.automatic_retries = self.automatic_retries + 1 if event.automatic else 0
                first = min((call.call for call in self._by_call.values() if call.failure is not None), default=None)
                for call in self._by_call.values():
                    call.is_optional = call.is_optional or (first is not None and call.call > first)
                    call.failure, call.failures = None, 0
                self._waits = {ident: wait for ident, wait in self._waits.items() if not wait.has_failed}
            case LLMUsageRecorded():
                self.is_new_usage(event.call, event.attempt, event.record_id, event.figures.event_id)
                self.add_usage(event)
            case ArtifactSaved(key=str(key)) | MetadataLogged(key=str(key)) | TagsChanged(key=str(key)):
                self._keys.add(key)
            case WaitOpened():
                self._waits[event.invocation_id] = self._wait_of[event.wait] = RecordedWait(event)
            case WaitResolved():
                recorded = self._wait_of[event.wait]
                recorded.outcome, recorded.value = "resolved", event.value
            case WaitExpired():
                self._wait_of[event.wait].outcome = "expired"
            case WaitAborted():
                self._wait_of[event.wait].outcome = "aborted"
            case ExecutionFailed():  # what was open then is dropped: a retry asks anew
                self._waits = {ident: wait for ident, wait in self._waits.items() if wait.outcome is not None}
            case ExecutionStarted():
                self.started = event
            case _:
                pass

    def add_usage(self, event: LLMUsageRecorded) -> None:
        """Take one LLM usage record in, which was just recorded or is read."""
        with self._usage_lock:
            self.usage_of.setdefault(event.call, []).append(event)
            self.usage = self.usage.plus(totals_of(event.figures))

    def is_new_usage(self, call: int, attempt: int, record_id: str, event_id: str | None) -> bool:
        """Whether a usage record was not told before: its identity; from here on it was."""
        mine = object()
        return self._told.setdefault((call, attempt, record_id, event_id), mine) is mine

    def _open(self, call: int, invocation_id: str, name: str, input_digest: str) -> RecordedCall:
        if call in self._by_call or invocation_id in self._by_id:
            raise LookupError(invocation_id)
        recorded = RecordedCall(call, name, input_digest)
        self._by_id[invocation_id] = self._by_call[call] = recorded
        return recorded

    def find(self, invocation_id: str) -> RecordedCall | None:
        """The recorded call of that id, or None."""
        return self._by_id.get(invocation_id)

    def made(self, invocation_id: str) -> None:
        """The code makes a call. Without a recorded outcome it runs anew: what was recorded later is optional now."""
        recorded = self._by_id.get(invocation_id)
        if recorded is not None and (recorded.completed is not None or recorded.failure is not None):
            recorded.consumed = True
            if recorded.call > self._reached:
                self._reached = recorded.call
        else:
            self.runs_anew(None if recorded is None else recorded.call)

    def runs_anew(self, call: int | None = None) -> None:
        """Something is made that is not recorded, or a call without an outcome: what was recorded later is optional now."""
        place = self._reached if call is None else call
        self._anew_after = place if self._anew_after is None else min(self._anew_after, place)

    def calls(self) -> list[tuple[str, RecordedCall]]:
        """Every recorded call with its invocation id, in the order in which they began."""
        return list(self._by_id.items())

    def reopen(self, reopens: Callable[[RecordedCall], bool]) -> None:
        """Forget the outcome of failed calls and of those chosen: in a replay they run."""
        for call in self._by_call.values():
            call.failure = None
            if reopens(call):
                call.completed = None

    def find_wait(self, invocation_id: str) -> RecordedWait | None:
        """The recorded wait of that id, or None."""
        return self._waits.get(invocation_id)

    def has_fact(self, key: str) -> bool:
        """Whether the flow body's log, save or tag of that id is recorded."""
        return key in self._keys

    def check_all_made(self) -> None:
        """Raise KitaruDivergenceError when the code no longer makes a recorded completed call before anything new."""
        missing = [
            (recorded.call, ident)
            for ident, recorded in self._by_id.items()
            if recorded.completed is not None
            and not (recorded.consumed or recorded.is_optional)
            and (self._anew_after is None or recorded.call < self._anew_after)
        ]
        if missing:
            names = ", ".join(repr(ident) for _, ident in sorted(missing)[:5])
            raise KitaruDivergenceError(
                f"the flow's code no longer makes the recorded call{'s' * (len(missing) > 1)} {names}: it was changed "
                "since. Put the call back and retry, or start a new execution",
            )
