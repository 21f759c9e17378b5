"""The columnar rows of executions, and how they get there from SQLite.

Rows travel as one JSON array for each column: made by SQLite, unfolded by DuckDB, a slice of executions at a time. That
takes 3 µs a row of thirteen columns, half of what arrays of rows take, and needs no other library. Only floats do not go
that way: SQLite 3.40 writes 15 digits of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kitaru.analytics.connection import Duck
from kitaru.store.log import Reads

CREATE_LANDING = """CREATE TEMP TABLE landed (
        number INTEGER NOT NULL,
        project VARCHAR NOT NULL,
        flow_id VARCHAR NOT NULL,
        stack VARCHAR NOT NULL,
        status VARCHAR NOT NULL,
        started_at BIGINT NOT NULL,
        quarter INTEGER NOT NULL,
        duration BIGINT,
        waited BIGINT NOT NULL,
        checkpoint_count INTEGER NOT NULL,
        attempt_count INTEGER NOT NULL,
        cached_step_count INTEGER NOT NULL,
        artifact_count INTEGER NOT NULL,
        llm_usage_record_count BIGINT,
        llm_incurred_usage_record_count BIGINT,
        llm_reused_usage_record_count BIGINT,
        llm_total_tokens BIGINT,
        llm_incurred_total_tokens BIGINT,
        llm_reused_total_tokens BIGINT,
        llm_actual_cost_usd BIGINT,
        llm_estimated_cost_usd BIGINT,
        llm_display_cost_usd BIGINT,
        llm_records_without_cost_count BIGINT,
        llm_input_tokens BIGINT,
        llm_output_tokens BIGINT,
        llm_incurred_input_tokens BIGINT,
        llm_incurred_output_tokens BIGINT,
        llm_reused_input_tokens BIGINT,
        llm_reused_output_tokens BIGINT
    )"""
"""Where a slice of rows is put first. `quarter` counts quarters of an hour since the year 1. Times are microseconds, costs
whole numbers of 10^-10 USD; what begins with `llm_` is NULL where there are no usage records.
"""

CREATE = "CREATE TABLE executions AS FROM landed LIMIT 0"
CREATE_TAGS = "CREATE TABLE tags AS SELECT *, CAST(NULL AS VARCHAR) AS tag FROM landed LIMIT 0"
"""`tags` repeats an execution's row, once a tag, and once without a tag for those that have none: a join takes five times
as long.
"""

CREATE_DETAILS = """CREATE TABLE details (
        number INTEGER NOT NULL,
        exec_id VARCHAR NOT NULL,
        flow_name VARCHAR NOT NULL,
        version INTEGER NOT NULL,
        queued INTEGER NOT NULL,
        runner VARCHAR,
        cancel_requested INTEGER NOT NULL,
        ended_at BIGINT,
        open_waits INTEGER NOT NULL,
        waiting_since BIGINT,
        original_exec_id VARCHAR,
        spec VARCHAR NOT NULL,
        tags VARCHAR NOT NULL,
        metadata VARCHAR,
        failure_origin VARCHAR,
        failure_type VARCHAR,
        failure_message VARCHAR,
        failure_traceback VARCHAR
    )"""
"""What only the export takes: in the base, not in the tail. Metadata and texts of failures are the codec's JSON."""

CLEAR = (
    "DELETE FROM executions WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
    "DELETE FROM tags WHERE number IN (SELECT unnest(from_json(?, '[\"INTEGER\"]')))",
)

_READ = """SELECT json_group_array(number), json_group_array(project), json_group_array(flow_id),
    json_group_array(stack), json_group_array(status), json_group_array(started_at), json_group_array(ended_at),
    json_group_array(waited), json_group_array(checkpoint_count), json_group_array(attempt_count),
    json_group_array(cached_step_count), json_group_array(artifact_count)
    FROM executions WHERE number IN (SELECT value FROM json_each(?))"""
_LAND = """CREATE OR REPLACE TEMP TABLE landed AS
    SELECT number, project, flow_id, stack, status, started_at,
        CAST((least(greatest(started_at, -62135596800000000), 253402300799999999) + 62135596800000000) // 900000000
            AS INTEGER) AS quarter,
        ended_at - started_at AS duration, waited, checkpoint_count, attempt_count, cached_step_count, artifact_count,
        landed_usage.* EXCLUDE (number)
    FROM (SELECT unnest(from_json(?, '["INTEGER"]')) AS number, unnest(from_json(?, '["VARCHAR"]')) AS project,
        unnest(from_json(?, '["VARCHAR"]')) AS flow_id, unnest(from_json(?, '["VARCHAR"]')) AS stack,
        unnest(from_json(?, '["VARCHAR"]')) AS status, unnest(from_json(?, '["BIGINT"]')) AS started_at,
        unnest(from_json(?, '["BIGINT"]')) AS ended_at, unnest(from_json(?, '["BIGINT"]')) AS waited,
        unnest(from_json(?, '["INTEGER"]')) AS checkpoint_count, unnest(from_json(?, '["INTEGER"]')) AS attempt_count,
        unnest(from_json(?, '["INTEGER"]')) AS cached_step_count, unnest(from_json(?, '["INTEGER"]')) AS artifact_count)
    LEFT JOIN landed_usage USING (number)"""

