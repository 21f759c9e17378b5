"""The read model of executions: one narrow row that every event touches, and what is read beside it.

Tables: `executions` (status, times, counters), `execution_details` (what may be long: spec, tags, metadata, failure),
`execution_tags` and `execution_metadata` (to filter by), `flows`. Rows are a function of the stream's events in order:
no clock, no chance, and no matter how the events were batched. Imports the domain and the store's protocol only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from orjson import loads

from kitaru.domain import events as e
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES
from kitaru.domain.metadata import Tree, is_tree, merged
from kitaru.domain.payload import Payload
from kitaru.store.log import Execute, Head
from kitaru.store.values.text import write

_TABLES = ("executions", "execution_details", "execution_tags", "execution_metadata", "flows")

_CREATE = (
    """CREATE TABLE {p}executions (
        number INTEGER PRIMARY KEY,
        exec_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        project TEXT NOT NULL,
        flow_id TEXT NOT NULL,
        flow_name TEXT NOT NULL,
        stack TEXT NOT NULL,
        status TEXT NOT NULL,
        queued INTEGER NOT NULL DEFAULT 1,
        runner TEXT,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        started_at INTEGER NOT NULL,
        ended_at INTEGER,
        checkpoint_count INTEGER NOT NULL DEFAULT 0,
        attempt_count INTEGER NOT NULL DEFAULT 0,
        cached_step_count INTEGER NOT NULL DEFAULT 0,
        artifact_count INTEGER NOT NULL DEFAULT 0,
        open_waits INTEGER NOT NULL DEFAULT 0,
        waiting_since INTEGER,
        waited INTEGER NOT NULL DEFAULT 0,
        original_exec_id TEXT
    )""",
    """CREATE TABLE {p}execution_details (
        number INTEGER PRIMARY KEY,
        spec TEXT NOT NULL,
        tags TEXT NOT NULL,
        metadata BLOB,
        failure_origin TEXT,
        failure_type TEXT,
        failure_message BLOB,
        failure_traceback BLOB
    )""",
    """CREATE TABLE {p}execution_tags (
        tag TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (tag, number)
    ) WITHOUT ROWID""",
    """CREATE TABLE {p}execution_metadata (
        key TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, value, PRIMARY KEY (key, number)
    ) WITHOUT ROWID""",
    """CREATE TABLE {p}flows (
        flow_id TEXT PRIMARY KEY, flow_name TEXT NOT NULL, project TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX {p}executions_by_project{g} ON {p}executions (project, number, started_at)",
    "CREATE INDEX {p}executions_by_status{g} ON {p}executions (project, status)",
    "CREATE INDEX {p}executions_by_flow{g} ON {p}executions (flow_id, status)",
    "CREATE INDEX {p}executions_by_stack{g} ON {p}executions (project, stack)",
    """CREATE INDEX {p}executions_unattended{g} ON {p}executions (project, status)
        WHERE status = 'waiting' AND (queued = 1 OR runner IS NOT NULL)""",
    "CREATE INDEX {p}executions_by_start{g} ON {p}executions (project, started_at)",
    "CREATE INDEX {p}execution_tags_by_number{g} ON {p}execution_tags (number)",
    "CREATE INDEX {p}execution_metadata_by_number{g} ON {p}execution_metadata (number)",
    "CREATE INDEX {p}execution_metadata_by_value{g} ON {p}execution_metadata (key, kind, value, number)",
)

_START = """INSERT INTO {p}executions (number, exec_id, version, project, flow_id, flow_name, stack, status, started_at,
    original_exec_id) VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?, ?)"""
_START_DETAILS = "INSERT INTO {p}execution_details (number, spec, tags, metadata) VALUES (?, ?, ?, ?)"
_KNOW_FLOW = "INSERT INTO {p}flows (flow_id, flow_name, project) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_CLAIM = "UPDATE {p}executions SET version = ?, runner = ?, queued = 0 WHERE number = ?"
_SUSPEND = "UPDATE {p}executions SET version = ?, runner = NULL, queued = ? WHERE number = ?"
_RESUME = "UPDATE {p}executions SET version = ?, queued = 1 WHERE number = ?"
_RETRY = """UPDATE {p}executions SET version = ?, queued = ?, cancel_requested = 0, ended_at = NULL,
    status = CASE WHEN open_waits > 0 THEN 'waiting' ELSE 'running' END WHERE number = ?"""
