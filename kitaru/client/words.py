"""The runtime's own words about an execution, told from its events: one line each, nothing is written for them."""

from __future__ import annotations

from collections.abc import Callable

from kitaru.client.shown import moment, shown_text
from kitaru.domain import events as e
from kitaru.domain.errors import shown_type
from kitaru.domain.payload import Payload

Load = Callable[[Payload], bytes | None]


class Words:
    """Tells events in stream order: later ones name calls and waits by what opened them."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._calls: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self._waits: dict[int, str] = {}

    def name_of(self, call: int | None) -> str | None:
        """The invocation id of a call."""
        return None if call is None else self._calls.get(call)

    def checkpoint_of(self, call: int | None) -> str | None:
        """The checkpoint of a call."""
        return None if call is None else self._names.get(call)

    def tell(self, event: e.EventBase) -> tuple[str, str, int | None, int | None] | None:
        """Level, text, call and attempt of what is worth a line; None for the rest."""
        match event:
            case e.AttemptStarted():
                name = self._calls.setdefault(event.call, event.invocation_id or "")
                self._names.setdefault(event.call, event.name or "")
                return "INFO", f"attempt {event.attempt} of {name} started", event.call, event.attempt
            case e.AttemptFailed():
                again = "" if event.retry_after is None else f"; again in {event.retry_after:g} s"
                text = f"attempt {event.attempt} of {self._calls.get(event.call, '')} failed: {self._failure(event)}{again}"
                return "WARNING", text, event.call, event.attempt
            case e.CheckpointCompleted():
                return "INFO", f"{self._calls.get(event.call, '')} completed", event.call, event.attempt
            case e.CheckpointReused():
                self._calls[event.call], self._names[event.call] = event.invocation_id, event.name
                return "INFO", f"{event.invocation_id} reused from {event.original_call_id}", event.call, None
            case _:
                told = self._of_execution(event)
                return None if told is None else (*told, None, None)

    def _of_execution(self, event: e.EventBase) -> tuple[str, str] | None:
        match event:
            case e.ExecutionStarted():
                return "INFO", f"{event.flow_name} started on the stack {event.stack}"
            case e.RunnerClaimed():
                return "INFO", f"runner {event.runner[:8]} has it (epoch {event.epoch})"
            case e.WaitOpened():
                self._waits[event.wait] = event.name
                if event.kind == "timer":
                    return "INFO", f"sleeps until {moment(event.expires_at or event.at):%Y-%m-%d %H:%M:%SZ}"
                return "INFO", f"waits for input {event.name!r}"
            case e.WaitResolved():
                return "INFO", f"{self._waits.get(event.wait, '')!r} was answered by {event.by}"
            case e.WaitAborted():
                return "WARNING", f"{self._waits.get(event.wait, '')!r} was given up by {event.by}"
            case e.WaitExpired():
                return "INFO", f"the time of {self._waits.get(event.wait, '')!r} is over"
            case e.ExecutionSuspended():
                return "INFO", "suspended: the runner left"
            case e.ExecutionResumed():
                return "INFO", f"resumed by {event.by}"
            case e.ExecutionRetried():
                return "INFO", f"retried by {event.by}"
            case e.CancelRequested():
                return "WARNING", f"{event.by} asked to cancel it"
            case e.ExecutionCancelled():
                return "WARNING", "cancelled"
            case e.ExecutionFailed():
                return "ERROR", f"failed: {self._failure(event)}"
            case e.ExecutionCompleted():
                return "INFO", "completed"
            case e.PayloadErased():
                return "INFO", f"its values were erased by {event.by}"
            case e.HistoryDropped():
                return "INFO", f"its events were dropped by {event.by}"
            case _:
                return None

    def _failure(self, failure: e.FailureFields) -> str:
        message = shown_text(self._load(failure.message))
        lines = (message or "").splitlines()
        return f"{shown_type(failure.exception_type)}: {lines[0] if lines else ''}".rstrip(": ")
