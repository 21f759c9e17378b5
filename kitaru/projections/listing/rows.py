"""The rows of executions and of their pending waits, as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from kitaru.domain.usage import Totals
from kitaru.projections.listing.sources import Query

_ROWS = """SELECT number, exec_id, version, project, flow_id, flow_name, stack, status, queued, runner, cancel_requested,
    started_at, ended_at, checkpoint_count, attempt_count, cached_step_count, artifact_count, open_waits, original_exec_id,
    spec, tags, metadata, failure_origin, failure_type, failure_message, failure_traceback,
    usage_record_count, incurred_usage_record_count, reused_usage_record_count, total_tokens, incurred_total_tokens,
    reused_total_tokens, actual_cost_usd, estimated_cost_usd, display_cost_usd, records_without_cost_count, input_tokens,
    output_tokens, incurred_input_tokens, incurred_output_tokens, reused_input_tokens, reused_output_tokens,
    adapters, models, warnings
    FROM executions JOIN execution_details USING (number) LEFT JOIN llm_usage USING (number)
    WHERE number IN (SELECT value FROM json_each(?1) UNION ALL SELECT number FROM streams WHERE exec_id = ?2)
    ORDER BY number DESC"""
_WAITS = """SELECT number, wait, version, kind, name, question, json_schema, metadata, whole, opened_at, expires_at
    FROM pending_waits WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number, wait"""
_INBOX = """SELECT e.exec_id, w.number, w.wait, w.version, w.kind, w.name, w.question, w.json_schema, w.metadata, w.whole,
    w.opened_at, w.expires_at FROM executions e JOIN pending_waits w ON w.number = e.number
    LEFT JOIN events ON events.number = w.number AND events.version = w.version
    WHERE e.project = ? AND e.status = 'waiting' AND w.kind = 'input' ORDER BY events.position"""
"""In the order of their positions, which the log has: times inform."""

_COUNTS = "SELECT status, count(*) FROM executions WHERE project = ? GROUP BY status ORDER BY status"


_OWN = 26
_SEEN = _OWN + len(Totals._fields)
"""Where in a row the sums of the LLM usage begin and end."""


_IS_CURRENT = """SELECT count(*) = 5 FROM meta WHERE (key, value) IN (VALUES ('projection:executions', '1'),
    ('projection:pending_waits', '2'), ('projection:artifacts', '1'), ('projection:reuse', '1'),
    ('projection:llm_usage', '1'))"""


class ExecutionRow(NamedTuple):
    """A row of `executions` with its details. Times are microseconds since 1970; `spec`, `tags` and what follows `usage`
    are JSON.
    """

    number: int
    exec_id: str
    version: int
    project: str
    flow_id: str
    flow_name: str
    stack: str
    status: str
    queued: int
    runner: str | None
    cancel_requested: int
    started_at: int
    ended_at: int | None
    checkpoint_count: int
    attempt_count: int
    cached_step_count: int
    artifact_count: int
    open_waits: int
    original_exec_id: str | None
    spec: str
    tags: str
    metadata: bytes | None
    failure_origin: str | None
    failure_type: str | None
    failure_message: bytes | None
    failure_traceback: bytes | None
    usage: Totals | None
    """The sums of its LLM usage records, None without any."""
    adapters: str | None
    models: str | None
    warnings: str | None


class WaitRow(NamedTuple):
    """A row of `pending_waits`. Not `whole`: a text past the inline limit is None, and the event at `version` has it."""

    number: int
    wait: int
    version: int
    kind: str
    name: str
    question: bytes | None
    json_schema: bytes | None
    metadata: bytes | None
    whole: int
    opened_at: int
    expires_at: int | None


def read_rows(query: Query, numbers: Sequence[int]) -> list[ExecutionRow]:
    """The rows of executions, newest first."""
    return [_row(row) for row in query(_ROWS, (_listed(numbers), None))]


def find_row(query: Query, exec_id: str) -> ExecutionRow | None:
    """The row of one execution, or None."""
    return next((_row(row) for row in query(_ROWS, ("[]", exec_id))), None)


def _row(columns: tuple[object, ...]) -> ExecutionRow:
    own, sums, seen = columns[:_OWN], columns[_OWN:_SEEN], columns[_SEEN:]
    usage = None if sums[0] is None else Totals._make(cast("tuple[int, ...]", sums))
    return ExecutionRow(*own, usage, *seen)  # type: ignore[arg-type]


def read_waits(query: Query, numbers: Sequence[int]) -> dict[int, list[WaitRow]]:
    """The pending waits and timers of executions, by number, oldest first."""
    found: dict[int, list[WaitRow]] = {}
    for row in query(_WAITS, (_listed(numbers),)):
        wait = WaitRow(*cast("WaitRow", row))
        found.setdefault(wait.number, []).append(wait)
    return found


def read_inbox(query: Query, project: str) -> list[tuple[str, WaitRow]]:
    """The waits for input of all executions of a project, oldest first, each with its execution's id."""
    return [(str(exec_id), WaitRow(*cast("WaitRow", row))) for exec_id, *row in query(_INBOX, (project,))]


def _listed(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def is_current(query: Query) -> bool:
    """Whether the read models are those that this version folds: its projectors would say so, but are slow to import."""
    return bool(query(_IS_CURRENT, ())[0][0])


def count_by_status(query: Query, project: str) -> dict[str, int]:
    """How many executions of a project have each status; those that none has are left out."""
    return {str(row[0]): int(str(row[1])) for row in query(_COUNTS, (project,))}
