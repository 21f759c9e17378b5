"""How one bucket's rows get from the store into DuckDB: read as one JSON array a column, unfolded there, in tables that
belong to one connection (TEMP), so that several buckets can be staged side by side.

What is read is constant SQL on the store's tables and read models; times are microseconds since 1970.
"""

from __future__ import annotations

CREATE = (
    """CREATE TEMP TABLE read_executions (
        number INTEGER NOT NULL, exec_id VARCHAR, flow_id VARCHAR, flow_name VARCHAR, stack VARCHAR, status VARCHAR,
        started_at BIGINT, ended_at BIGINT, waited BIGINT, checkpoint_count INTEGER, attempt_count INTEGER,
        cached_step_count INTEGER, artifact_count INTEGER, original_exec_id VARCHAR, tags VARCHAR, metadata VARCHAR,
        failure_origin VARCHAR, failure_type VARCHAR
    )""",
    """CREATE TEMP TABLE events (
        position BIGINT, number INTEGER NOT NULL, version INTEGER NOT NULL, type VARCHAR NOT NULL, v INTEGER,
        event_id VARCHAR, body VARCHAR, record VARCHAR, moment BIGINT, call INTEGER, attempt INTEGER, wait INTEGER,
        name VARCHAR, invocation_id VARCHAR, checkpoint_type VARCHAR, parents INTEGER[], original_call_id VARCHAR,
        origin VARCHAR, exception_type VARCHAR, kind VARCHAR, asker VARCHAR, expires_at BIGINT, record_id VARCHAR
    )""",
    """CREATE TEMP TABLE read_totals (
        number INTEGER NOT NULL,
        llm_usage_record_count BIGINT, llm_incurred_usage_record_count BIGINT, llm_reused_usage_record_count BIGINT,
        llm_total_tokens BIGINT, llm_incurred_total_tokens BIGINT, llm_reused_total_tokens BIGINT,
        llm_actual_cost_usd BIGINT, llm_estimated_cost_usd BIGINT, llm_display_cost_usd BIGINT,
        llm_records_without_cost_count BIGINT, llm_input_tokens BIGINT, llm_output_tokens BIGINT,
        llm_incurred_input_tokens BIGINT, llm_incurred_output_tokens BIGINT, llm_reused_input_tokens BIGINT,
        llm_reused_output_tokens BIGINT
    )""",
    "CREATE TEMP TABLE changed (number INTEGER NOT NULL)",
    "CREATE TEMP TABLE call_metadata (number INTEGER NOT NULL, call INTEGER NOT NULL, metadata VARCHAR)",
)
CLEAR = (
    "DELETE FROM read_executions",
    "DELETE FROM read_totals",
    "DELETE FROM changed",
    "DELETE FROM events",
    "DELETE FROM call_metadata",
)

READ_EXECUTIONS = """SELECT count(*), max(e.number), json_group_array(e.number), json_group_array(e.exec_id),
    json_group_array(e.flow_id), json_group_array(e.flow_name), json_group_array(e.stack), json_group_array(e.status),
    json_group_array(e.started_at), json_group_array(e.ended_at), json_group_array(e.waited),
    json_group_array(e.checkpoint_count), json_group_array(e.attempt_count), json_group_array(e.cached_step_count),
    json_group_array(e.artifact_count), json_group_array(e.original_exec_id), json_group_array(e.tags),
    json_group_array(CAST(e.metadata AS TEXT)), json_group_array(e.failure_origin), json_group_array(e.failure_type)
    FROM (SELECT * FROM executions x JOIN execution_details d USING (number) WHERE x.number > ? AND x.number <= ?
        AND x.project = ? AND x.started_at >= ? AND x.started_at < ? ORDER BY x.number LIMIT ?) e"""
READ_SOME_EXECUTIONS = """SELECT count(*), max(e.number), json_group_array(e.number), json_group_array(e.exec_id),
    json_group_array(e.flow_id), json_group_array(e.flow_name), json_group_array(e.stack), json_group_array(e.status),
    json_group_array(e.started_at), json_group_array(e.ended_at), json_group_array(e.waited),
    json_group_array(e.checkpoint_count), json_group_array(e.attempt_count), json_group_array(e.cached_step_count),
    json_group_array(e.artifact_count), json_group_array(e.original_exec_id), json_group_array(e.tags),
    json_group_array(CAST(e.metadata AS TEXT)), json_group_array(e.failure_origin), json_group_array(e.failure_type)
    FROM (SELECT * FROM executions x JOIN execution_details d USING (number)
        WHERE x.number IN (SELECT value FROM json_each(?)) AND x.project = ? AND x.started_at >= ? AND x.started_at < ?) e"""