_READ_USAGE = """SELECT json_group_array(number),
    json_group_array(usage_record_count), json_group_array(incurred_usage_record_count),
    json_group_array(reused_usage_record_count), json_group_array(total_tokens),
    json_group_array(incurred_total_tokens), json_group_array(reused_total_tokens), json_group_array(actual_cost_usd),
    json_group_array(estimated_cost_usd), json_group_array(display_cost_usd),
    json_group_array(records_without_cost_count), json_group_array(input_tokens), json_group_array(output_tokens),
    json_group_array(incurred_input_tokens), json_group_array(incurred_output_tokens),
    json_group_array(reused_input_tokens), json_group_array(reused_output_tokens)
    FROM llm_usage WHERE number IN (SELECT value FROM json_each(?))"""
_LAND_USAGE = """CREATE OR REPLACE TEMP TABLE landed_usage AS
    SELECT unnest(from_json(?, '["INTEGER"]')) AS number,
        unnest(from_json(?, '["BIGINT"]')) AS llm_usage_record_count,
        unnest(from_json(?, '["BIGINT"]')) AS llm_incurred_usage_record_count,
        unnest(from_json(?, '["BIGINT"]')) AS llm_reused_usage_record_count,
        unnest(from_json(?, '["BIGINT"]')) AS llm_total_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_incurred_total_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_reused_total_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_actual_cost_usd,
        unnest(from_json(?, '["BIGINT"]')) AS llm_estimated_cost_usd,
        unnest(from_json(?, '["BIGINT"]')) AS llm_display_cost_usd,
        unnest(from_json(?, '["BIGINT"]')) AS llm_records_without_cost_count,
        unnest(from_json(?, '["BIGINT"]')) AS llm_input_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_output_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_incurred_input_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_incurred_output_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_reused_input_tokens,
        unnest(from_json(?, '["BIGINT"]')) AS llm_reused_output_tokens"""
ADD = "INSERT INTO executions SELECT * FROM landed"

_READ_TAGS = """SELECT json_group_array(number), json_group_array(tag) FROM execution_tags
    WHERE number IN (SELECT value FROM json_each(?))"""
_LAND_TAGS = """CREATE OR REPLACE TEMP TABLE landed_tags AS
    SELECT unnest(from_json(?, '["INTEGER"]')) AS number, unnest(from_json(?, '["VARCHAR"]')) AS tag"""
_ADD_TAGS = "INSERT INTO tags SELECT landed.*, tag FROM landed LEFT JOIN landed_tags USING (number)"

_READ_DETAILS = """SELECT json_group_array(e.number), json_group_array(exec_id), json_group_array(flow_name),
    json_group_array(version), json_group_array(queued), json_group_array(runner), json_group_array(cancel_requested),
    json_group_array(ended_at), json_group_array(open_waits), json_group_array(waiting_since),
    json_group_array(original_exec_id), json_group_array(spec), json_group_array(tags),
    json_group_array(CAST(metadata AS TEXT)), json_group_array(failure_origin), json_group_array(failure_type),
    json_group_array(CAST(failure_message AS TEXT)), json_group_array(CAST(failure_traceback AS TEXT))
    FROM executions e JOIN execution_details d ON d.number = e.number
    WHERE e.number IN (SELECT value FROM json_each(?))"""
_ADD_DETAILS = """INSERT INTO details
    SELECT unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["INTEGER"]')),
        unnest(from_json(?, '["BIGINT"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["VARCHAR"]'))"""


def land(moment: Reads, duck: Duck, numbers: str) -> None:
    """Bring the rows of some executions, a JSON array of their numbers, as far as `landed` and `tags`."""
    duck.execute(_LAND_USAGE, moment.query(_READ_USAGE, (numbers,))[0])
    duck.execute(_LAND, moment.query(_READ, (numbers,))[0])
    duck.execute(_LAND_TAGS, moment.query(_READ_TAGS, (numbers,))[0])
    duck.execute(_ADD_TAGS)


def add_details(moment: Reads, duck: Duck, numbers: str) -> None:
    """Add to `details`."""
    duck.execute(_ADD_DETAILS, moment.query(_READ_DETAILS, (numbers,))[0])


def array(numbers: Sequence[int]) -> str:
    """A JSON array of whole numbers."""
    return f"[{','.join(map(str, numbers))}]"
