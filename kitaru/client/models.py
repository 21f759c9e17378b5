"""What the client gives: frozen snapshots. `model_dump(mode="json", by_alias=True)` is the JSON of every surface.

Values that users recorded are shown as plain JSON; `ArtifactRef.load` gives one as it was. Times are aware, in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from kitaru.domain.errors import FailureOrigin, KitaruUsageError
from kitaru.domain.status import ExecutionStatus
from kitaru.domain.usage import UsageRecord, UsageSummary

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient

Plain = dict[str, object]
AttemptStatus = Literal["running", "completed", "failed", "interrupted"]
RunnerStatus = Literal["alive", "lost", "queued", "none"]


class Snapshot(BaseModel):
    """What all models share: frozen, closed, built when first used."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, populate_by_name=True)


class _Bound(Snapshot):
    """A snapshot that can ask its client for more."""

    _client: KitaruClient | None = PrivateAttr(default=None)

    def bound(self, client: KitaruClient) -> Self:
        """This snapshot, knowing its client."""
        self._client = client
        return self

    def _asked(self) -> KitaruClient:
        if self._client is None:
            raise KitaruUsageError(f"this {type(self).__name__} was not given by a client; get it from one")
        return self._client


class FailureInfo(Snapshot):
    """Why something failed. `origin` was recorded where it happened."""

    message: str
    exception_type: str
    traceback: str | None = None
    origin: FailureOrigin


class ArtifactRef(_Bound):
    """A recorded value. `size` is in bytes; `producing_call` is the id of the checkpoint call it came from."""

    artifact_id: str
    name: str
    kind: str
    save_type: Literal["manual", "step_output"]
    direction: Literal["input", "output"]
    producing_call: str | None
    metadata: Plain
    tags: tuple[str, ...] = ()
    size: int
    media_type: str
    created_at: datetime

    def load(self) -> object:
        """The value. Its classes are those that are already imported; without them it is plain data."""
        return self._asked().artifacts.load(self.artifact_id)


class CheckpointAttempt(Snapshot):
    """One try of a checkpoint call. Nobody saw an interrupted one end."""

    attempt_id: str
    number: int
    status: AttemptStatus
    started_at: datetime
    ended_at: datetime | None
    metadata: Plain
    failure: FailureInfo | None
    llm_usage_records: tuple[UsageRecord, ...] = ()


class CheckpointCall(Snapshot):
    """One call of a checkpoint with its attempts, oldest first. A reused one has an original and no attempt."""

    call_id: str
    invocation_id: str
    name: str
    checkpoint_type: str | None
    status: AttemptStatus
    started_at: datetime
    ended_at: datetime | None
    metadata: Plain
    original_call_id: str | None
    parent_call_ids: tuple[str, ...]
    failure: FailureInfo | None
    attempts: tuple[CheckpointAttempt, ...]
    artifacts: tuple[ArtifactRef, ...]
    llm_usage_records: tuple[UsageRecord, ...] = ()
    """Of all attempts; of a call that took a result over, its original's. Erased ones are not here."""


class PendingWait(Snapshot):
    """A wait for input. The last four fields say how it was closed; they are None while it is open."""

    wait_id: str
    exec_id: str
    name: str
    question: str | None
    schema_: object = Field(default=None, alias="schema")
    metadata: Plain
    entered_waiting_at: datetime
    expires_at: datetime | None = None
    outcome: Literal["answered", "aborted", "expired", "cancelled"] | None = None
    value: object = None
    by: str | None = None
    closed_at: datetime | None = None


class FrozenExecutionSpec(Snapshot):
    """What an execution was started with; values that look like secrets are masked.

    `model_registry`: what each alias meant that its LLM calls named, by their usage records; None without, and in lists.
    """

    version: Literal[1] = 1
    target: str
    file_digest: str | None
    options: Plain
    stack: str
    model_registry: dict[str, str] | None = None


