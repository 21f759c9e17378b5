"""`kitaru mcp`: the store for an assistant, by the Model Context Protocol on stdin and stdout."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import FrameType
from typing import Annotated, cast

import typer

from kitaru.cli import follow, output
from kitaru.cli.options import Project, Store, client_for
from kitaru.domain.errors import KitaruFeatureNotAvailableError


def mcp(
    read_only: Annotated[bool, typer.Option("--read-only", help="Serve only the tools that change nothing.")] = False,
    store: Store = None,
    project: Project = None,
) -> None:
    """Serve this store to an assistant by MCP, on stdin and stdout, until they are closed."""
    if find_spec("mcp") is None:
        raise KitaruFeatureNotAvailableError(
            "the MCP server needs the extra `mcp`: pip install '.[mcp]' in the checkout of Kitaru", code="extra-missing"
        )
    client = client_for(store, project)
    from kitaru.mcp.server import serve

    if sys.stdin.isatty():
        output.tell(
            f"serving {client.store.location} by MCP, which an assistant speaks on stdin and stdout: it starts this command "
            "by itself. Ctrl-C ends it"
        )
    before = signal.signal(signal.SIGINT, _interrupted)
    try:
        serve(client, read_only=read_only)
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted(signum: int, frame: FrameType | None) -> None:
    """End at once: whoever reads stdin cannot be woken. What the tools have started has processes of its own."""
    run_exit_hooks = cast("Callable[[], None]", getattr(atexit, "_run_exitfuncs"))  # noqa: B009
    run_exit_hooks()
    os._exit(follow.INTERRUPTED)


COMMANDS = {"mcp": mcp}
"""The commands by name."""
