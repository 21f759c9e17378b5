"""The columnar tables of executions, and how rows get from SQLite into them.

Rows travel as one JSON array for each column: made by SQLite, unfolded by DuckDB, a slice of executions at a time. That
takes 3 µs a row of thirteen columns, half of what arrays of rows take, and needs no other library. Only floats do not go
that way: SQLite 3.40 writes 15 digits of them.
"""

from __future__ import annotations

CREATE = (
    """CREATE TABLE executions (
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
        artifact_count INTEGER NOT NULL
    )""",
    """CREATE TABLE tags (
        number INTEGER NOT NULL,
        tag VARCHAR,
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
        artifact_count INTEGER NOT NULL
    )""",
    "CREATE TABLE arrived (number INTEGER NOT NULL)",
    "CREATE TABLE tag_rows (number INTEGER NOT NULL, tag VARCHAR NOT NULL)",
)
"""`tags` repeats of an execution what is asked of it, once a tag, and once without a tag for those that have none: a join
takes five times as long. `quarter` counts quarters of an hour since the year 1.
"""

CREATE_TAIL = (
    "CREATE TABLE changed (number INTEGER NOT NULL)",
    """CREATE TABLE key_values (
        slot INTEGER NOT NULL, number INTEGER NOT NULL, label VARCHAR NOT NULL, number_value DOUBLE, exact BIGINT
    )""",
)

ARRIVE = "INSERT INTO arrived SELECT unnest(from_json(?, '[\"INTEGER\"]'))"
CLEAR = (
    "DELETE FROM executions WHERE number IN (SELECT number FROM arrived)",
    "DELETE FROM tags WHERE number IN (SELECT number FROM arrived)",
)
LEAVE = ("DELETE FROM arrived", "DELETE FROM tag_rows")

READ_EXECUTIONS = """SELECT json_group_array(number), json_group_array(project), json_group_array(flow_id),
    json_group_array(stack), json_group_array(status), json_group_array(started_at), json_group_array(ended_at),
    json_group_array(waited), json_group_array(checkpoint_count), json_group_array(attempt_count),
    json_group_array(cached_step_count), json_group_array(artifact_count)
    FROM executions WHERE number IN (SELECT value FROM json_each(?))"""
ADD_EXECUTIONS = """INSERT INTO executions
    SELECT number, project, flow_id, stack, status, started_at,
        (least(greatest(started_at, -62135596800000000), 253402300799999999) + 62135596800000000) // 900000000,
        ended_at - started_at, waited, checkpoint_count, attempt_count, cached_step_count, artifact_count
    FROM (SELECT unnest(from_json(?, '["INTEGER"]')) AS number, unnest(from_json(?, '["VARCHAR"]')) AS project,
        unnest(from_json(?, '["VARCHAR"]')) AS flow_id, unnest(from_json(?, '["VARCHAR"]')) AS stack,
        unnest(from_json(?, '["VARCHAR"]')) AS status, unnest(from_json(?, '["BIGINT"]')) AS started_at,
        unnest(from_json(?, '["BIGINT"]')) AS ended_at, unnest(from_json(?, '["BIGINT"]')) AS waited,
        unnest(from_json(?, '["INTEGER"]')) AS checkpoint_count, unnest(from_json(?, '["INTEGER"]')) AS attempt_count,
        unnest(from_json(?, '["INTEGER"]')) AS cached_step_count, unnest(from_json(?, '["INTEGER"]')) AS artifact_count)"""

READ_TAGS = """SELECT json_group_array(number), json_group_array(tag) FROM execution_tags
    WHERE number IN (SELECT value FROM json_each(?))"""
ADD_TAG_ROWS = """INSERT INTO tag_rows
    SELECT unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]'))"""
ADD_TAGS = """INSERT INTO tags
    SELECT number, tag, project, flow_id, stack, status, started_at, quarter, duration, waited, checkpoint_count,
        attempt_count, cached_step_count, artifact_count
    FROM executions SEMI JOIN arrived USING (number) LEFT JOIN tag_rows USING (number)"""

# --- metadata, a key at a time -------------------------------------------------------------------------------------------
# A label is what is grouped by: the kind's letter and the value, so that 1, "1" and true are three and 1 and 1.0 are one.

READ_VALUES = """SELECT json_group_array(number), json_group_array(kind || value),
    json_group_array(CASE kind WHEN 'n' THEN value END),
    json_group_array(CASE WHEN kind = 'n' AND (value >= 9007199254740992 OR value <= -9007199254740992) THEN value END)
    FROM execution_metadata WHERE key = ? AND typeof(value) <> 'real'
    AND number IN (SELECT value FROM json_each(?))"""
READ_FLOATS = """SELECT number, value FROM execution_metadata WHERE key = ? AND typeof(value) = 'real'
    AND number IN (SELECT value FROM json_each(?))"""
ADD_VALUES = """INSERT INTO key_values
    SELECT CAST(? AS INTEGER), unnest(from_json(?, '["INTEGER"]')), unnest(from_json(?, '["VARCHAR"]')),
        unnest(from_json(?, '["DOUBLE"]')), unnest(from_json(?, '["BIGINT"]'))"""
CLEAR_VALUES = "DELETE FROM key_values WHERE number IN (SELECT number FROM arrived)"
DROP_SLOT = "DELETE FROM key_values WHERE slot = ?"
