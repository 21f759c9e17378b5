"""The read models' rows again, by a plain fold that knows nothing of SQL and imports nothing from kitaru.projections."""

from __future__ import annotations

import json

from kitaru.domain import events as e
from kitaru.domain.payload import Payload
from kitaru.domain.usage import UsageFigures
from tests.projections.streams import Stream

Dump = dict[str, list[tuple[object, ...]]]


class Oracle:
    """The rows again, by a fold that knows nothing of SQL."""

    def __init__(self) -> None:
        self.tables: Dump = {
            name: []
            for name in (
                "executions", "execution_details", "execution_tags", "execution_metadata", "flows", "pending_waits",
                "artifacts", "reuse", "llm_usage",
            )
        }  # fmt: skip

    def dump(self) -> Dump:
        self.tables["flows"] = list(set(self.tables["flows"]))
        return {name: sorted(rows, key=repr) for name, rows in self.tables.items()}

    def add(self, number: int, stream: Stream) -> None:
        row: dict[str, object] = {}
        counts = {"calls": 0, "attempts": 0, "cached": 0, "artifacts": 0}
        metadata: dict[str, object] = {}
        failure: tuple[object, ...] = (None, None, None, None)
        tags: dict[str, None] = {}
        waits: dict[int, tuple[object, ...]] = {}
        since: int | None = None
        waited = 0
        artifacts: dict[int, list[object]] = {}
        reuse: dict[int, tuple[object, ...]] = {}
        has_blob = False
        usage: list[e.LLMUsageRecorded] = []

        def leave(at: int) -> None:
            nonlocal since, waited
            if since is not None and not waits:
                waited, since = waited + max(at - since, 0), None

        for version, event in enumerate(stream, 1):
            match event:
                case e.ExecutionStarted():
                    row = {"flow": event.flow_name, "started": event.at, "queued": 1, "status": "running", "cancel": 0}
                    row |= {"runner": None, "ended": None}
                    tags = dict.fromkeys(event.tags)
                    metadata = logged(event.metadata)
                    has_blob = bool(metadata)
                case e.RunnerClaimed():
                    row |= {"runner": event.runner, "queued": 0}
                case e.ExecutionSuspended():
                    row |= {"runner": None, "queued": int(event.leaves_work)}
                case e.ExecutionResumed():
                    row["queued"] = 1
                case e.ExecutionRetried():
                    row |= {"queued": int(not event.automatic), "status": "waiting" if waits else "running"}
                    row |= {"cancel": 0, "ended": None}
                    failure = (None, None, None, None)
                case e.CancelRequested():
                    row["cancel"] = 1
                case e.ExecutionCancelled() | e.ExecutionFailed() | e.ExecutionCompleted():
                    status = type(event).__name__.removeprefix("Execution").lower()
                    row |= {"status": status, "runner": None, "queued": 0, "ended": max(event.at, row["started"])}
                    waits.clear()
                    leave(event.at)
                    if isinstance(event, e.ExecutionFailed):
                        trace = event.traceback.data if event.traceback else None
                        failure = ("user_code", "builtins.ValueError", event.message.data, trace)
                case e.AttemptStarted():
                    counts["attempts"] += 1
                    counts["calls"] += event.attempt == 1
                case e.CheckpointReused():
                    counts["calls"] += 1
                    counts["cached"] += 1
                case e.WaitOpened():
                    row["status"] = "waiting"
                    since = event.at if since is None else since
                    waits[event.wait] = (
                        number, event.wait, version, "input", event.invocation_id, "w", b'"ok?"', None, None, 1, event.at,
                        event.expires_at,
                    )  # fmt: skip
                case e.WaitResolved() | e.WaitExpired():
                    del waits[event.wait]
                    row["queued"] = int(row["runner"] is None)
                    if not waits:
                        row["status"] = "running"
                    leave(event.at)
                case e.MetadataLogged(call=None):
                    new = logged(event.values)
                    has_blob = has_blob or bool(new)
                    metadata = merge(metadata, new)
                case e.TagsChanged():
                    tags |= dict.fromkeys(event.add)
                    tags = {tag: None for tag in tags if tag not in event.remove}
                case e.PayloadErased():
                    metadata, has_blob = {}, False
                    failure = (*failure[:2], None, None)
                    for saved in artifacts.values():
                        saved[-1] = 1
                    reuse.clear()
                case _:
                    pass
            if isinstance(event, e.LLMUsageRecorded):
                usage.append(event)
            match event:
                case e.CheckpointCompleted() | e.CheckpointReused():
                    counts["artifacts"] += 1
                case e.ArtifactSaved():
                    counts["artifacts"] += 1
                    artifacts[version] = [number, version, None, "report", "output", event.value.size, event.at, 0]
                case _:
                    pass
            if isinstance(event, e.CheckpointCompleted) and event.reuse_key:
                reuse[version] = (event.reuse_key, number, version, f"exec-{number}")
        t = self.tables
        flow = row["flow"]
        t["executions"].append(
            (
                number, f"exec-{number}", len(stream), "default", f"id-{flow}", flow, "local", row["status"], row["queued"],
                row["runner"], row["cancel"], row["started"], row["ended"], *counts.values(), len(waits), since, waited,
                None,
            )
        )  # fmt: skip
        spec = {
            "target": {"file": "/f.py", "qualname": "f", "digest": None},
            "options": e.FlowOptions(retries=1).model_dump(),
        }
        blob = json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode() if has_blob else None
        t["execution_details"].append((number, dumped(spec), dumped(list(tags)), blob, *failure))
        t["execution_tags"] += [(tag, number) for tag in tags]
        kinds = {bool: "b", int: "n", float: "n", str: "t"}
        t["execution_metadata"] += [
            (key, number, kinds[type(value)], int(value) if value is True or value is False else value)
            for key, value in metadata.items()
            if type(value) in kinds
        ]
        t["flows"].append((f"id-{flow}", flow, "default"))
        t["pending_waits"] += waits.values()
        t["artifacts"] += [tuple(saved) for saved in artifacts.values()]
        t["reuse"] += reuse.values()
        if usage:
            t["llm_usage"].append((number, *summed(usage)))


