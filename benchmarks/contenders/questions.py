"""What is asked of a population: each question to the client, and as bare SQL over ideal native columns."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple


class Question(NamedTuple):
    """One question. The bare statement gives the keys, the count and the metrics, in the client's order of them."""

    name: str
    group_by: tuple[str, ...]
    metrics: tuple[str, ...]
    bare: str


QUESTIONS = {
    question.name: question
    for question in (
        Question("status", ("status",), (), "SELECT status, count(*) FROM executions GROUP BY status"),
        Question("flow", ("flow",), (), "SELECT flow_id, count(*) FROM executions GROUP BY flow_id"),
        Question("time:day", ("time:day",), (),
            "SELECT strftime(day, '%Y-%m-%d'), count FROM (SELECT date_trunc('day', started_at) AS day, "
            "count(*) AS count FROM executions GROUP BY 1)"),
        Question("tag", ("tag",), (), "SELECT tag, count(*) FROM tags GROUP BY tag"),
        Question("metadata key", ("metadata:customer_tier",), (),
            "SELECT customer_tier, count(*) FROM executions GROUP BY customer_tier"),
        Question("sum of metadata by flow", ("flow",), ("amount:metadata:amount:sum",),
            "SELECT flow_id, count(*), sum(amount) FROM executions GROUP BY flow_id"),
        Question("numbers of a metadata key", ("metadata:score",), (),
            "SELECT score, count(*) FROM executions GROUP BY score"),
        Question("average duration by status", ("status",), ("seconds:duration:avg",),
            "SELECT status, count(*), avg(duration) FROM executions GROUP BY status"),
        Question("p95 of durations by flow", ("flow",), ("seconds:duration:p95",),
            "SELECT flow_id, count(*), quantile_cont(duration, 0.95) FROM executions GROUP BY flow_id"),
        Question("steps by stack and day", ("stack", "time:day"), ("steps:step_count:sum",),
            "SELECT stack, strftime(day, '%Y-%m-%d'), count, steps FROM (SELECT stack, date_trunc('day', started_at) "
            "AS day, count(*) AS count, sum(checkpoint_count) AS steps FROM executions GROUP BY 1, 2)"),
    )
}  # fmt: skip
"""The first six are those of the mark."""
OF_THE_MARK = tuple(QUESTIONS)[:6]

ADDED_TAG = "changed"
"""What benchmarks.contenders.change puts on executions."""
TAGS_AFTER = """SELECT tag, count(*) FROM (
        SELECT tag FROM tags WHERE tag IS NOT NULL OR number NOT IN (SELECT unnest($numbers))
        UNION ALL SELECT $added FROM (SELECT unnest($numbers)))
    GROUP BY tag"""
"""The answer by tag after the executions `numbers` were changed; no other question's answer changes."""

Rows = list[tuple[object, ...]]


def changed_numbers(last: int, count: int) -> list[int]:
    """Which `count` executions are changed, of those from 1 to `last`."""
    return sorted(Random(7).sample(range(1, last + 1), count))


def in_order(rows: Sequence[Sequence[object]]) -> Rows:
    """Groups in an order that does not depend on who counted them."""
    return sorted((tuple(row) for row in rows), key=lambda row: [(type(cell).__name__, cell or 0) for cell in row[:3]])


def are_equal(ours: Rows, bare: Rows) -> bool:
    """Whether two answers are the same; floats to 1e-9 of themselves."""
    return len(ours) == len(bare) and all(
        len(mine) == len(theirs) and all(_is_equal(a, b) for a, b in zip(mine, theirs, strict=True))
        for mine, theirs in zip(ours, bare, strict=True)
    )


def _is_equal(ours: object, bare: object) -> bool:
    if isinstance(ours, (int, float)) and isinstance(bare, (int, float)):
        return abs(ours - bare) <= 1e-9 * max(abs(ours), abs(bare))
    return ours == bare