_RETRY_DETAILS = """UPDATE {p}execution_details SET failure_origin = NULL, failure_type = NULL, failure_message = NULL,
    failure_traceback = NULL WHERE number = ?"""
_REQUEST_CANCEL = "UPDATE {p}executions SET version = ?, cancel_requested = 1 WHERE number = ?"
_END = """UPDATE {p}executions SET version = ?, status = ?, runner = NULL, queued = 0, ended_at = max(?, started_at),
    waited = waited + coalesce(max(? - waiting_since, 0), 0), waiting_since = NULL, open_waits = 0 WHERE number = ?"""
_FAIL_DETAILS = """UPDATE {p}execution_details SET failure_origin = ?, failure_type = ?, failure_message = ?,
    failure_traceback = ? WHERE number = ?"""
_START_ATTEMPT = """UPDATE {p}executions SET version = ?, checkpoint_count = checkpoint_count + ?,
    attempt_count = attempt_count + 1 WHERE number = ?"""
_COMPLETE_CALL = "UPDATE {p}executions SET version = ?, artifact_count = artifact_count + 1 WHERE number = ?"
_REUSE_CALL = """UPDATE {p}executions SET version = ?, checkpoint_count = checkpoint_count + 1,
    cached_step_count = cached_step_count + 1, artifact_count = artifact_count + 1 WHERE number = ?"""
_OPEN_WAIT = """UPDATE {p}executions SET version = ?, status = 'waiting', open_waits = open_waits + 1,
    waiting_since = coalesce(waiting_since, ?) WHERE number = ?"""
_CLOSE_WAIT = """UPDATE {p}executions SET version = ?, open_waits = open_waits - 1, queued = runner IS NULL,
    status = CASE WHEN open_waits = 1 THEN 'running' ELSE status END,
    waited = waited + CASE WHEN open_waits = 1 THEN max(? - waiting_since, 0) ELSE 0 END,
    waiting_since = CASE WHEN open_waits = 1 THEN NULL ELSE waiting_since END WHERE number = ?"""
_TOUCH = "UPDATE {p}executions SET version = ? WHERE number = ?"
_GET_METADATA = "SELECT metadata FROM {p}execution_details WHERE number = ?"
_PUT_METADATA = "UPDATE {p}execution_details SET metadata = ? WHERE number = ?"
_INDEX_METADATA = "INSERT OR REPLACE INTO {p}execution_metadata (key, number, kind, value) VALUES (?, ?, ?, ?)"
_UNINDEX_METADATA = "DELETE FROM {p}execution_metadata WHERE key = ? AND number = ?"
_GET_TAGS = "SELECT tags FROM {p}execution_details WHERE number = ?"
_PUT_TAGS = "UPDATE {p}execution_details SET tags = ? WHERE number = ?"
_ADD_TAG = "INSERT INTO {p}execution_tags (tag, number) VALUES (?, ?) ON CONFLICT DO NOTHING"
_REMOVE_TAG = "DELETE FROM {p}execution_tags WHERE tag = ? AND number = ?"
_ERASE_DETAILS = """UPDATE {p}execution_details SET metadata = NULL, failure_message = NULL, failure_traceback = NULL
    WHERE number = ?"""
_KEEP = """SELECT project, flow_id, flow_name, stack, status, cancel_requested, started_at, ended_at, checkpoint_count,
    attempt_count, cached_step_count, artifact_count, waited, original_exec_id FROM {p}executions WHERE number = ?"""
_KEEP_DETAILS = """SELECT spec, tags, metadata, failure_origin, failure_type FROM {p}execution_details WHERE number = ?"""
_RESTORE = """INSERT INTO {p}executions (project, flow_id, flow_name, stack, status, cancel_requested, started_at, ended_at,
    checkpoint_count, attempt_count, cached_step_count, artifact_count, waited, original_exec_id, number, exec_id, version,
    queued) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"""
