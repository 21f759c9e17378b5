"""Random stores: executions written into a real log event by event, and what is to be known of each as a plain dict."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from decimal import Decimal
from random import Random
from typing import Any

from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import FailureOrigin
from kitaru.domain.ids import flow_id
from kitaru.domain.payload import Payload
from kitaru.domain.usage import TokenUsage, UsageCost, UsageRecord, figures_of
from kitaru.store.log import EventLog
from kitaru.store.values import encode
from kitaru.testing.events import append, new_id
from tests.analytics.oracle import Question, Record

SECOND = 1_000_000
MOMENTS = (
    1_743_292_800, 1_743_296_400, 1_761_433_200, 1_761_440_400, 1_772_323_200, 1_775_000_000, 1_767_225_599,
    1_700_000_000, 1_704_067_200, 86_400,
)  # fmt: skip
"""Seconds around which executions start: summer time begins and ends, years and months turn."""
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia",
    "Pacific/Kiritimati", "Africa/Monrovia",
)  # fmt: skip
KEYS = ("tier", "score", "a:b", "'); DROP TABLE executions; --", "status", "ключ")
VALUES = (
    1, 1.0, 2, -3, 0, -0.0, 0.1, 2.5, 1e300, -1e300, 5e-324, True, False, "1", "", "pro", "free", "ß", "%", None, [1],
    {"x": 1}, float("nan"), float("inf"), 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63, -(2**63), 10**30, "pro\0", "x" * 300,
)  # fmt: skip
FLAT_KEYS = ("kitaru_llm_display_cost_usd_v1", "kitaru_llm_total_tokens_v1", "kitaru_llm_output_tokens_v1")
"""The sums of LLM usage, which are metadata like any other."""
FLOATS = frozenset(KEYS) - {"score"}
"""The keys under which floats stand."""
NO_FLOATS = tuple(value for value in VALUES if not isinstance(value, float))
TAGS = ("red", "green", "blue", "' OR 1=1", "ключ")
FLOWS = ("research", "index", "nightly")
ERROR = {"origin": FailureOrigin.USER_CODE, "exception_type": "builtins.ValueError", "message": Payload.of(b'"no"', "k1")}
ENDS = ("completed", "failed", "cancelled")


def payload(value: object) -> Payload:
    return Payload.of(encode(value), "k1")


class Story:
    """One execution: `record` is what is known of it, and `go_on` makes something happen to it."""

    def __init__(self, rng: Random, log: EventLog, projects: Sequence[str]) -> None:
        self._rng, self._log = rng, log
        self._at = rng.choice(MOMENTS) * SECOND + rng.randrange(-90_000_000_000, 90_000_000_000) * (rng.random() < 0.9)
        self._waits: dict[int, int] = {}
        self._since: int | None = None
        self._wait_count = 0
        self._open: dict[int, Record] = {}
        self.is_deleted = False
        project = rng.choice(projects)
        flow, stack = rng.choice(FLOWS), rng.choice(("local", "local", "worker"))
        tags, metadata = self._some_tags(), self._some_metadata()
        event = e.ExecutionStarted(
            at=self._at, flow_id=flow_id(log.store_id, project, flow), flow_name=flow, project=project, stack=stack,
            tags=tags, target=e.Target(file="/f.py", qualname=flow), options=e.FlowOptions(), inputs=payload({}),
            metadata=payload(metadata) if metadata else None,
        )  # fmt: skip
        self.record: Record = {
            "project": project, "flow": flow, "flow_id": event.flow_id, "stack": stack, "status": "running",
            "tags": dict.fromkeys(tags), "started": self._at, "ended": None, "waited": 0, "calls": [], "cached": 0,
            "artifacts": 0, "metadata": metadata, "has_flat_keys": True,
        }  # fmt: skip
        self._head = log.execute(new_id(), c.Start(event, "runner"), self._at)[0]
        self.exec_id = self._head.exec_id

    @property
    def is_finished(self) -> bool:
        return self.record["status"] in ENDS

    def copied(self, log: EventLog) -> Story:
        """The story as it stands, in a copy of its store."""
        twin = copy(self)
        twin._log, twin._waits = log, dict(self._waits)
        twin.record, twin._open = deepcopy((self.record, self._open))  # at once: the open calls are the record's own
        return twin

    def go_on(self) -> None:
        """Make something happen."""
        self._at += self._rng.choice((0, 1, 7, 1_500, 40_000, 3 * SECOND, 700 * SECOND, 90_000 * SECOND, -5_000))
        if self.is_finished:
            self._rng.choice((self._tag, self._tag, self._retry, self._delete, self._erase))()
            return
        steps = [
            self._call, self._call, self._call, self._reuse, self._save, self._log_metadata, self._log_metadata, self._tag,
            self._wait, self._claim, self._end, self._end,
        ]  # fmt: skip
        if self._waits:
            steps += [self._answer] * 4
        if self._open:
            steps += [self._try_again] * 3
        if self.record["calls"]:
            steps += [self._use] * 2
        self._rng.choice(steps)()

    def _say(self, *events: e.EventBase) -> None:
        self._head = append(self._log, self._head, *events)

    def _some_tags(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._rng.choices(TAGS, k=self._rng.randrange(3))))

    def _some_metadata(self) -> dict[str, Any]:
        keys = self._rng.sample(KEYS, self._rng.randrange(5))
        return {key: self._rng.choice(VALUES if key in FLOATS else NO_FLOATS) for key in keys}

    # --- what happens to calls ------------------------------------------------------------------------------------------

    def _call(self) -> None:
        number = len(self.record["calls"]) + 1
        name, kind = self._rng.choice(("fetch", "write", "plan")), self._rng.choice((None, "tool", "llm_call"))
        self._say(
            e.AttemptStarted(
                at=self._at, call=number, attempt=1, invocation_id=f"{name}_{number}", name=name, checkpoint_type=kind,
                input_digest="00",
            )
        )  # fmt: skip
        call = {
            "name": name, "type": kind, "status": "running", "started": self._at, "ended": None, "attempts": 1, "usage": [],
            "is_trying": True, "tried_since": self._at, "tried_until": None,
        }  # fmt: skip
        self.record["calls"].append(call)
        self._open[number] = call
        if self._rng.random() < 0.7:
            self._at += self._rng.choice((1, 250_000, 3 * SECOND))
            self._close(number)

    def _close(self, number: int) -> None:
        call = self._open[number]
        ended = max(self._at, call["started"])
        if self._rng.random() < 0.7:
            self._say(e.CheckpointCompleted(at=self._at, call=number, attempt=call["attempts"], output=payload(1)))
            call |= {"status": "completed", "ended": ended, "is_trying": False}
            self.record["artifacts"] += 1
            del self._open[number]
            return
        self._say(e.AttemptFailed(at=self._at, call=number, attempt=call["attempts"], **ERROR))
        call |= {"is_trying": False, "tried_until": max(self._at, call["tried_since"])}
        if self._rng.random() < 0.5:
            self._say(e.CheckpointFailed(at=self._at, call=number, attempt=call["attempts"]))
            call |= {"status": "failed", "ended": ended}
            del self._open[number]

    def _try_again(self) -> None:
        number = self._rng.choice(list(self._open))
        call = self._open[number]
        if not call["is_trying"]:
            call["attempts"] += 1
            self._say(e.AttemptStarted(at=self._at, call=number, attempt=call["attempts"]))
            call |= {"status": "running", "ended": None, "is_trying": True, "tried_since": self._at}
        elif self._rng.random() < 0.2:
            self._say(
                e.MetadataLogged(at=self._at, call=number, attempt=call["attempts"], values=payload({"tier": "inner"}))
            )
        else:
            self._close(number)

    def _reuse(self) -> None:
        number = len(self.record["calls"]) + 1
        self._say(
            e.CheckpointReused(
                at=self._at, call=number, invocation_id=f"c_{number}", name="fetch", input_digest="00", output=payload(2),
                original_call_id="other.c1",
            )
        )  # fmt: skip
        self.record["calls"].append(
            {
                "name": "fetch", "type": None, "status": "completed", "started": self._at, "ended": self._at, "attempts": 0,
                "usage": [],
            }
        )  # fmt: skip
        self.record["cached"] += 1
        self.record["artifacts"] += 1

    def _use(self) -> None:
        """A usage record of a call; a reused one's is the original's."""
        rng, calls = self._rng, self.record["calls"]
        number = rng.randrange(len(calls)) + 1
        call = calls[number - 1]
        effect = rng.choice(("incurred", "incurred", "unknown")) if call["attempts"] else "reused_not_incurred"
        given, made = rng.choice((None, 0, 7, 1200)), rng.choice((None, 3, 450))
        usage = {
            "model": rng.choice(("gpt-5", "claude-5", None)), "provider": rng.choice(("openai", "anthropic", None)),
            "adapter": rng.choice(("kitaru.llm", "langgraph")), "billing_effect": effect, "checkpoint": call["name"],
            "status": rng.choice(("completed", "completed", "failed", "interrupted")), "at": self._at,
            "actual": rng.choice((None, None, Decimal("0.0123456789"), Decimal("0.1"), Decimal(0))),
            "estimated": rng.choice((None, Decimal("0.0000000001"), Decimal("12.5"))), "input": given, "output": made,
            "tokens": rng.choice((None, 9999)) if given is None and made is None else (given or 0) + (made or 0),
            "cached_input": rng.choice((None, 5)), "reasoning": rng.choice((None, 0, 64)),
            "latency_ms": rng.choice((None, 812, 0, 30_000)),
        }  # fmt: skip
        record = UsageRecord(
            record_id=f"r{rng.randrange(10**9)}", adapter=usage["adapter"], provider=usage["provider"], model=usage["model"],
            usage=TokenUsage(
                input_tokens=given, output_tokens=made, total_tokens=usage["tokens"],
                cached_input_tokens=usage["cached_input"], reasoning_tokens=usage["reasoning"],
            ),
            cost=UsageCost(actual_cost_usd=usage["actual"], estimated_cost_usd=usage["estimated"]),
            latency_ms=usage["latency_ms"], status=usage["status"], billing_effect=effect,
        )  # fmt: skip
        self._say(
            e.LLMUsageRecorded(
                at=self._at, call=number, attempt=max(call["attempts"], 1), record_id=record.record_id,
                record=payload(record.model_dump(mode="json")), figures=figures_of(record),
            )
        )  # fmt: skip
        call["usage"].append(usage)

    def _interrupt(self) -> None:
        for call in self._open.values():
            if call["is_trying"]:
                call |= {"status": "interrupted", "is_trying": False}

    # --- what happens to the execution ------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._say(e.ArtifactSaved(at=self._at, name="report", kind="output", value=payload("r")))
        self.record["artifacts"] += 1

    def _log_metadata(self) -> None:
        new = self._some_metadata()
        self._say(e.MetadataLogged(at=self._at, key="k", values=payload(new)))
        self.record["metadata"] = self.record["metadata"] | new

    def _tag(self) -> None:
        add, remove = self._some_tags(), self._some_tags()
        self._say(e.TagsChanged(at=self._at, by="me", add=add, remove=remove))
        tags = self.record["tags"] | dict.fromkeys(add)
        self.record["tags"] = {tag: None for tag in tags if tag not in remove}

    def _wait(self) -> None:
        self._wait_count += 1
        number = self._wait_count
        kind = self._rng.choice(("input", "timer"))
        self._say(
            e.WaitOpened(at=self._at, wait=number, kind=kind, invocation_id=f"w_{number}", name="w", expires_at=self._at)
        )
        self._waits[number] = self._at
        self._since = self._at if self._since is None else self._since
        self.record["status"] = "waiting"

    def _answer(self) -> None:
        number = self._rng.choice(list(self._waits))
        self._say(e.WaitExpired(at=self._at, wait=number))
        del self._waits[number]
        if not self._waits:
            self._waited()
            self.record["status"] = "running"

    def _waited(self) -> None:
        if self._since is not None:
            self.record["waited"] += max(self._at - self._since, 0)
            self._since = None

    def _claim(self) -> None:
        self._say(e.RunnerClaimed(at=self._at, epoch=self._head.state.epoch + 1, runner="other"))
        self._interrupt()

    def _end(self) -> None:
        status = self._rng.choice(("completed", "completed", "failed", "cancelled"))
        match status:
            case "completed":
                self._say(e.ExecutionCompleted(at=self._at, output=payload(1)))
            case "failed":
                self._say(e.ExecutionFailed(at=self._at, **ERROR))
            case _:
                self._say(e.ExecutionCancelled(at=self._at))
        self._waited()
        self._waits.clear()
        self._interrupt()
        for call in self._open.values():
            if call["status"] == "running":
                call |= {"status": "failed", "ended": max(call["tried_until"], call["started"])}
        self.record |= {"status": status, "ended": max(self._at, self.record["started"])}

    def _retry(self) -> None:
        if self.record["status"] == "failed":
            self._say(e.ExecutionRetried(at=self._at, by="me"))
            self.record |= {"status": "running", "ended": None}

    def _delete(self) -> None:
        if self._rng.random() < 0.3:
            self._log.delete(self.exec_id)
            self.is_deleted = True

    def _erase(self) -> None:
        if self._rng.random() < 0.3:
            self._head = self._log.erase(self.exec_id, "me", self._at)
            self.record["metadata"] = {}


class Population:
    """A store's executions. `go_on` changes them, and `records` is what is known of those that are there."""

    def __init__(
        self, rng: Random, log: EventLog, projects: Sequence[str] = ("default", "default", "default", "other")
    ) -> None:
        self._rng, self._log, self._projects = rng, log, projects
        self.stories: list[Story] = []

    def go_on(self, starts: int, steps: int) -> None:
        """Start so many, and make so much happen."""
        self.stories += [Story(self._rng, self._log, self._projects) for _ in range(starts)]
        for _ in range(steps):
            alive = [story for story in self.stories if not story.is_deleted]
            if alive:
                self._rng.choice(alive).go_on()

    def live_in(self, log: EventLog, stories: Sequence[Story]) -> None:
        """From now on what happens, happens in this store, which has these stories."""
        self._log, self.stories = log, [story.copied(log) for story in stories]

    @property
    def records(self) -> list[Record]:
        return [story.record for story in self.stories if not story.is_deleted]


