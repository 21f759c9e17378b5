"""`kitaru llm-usage …`."""

from __future__ import annotations

from kitaru.cli.statistics import make_command

HELP = "Count what was recorded of LLM calls."

COMMANDS = {"statistics": make_command("llm_usage")}
"""The commands by name."""