def summed(events: list[e.LLMUsageRecorded]) -> list[object]:
    """The row of LLM usage, from the words of the design: one list a side, and each sum by itself."""
    told = [event.figures for event in events]
    sides = {
        "all": told,
        "incurred": [one for one in told if one.billing_effect == "incurred"],
        "reused": [one for one in told if one.billing_effect == "reused_not_incurred"],
    }
    paid = [one for one in told if one.billing_effect != "reused_not_incurred"]

    def tokens(side: str, name: str) -> int:
        return sum(getattr(one, f"{name}_tokens") or 0 for one in sides[side])

    def cost(one: UsageFigures) -> int | None:
        return one.estimated_cost if one.actual_cost is None else one.actual_cost

    def each(names: list[str]) -> str:
        return dumped(list(dict.fromkeys(names)))

    return [
        len(told), len(sides["incurred"]), len(sides["reused"]),
        tokens("all", "total"), tokens("incurred", "total"), tokens("reused", "total"),
        sum(one.actual_cost or 0 for one in paid), sum(one.estimated_cost or 0 for one in paid),
        sum(cost(one) or 0 for one in paid), len([one for one in told if cost(one) is None]),
        tokens("all", "input"), tokens("all", "output"),
        tokens("incurred", "input"), tokens("incurred", "output"),
        tokens("reused", "input"), tokens("reused", "output"),
        each([one.adapter for one in told]), each([one.model for one in told if one.model is not None]),
        each([warning for one in told for warning in one.warnings]),
    ]  # fmt: skip


def dumped(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def logged(values: Payload | None) -> dict[str, object]:
    return {} if values is None or values.data is None else json.loads(values.data)


def merge(old: dict[str, object], new: dict[str, object]) -> dict[str, object]:
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        both = isinstance(value, dict) and isinstance(before, dict) and "$" not in value and "$" not in before
        merged[key] = merge(before, value) if both else value
    return merged


def expected(found: dict[int, Stream]) -> Dump:
    oracle = Oracle()
    for number, stream in found.items():
        oracle.add(number, stream)
    return oracle.dump()
