"""The server on the official SDK: lists the tools, calls them in threads, and turns what they raise into tool errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp_types import Tool as Listed

from kitaru import __version__
from kitaru.client.client import KitaruClient
from kitaru.domain.errors import KitaruError, shortened
from kitaru.mcp.children import START_SECONDS
from kitaru.mcp.cutting import sendable
from kitaru.mcp.desk import Desk
from kitaru.mcp.tools import TOOLS, Tool

logger = logging.getLogger("kitaru")
_INSTRUCTIONS = (
    "Kitaru runs durable flows and records all they do. kitaru_status names the store. Ids may be shortened to a unique "
    "beginning. Long lists come in pages (next_page); long texts are cut and named in `truncated`: ask again with a larger "
    "max_chars. Times are UTC."
)


def make_server(client: KitaruClient, *, read_only: bool = False, start_seconds: float = START_SECONDS) -> Server[Any]:
    """The server of one store and project; with `read_only` it has only the tools that change nothing.

    start_seconds: how long a flow's file may take to load.
    """
    desk = Desk(client, start_seconds)
    tools = {tool.name: tool for tool in TOOLS if tool.reads or not read_only}

    async def list_tools(_: ServerRequestContext[Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[_listed(tool) for tool in tools.values()])

    async def call_tool(_: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        tool = tools.get(params.name)
        if tool is None:
            known = ", ".join(tools)
            raise MCPError(INVALID_PARAMS, sendable(f"there is no tool {params.name[:100]!r} here; there are: {known}"))
        return await anyio.to_thread.run_sync(partial(answer, tool, desk, params.arguments or {}))

    return Server(
        "kitaru", title="Kitaru", version=__version__, instructions=_INSTRUCTIONS,
        on_list_tools=list_tools, on_call_tool=call_tool,
    )  # fmt: skip


def answer(tool: Tool, desk: Desk, arguments: Mapping[str, Any]) -> CallToolResult:
    """What a call comes to: an answer, or an error that says what happened. Nothing is raised."""
    try:
        found = tool.call(desk, dict(arguments))
        text = json.dumps(found, ensure_ascii=False)
    except KitaruError as error:
        return _refused(type(error).__name__, error.code, error.message)
    except RecursionError:
        return _refused("KitaruUsageError", "too-deep", "a value is nested too deeply")
    except OSError as error:
        where = f" ({error.filename})" if error.filename is not None else ""
        return _refused("KitaruError", "operating-system", f"{error.strerror or error}{where}")
    except Exception as error:
        logger.exception("the tool %s failed", tool.name)
        return _refused(type(error).__name__, "internal", f"{type(error).__name__}: {error}; please report it")
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=found)


def _refused(kind: str, code: str, message: str) -> CallToolResult:
    said = sendable(shortened(message))
    about = {"kitaru/error": {"type": kind, "code": code}}
    return CallToolResult(content=[TextContent(type="text", text=said)], is_error=True, _meta=about)


def _listed(tool: Tool) -> Listed:
    hints = ToolAnnotations(
        read_only_hint=tool.reads,
        destructive_hint=tool.destroys,
        idempotent_hint=tool.reads or tool.repeats,
        open_world_hint=tool.name == "kitaru_executions_run",
    )
    return Listed(
        name=tool.name, title=tool.title, description=tool.description,
        input_schema=tool.input_schema, output_schema=tool.output_schema, annotations=hints,
    )  # fmt: skip


def serve(client: KitaruClient, *, read_only: bool = False) -> None:
    """Serve on stdin and stdout until the other side closes them."""

    async def run() -> None:
        server = make_server(client, read_only=read_only)
        async with stdio_server() as (reads, writes):
            await server.run(reads, writes, server.create_initialization_options())

    anyio.run(run)
