"""KitaruClient: executions and artifacts of one store."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from kitaru.client.access import Access
from kitaru.settings import StoreChoice, refuse_server, resolve_project, resolve_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from kitaru.client.artifacts import Artifacts
    from kitaru.client.executions import Executions
    from kitaru.client.models import ExportReport, StoreInfo
    from kitaru.client.statistics import Checkpoints, LLMUsage


class KitaruClient:
    """Asks a store about its executions, and tells them what to do.

    store: a folder; without it the one that `kitaru status` names. project: a name inside the store. Raises
    KitaruUsageError for a folder or project that cannot be one, KitaruFeatureNotAvailableError for a server.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        server_url: str | None = None,
        auth_token: str | None = None,
        project: str | None = None,
    ) -> None:
        if server_url is not None or auth_token is not None:
            refuse_server("a server was named (server_url, auth_token)")
        self._access = Access(resolve_store(store), resolve_project(project))

    @property
    def store(self) -> StoreChoice:
        """The store, and why it is this one."""
        return self._access.choice

    @property
    def project(self) -> str:
        """The project."""
        return self._access.project

    @cached_property
    def executions(self) -> Executions:
        """The executions."""
        from kitaru.client.executions import Executions

        return Executions(self, self._access)

    @cached_property
    def artifacts(self) -> Artifacts:
        """The recorded values."""
        from kitaru.client.artifacts import Artifacts

        return Artifacts(self, self._access)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """The checkpoint calls of all executions."""
        from kitaru.client.statistics import Checkpoints

        return Checkpoints(self._access)

    @cached_property
    def llm_usage(self) -> LLMUsage:
        """What was recorded of LLM calls, of all executions."""
        from kitaru.client.statistics import LLMUsage

        return LLMUsage(self._access)

    def info(self) -> StoreInfo:
        """The store, why it is this one, and what is in it."""
        from kitaru.client.models import StoreInfo
        from kitaru.projections.listing import count_by_status

        reader = self._access.find_reader()
        return StoreInfo(
            location=self.store.location,
            why=self.store.why,
            store_id=None if reader is None else reader.store_id,
            project=self.project,
            executions={} if reader is None else count_by_status(reader.query, self.project),
        )

    def export(
        self,
        folder: str | os.PathLike[str],
        *,
        tables: str | Iterable[str] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        partition_by: str | Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> ExportReport:
        """Write the project's executions as Parquet files; into the folder of an earlier export, what is new or changed.

        tables: among executions, checkpoints, attempts, waits, llm_usage, events; without them all six. since, until: as in
        `executions.list`. partition_by: month, status or both. progress is called with (files done, files to do). Raises
        KitaruUsageError, KitaruStateError, KitaruBackendError; then the folder reads as before.
        """
        from kitaru.client.exporting import export

        return export(self._access, os.fspath(folder), tables, since, until, partition_by, progress)

    def close(self) -> None:
        """Close the files that this client reads."""
        self._access.close()

    def __enter__(self) -> KitaruClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<KitaruClient {self.store.location} project={self.project!r}>"
