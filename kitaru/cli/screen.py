"""An execution on a terminal, drawn again as it changes: as much of it as fits, the newest calls last."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kitaru.cli.output import COLOURS, clean
from kitaru.cli.render import failure_line, lasted

if TYPE_CHECKING:
    from types import TracebackType

    from kitaru.client.models import CheckpointCall, Execution

_FRAME = 6
"""Lines above the calls and below them."""
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Screen:
    """One execution's place on the terminal; it is gone when the screen is left."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop")
        self._turn = 0

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._live.stop()

    def show(self, execution: Execution) -> None:
        """Draw it as it is now."""
        self._turn += 1
        self._live.update(self._drawn(execution), refresh=True)

    def _drawn(self, execution: Execution) -> Group:
        now = datetime.now(UTC)
        calls = execution.checkpoints or ()
        room = max(1, self._console.size.height - _FRAME - len(execution.pending_waits))
        parts: list[Text | Table] = [self._head(execution, now)]
        if execution.status_reason:
            parts.append(_line(execution.status_reason, "dim"))
        if calls:
            parts += [Text(""), self._table(calls[-room:], now)]
        if len(calls) > room:
            parts.append(_line(f"… and {len(calls) - room} before these", "dim"))
        parts += [
            _line(f"? {wait.name}: {wait.question or 'waits for input'}", "yellow") for wait in execution.pending_waits
        ]
        if execution.pending_waits:
            parts.append(_line(f"  kitaru executions input {execution.exec_id}", "dim"))
        return Group(*parts)

    def _head(self, execution: Execution, now: datetime) -> Text:
        took = execution.duration if execution.ended_at is not None else (now - execution.started_at).total_seconds()
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{clean(execution.flow_name)}   ", "bold")
        text.append(f"{execution.status.value}", COLOURS.get(execution.status.value, ""))
        text.append(f"   {lasted(took)}   {execution.exec_id}", "dim")
        return text

    def _table(self, calls: Sequence[CheckpointCall], now: datetime) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
        for _ in range(4):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for call in calls:
            running = call.status == "running"
            mark = _SPINNER[self._turn % len(_SPINNER)] if running else _MARKS.get(call.status, "·")
            took = ((now if running else call.ended_at or now) - call.started_at).total_seconds()
            colour = COLOURS.get(call.status, "")
            table.add_row(
                Text(f"{mark} {clean(call.invocation_id)}", colour), Text(call.status, colour), lasted(took), _note(call)
            )
        return table


_MARKS = {"completed": "✓", "failed": "✗", "interrupted": "!"}


def _note(call: CheckpointCall) -> Text:
    if call.original_call_id is not None:
        return Text("reused", "dim")
    failures = [attempt.failure for attempt in call.attempts if attempt.failure is not None]
    attempts = f"attempt {call.attempts[-1].number}   " if len(call.attempts) > 1 else ""
    return Text(attempts + (clean(failure_line(failures[-1])) if failures else ""), "dim")


def _line(text: str, style: str) -> Text:
    return Text(clean(text), style, no_wrap=True, overflow="ellipsis")
