"""The six tables as readers see them, each a view over what was staged, of one connection alone (TEMP).

Every view has, beside its own columns, `number` and `place` (to order by), `month` (when its execution started, UTC) and
`status` (its execution's), which are partitions or left out. Times are TIMESTAMP WITH TIME ZONE, durations seconds, costs
DECIMAL(20, 10) in USD; calls, attempts and waits end as `client.executions.get` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

_DOLLARS = """
    CREATE TEMP MACRO dollars(units) AS CAST(units * CAST(0.0000000001 AS DECIMAL(10, 10)) AS DECIMAL(20, 10))"""

_PARTS = """
    CREATE TEMP VIEW parts AS SELECT number, exec_id, started_at, strftime(make_timestamp(started_at), '%Y-%m') AS month,
        status FROM executions"""

_BREAKS = """
    CREATE TEMP VIEW breaks AS SELECT number, max(version) AS broken_at,
        max(CASE WHEN type <> 'RunnerClaimed' THEN version END) AS ended_at_version
    FROM events WHERE type IN ('RunnerClaimed', 'ExecutionCompleted', 'ExecutionFailed', 'ExecutionCancelled')
    GROUP BY number"""

_TRIES = """
    CREATE TEMP VIEW tries AS SELECT a.number, a.call, a.attempt, a.version, a.moment AS started_at,
        CASE WHEN e.type = 'CheckpointCompleted' THEN 'completed' WHEN e.type = 'AttemptFailed' THEN 'failed'
            WHEN b.broken_at > a.version THEN 'interrupted' ELSE 'running' END AS status,
        CASE WHEN e.moment IS NOT NULL THEN greatest(e.moment, a.moment) END AS ended_at, e.moment, e.origin,
        e.exception_type
    FROM events a
    LEFT JOIN events e ON e.number = a.number AND e.call = a.call AND e.attempt = a.attempt
        AND e.type IN ('CheckpointCompleted', 'AttemptFailed')
    LEFT JOIN breaks b ON b.number = a.number
    WHERE a.type = 'AttemptStarted'"""

_LAST_TRIES = """
    CREATE TEMP VIEW last_tries AS SELECT number, call, max(version) AS version, arg_max(status, version) AS status,
        arg_max(ended_at, version) AS ended_at, arg_max(origin, version) AS origin,
        arg_max(exception_type, version) AS exception_type, count(*) AS attempt_count,
        max(CASE WHEN status = 'completed' THEN moment END) AS completed_at
    FROM tries GROUP BY number, call"""

_CALLS = """
    CREATE TEMP VIEW calls AS SELECT o.number, o.version, o.call, o.invocation_id, o.name, o.checkpoint_type, o.parents,
        o.original_call_id, o.moment AS started_at, coalesce(l.attempt_count, 0) AS attempt_count,
        CASE WHEN o.type = 'CheckpointReused' THEN 'completed'
            WHEN l.status = 'failed' AND (f.version > l.version OR b.ended_at_version > l.version) THEN 'failed'
            WHEN l.status = 'failed' THEN 'running' ELSE l.status END AS status,
        CASE WHEN o.type = 'CheckpointReused' THEN o.moment
            WHEN l.status = 'completed' THEN greatest(l.completed_at, o.moment)
            WHEN f.version > l.version THEN greatest(f.moment, o.moment)
            WHEN l.status = 'failed' AND b.ended_at_version > l.version THEN greatest(l.ended_at, o.moment) END AS ended_at,
        l.origin, l.exception_type
    FROM events o
    LEFT JOIN last_tries l ON l.number = o.number AND l.call = o.call
    LEFT JOIN (SELECT number, call, max(version) AS version, arg_max(moment, version) AS moment FROM events
        WHERE type = 'CheckpointFailed' GROUP BY number, call) f ON f.number = o.number AND f.call = o.call
    LEFT JOIN breaks b ON b.number = o.number
    WHERE o.type = 'CheckpointReused' OR (o.type = 'AttemptStarted' AND o.attempt = 1)"""

_EXECUTIONS = """
    CREATE TEMP VIEW executions_rows AS SELECT e.number, 0 AS place, e.exec_id, e.flow_id, e.flow_name, e.stack AS stack_id,
        make_timestamptz(e.started_at) AS started_at, make_timestamptz(e.ended_at) AS ended_at,
        (e.ended_at - e.started_at) / 1e6 AS duration, (e.ended_at - e.started_at - e.waited) / 1e6 AS active_duration,
        e.waited / 1e6 AS wait_duration, e.checkpoint_count, e.attempt_count, e.cached_step_count, e.artifact_count,
        e.original_exec_id, from_json(e.tags, '["VARCHAR"]') AS tags, e.failure_origin, e.failure_type, e.metadata,
        e.llm_usage_record_count AS kitaru_llm_usage_record_count_v1,
        e.llm_incurred_usage_record_count AS kitaru_llm_incurred_usage_record_count_v1,
        e.llm_reused_usage_record_count AS kitaru_llm_reused_usage_record_count_v1,
        e.llm_total_tokens AS kitaru_llm_total_tokens_v1,
        e.llm_incurred_total_tokens AS kitaru_llm_incurred_total_tokens_v1,
        e.llm_reused_total_tokens AS kitaru_llm_reused_total_tokens_v1,
        dollars(e.llm_actual_cost_usd) AS kitaru_llm_actual_cost_usd_v1,
        dollars(e.llm_estimated_cost_usd) AS kitaru_llm_estimated_cost_usd_v1,
        dollars(e.llm_display_cost_usd) AS kitaru_llm_display_cost_usd_v1,
        e.llm_records_without_cost_count AS kitaru_llm_records_without_cost_count_v1,
        e.llm_input_tokens AS kitaru_llm_input_tokens_v1,
        e.llm_output_tokens AS kitaru_llm_output_tokens_v1,
        e.llm_incurred_input_tokens AS kitaru_llm_incurred_input_tokens_v1,
        e.llm_incurred_output_tokens AS kitaru_llm_incurred_output_tokens_v1,
        e.llm_reused_input_tokens AS kitaru_llm_reused_input_tokens_v1,
        e.llm_reused_output_tokens AS kitaru_llm_reused_output_tokens_v1,
        strftime(make_timestamp(e.started_at), '%Y-%m') AS month, e.status
    FROM executions e"""

_CHECKPOINTS = """
    CREATE TEMP VIEW checkpoints_rows AS SELECT c.number, c.version AS place, p.exec_id,
        p.exec_id || '.c' || c.call AS call_id, c.invocation_id,
        c.name, c.checkpoint_type, c.status AS checkpoint_status, make_timestamptz(c.started_at) AS started_at,
        make_timestamptz(c.ended_at) AS ended_at, (c.ended_at - c.started_at) / 1e6 AS duration,
        CAST(c.attempt_count AS INTEGER) AS attempt_count, c.original_call_id,
        coalesce([p.exec_id || '.c' || parent for parent in c.parents], CAST([] AS VARCHAR[])) AS parent_call_ids,
        CASE WHEN c.status = 'failed' THEN c.origin END AS failure_origin,
        CASE WHEN c.status = 'failed' THEN c.exception_type END AS failure_type, m.metadata, p.month, p.status
    FROM calls c JOIN parts p ON p.number = c.number
    LEFT JOIN call_metadata m ON m.number = c.number AND m.call = c.call"""

_ATTEMPTS = """
    CREATE TEMP VIEW attempts_rows AS SELECT t.number, t.version AS place, p.exec_id, p.exec_id || '.c' || t.call AS call_id,
        p.exec_id || '.c' || t.call || '.' || t.attempt AS attempt_id, t.attempt, t.status AS attempt_status,
        make_timestamptz(t.started_at) AS started_at, make_timestamptz(t.ended_at) AS ended_at,
        (t.ended_at - t.started_at) / 1e6 AS duration, t.origin AS failure_origin, t.exception_type AS failure_type,
        p.month, p.status
    FROM tries t JOIN parts p ON p.number = t.number"""

_ENDED_WAITS = """
    CREATE TEMP VIEW ended_waits AS SELECT o.number, o.version, o.wait, o.name, o.invocation_id, o.kind, o.moment,
        o.expires_at,
        CASE c.type WHEN 'WaitResolved' THEN 'answered' WHEN 'WaitAborted' THEN 'aborted' WHEN 'WaitExpired' THEN 'expired'
            ELSE CASE WHEN e.moment IS NOT NULL THEN 'cancelled' END END AS outcome, c.asker,
        CASE WHEN coalesce(c.moment, e.moment) IS NOT NULL THEN greatest(coalesce(c.moment, e.moment), o.moment) END
            AS closed_at
    FROM events o
    LEFT JOIN events c ON c.number = o.number AND c.wait = o.wait
        AND c.type IN ('WaitResolved', 'WaitAborted', 'WaitExpired')
    LEFT JOIN (SELECT o.number, o.wait, arg_min(x.moment, x.version) AS moment FROM events o
        JOIN events x ON x.number = o.number AND x.version > o.version
            AND x.type IN ('ExecutionCompleted', 'ExecutionFailed', 'ExecutionCancelled')
        WHERE o.type = 'WaitOpened' GROUP BY o.number, o.wait) e
        ON e.number = o.number AND e.wait = o.wait AND c.moment IS NULL
    WHERE o.type = 'WaitOpened'"""

_WAITS = """
    CREATE TEMP VIEW waits_rows AS SELECT w.number, w.version AS place, p.exec_id, p.exec_id || '.w' || w.wait AS wait_id,
        w.name, w.invocation_id, w.kind, make_timestamptz(w.moment) AS opened_at, make_timestamptz(w.closed_at) AS closed_at,
        (w.closed_at - w.moment) / 1e6 AS duration, w.outcome, w.asker AS closed_by,
        make_timestamptz(w.expires_at) AS expires_at, p.month, p.status
    FROM ended_waits w JOIN parts p ON p.number = w.number"""

_USAGE = """
    CREATE TEMP VIEW llm_usage_rows AS SELECT u.number, u.version AS place, p.exec_id,
        p.exec_id || '.c' || u.call AS call_id, u.attempt, u.record_id, f.event_id,
        make_timestamptz(u.moment) AS recorded_at, coalesce(f.adapter, 'kitaru.llm') AS adapter, r.surface, r.call_name,
        f.provider, f.model, r.requested_model, f.input_tokens, f.output_tokens, f.total_tokens, f.cached_input_tokens,
        f.reasoning_tokens,
        dollars(f.actual_cost) AS actual_cost_usd,
        dollars(f.estimated_cost) AS estimated_cost_usd,
        dollars(coalesce(f.actual_cost, f.estimated_cost))
            AS display_cost_usd, r.cost.source AS cost_source, r.cost.pricing_version, f.latency_us / 1e6 AS latency,
        coalesce(f.status, 'completed') AS usage_status, coalesce(f.billing_effect, 'incurred') AS billing_effect,
        r.cache_status, p.month, p.status
    FROM (SELECT number, version, call, attempt, record_id, moment, from_json(body, '{"figures":{"event_id":"VARCHAR",
        "adapter":"VARCHAR","provider":"VARCHAR","model":"VARCHAR","status":"VARCHAR","billing_effect":"VARCHAR",
        "input_tokens":"BIGINT","output_tokens":"BIGINT","total_tokens":"BIGINT","cached_input_tokens":"BIGINT",
        "reasoning_tokens":"BIGINT","actual_cost":"DECIMAL(18,0)","estimated_cost":"DECIMAL(18,0)",
        "latency_us":"BIGINT"}}').figures AS f, from_json(record, '{"surface":"VARCHAR","call_name":"VARCHAR",
        "requested_model":"VARCHAR","cost":{"source":"VARCHAR","pricing_version":"VARCHAR"},
        "cache_status":"VARCHAR"}') AS r
        FROM events WHERE type = 'LLMUsageRecorded') u
    JOIN parts p ON p.number = u.number
    QUALIFY row_number() OVER (PARTITION BY u.number, u.call, u.attempt, u.record_id, f.event_id ORDER BY u.version) = 1"""

_EVENTS = """
    CREATE TEMP VIEW events_rows AS SELECT e.number, e.version AS place, p.exec_id,
        e.version, e.position, e.type, e.v AS schema_version, e.event_id,
        make_timestamptz(e.moment) AS recorded_at, e.body, p.month, p.status
    FROM events e JOIN parts p ON p.number = e.number"""

VIEWS = (
    _DOLLARS, _PARTS, _BREAKS, _TRIES, _LAST_TRIES, _CALLS, _ENDED_WAITS,
    _EXECUTIONS, _CHECKPOINTS, _ATTEMPTS, _WAITS, _USAGE, _EVENTS,
)  # fmt: skip
"""In the order in which they need each other."""
VIEWS_OF_EXECUTIONS = (_DOLLARS, _EXECUTIONS)
"""What the first table alone needs: to make the others takes as long as to write 5,000 rows."""
_UNDERNEATH = VIEWS[:7]

TABLES: Final[Mapping[str, str]] = {
    "executions": _EXECUTIONS,
    "checkpoints": _CHECKPOINTS,
    "attempts": _ATTEMPTS,
    "waits": _WAITS,
    "llm_usage": _USAGE,
    "events": _EVENTS,
}
"""What can be exported, and how each comes about."""

PARTITIONS = ("month", "status")
"""What files can be partitioned by, in this order."""

COPY_EXECUTIONS: Final[Mapping[tuple[str, ...], str]] = {
    (): """COPY (SELECT * EXCLUDE (number, place, month) FROM {table}_rows)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)""",
    ("month",): """COPY (SELECT * EXCLUDE (number, place) FROM {table}_rows)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384, PARTITION_BY (month))""",
    ("status",): """COPY (SELECT * EXCLUDE (number, place, month) FROM {table}_rows)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384, PARTITION_BY (status))""",
    ("month", "status"): """COPY (SELECT * EXCLUDE (number, place) FROM {table}_rows)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384, PARTITION_BY (month, status))""",
}
"""By partitions: an execution's status is a column of its own table, or the name of a folder. They stand in
the order of their numbers, but for those that changed since the base: to sort them takes as long as to write them.
"""

COPY_OTHERS: Final[Mapping[tuple[str, ...], str]] = {
    (): """COPY (SELECT * EXCLUDE (number, place, month, status) FROM {table}_rows ORDER BY number, place)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)""",
    ("month",): """COPY (SELECT * EXCLUDE (number, place, status) FROM {table}_rows ORDER BY number, place)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384, PARTITION_BY (month))""",
    ("status",): """COPY (SELECT * EXCLUDE (number, place, month) FROM {table}_rows ORDER BY number, place)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384, PARTITION_BY (status))""",
    ("month", "status"): """COPY (SELECT * EXCLUDE (number, place) FROM {table}_rows ORDER BY number, place)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384, PARTITION_BY (month, status))""",
}

COPY_EMPTY: Final[Mapping[bool, str]] = {
    False: """COPY (SELECT * EXCLUDE (number, place, month, status) FROM {table}_rows LIMIT 0)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)""",
    True: """COPY (SELECT * EXCLUDE (number, place, month) FROM {table}_rows LIMIT 0)
        TO ? (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)""",
}
"""By whether `status` is a column."""

COUNT_IN_FILE = "SELECT num_rows FROM parquet_file_metadata(?)"


def columns_digest(table: str) -> str:
    """What changes when a table has other columns, or they come about otherwise."""
    text = "".join((*_UNDERNEATH, TABLES[table]))
    return blake2b(text.encode(), digest_size=8).hexdigest()