# --- questions -----------------------------------------------------------------------------------------------------------

_COMMON = ("flow", "stack", "tag", "time", "metadata")
DIMENSIONS = {
    "executions": ("status", *_COMMON),
    "checkpoints": ("checkpoint", "type", "status", *_COMMON),
    "llm_usage": ("model", "provider", "adapter", "billing_effect", "checkpoint", "status", *_COMMON),
}
_LLM = ("llm_cost", "llm_tokens", "llm_input_tokens", "llm_output_tokens")
SOURCES = {
    "executions": (
        "duration", "active_duration", "wait_duration", "step_count", "cached_step_count", "output_artifact_count",
        "attempt_count", *_LLM, "metadata", "metadata", "metadata",
    ),
    "checkpoints": ("duration", "attempt_count", *_LLM),
    "llm_usage": (
        "cost", "actual_cost", "estimated_cost", "tokens", "input_tokens", "output_tokens", "cached_input_tokens",
        "reasoning_tokens", "latency",
    ),
}  # fmt: skip
AGGREGATIONS = ("avg", "sum", "min", "max", "p50", "p90", "p95", "p99", "count", "count_distinct")
STATUSES = {
    "executions": ("running", "waiting", *ENDS),
    "checkpoints": ("running", "completed", "failed", "interrupted"),
    "llm_usage": ("completed", "failed", "interrupted"),
}