ADD_EXECUTIONS = """INSERT INTO read_executions
    SELECT unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')),
        unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["INTEGER"]')),
        unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]'))"""

CHANGED_SINCE = "SELECT DISTINCT +number FROM events WHERE position > ? AND +number >= ? AND +number <= ?"
"""The plus signs: by its positions. Without them SQLite walks the index by number, which is all of it."""
READ_TOTALS = """SELECT count(*), max(u.number), json_group_array(u.number),
    json_group_array(u.usage_record_count), json_group_array(u.incurred_usage_record_count),
    json_group_array(u.reused_usage_record_count), json_group_array(u.total_tokens),
    json_group_array(u.incurred_total_tokens), json_group_array(u.reused_total_tokens),
    json_group_array(u.actual_cost_usd), json_group_array(u.estimated_cost_usd), json_group_array(u.display_cost_usd),
    json_group_array(u.records_without_cost_count), json_group_array(u.input_tokens), json_group_array(u.output_tokens),
    json_group_array(u.incurred_input_tokens), json_group_array(u.incurred_output_tokens),
    json_group_array(u.reused_input_tokens), json_group_array(u.reused_output_tokens)
    FROM (SELECT * FROM llm_usage WHERE number > ? AND number <= ? ORDER BY number LIMIT ?) u"""
READ_SOME_TOTALS = """SELECT count(*), max(u.number), json_group_array(u.number),
    json_group_array(u.usage_record_count), json_group_array(u.incurred_usage_record_count),
    json_group_array(u.reused_usage_record_count), json_group_array(u.total_tokens),
    json_group_array(u.incurred_total_tokens), json_group_array(u.reused_total_tokens),
    json_group_array(u.actual_cost_usd), json_group_array(u.estimated_cost_usd), json_group_array(u.display_cost_usd),
    json_group_array(u.records_without_cost_count), json_group_array(u.input_tokens), json_group_array(u.output_tokens),
    json_group_array(u.incurred_input_tokens), json_group_array(u.incurred_output_tokens),
    json_group_array(u.reused_input_tokens), json_group_array(u.reused_output_tokens)
    FROM llm_usage u WHERE u.number IN (SELECT value FROM json_each(?))"""
ADD_TOTALS = """INSERT INTO read_totals
    SELECT unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')),
    unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')),
    unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')),
    unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')),
    unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]')),
    unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["BIGINT"]'))"""

ADD_CHANGED = "INSERT INTO changed SELECT unnest(from_json(?, '[\"INTEGER\"]'))"

WITHOUT_BASE = """CREATE TEMP VIEW executions AS SELECT r.*, t.* EXCLUDE (number)
    FROM read_executions r LEFT JOIN read_totals t ON t.number = r.number"""
WITH_BASE = """CREATE TEMP VIEW executions AS SELECT r.*, t.* EXCLUDE (number)
    FROM read_executions r LEFT JOIN read_totals t ON t.number = r.number
    UNION ALL
    SELECT e.number, d.exec_id, e.flow_id, d.flow_name, e.stack, e.status, e.started_at, d.ended_at, e.waited,
        e.checkpoint_count, e.attempt_count, e.cached_step_count, e.artifact_count, d.original_exec_id, d.tags, d.metadata,
        d.failure_origin, d.failure_type,
        e.llm_usage_record_count, e.llm_incurred_usage_record_count, e.llm_reused_usage_record_count,
        e.llm_total_tokens, e.llm_incurred_total_tokens, e.llm_reused_total_tokens, e.llm_actual_cost_usd,
        e.llm_estimated_cost_usd, e.llm_display_cost_usd, e.llm_records_without_cost_count, e.llm_input_tokens,
        e.llm_output_tokens, e.llm_incurred_input_tokens, e.llm_incurred_output_tokens, e.llm_reused_input_tokens,
        e.llm_reused_output_tokens
    FROM base.executions e JOIN base.details d ON d.number = e.number
    WHERE e.number >= CAST(getvariable('first') AS INTEGER) AND e.number <= CAST(getvariable('last') AS INTEGER)
        AND d.number >= CAST(getvariable('first') AS INTEGER) AND d.number <= CAST(getvariable('last') AS INTEGER)
        AND e.project = CAST(getvariable('project') AS VARCHAR) AND e.started_at >= CAST(getvariable('since') AS BIGINT)
        AND e.started_at < CAST(getvariable('until') AS BIGINT) AND e.number NOT IN (SELECT number FROM changed)"""
