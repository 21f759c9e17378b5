"""The contract of `kitaru.testing`, for each backend."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from kitaru.store.log import EventLog, ProjectorFactory
from kitaru.store.sqlite.log import SQLiteLog
from kitaru.testing import EventLogContract, memory_log


class TestMemory(EventLogContract):
    def make_log(self, projectors: Sequence[ProjectorFactory]) -> EventLog:
        return memory_log(projectors)


class TestSQLite(EventLogContract):
    def make_log(self, projectors: Sequence[ProjectorFactory]) -> EventLog:
        self.folder = tempfile.TemporaryDirectory()
        return SQLiteLog(self.folder.name + "/store", projectors)

    def teardown_method(self) -> None:
        super().teardown_method()
        self.folder.cleanup()
