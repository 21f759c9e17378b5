"""R15: an execution told by plain dicts, from the design's words alone. It imports nothing of kitaru.

A request is a dict with `do`, a report one with `do: report` and its `facts`. `Naive.ask` gives the names of what is
recorded, or raises Refused or Fenced and is as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

Dict = dict[str, object]


class Refused(Exception):
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

    def seen(self) -> Dict:
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

    def ask(self, request: Dict, now: int) -> list[str]:
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

    def _start(self, request: Dict, now: int) -> None:
        self._need(not self.exists)
        self.exists = True
        self.recorded.append("ExecutionStarted")
        self._take(request["runner"])

    def _claim(self, request: Dict, now: int) -> None:
        self._need(self.exists and not self.end)
        self._need_free(request["lost"], now)
        self._take(request["runner"])

    def _resume(self, request: Dict, now: int) -> None:
        self._need(self.exists and not self.end)
        self._need_free(request["lost"], now)
        self.recorded.append("ExecutionResumed")
        self._take(request["runner"])

    def _retry(self, request: Dict, now: int) -> None:
        self._need(self.end == "failed")
        self.end = None
        self.cancelling = False
        self._reopen()
        self._take(request["runner"])

    def _answer(self, request: Dict, now: int) -> None:
        wait = self._find(request["wait"])
        self._need(wait["until"] is None or now < wait["until"])
        wait["became"] = "answered"
        self.recorded.append("WaitResolved")

    def _abort(self, request: Dict, now: int) -> None:
        self._find(request["wait"])["became"] = "aborted"
        self.recorded.append("WaitAborted")
        self._stop(request["lost"])

    def _cancel(self, request: Dict, now: int) -> None:
        self._need(self.exists and not self.end)
        self._stop(request["lost"])

    def _tag(self, request: Dict, now: int) -> None:
        self._need(self.exists)
        self.recorded.append("TagsChanged")

    def _erase(self, request: Dict, now: int) -> None:
        self._need(self.end)
        self.recorded.append("PayloadErased")

    # --- reporting ---

    def _report(self, request: Dict, now: int) -> None:
        for fact in request["facts"]:
            self._need(self.exists and not self.end)
            rule: Callable[[Dict, int], None] | None = getattr(self, f"_fact_{fact['fact']}", None)
            self._need(rule)
            if fact["fact"] == "WaitExpired":
                self._need(self.open_waits())
            if self.runner is None or self.epoch != request["epoch"]:
                raise Fenced
            rule(fact, now)
            self.recorded.append(fact["fact"])

    def _fact_AttemptStarted(self, fact: Dict, now: int) -> None:
        self._need(not self.cancelling)
        if fact["attempt"] == 1:
            self._need(fact["named"] and fact["call"] == len(self.calls) + 1)
            self.calls.append({"tries": 1, "became": "in flight"})
            return
        call = self._call(fact)
        self._need(call["became"] == "open" and fact["attempt"] == call["tries"] + 1)
        call |= {"tries": fact["attempt"], "became": "in flight"}

    def _fact_AttemptFailed(self, fact: Dict, now: int) -> None:
        self._in_flight(fact)["became"] = "open"

    def _fact_CheckpointCompleted(self, fact: Dict, now: int) -> None:
        self._in_flight(fact)["became"] = "completed"

    def _fact_CheckpointFailed(self, fact: Dict, now: int) -> None:
        call = self._call(fact)
        self._need(call["became"] == "open" and fact["attempt"] == call["tries"])
        call["became"] = "failed"

    def _fact_CheckpointReused(self, fact: Dict, now: int) -> None:
        self._need(not self.cancelling and fact["call"] == len(self.calls) + 1)
        self.calls.append({"tries": 0, "became": "completed"})

    def _fact_InputsDiffered(self, fact: Dict, now: int) -> None:
        self._need(self._call(fact)["became"] in ("completed", "failed"))

    def _fact_LLMUsageRecorded(self, fact: Dict, now: int) -> None:
        self._in_flight(fact)

    def _fact_MetadataLogged(self, fact: Dict, now: int) -> None:
        if fact["call"] is not None:
            self._in_flight(fact)

    _fact_ArtifactSaved = _fact_MetadataLogged

    def _fact_TagsChanged(self, fact: Dict, now: int) -> None:
        pass

    def _fact_WaitOpened(self, fact: Dict, now: int) -> None:
        self._need(not self.cancelling and fact["wait"] == len(self.waits) + 1)
        self._need(fact["kind"] == "input" or fact["until"] is not None)
        self.waits.append(
            {"number": fact["wait"], "name": fact["name"], "kind": fact["kind"], "until": fact["until"], "became": None}
        )

    def _fact_WaitExpired(self, fact: Dict, now: int) -> None:
        due = [w for w in self.open_waits() if w["number"] == fact["wait"] and w["until"] is not None and w["until"] <= now]
        self._need(due)
        due[0]["became"] = "expired"

    def _fact_ExecutionSuspended(self, fact: Dict, now: int) -> None:
        self._need(not self.running_calls())
        self.runner = None

    def _fact_ExecutionRetried(self, fact: Dict, now: int) -> None:
        self._need(fact["automatic"] and not self.running_calls() and not self.cancelling)
        self._reopen()
        self.recorded.pop()

    def _fact_ExecutionFailed(self, fact: Dict, now: int) -> None:
        self._finish("failed")

    def _fact_ExecutionCompleted(self, fact: Dict, now: int) -> None:
        self._need(not self.running_calls())
        self._finish("completed")

    def _fact_ExecutionCancelled(self, fact: Dict, now: int) -> None:
        self._need(self.cancelling)
        self._finish("cancelled")

    # --- parts ---

    def _take(self, runner: object) -> None:
        if runner is not None:
            self.runner = str(runner)
            self.epoch += 1
            self._interrupt()
            self.recorded.append("RunnerClaimed")

    def _interrupt(self) -> None:
        for call in self.running_calls():
            call["became"] = "open"

    def _reopen(self) -> None:
        for call in self.calls:
            if call["became"] == "failed":
                call["became"] = "open"
        self.recorded.append("ExecutionRetried")

    def _need_free(self, lost: object, now: int) -> None:
        self._need(self.runner is None or self.epoch == lost)
        self._need(not self.cancelling)
        pending = self.open_waits()
        due = [wait for wait in pending if wait["until"] is not None and wait["until"] <= now]
        self._need(all(wait in due for wait in pending if wait["kind"] == "input"))
        self._need(due or not pending)

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

    def _call(self, fact: Dict) -> dict:
        self._need(1 <= fact["call"] <= len(self.calls))
        return self.calls[fact["call"] - 1]

    def _in_flight(self, fact: Dict) -> dict:
        call = self._call(fact)
        self._need(call["became"] == "in flight" and call["tries"] == fact["attempt"])
        return call
