"""The library's own recorder test cases, on our recorders."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

import pytest
from eventsourcing.persistence import ApplicationRecorder

# The module with the cases also has some for ciphers, and imports a cryptography package for these alone.
_cipher = ModuleType("eventsourcing.cipher")
_cipher.AESCipher = object  # type: ignore[attr-defined]
sys.modules.setdefault("eventsourcing.cipher", _cipher)

from eventsourcing.tests.persistence import (  # noqa: E402
    ApplicationRecorderTestCase as _ApplicationRecorder,
)
from eventsourcing.tests.persistence import (  # noqa: E402
    NonInterleavingNotificationIDsBaseCase as _NonInterleaving,
)

from kitaru.store.memory import MemoryRecorder  # noqa: E402
from kitaru.store.sqlite.log import SQLiteLog  # noqa: E402


class _OnSQLite:
    @pytest.fixture(autouse=True)
    def _recorder(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            self._log = SQLiteLog(folder)
            self._log.recorder.datastore.originator_id_type = "uuid"
            yield
            self._log.close()

    def create_recorder(self) -> ApplicationRecorder:
        return self._log.recorder


class _InMemory:
    def create_recorder(self) -> ApplicationRecorder:
        return MemoryRecorder()


class TestSQLiteApplicationRecorder(_OnSQLite, _ApplicationRecorder[ApplicationRecorder]):
    pass


class TestSQLitePositions(_OnSQLite, _NonInterleaving):
    pass


class TestMemoryApplicationRecorder(_InMemory, _ApplicationRecorder[ApplicationRecorder]):
    pass


class TestMemoryPositions(_InMemory, _NonInterleaving):
    pass
