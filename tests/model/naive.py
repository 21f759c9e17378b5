"""R15: an execution told by plain dicts, from the design's words alone. It imports nothing of kitaru.

A request is a dict with `do`, a report one with `do: report` and its `facts`. `Naive.ask` gives the names of what is
recorded, or raises Refused or Fenced and is as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable


class Refused(Exception):  # noqa: N818  (an answer, not a failure)
    """The state does not allow it."""


class Fenced(Refused):
    """Another runner has it, or none."""


class Naive:
    """What happened so far. A call is its tries and what became of it, a wait its time and what became of it."""

    def __init__(self) -> None:
        self.exists = False
        self.end: str | None = None
        self.runner: str | None = None
        self.epoch = 0
        self.cancelling = False
        self.woken = False
        self.erased = False
        self.calls: list[dict] = []
        self.waits: list[dict] = []
        self.recorded: list[str] = []

    # --- what can be seen ---

    @property
    def status(self) -> str | None:
        """The documented word: waiting as long as anything is pending, whether a runner lives or not."""
        if not self.exists:
            return None
        return self.end or ("waiting" if self.open_waits() else "running")

    def open_waits(self) -> list[dict]:
        """What is pending, in the order of its opening."""
        return [wait for wait in self.waits if wait["became"] is None]

    def running_calls(self) -> list[dict]:
        """The calls with an attempt in flight."""
        return [call for call in self.calls if call["became"] == "in flight"]

    def seen(self) -> dict:
        """All that an observer may know."""
        return {
            "status": self.status,
            "runner": self.runner,
            "epoch": self.epoch,
            "cancelling": self.cancelling,
            "events": len(self.recorded),
            "waits": len(self.waits),
            "pending": [(w["number"], w["name"], w["kind"], w["until"]) for w in self.open_waits()],
            "calls": [(c["became"], None if c["became"] == "completed" else c["tries"]) for c in self.calls],
        }

    # --- asking ---

    def ask(self, request: dict, now: int) -> list[str]:
        """Do it, or raise and be as before."""
        trial = copy.deepcopy(self)
        trial.recorded = []
        getattr(trial, f"_{request['do']}")(request, now)
        names = trial.recorded
        trial.recorded = self.recorded + names
        self.__dict__ = trial.__dict__
        return names

    def _need(self, fine: object) -> None:
        if not fine:
            raise Refused

    def _start(self, request: dict, now: int) -> None:
        self._need(not self.exists)
        self.exists = True
        self.recorded.append("ExecutionStarted")
        self._take(request["runner"])

    def _claim(self, request: dict, now: int) -> None:
        self._need(self.exists and not self.end)
        self._need_free(request["lost"], now)
        if self.cancelling:
            self._end_the_cancel()
            return
        self._take(request["runner"])

    def _resume(self, request: dict, now: int) -> None:
        self._need(self.exists and not self.end)
        self._need_free(request["lost"], now)
        if self.cancelling:
            self._end_the_cancel()
            return
        self.recorded.append("ExecutionResumed")
        self._take(request["runner"])

    def _retry(self, request: dict, now: int) -> None:
        self._need(self.end == "failed" and not self.erased)
        self.end = None
        self.cancelling = False
        self._reopen()
        self.recorded.append("ExecutionRetried")
        self._take(request["runner"])

    def _answer(self, request: dict, now: int) -> None:
        wait = self._find(request["wait"])
        self._need(wait["until"] is None or now < wait["until"])
        wait["became"] = "answered"
        self.woken = True
        self.recorded.append("WaitResolved")

    def _abort(self, request: dict, now: int) -> None:
        wait = self._find(request["wait"])
        self._need(wait["until"] is None or now < wait["until"])
        wait["became"] = "aborted"
        self.woken = True
        self.recorded.append("WaitAborted")
        self._stop(request["lost"])

    def _cancel(self, request: dict, now: int) -> None:
        self._need(self.exists and not self.end)
        self._stop(request["lost"])

    def _tag(self, request: dict, now: int) -> None:
        self._need(self.exists)
        self.recorded.append("TagsChanged")

    def _erase(self, request: dict, now: int) -> None:
        self._need(self.end)
        self.erased = True
        self.recorded.append("PayloadErased")

    # --- reporting ---

    def _report(self, request: dict, now: int) -> None:
        for fact in request["facts"]:
            self._need(self.exists and not self.end)
            rule = REPORTS.get(fact["fact"])
            self._need(rule)
            if fact["fact"] == "WaitExpired":
                self._need(self.open_waits())
            if self.runner is None or self.epoch != request["epoch"]:
                raise Fenced
            rule(self, fact, now)
            self.recorded.append(fact["fact"])

    def _attempt_started(self, fact: dict, now: int) -> None:
        self._need(not self.cancelling)
        if fact["attempt"] == 1:
            self._need(fact["named"] and fact["call"] == len(self.calls) + 1)
            self.calls.append({"tries": 1, "became": "in flight"})
            return
        call = self._call(fact)
        self._need(call["became"] == "open" and fact["attempt"] == call["tries"] + 1)
        call |= {"tries": fact["attempt"], "became": "in flight"}

    def _attempt_failed(self, fact: dict, now: int) -> None:
        self._in_flight(fact)["became"] = "open"

    def _checkpoint_completed(self, fact: dict, now: int) -> None:
        self._in_flight(fact)["became"] = "completed"

    def _checkpoint_failed(self, fact: dict, now: int) -> None:
        call = self._call(fact)
        self._need(call["became"] == "open" and fact["attempt"] == call["tries"])
        call["became"] = "failed"

    def _checkpoint_reused(self, fact: dict, now: int) -> None:
        self._need(not self.cancelling and fact["call"] == len(self.calls) + 1)
        self.calls.append({"tries": 0, "became": "completed"})

    def _inputs_differed(self, fact: dict, now: int) -> None:
        self._need(self._call(fact)["became"] in ("completed", "failed"))

    def _llm_usage_recorded(self, fact: dict, now: int) -> None:
        call = self._call(fact)
        is_reused = call["became"] == "completed" and call["tries"] == 0
        self._need(is_reused or (call["became"] != "completed" and fact["attempt"] <= call["tries"]))

    def _metadata_logged(self, fact: dict, now: int) -> None:
        if fact["call"] is not None:
            self._in_flight(fact)

    def _tags_changed(self, fact: dict, now: int) -> None:
        pass

    def _wait_opened(self, fact: dict, now: int) -> None:
        self._need(not self.cancelling and fact["wait"] == len(self.waits) + 1)
        self._need(fact["kind"] == "input" or fact["until"] is not None)
        self.waits.append({"number": fact["wait"], "became": None} | {key: fact[key] for key in ("name", "kind", "until")})

    def _wait_expired(self, fact: dict, now: int) -> None:
        found = [wait for wait in self.open_waits() if wait["number"] == fact["wait"]]
        self._need(found and found[0]["until"] is not None and found[0]["until"] <= now)
        found[0]["became"] = "expired"
        self.woken = True

    def _execution_suspended(self, fact: dict, now: int) -> None:
        self._need(not self.running_calls() and not self.cancelling)
        self.runner = None
        self.woken = fact["leaves_work"]

    def _execution_retried(self, fact: dict, now: int) -> None:
        self._need(fact["automatic"] and not self.running_calls() and not self.cancelling)
        self._reopen()

    def _execution_failed(self, fact: dict, now: int) -> None:
        self._finish("failed")

    def _execution_completed(self, fact: dict, now: int) -> None:
        self._need(not self.running_calls())
        self._finish("completed")

    def _execution_cancelled(self, fact: dict, now: int) -> None:
        self._need(self.cancelling)
        self._finish("cancelled")

    # --- parts ---

    def _take(self, runner: object) -> None:
        if runner is not None:
            self.runner = str(runner)
            self.epoch += 1
            self.woken = False
            self._interrupt()
            self.recorded.append("RunnerClaimed")

    def _interrupt(self) -> None:
        for call in self.running_calls():
            call["became"] = "open"

    def _reopen(self) -> None:
        for call in self.calls:
            if call["became"] == "failed":
                call["became"] = "open"

    def _need_free(self, lost: object, now: int) -> None:
        if self.runner is not None:
            self._need(self.epoch == lost)
            return
        pending = self.open_waits()
        due = [wait for wait in pending if wait["until"] is not None and wait["until"] <= now]
        self._need(due or not pending or self.woken or self.cancelling)

    def _end_the_cancel(self) -> None:
        self._finish("cancelled")
        self.recorded.append("ExecutionCancelled")

    def _stop(self, lost: object) -> None:
        if not self.cancelling:
            self.cancelling = True
            self.recorded.append("CancelRequested")
        if self.runner is None or self.epoch == lost:
            self._finish("cancelled")
            self.recorded.append("ExecutionCancelled")

    def _finish(self, status: str) -> None:
        self.end = status
        self.runner = None
        self._interrupt()
        for wait in self.open_waits():
            wait["became"] = "dropped"

    def _find(self, wanted: object) -> dict:
        inputs = [wait for wait in self.open_waits() if wait["kind"] == "input"]
        found = [w for w in inputs if w["name"] == wanted] or [w for w in inputs if str(w["number"]) == wanted]
        self._need(found)
        return found[0]

    def _call(self, fact: dict) -> dict:
        self._need(1 <= fact["call"] <= len(self.calls))
        return self.calls[fact["call"] - 1]

    def _in_flight(self, fact: dict) -> dict:
        call = self._call(fact)
        self._need(call["became"] == "in flight" and call["tries"] == fact["attempt"])
        return call


REPORTS: dict[str, Callable[[Naive, dict, int], None]] = {
    "AttemptStarted": Naive._attempt_started,
    "AttemptFailed": Naive._attempt_failed,
    "CheckpointCompleted": Naive._checkpoint_completed,
    "CheckpointFailed": Naive._checkpoint_failed,
    "CheckpointReused": Naive._checkpoint_reused,
    "InputsDiffered": Naive._inputs_differed,
    "LLMUsageRecorded": Naive._llm_usage_recorded,
    "MetadataLogged": Naive._metadata_logged,
    "TagsChanged": Naive._tags_changed,
    "WaitOpened": Naive._wait_opened,
    "WaitExpired": Naive._wait_expired,
    "ExecutionSuspended": Naive._execution_suspended,
    "ExecutionRetried": Naive._execution_retried,
    "ExecutionFailed": Naive._execution_failed,
    "ExecutionCompleted": Naive._execution_completed,
    "ExecutionCancelled": Naive._execution_cancelled,
    "ArtifactSaved": Naive._metadata_logged,
}
"""What a runner may report, and what becomes of it."""