def question(rng: Random, records: list[Record], subjects: tuple[str, ...]) -> Question:
    """Anything that the grammar allows."""
    subject = rng.choice(subjects)
    tokens: list[str] = []
    for dimension in rng.sample(DIMENSIONS[subject], rng.choice((0, 1, 1, 1, 2, 2, 3))):
        match dimension:
            case "time":
                tokens.append(f"time:{rng.choice(('hour', 'day', 'week', 'month'))}")
            case "metadata":
                taken = {*FLAT_KEYS[:2], "tier", "score", *(() if "status" in tokens else ("status",)), *KEYS[2:4], KEYS[5]}
                tokens += [f"metadata:{key}" for key in rng.sample(sorted(taken), rng.choice((1, 1, 2)))]
            case _:
                tokens.append(dimension)
    if "metadata:status" in tokens and "status" in tokens:
        tokens.remove("metadata:status")
    metrics = []
    for number in range(rng.choice((0, 1, 1, 2, 4))):
        source = rng.choice(SOURCES[subject])
        middle = f"{source}:{rng.choice(KEYS + FLAT_KEYS)}" if source == "metadata" else source
        metrics.append(f"m{number}:{middle}:{rng.choice(AGGREGATIONS)}")
    some = rng.choice(records) if records else {"project": "default", "flow_id": "nope", "started": 0}

    def rarely(*values: Any) -> Any:
        return rng.choice(values) if rng.random() < 0.12 else None

    since, until = bounds(rng, some["started"]) if rng.random() < 0.2 else (None, None)
    return {
        "subject": subject, "project": rarely("other", "nobody's") or "default", "group_by": tokens, "metrics": metrics,
        "floats": FLOATS,
        "flow": rarely(*FLOWS, some["flow_id"], "nope"), "stack": rarely("local", "worker", "nope"),
        "status": rng.sample(STATUSES[subject], rarely(1, 2) or 0), "tags": rng.sample(TAGS, rarely(1, 1, 2) or 0),
        "since": since, "until": until, "where": where(rng) if rng.random() < 0.3 else {}, "timezone": rng.choice(ZONES),
        "max_groups": rng.choice((1, 2, 3, 5, 1000, 1000, 1000, 10_000)),
    }  # fmt: skip


def bounds(rng: Random, near: int) -> tuple[int | None, int | None]:
    since, until = sorted(near + rng.randrange(-(10**14), 10**14) * rng.randrange(2) for _ in range(2))
    return rng.choice(((since, None), (None, until), (since, until)))


def where(rng: Random) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key in rng.sample(KEYS + FLAT_KEYS, rng.choice((1, 1, 1, 2))):
        op = rng.choice(("=", "!=", "!=", ">", ">=", "<", "<="))
        plain = [value for value in VALUES if isinstance(value, str) or type(value) in (int, float)]
        allowed = [*plain, True, False, None] if op in ("=", "!=") else plain
        allowed = [each for each in allowed if not isinstance(each, (int, float)) or abs(each) < 2**63]
        found[key] = {op: rng.choice([*allowed, *(0.1, 12.5, 450, 457, 12.6) * 9] if key in FLAT_KEYS else allowed)}
    return found