"""Of a base, what has no event since; the others are read from the store. The base is read where it is: to copy its rows
first takes as long as to write them.
"""
SET_FIRST = "SET VARIABLE first = ?"
SET_LAST = "SET VARIABLE last = ?"
SET_PROJECT = "SET VARIABLE project = ?"
SET_SINCE = "SET VARIABLE since = ?"
SET_UNTIL = "SET VARIABLE until = ?"

VERSIONS = 4_294_967_296
"""A place in the events' order is number * VERSIONS + version: one integer to go on from."""

READ_EVENTS = """SELECT count(*), max(e.number * 4294967296 + e.version), json_group_array(e.position),
    json_group_array(e.number), json_group_array(e.version), json_group_array(e.type), json_group_array(e.v),
    json_group_array(e.event_id), json_group_array(e.body), json_group_array(e.record)
    FROM (SELECT s.position, s.number, s.version, s.type, s.v, s.event_id, CAST(s.body AS TEXT) AS body,
        CASE WHEN s.type = 'LLMUsageRecorded' THEN coalesce(CAST(s.payload AS TEXT),
            (SELECT CAST(b.data AS TEXT) FROM blob_uses u JOIN blobs b ON b.id = u.blob
                WHERE u.number = s.number AND u.version = s.version)) END AS record
        FROM events s JOIN executions x ON x.number = s.number
        WHERE (s.number, s.version) > (?, ?) AND s.number <= ? AND s.version > 0
            AND x.project = ? AND x.started_at >= ? AND x.started_at < ? ORDER BY s.number, s.version LIMIT ?) e"""
ADD_EVENTS = """INSERT INTO events
    SELECT position, number, version, type, v, event_id, body, record, b['at'], b.call, b.attempt, b.wait, b.name,
        b.invocation_id, b.checkpoint_type, b.parents, b.original_call_id, b.origin, b.exception_type, b.kind, b.by,
        b.expires_at, b.record_id
    FROM (SELECT *, from_json(body, '{"at":"BIGINT","call":"INTEGER","attempt":"INTEGER","wait":"INTEGER",
        "name":"VARCHAR","invocation_id":"VARCHAR","checkpoint_type":"VARCHAR","parents":["INTEGER"],
        "original_call_id":"VARCHAR","origin":"VARCHAR","exception_type":"VARCHAR","kind":"VARCHAR","by":"VARCHAR",
        "expires_at":"BIGINT","record_id":"VARCHAR"}') AS b FROM (
        SELECT unnest(from_json(?, '["BIGINT"]')) AS position, unnest(from_json(?, '["INTEGER"]')) AS number,
            unnest(from_json(?, '["INTEGER"]')) AS version, unnest(from_json(?, '["VARCHAR"]')) AS type,
            unnest(from_json(?, '["INTEGER"]')) AS v, unnest(from_json(?, '["VARCHAR"]')) AS event_id,
            unnest(from_json(?, '["VARCHAR"]')) AS body, unnest(from_json(?, '["VARCHAR"]')) AS record))"""

READ_CALL_METADATA = """SELECT s.number, s.version, json_extract(CAST(s.body AS TEXT), '$.call'),
    coalesce(CAST(s.payload AS TEXT), (SELECT CAST(b.data AS TEXT) FROM blob_uses u JOIN blobs b ON b.id = u.blob
        WHERE u.number = s.number AND u.version = s.version))
    FROM events s WHERE s.number > ? AND s.number <= ? AND s.type = 'MetadataLogged'
        AND json_extract(CAST(s.body AS TEXT), '$.call') IS NOT NULL ORDER BY s.number, s.version"""
ADD_CALL_METADATA = """INSERT INTO call_metadata SELECT unnest(from_json(?, '["INTEGER"]')),
    unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]'))"""

CHANGED = "SELECT DISTINCT +number FROM events WHERE position > ?"
DIGEST_AT = "SELECT lower(hex(digest)) FROM events WHERE position = ?"
GREATEST_NUMBER = "SELECT coalesce(max(number), 0) FROM streams"