class Execution(_Bound):
    """One execution at one moment. In lists `checkpoints`, `artifacts`, `waits` and `llm_usage_records` are None; the
    counts and the summary are true.
    """

    exec_id: str
    flow_id: str
    flow_name: str
    project: str
    status: ExecutionStatus
    status_reason: str | None
    runner: RunnerStatus
    started_at: datetime
    ended_at: datetime | None
    duration: float | None
    stack_id: str
    stack_name: str
    tags: tuple[str, ...]
    metadata: Plain
    failure: FailureInfo | None
    pending_wait: PendingWait | None
    pending_waits: tuple[PendingWait, ...]
    waits: tuple[PendingWait, ...] | None
    checkpoints: tuple[CheckpointCall, ...] | None
    checkpoint_count: int
    artifacts: tuple[ArtifactRef, ...] | None
    artifact_count: int
    original_exec_id: str | None
    frozen_execution_spec: FrozenExecutionSpec
    llm_usage_summary: UsageSummary | None
    llm_usage_records: tuple[UsageRecord, ...] | None
    version: int

    def refresh(self) -> Execution:
        """The execution as it is now."""
        return self._asked().executions.get(self.exec_id)

    def retry(self) -> Execution:
        """Run it on after its failure, in the background of this process; see `client.executions.retry`."""
        return self._asked().executions.retry(self.exec_id)

    def resume(self) -> Execution:
        """Go on with it, in the background of this process; see `client.executions.resume`."""
        return self._asked().executions.resume(self.exec_id)

    def cancel(self) -> Execution:
        """Cancel it; see `client.executions.cancel`."""
        return self._asked().executions.cancel(self.exec_id)

    def replay(self, *, from_: str, overrides: Mapping[str, object] | None = None, **inputs: object) -> Execution:
        """A new execution from this one's history; see `client.executions.replay`."""
        return self._asked().executions.replay(self.exec_id, from_=from_, overrides=overrides, **inputs)

    def list_checkpoints(self) -> list[CheckpointCall]:
        """The checkpoint calls, in the order in which they were made."""
        found = self.checkpoints
        return list(found if found is not None else self.refresh().checkpoints or ())

    def list_artifacts(
        self, *, kind: str | None = None, name: str | None = None, producing_call: str | None = None
    ) -> list[ArtifactRef]:
        """The recorded values, oldest first."""
        return self._asked().artifacts.list(self.exec_id, kind=kind, name=name, producing_call=producing_call)


class ErrorInfo(Snapshot):
    """Why something was refused."""

    type: str
    code: str
    message: str


class BulkItem(Snapshot):
    """What a bulk command did to one execution, or would do."""

    execution: Execution
    outcome: Literal["done", "would", "refused"]
    error: ErrorInfo | None = None


class ExecutionEvent(Snapshot):
    """One event. `version` is its place in the execution, `position` in the store; `data` shows its values plainly."""

    exec_id: str
    version: int
    position: int
    event_id: str
    type: str
    at: datetime
    data: Plain


class LogEntry(Snapshot):
    """A line of an execution's logs. source: `step` for what its code printed and logged, `runner` for the runtime's words.

    checkpoint_name, invocation_id, call_id and attempt are None for the flow's body. What was printed has the level INFO on
    stdout and ERROR on stderr.
    """

    timestamp: datetime
    level: str
    message: str
    source: Literal["step", "runner"]
    checkpoint_name: str | None = None
    invocation_id: str | None = None
    call_id: str | None = None
    attempt: int | None = None
    module: str | None = None
    filename: str | None = None
    lineno: int | None = None


class StoreInfo(Snapshot):
    """A store, why it is this one, and the project's executions by status. `store_id` None: not made yet."""

    location: str
    why: str
    store_id: str | None
    project: str
    executions: dict[str, int]


class ExportedTable(Snapshot):
    """A table of an export: its rows, files and bytes, and how many of the files this export wrote."""

    table: str
    rows: int
    files: int
    size: int
    new_files: int


class ExportReport(Snapshot):
    """What an export's folder holds now."""

    folder: str
    tables: list[ExportedTable]
