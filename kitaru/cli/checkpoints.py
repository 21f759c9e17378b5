"""`kitaru checkpoints …`."""

from __future__ import annotations

from kitaru.cli.statistics import make_command

HELP = "Count checkpoint calls."

COMMANDS = {"statistics": make_command("checkpoints")}
"""The commands by name."""
