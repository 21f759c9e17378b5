"""What every measure is given."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """Where to work, how often, how large. `peers` is the interpreter of the peers' environment, None without one."""

    folder: Path
    rounds: int
    peers: Path | None
    events: int
    executions: int
    populations: tuple[int, ...]

    def room(self, name: str) -> Path:
        """A fresh folder of one's own."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
