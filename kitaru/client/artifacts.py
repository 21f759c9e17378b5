"""`client.artifacts`: the recorded values of executions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.client.access import Access
from kitaru.domain.errors import KitaruNotFoundError, KitaruUsageError

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient
    from kitaru.client.models import ArtifactRef


class Artifacts:
    """The recorded values of a client's store. Execution ids may be shortened to any unique prefix."""

    def __init__(self, client: KitaruClient, access: Access) -> None:
        self._client = client
        self._access = access

    def list(
        self,
        exec_id: str,
        *,
        kind: str | None = None,
        name: str | None = None,
        producing_call: str | None = None,
        limit: int | None = None,
    ) -> list[ArtifactRef]:
        """The values that an execution recorded, oldest first. producing_call: a call's id, or its invocation id."""
        if limit is not None and (isinstance(limit, bool) or limit < 0):
            raise KitaruUsageError(f"limit has to be a whole number from 0, not {limit!r}")
        execution = self._client.executions.get(exec_id)
        calls = {call.call_id: call.invocation_id for call in execution.checkpoints or ()}
        found = [
            artifact
            for artifact in execution.artifacts or ()
            if kind in (None, artifact.kind)
            and name in (None, artifact.name)
            and producing_call in (None, artifact.producing_call, calls.get(artifact.producing_call or ""))
        ]
        return found[:limit]

    def get(self, artifact_id: str) -> ArtifactRef:
        """One recorded value, not loaded. Raises KitaruNotFoundError."""
        exec_id, version = self._place(artifact_id)
        full = f"{exec_id}.a{version}"
        for artifact in self._client.executions.get(exec_id).artifacts or ():
            if artifact.artifact_id == full:
                return artifact
        raise self._access.not_found(f"artifact {artifact_id!r}")

    def load(self, artifact_id: str) -> object:
        """The value itself. Raises KitaruNotFoundError, with code `erased` when it was erased."""
        from kitaru.store.values import decode

        return decode(self._bytes(artifact_id))

    def show(self, artifact_id: str) -> object:
        """The value as plain JSON, whatever classes it has. Raises what `load` raises."""
        from kitaru.store.values.plain import to_plain

        return to_plain(self._bytes(artifact_id))

    def _bytes(self, artifact_id: str) -> bytes:
        from kitaru.domain.events import ArtifactSaved, CheckpointCompleted, CheckpointReused

        exec_id, version = self._place(artifact_id)
        for recorded in self._access.reader(f"artifact {artifact_id!r}").read(exec_id, after=version - 1, limit=1):
            event = recorded.event
            if isinstance(event, (ArtifactSaved, CheckpointCompleted, CheckpointReused)):
                data = self._access.load(event.value if isinstance(event, ArtifactSaved) else event.output)
                if data is None:
                    raise KitaruNotFoundError(f"the artifact {artifact_id} has been erased", code="erased")
                return data
        raise self._access.not_found(f"artifact {artifact_id!r}")

    def _place(self, artifact_id: str) -> tuple[str, int]:
        from kitaru.domain.ids import parse_part

        place = parse_part(artifact_id, "a") if isinstance(artifact_id, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if place is None:
            raise KitaruUsageError(f"{artifact_id!r} is no artifact id; see: kitaru artifacts list EXECUTION")
        return self._access.resolve(place[0]), place[1]
