"""Which command is allowed in which status: the whole table, literally.

Columns are the statuses an execution can have before the command; `-` is "does not exist yet". A `+` is allowed as far
as `decide`'s finer rules go, a `.` is always refused. A runner's reports are rows of their own, by event type.
"""

from __future__ import annotations

from kitaru.domain.state import ExecutionStatus as S

_COLUMNS: tuple[S | None, ...] = (None, S.RUNNING, S.WAITING, S.COMPLETED, S.FAILED, S.CANCELLED)

_TABLE = """
                            -   run wait done fail canc
Start                       +   .   .    .    .    .
Claim                       .   +   +    .    .    .
Resume                      .   +   +    .    .    .
Retry                       .   .   .    .    +    .
Answer                      .   .   +    .    .    .
AbortWait                   .   .   +    .    .    .
Cancel                      .   +   +    .    .    .
ChangeTags                  .   +   +    +    +    +
Erase                       .   .   .    +    +    +
AttemptStarted              .   +   +    .    .    .
AttemptFailed               .   +   +    .    .    .
CheckpointCompleted         .   +   +    .    .    .
CheckpointFailed            .   +   +    .    .    .
CheckpointReused            .   +   +    .    .    .
InputsDiffered              .   +   +    .    .    .
WaitOpened                  .   +   +    .    .    .
WaitExpired                 .   .   +    .    .    .
ArtifactSaved               .   +   +    .    .    .
MetadataLogged              .   +   +    .    .    .
TagsChanged                 .   +   +    .    .    .
LLMUsageRecorded            .   +   +    .    .    .
ExecutionSuspended          .   +   +    .    .    .
ExecutionRetried            .   +   +    .    .    .
ExecutionFailed             .   +   +    .    .    .
ExecutionCompleted          .   +   +    .    .    .
ExecutionCancelled          .   +   +    .    .    .
"""


def _parse(table: str) -> dict[str, frozenset[S | None]]:
    rows: dict[str, frozenset[S | None]] = {}
    for line in table.strip("\n").splitlines()[1:]:
        name, *marks = line.split()
        rows[name] = frozenset(status for status, mark in zip(_COLUMNS, marks, strict=True) if mark == "+")
    return rows


TRANSITIONS: dict[str, frozenset[S | None]] = _parse(_TABLE)
"""For each command and each reported event type, the statuses in which it may be allowed."""
