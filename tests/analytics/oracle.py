"""R19: what statistics have to say, in plain Python on plain dicts. Imports nothing from kitaru, and knows no SQL.

A store is a list of executions, dicts with: project, flow_id, flow, stack, status, tags, started, ended (microseconds, or
None), waited (microseconds), calls, cached, artifacts, metadata (plain values). Each call is a dict with: name, type,
status, started, ended, attempts, usage; each usage record one with: model, provider, adapter, billing_effect, checkpoint,
status, at, actual, estimated (Decimal, or None), tokens, input, output, cached_input, reasoning (int, or None), latency_ms.

A question is a dict: subject, project, group_by (tokens), metrics (specs), and the filters; times are microseconds. `floats`
has the metadata keys under which floats may stand: what is reckoned of them is a float, past 2**53 too.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo

Record = dict[str, Any]
Question = dict[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COMPARES = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
PERCENTILES = {"p50": Fraction(1, 2), "p90": Fraction(9, 10), "p95": Fraction(19, 20), "p99": Fraction(99, 100)}
OWN_KEYS = {"flow": "flow_id", "stack": "stack_id"}


class Number:
    """What a metric has to be: `value` exactly, or as near as floats come when what went in is as large as `size`."""

    def __init__(self, value: Fraction, size: Fraction | None = None) -> None:
        self.value = value
        self.size = size

    def agrees(self, found: object) -> bool:
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            return False
        if self.size is None:
            return Fraction(found) == self.value or (isinstance(found, float) and found == float(self.value))
        try:
            wanted = float(self.value)
        except OverflowError:
            return not isfinite(found)
        if not isfinite(found):
            return False
        near = max(
            Fraction(1, 10**9) * max(abs(self.value), self.size), Fraction(1, 10**320)
        )  # the least floats have few digits
        return abs(Fraction(found) - Fraction(wanted)) <= near

    def __repr__(self) -> str:
        return f"Number({float(self.value)!r}{'' if self.size is None else ', about'})"


def answer(store: Sequence[Record], asked: Question) -> tuple[list[tuple[list[Any], int, list[Number | None]]], bool]:
    """The groups as (keys, count, metrics), in their order, and whether some are left out."""
    tokens, specs = list(asked["group_by"]), list(asked["metrics"])
    groups: dict[tuple[Any, ...], tuple[list[Any], list[tuple[Record, Record]]]] = {}
    for execution, row in rows(store, asked):
        for keys in every(execution, row, tokens, asked):
            groups.setdefault(tuple(map(kinded, keys)), (keys, []))[1].append((execution, row))
    if not tokens and not groups:
        groups[()] = ([], [])
    found = [(keys, len(members), [measured(members, spec, asked) for spec in specs]) for keys, members in groups.values()]
    most = asked["max_groups"]
    times = [place for place, token in enumerate(tokens) if token.startswith("time:")]
    if times:
        place = times[0]
        found.sort(key=lambda group: (group[0][place], [ranked(key) for key in group[0][:place] + group[0][place + 1 :]]))
        return found[-most:], len(found) > most
    found.sort(key=lambda group: (-group[1], [ranked(key) for key in group[0]]))
    return found[:most], len(found) > most


def names(asked: Question) -> list[str]:
    """What the keys are called."""
    found = []
    for token in asked["group_by"]:
        head, _, rest = token.partition(":")
        found.append(rest if head in ("time", "metadata") else OWN_KEYS.get(head, head))
    return found


def rows(store: Sequence[Record], asked: Question) -> Iterator[tuple[Record, Record]]:
    """What is counted, each with its execution."""
    for execution in store:
        if not passes(execution, asked):
            continue
        if asked["subject"] == "executions":
            own = [execution]
        elif asked["subject"] == "checkpoints":
            own = execution["calls"]
        else:
            own = [usage for call in execution["calls"] for usage in call["usage"]]
        for row in own:
            moment = row["at"] if "at" in row else row["started"]
            since, until, statuses = asked["since"], asked["until"], asked["status"]
            is_within = (since is None or moment >= since) and (until is None or moment < until)
            if is_within and (not statuses or row["status"] in statuses):
                yield execution, row


def passes(execution: Record, asked: Question) -> bool:
    return (
        execution["project"] == asked["project"]
        and asked["flow"] in (None, execution["flow"], execution["flow_id"])
        and asked["stack"] in (None, execution["stack"])
        and all(tag in execution["tags"] for tag in asked["tags"])
        and all(
            holds(scalar(metadata(execution).get(key)), op, wanted)
            for key, tests in asked["where"].items()
            for op, wanted in tests.items()
        )
    )


def holds(has: Any, op: str, wanted: Any) -> bool:
    if isinstance(has, Decimal) and isinstance(wanted, float):
        wanted = Decimal(repr(wanted))  # 0.1 dollars are ten cents
    if op in ("=", "!="):
        return (kinded(has) == kinded(wanted)) == (op == "=")
    return has is not None and kinded(has)[0] == kinded(wanted)[0] and COMPARES[op](has, wanted)


def metadata(execution: Record) -> dict[str, Any]:
    """What was logged, and what its usage adds up to."""
    usage = [each for call in execution["calls"] for each in call["usage"]]
    if not usage or not execution["has_flat_keys"]:
        return execution["metadata"]
    return execution["metadata"] | {
        "kitaru_llm_display_cost_usd_v1": total([cost(each) for each in usage]) or Decimal(0),
        "kitaru_llm_total_tokens_v1": total([each["tokens"] for each in usage]) or 0,
        "kitaru_llm_input_tokens_v1": total([each["input"] for each in usage]) or 0,
        "kitaru_llm_output_tokens_v1": total([each["output"] for each in usage]) or 0,
    }


def cost(usage: Record) -> Decimal | None:
    if usage["billing_effect"] == "reused_not_incurred":
        return None
    return usage["actual"] if usage["actual"] is not None else usage["estimated"]


def total(values: Sequence[Any]) -> Any:
    found = [value for value in values if value is not None]
    return sum(found[1:], found[0]) if found else None


def scalar(value: Any) -> Any:
    """A value that can be grouped and filtered by; None for any other."""
    if isinstance(value, bool) or value is None or isinstance(value, (str, Decimal)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    return value if isinstance(value, float) and isfinite(value) else None


def kinded(key: Any) -> tuple[str, Any]:
    """1 and 1.0 are one key; True, "1" and None are others."""
    if isinstance(key, bool):
        return "truth", key
    if isinstance(key, (int, float, Decimal)):
        return "number", Fraction(key)
    return ("none", None) if key is None else ("text", key)


def ranked(key: Any) -> tuple[int, Any]:
    kind, value = kinded(key)
    return ("truth", "number", "text", "none").index(kind), 0 if value is None else value


# --- keys --------------------------------------------------------------------------------------------------------------


def every(execution: Record, row: Record, tokens: Sequence[str], asked: Question) -> Iterator[list[Any]]:
    """The keys of a row: one list, or one for each tag."""
    tags = (list(execution["tags"]) or [None]) if "tag" in tokens else [None]
    for tag in tags:
        yield [tag if token == "tag" else key_of(execution, row, token, asked) for token in tokens]


def key_of(execution: Record, row: Record, token: str, asked: Question) -> Any:
    head, _, rest = token.partition(":")
    match head:
        case "metadata":
            value = scalar(metadata(execution).get(rest))
            return float(value) if isinstance(value, Decimal) else value
        case "time":
            return label(row["at"] if "at" in row else row["started"], rest, asked["timezone"])
        case "flow":
            return execution["flow_id"]
        case "stack":
            return execution["stack"]
        case "checkpoint":
            return row["checkpoint"] if "checkpoint" in row else row["name"]
        case _:
            return row[head]


def label(moment: int, granularity: str, zone: str) -> str:
    shown = (EPOCH + timedelta(microseconds=moment)).astimezone(ZoneInfo(zone))
    match granularity:
        case "hour":
            return f"{shown.date().isoformat()} {shown.hour:02}:00:00"
        case "day":
            return shown.date().isoformat()
        case "week":
            return (shown.date() - timedelta(days=shown.weekday())).isoformat()
        case _:
            return shown.date().replace(day=1).isoformat()


# --- metrics -------------------------------------------------------------------------------------------------------------


def measured(members: Sequence[tuple[Record, Record]], spec: str, asked: Question) -> Number | None:
    _, source, *middle, aggregation = spec.split(":")
    key = ":".join(middle)
    found = [value_of(execution, row, asked["subject"], source, key) for execution, row in members]
    return aggregated([value for value in found if value is not None], aggregation, key in asked["floats"])


def value_of(execution: Record, row: Record, subject: str, source: str, key: str) -> Any:
    """An int, a float, a Decimal or, of times, a Fraction of seconds; None for none."""
    if subject == "executions":
        return value_of_execution(execution, source, key)
    if subject == "checkpoints":
        usage = row["usage"]
        match source:
            case "duration":
                return None if row["ended"] is None else Fraction(row["ended"] - row["started"], 10**6)
            case "attempt_count":
                return row["attempts"]
            case "llm_cost":
                return (total([cost(each) for each in usage]) or Decimal(0)) if usage else None
            case _:
                field = {"llm_tokens": "tokens", "llm_input_tokens": "input", "llm_output_tokens": "output"}[source]
                return (total([each[field] for each in usage]) or 0) if usage else None
    match source:
        case "cost":
            return cost(row)
        case "actual_cost" | "estimated_cost":
            return row[source.removesuffix("_cost")]
        case "latency":
            return None if row["latency_ms"] is None else Fraction(row["latency_ms"]) / 1000
        case _:
            return row[source.removesuffix("_tokens")]


def value_of_execution(execution: Record, source: str, key: str) -> Any:
    short = {
        "llm_cost": "kitaru_llm_display_cost_usd_v1", "llm_tokens": "kitaru_llm_total_tokens_v1",
        "llm_input_tokens": "kitaru_llm_input_tokens_v1", "llm_output_tokens": "kitaru_llm_output_tokens_v1",
    }  # fmt: skip
    ended, took, waited = execution["ended"], None, None
    if ended is not None:
        took, waited = Fraction(ended - execution["started"], 10**6), Fraction(execution["waited"], 10**6)
    match source:
        case "duration":
            return took
        case "wait_duration":
            return waited
        case "active_duration":
            return None if took is None or waited is None else max(took - waited, Fraction(0))
        case "step_count":
            return len(execution["calls"])
        case "cached_step_count":
            return execution["cached"]
        case "output_artifact_count":
            return execution["artifacts"]
        case "attempt_count":
            return sum(call["attempts"] for call in execution["calls"])
        case _:
            value = scalar(metadata(execution).get(short.get(source, key)))
            return None if isinstance(value, (bool, str)) else value


def aggregated(values: Sequence[Any], aggregation: str, has_floats: bool) -> Number | None:
    exact = [Fraction(value) for value in values]
    size = sum(map(abs, exact), Fraction(0))
    is_exact = all(isinstance(value, (int, Decimal)) for value in values) and not (has_floats and size > 2**53)
    if aggregation == "count":
        return Number(Fraction(len(exact)))
    if aggregation == "count_distinct":
        return Number(Fraction(len(set(exact))))
    if not exact:
        return None
    if aggregation in ("min", "max"):
        return Number(min(exact) if aggregation == "min" else max(exact), Fraction(0) if has_floats else None)
    if aggregation == "sum":
        return Number(sum(exact, Fraction(0)), None if is_exact else size)
    if aggregation == "avg":
        return Number(sum(exact, Fraction(0)) / len(exact), size / len(exact))
    ordered = sorted(exact)
    place = PERCENTILES[aggregation] * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    value = ordered[low] + (ordered[high] - ordered[low]) * (place - low)
    return Number(value, max(abs(ordered[low]), abs(ordered[high])))