_RESTORE_DETAILS = """INSERT INTO {p}execution_details (number, spec, tags, metadata, failure_origin, failure_type)
    VALUES (?, ?, ?, ?, ?, ?)"""
_FORGET_METADATA = "DELETE FROM {p}execution_metadata WHERE number = ?"
_FORGET_FLOW = """DELETE FROM {p}flows WHERE flow_id = (SELECT flow_id FROM {p}executions WHERE number = ?1)
    AND NOT EXISTS (SELECT 1 FROM {p}executions other
        WHERE other.flow_id = {p}flows.flow_id AND other.number <> ?1)"""
_REMOVE = (
    _FORGET_FLOW,
    "DELETE FROM {p}executions WHERE number = ?",
    "DELETE FROM {p}execution_details WHERE number = ?",
    "DELETE FROM {p}execution_tags WHERE number = ?",
    _FORGET_METADATA,
)


class Executions:
    """Keeps the executions' rows."""

    name = "executions"
    version = 1

    def __init__(self, prefix: str) -> None:
        def made(sql: str) -> str:
            return sql.replace("{p}", prefix)

        self.tables = tuple(prefix + table for table in _TABLES)
        self._create = tuple(made(sql) for sql in _CREATE)
        self._remove = tuple(made(sql) for sql in _REMOVE)
        self._start, self._start_details, self._know_flow = made(_START), made(_START_DETAILS), made(_KNOW_FLOW)
        self._claim, self._suspend, self._resume = made(_CLAIM), made(_SUSPEND), made(_RESUME)
        self._retry, self._retry_details = made(_RETRY), made(_RETRY_DETAILS)
        self._request_cancel, self._end, self._fail_details = made(_REQUEST_CANCEL), made(_END), made(_FAIL_DETAILS)
        self._start_attempt, self._complete_call = made(_START_ATTEMPT), made(_COMPLETE_CALL)
        self._reuse_call, self._open_wait, self._close_wait = made(_REUSE_CALL), made(_OPEN_WAIT), made(_CLOSE_WAIT)
        self._touch = made(_TOUCH)
        self._get_metadata, self._put_metadata = made(_GET_METADATA), made(_PUT_METADATA)
        self._index_metadata, self._unindex_metadata = made(_INDEX_METADATA), made(_UNINDEX_METADATA)
        self._get_tags, self._put_tags = made(_GET_TAGS), made(_PUT_TAGS)
        self._add_tag, self._remove_tag = made(_ADD_TAG), made(_REMOVE_TAG)
        self._erase_details, self._forget_metadata = made(_ERASE_DETAILS), made(_FORGET_METADATA)
        self._keep, self._keep_details = made(_KEEP), made(_KEEP_DETAILS)
        self._restore, self._restore_details = made(_RESTORE), made(_RESTORE_DETAILS)
        self._handlers: dict[type[e.EventBase], Callable[..., None]] = {
            e.ExecutionStarted: self._on_started,
            e.RunnerClaimed: self._on_claimed,
            e.ExecutionSuspended: self._on_suspended,
            e.ExecutionResumed: self._on_resumed,
            e.ExecutionRetried: self._on_retried,
            e.CancelRequested: self._on_cancel_requested,
            e.ExecutionCancelled: self._on_cancelled,
            e.ExecutionFailed: self._on_failed,
            e.ExecutionCompleted: self._on_completed,
            e.AttemptStarted: self._on_attempt,
            e.CheckpointCompleted: self._on_call_completed,
            e.CheckpointReused: self._on_call_reused,
            e.ArtifactSaved: self._on_call_completed,
            e.WaitOpened: self._on_wait_opened,
            e.WaitResolved: self._on_wait_closed,
            e.WaitAborted: self._on_wait_closed,
            e.WaitExpired: self._on_wait_closed,
            e.MetadataLogged: self._on_metadata,
            e.TagsChanged: self._on_tags,
            e.PayloadErased: self._on_erased,
            e.HistoryDropped: self._on_dropped,
        }

    def create(self, execute: Execute, generation: int) -> None:
        """Create the tables and their indexes."""
        for sql in self._create:
            execute(sql.replace("{g}", f"_g{generation}"), ())

    def apply(self, execute: Execute, head: Head, events: Sequence[tuple[int, e.EventBase]]) -> None:
        """Fold a batch of one stream's events into its rows."""
        for version, event in events:
            handler = self._handlers.get(type(event))
            if handler is None:
                execute(self._touch, (version, head.number))
            else:
                handler(execute, head, version, event)

    def remove(self, execute: Execute, number: int, exec_id: str) -> None:
        """Delete an execution's rows, and its flow's when it was the last."""
        for sql in self._remove:
            execute(sql, (number,))

    def keep(self, execute: Execute, number: int) -> Tree:
        """What counts and lists need: all but what was said of a failure."""
        row = execute(self._keep, (number,)).fetchone()
        details = execute(self._keep_details, (number,)).fetchone()
        if row is None or details is None:
            return {}
        spec, tags, metadata, *failure = details
        text = metadata.decode() if isinstance(metadata, bytes) else None
        return {"row": list(row), "spec": spec, "tags": tags, "metadata": text, "failure": failure}

    def _on_attempt(self, execute: Execute, head: Head, version: int, event: e.AttemptStarted) -> None:
        execute(self._start_attempt, (version, 1 if event.attempt == 1 else 0, head.number))

    def _on_call_completed(self, execute: Execute, head: Head, version: int, event: e.EventBase) -> None:
        execute(self._complete_call, (version, head.number))

    def _on_call_reused(self, execute: Execute, head: Head, version: int, event: e.EventBase) -> None:
        execute(self._reuse_call, (version, head.number))

    def _on_started(self, execute: Execute, head: Head, version: int, event: e.ExecutionStarted) -> None:
        what = (event.project, event.flow_id, event.flow_name, event.stack)
        execute(self._start, (head.number, head.exec_id, version, *what, event.at, event.original_exec_id))
        execute(self._know_flow, (event.flow_id, event.flow_name, event.project))
        spec = write({"target": event.target.model_dump(mode="json"), "options": event.options.model_dump(mode="json")})
        tags = tuple(dict.fromkeys(event.tags))
        logged = _tree_of(event.metadata)
        metadata = write(logged) if logged else None
        execute(self._start_details, (head.number, spec.decode(), write(tags).decode(), metadata))
        for tag in tags:
            execute(self._add_tag, (tag, head.number))
        self._index(execute, head.number, logged)

    def _on_claimed(self, execute: Execute, head: Head, version: int, event: e.RunnerClaimed) -> None:
        execute(self._claim, (version, event.runner, head.number))

    def _on_suspended(self, execute: Execute, head: Head, version: int, event: e.ExecutionSuspended) -> None:
        execute(self._suspend, (version, int(event.leaves_work), head.number))

    def _on_resumed(self, execute: Execute, head: Head, version: int, event: e.EventBase) -> None:
        execute(self._resume, (version, head.number))

    def _on_retried(self, execute: Execute, head: Head, version: int, event: e.ExecutionRetried) -> None:
        execute(self._retry, (version, 0 if event.automatic else 1, head.number))
        execute(self._retry_details, (head.number,))

    def _on_cancel_requested(self, execute: Execute, head: Head, version: int, event: e.EventBase) -> None:
        execute(self._request_cancel, (version, head.number))

    def _on_cancelled(self, execute: Execute, head: Head, version: int, event: e.EventBase) -> None:
        execute(self._end, (version, "cancelled", event.at, event.at, head.number))

    def _on_completed(self, execute: Execute, head: Head, version: int, event: e.EventBase) -> None:
        execute(self._end, (version, "completed", event.at, event.at, head.number))

    def _on_failed(self, execute: Execute, head: Head, version: int, event: e.ExecutionFailed) -> None:
        execute(self._end, (version, "failed", event.at, event.at, head.number))
        failure = (event.origin.value, event.exception_type, _inline(event.message), _inline(event.traceback))
        execute(self._fail_details, (*failure, head.number))

    def _on_wait_opened(self, execute: Execute, head: Head, version: int, event: e.EventBase) -> None:
        execute(self._open_wait, (version, event.at, head.number))

    def _on_wait_closed(self, execute: Execute, head: Head, version: int, event: e.EventBase) -> None:
        execute(self._close_wait, (version, event.at, head.number))

    def _on_metadata(self, execute: Execute, head: Head, version: int, event: e.MetadataLogged) -> None:
        execute(self._touch, (version, head.number))
        logged = _tree_of(event.values)
        if event.call is not None or not logged:
            return
        row = execute(self._get_metadata, (head.number,)).fetchone()
        metadata = merged(_parsed(row[0] if row is not None else None), logged)
        execute(self._put_metadata, (write(metadata), head.number))
        self._index(execute, head.number, {key: metadata[key] for key in logged})

    def _index(self, execute: Execute, number: int, changed: Tree) -> None:
        for key, value in changed.items():
            kind, plain = _indexed(value)
            if kind:
                execute(self._index_metadata, (key, number, kind, plain))
            else:
                execute(self._unindex_metadata, (key, number))

    def _on_tags(self, execute: Execute, head: Head, version: int, event: e.TagsChanged) -> None:
        execute(self._touch, (version, head.number))
        row = execute(self._get_tags, (head.number,)).fetchone()
        tags = dict.fromkeys(cast("list[str]", loads(cast("str", row[0])))) if row is not None else {}
        for tag in event.add:
            tags[tag] = None
            execute(self._add_tag, (tag, head.number))
        for tag in event.remove:
            tags.pop(tag, None)
            execute(self._remove_tag, (tag, head.number))
        execute(self._put_tags, (write(list(tags)).decode(), head.number))

    def _on_erased(self, execute: Execute, head: Head, version: int, event: e.EventBase) -> None:
        execute(self._touch, (version, head.number))
        execute(self._erase_details, (head.number,))
        execute(self._forget_metadata, (head.number,))

    def _on_dropped(self, execute: Execute, head: Head, version: int, event: e.HistoryDropped) -> None:
        self.remove(execute, head.number, head.exec_id)
        kept = cast("Tree", _parsed(event.kept.data).get(self.name))
        row = cast("list[object]", kept["row"])
        project, flow_id, flow_name = row[:3]
        execute(self._restore, (*row, head.number, head.exec_id, version))
        execute(self._know_flow, (flow_id, flow_name, project))
        text = cast("str | None", kept["metadata"])
        metadata = None if text is None else text.encode()
        failure = cast("list[object]", kept["failure"])
        execute(self._restore_details, (head.number, kept["spec"], kept["tags"], metadata, *failure))
        for tag in cast("list[str]", loads(cast("str", kept["tags"]))):
            execute(self._add_tag, (tag, head.number))
        self._index(execute, head.number, _parsed(metadata))


def _inline(payload: Payload | None) -> bytes | None:
    """The bytes that stand beside the event: a larger payload's would not be here in a rebuild."""
    return payload.data if payload is not None and payload.size <= INLINE_PAYLOAD_BYTES else None


def _tree_of(payload: Payload | None) -> Tree:
    return _parsed(_inline(payload))


def _parsed(data: object) -> Tree:
    try:
        tree = loads(data) if isinstance(data, (bytes, str)) else None
    except ValueError:
        tree = None  # not the codec's bytes: the event keeps them, the listing has nothing to show
    return cast("Tree", tree) if is_tree(tree) else {}


def _indexed(value: object) -> tuple[str, object]:
    """The kind (n number, t text, b truth) and value to filter by; kind "" for what is no scalar."""
    match value:
        case bool():
            return "b", int(value)
        case int() if -(2**63) <= value < 2**63:
            return "n", value
        case float():
            return "n", value
        case str():
            return "t", value
        case _:
            return "", None
