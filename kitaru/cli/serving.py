"""`kitaru mcp`: the store for an assistant, by the Model Context Protocol on stdin and stdout."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

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

    serve(client, read_only=read_only)


COMMANDS = {"mcp": mcp}
"""The commands by name."""
