"""Every table of the store and every statement on them. Statements are constants; values are parameters.

`streams` has one row for each execution: where its chain ends, and all that decides a command. `events` has the events of
all executions; a position is never used twice, because the largest row always stays: deleting an execution first puts a
tombstone (version 0) behind it, in the same transaction. That keeps what AUTOINCREMENT promises without the page that
AUTOINCREMENT writes in every commit (6 to 12 µs of 190, measured).
"""

from __future__ import annotations

APPLICATION_ID = 0x4B495441
FORMAT = 1

CREATE = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE streams (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        exec_id TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        digest BLOB NOT NULL,
        status TEXT,
        epoch INTEGER NOT NULL,
        runner TEXT,
        flags INTEGER NOT NULL,
        waits INTEGER NOT NULL,
        pending TEXT,
        seal INTEGER NOT NULL,
        erased INTEGER NOT NULL DEFAULT 0,
        flow_id TEXT,
        idempotency_key TEXT
    )""",
    """CREATE UNIQUE INDEX streams_by_idempotency_key ON streams (flow_id, idempotency_key)
        WHERE idempotency_key IS NOT NULL""",
    """CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        number INTEGER NOT NULL,
        version INTEGER NOT NULL,
        type TEXT NOT NULL,
        v INTEGER NOT NULL,
        event_id TEXT NOT NULL,
        digest BLOB NOT NULL,
        body BLOB NOT NULL,
        payload BLOB,
        UNIQUE (number, version)
    )""",
    "CREATE TABLE blobs (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, data BLOB NOT NULL)",
    """CREATE TABLE blob_uses (
        number INTEGER NOT NULL,
        version INTEGER NOT NULL,
        blob INTEGER NOT NULL REFERENCES blobs (id),
        PRIMARY KEY (number, version, blob)
    ) WITHOUT ROWID""",
    "CREATE INDEX blob_uses_by_blob ON blob_uses (blob)",
)

CREATE_LOGS = (
    """CREATE TABLE IF NOT EXISTS logs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        number INTEGER NOT NULL,
        at INTEGER NOT NULL,
        source TEXT NOT NULL,
        level TEXT NOT NULL,
        message TEXT NOT NULL,
        module TEXT,
        filename TEXT,
        lineno INTEGER,
        checkpoint TEXT,
        invocation_id TEXT,
        call INTEGER,
        attempt INTEGER,
        path TEXT,
        ordinal INTEGER
    )""",
    "CREATE INDEX IF NOT EXISTS logs_by_number ON logs (number, id)",
)
"""Telemetry, and no part of the format: a store without them is whole. AUTOINCREMENT: who follows asks for larger ids."""

INDEXES = frozenset(statement for statement in CREATE if "INDEX" in statement.partition(" ON ")[0])
CREATED = frozenset(CREATE)
"""What SQLite keeps of them: their text, as it is."""
LIST_SCHEMA = "SELECT sql FROM sqlite_master"
LIST_NAMES = "SELECT name FROM sqlite_master"

BEGIN = "BEGIN IMMEDIATE"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"

GET_META = "SELECT value FROM meta WHERE key = ?"
PUT_META = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

# --- heads -------------------------------------------------------------------------------------------------------------

GET_HEAD = """SELECT s.number, e.digest, s.erased, s.version, s.digest, s.status, s.epoch, s.runner,
    s.flags, s.waits, s.pending, s.seal
    FROM streams s LEFT JOIN events e ON e.number = s.number AND e.version = s.version WHERE s.exec_id = ?"""
GET_WHOLE_HEAD = """SELECT exec_id, erased, flow_id, idempotency_key, version, digest, status, epoch, runner,
    flags, waits, pending, seal FROM streams WHERE number = ?"""
INSERT_HEAD = """INSERT INTO streams (exec_id, flow_id, idempotency_key, version, digest, status, epoch, runner,
    flags, waits, pending, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
MOVE_HEAD = """UPDATE streams SET version = ?, digest = ?, status = ?, epoch = ?, runner = ?, flags = ?,
    waits = ?, pending = ?, seal = ? WHERE number = ? AND version = ? AND digest = ?"""
SET_ERASED = "UPDATE streams SET erased = ? WHERE number = ?"
FIND_BY_KEY = "SELECT exec_id FROM streams WHERE flow_id = ? AND idempotency_key = ?"
FIND_IDS = "SELECT exec_id FROM streams WHERE exec_id >= ? AND exec_id < ? ORDER BY exec_id LIMIT ?"
DELETE_HEAD = "DELETE FROM streams WHERE number = ?"
COUNT_HEADS = "SELECT count(*) FROM streams"
LIST_EMPTY_HEADS = """SELECT exec_id FROM streams s
    WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.number = s.number AND e.version > 0)"""

# --- events ------------------------------------------------------------------------------------------------------------

INSERT_EVENT = """INSERT INTO events (number, version, type, v, event_id, digest, body, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
READ_STREAM = """SELECT position, version, type, v, event_id, digest, body, payload FROM events
    WHERE number = ? AND version > ? AND version <= ? ORDER BY version LIMIT ?"""
GET_FIRST = "SELECT version, type FROM events WHERE number = ? AND version > 0 ORDER BY version LIMIT 1"
GET_DIGEST = "SELECT digest FROM events WHERE number = ? AND version = ?"
READ_TAIL = """SELECT e.position, e.version, e.type, e.v, e.event_id, e.digest, e.body, e.payload, e.number, s.exec_id,
    s.erased, (SELECT position FROM events i WHERE i.number = e.number AND i.version = e.version)
    FROM events e LEFT JOIN streams s ON s.number = e.number
    WHERE e.position > ? AND e.type IS NOT 'Tombstone' ORDER BY e.position LIMIT ?"""
WALK = """SELECT e.position, e.version, e.type, e.v, e.event_id, e.digest, e.body, e.payload, e.number, s.exec_id,
    s.erased, s.version FROM events e LEFT JOIN streams s ON s.number = e.number
    WHERE e.position > ? ORDER BY e.position LIMIT ?"""
READ_EVENT_IDS = "SELECT event_id FROM events WHERE number = ? AND version > ? AND version <= ? ORDER BY version"
FIND_EVENT = "SELECT version FROM events WHERE number = ? AND event_id = ?"
GET_LAST_POSITION = "SELECT max(position) FROM events"
COUNT_EVENTS = "SELECT count(*) FROM events WHERE version > 0"
DELETE_EVENTS = "DELETE FROM events WHERE number = ? AND version > 0"
DELETE_EVENTS_UP_TO = "DELETE FROM events WHERE number = ? AND version > 0 AND version <= ?"
INSERT_TOMBSTONE = """INSERT INTO events (number, version, type, v, event_id, digest, body)
    VALUES (?, 0, 'Tombstone', 1, ?, ?, ?)"""
LIST_TOMBSTONES = """SELECT position, number, event_id FROM events WHERE version = 0 AND position > ?
    ORDER BY position LIMIT ?"""
ERASE_INLINE = "UPDATE events SET payload = NULL WHERE number = ? AND version <= ? AND version > 0 AND payload IS NOT NULL"

# --- blobs -------------------------------------------------------------------------------------------------------------

INSERT_BLOB = "INSERT INTO blobs (digest, data) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING"
USE_BLOB = """INSERT INTO blob_uses (number, version, blob) SELECT ?, ?, id FROM blobs WHERE digest = ?
    ON CONFLICT DO NOTHING"""
GET_BLOB = "SELECT data FROM blobs WHERE digest = ?"
NEXT_BLOB = "SELECT id, digest, data FROM blobs WHERE id > ? ORDER BY id LIMIT 1"
FIND_USE = """SELECT 1 FROM blob_uses u JOIN blobs b ON b.id = u.blob
    WHERE u.number = ? AND u.version = ? AND b.digest = ?"""
LIST_USED_BLOBS = "SELECT DISTINCT blob FROM blob_uses WHERE number = ? AND version <= ?"
UNUSE_BLOBS = "DELETE FROM blob_uses WHERE number = ? AND version <= ?"
DELETE_UNUSED_BLOB = "DELETE FROM blobs WHERE id = ? AND NOT EXISTS (SELECT 1 FROM blob_uses WHERE blob = ?)"

COUNT_UNUSED_BLOBS = "SELECT count(*) FROM blobs WHERE id NOT IN (SELECT blob FROM blob_uses)"
DROP_UNUSED_BLOBS = """DELETE FROM blobs WHERE id IN
    (SELECT id FROM blobs WHERE id NOT IN (SELECT blob FROM blob_uses) LIMIT ?)"""

# --- logs --------------------------------------------------------------------------------------------------------------

FIND_LOGS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'logs'"
FIND_LOGS_OF_STORE = "SELECT 1 FROM store.sqlite_master WHERE type = 'table' AND name = 'logs'"
INSERT_LINE = """INSERT INTO logs (number, at, source, level, message, module, filename, lineno, checkpoint,
    invocation_id, call, attempt, path, ordinal) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
    WHERE EXISTS (SELECT 1 FROM streams WHERE number = ?1 AND erased = 0)"""
INSERT_ANY_LINE = """INSERT INTO logs (number, at, source, level, message, module, filename, lineno, checkpoint,
    invocation_id, call, attempt, path, ordinal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
LIST_LINES = """SELECT id, at, level, message, module, filename, lineno, checkpoint, invocation_id, call, attempt
    FROM logs WHERE number = ?1 AND id > ?2 AND source = ?3
    AND (?4 IS NULL OR checkpoint = ?4 OR invocation_id = ?4 OR call = ?5) ORDER BY id LIMIT ?6"""
LAST_LINES = """SELECT id, at, level, message, module, filename, lineno, checkpoint, invocation_id, call, attempt
    FROM logs WHERE number = ?1 AND id > ?2 AND source = ?3
    AND (?4 IS NULL OR checkpoint = ?4 OR invocation_id = ?4 OR call = ?5) ORDER BY id DESC LIMIT ?6"""
LIST_ORDINALS = """SELECT path, max(ordinal) FROM logs WHERE number = ? AND path IS NOT NULL AND ordinal IS NOT NULL
    GROUP BY path"""
FIND_LAST_LINE_TOO_MUCH = """SELECT id FROM (SELECT id, sum(octet_length + ?) OVER (ORDER BY id DESC) AS total
    FROM (SELECT id, length(CAST(message AS BLOB)) AS octet_length FROM logs)) WHERE total > ? ORDER BY id DESC LIMIT 1"""
COUNT_OLD_LINES = "SELECT count(*) FROM logs WHERE at < ? OR id <= ?"
DROP_OLD_LINES = "DELETE FROM logs WHERE id IN (SELECT id FROM logs WHERE at < ? OR id <= ? LIMIT ?)"
CHECK_LINES = """SELECT count(*) FROM logs WHERE typeof(number) <> 'integer' OR typeof(at) <> 'integer'
    OR typeof(source) <> 'text' OR typeof(level) <> 'text' OR typeof(message) <> 'text'"""
FORGET_LINES = "DELETE FROM logs WHERE number = ?"

# --- for the library's recorder ------------------------------------------------------------------------------------------

FORCE_HEAD = """UPDATE streams SET version = ?, digest = ?, status = ?, epoch = ?, runner = ?, flags = ?,
    waits = ?, pending = ?, seal = ? WHERE number = ?"""
SELECT_EVENTS = """SELECT s.exec_id, e.version, e.type, e.body FROM streams s JOIN events e ON e.number = s.number
    WHERE s.exec_id = ? AND (? IS NULL OR e.version > ?) AND (? IS NULL OR e.version <= ?)
    ORDER BY e.version LIMIT ?"""
SELECT_EVENTS_DESC = """SELECT s.exec_id, e.version, e.type, e.body FROM streams s JOIN events e ON e.number = s.number
    WHERE s.exec_id = ? AND (? IS NULL OR e.version > ?) AND (? IS NULL OR e.version <= ?)
    ORDER BY e.version DESC LIMIT ?"""
SELECT_NOTIFICATIONS = """SELECT e.position, s.exec_id, e.version, e.type, e.body
    FROM events e JOIN streams s ON s.number = e.number
    WHERE e.position >= ? AND (? IS NULL OR e.position <= ?)
    AND (? IS NULL OR e.type IN (SELECT value FROM json_each(?))) ORDER BY e.position LIMIT ?"""
