"""The server as an assistant starts it: a real process, spoken to through its stdin and stdout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from tests.cli.terminal import Terminal
from tests.mcp.conftest import PATIENCE, Tools

pytestmark = pytest.mark.timeout(90)
LINE = (sys.executable, "-m", "kitaru.cli", "mcp")


def with_server(use: Callable[[Client], Awaitable[Any]], *words: str) -> Any:
    """What `use` gives, with a client of a fresh server process."""
    parameters = StdioServerParameters(command=LINE[0], args=[*LINE[1:], *words], env=dict(os.environ), cwd=os.getcwd())

    async def used() -> Any:
        async with Client(stdio_client(parameters)) as client:
            return await use(client)

    return anyio.run(used)


def test_a_flow_that_prints_a_megabyte_and_exits_leaves_the_protocol_whole(trusted: Tools) -> None:
    async def run(client: Client) -> dict[str, Any]:
        begun = await client.call_tool("kitaru_executions_run", {"target": "flows.py:noisy"})
        assert not begun.is_error, begun.content
        exec_id = begun.structured_content["item"]["exec_id"]
        with anyio.fail_after(PATIENCE):
            while True:
                found = await client.call_tool("kitaru_executions_get", {"exec_id": exec_id})
                if found.structured_content["item"]["status"] == "failed":
                    return found.structured_content["item"]
                await anyio.sleep(0.05)

    assert with_server(run)["failure"]["exception_type"] == "builtins.SystemExit"


def test_what_was_begun_goes_on_when_the_server_has_ended(trusted: Tools) -> None:
    async def run(client: Client) -> str:
        begun = await client.call_tool("kitaru_executions_run", {"target": "flows.py:stays"})
        return begun.structured_content["item"]["exec_id"]

    exec_id = with_server(run)
    trusted.wait_for(exec_id, lambda found: found.pending_wait is not None)
    assert trusted.client.executions.get(exec_id).runner == "alive"
    trusted.client.executions.input(exec_id, wait="approve", value=1)
    assert trusted.wait_for_end(exec_id).status == "completed"


def test_a_read_only_server_lists_readers(tools: Tools) -> None:
    async def listed(client: Client) -> list[str]:
        return [tool.name for tool in (await client.list_tools()).tools]

    assert "kitaru_executions_run" not in with_server(listed, "--read-only")


def test_the_server_ends_with_its_client(folder: Path) -> None:
    ran = subprocess.run(LINE, input=b"", capture_output=True, timeout=PATIENCE, check=False)
    assert (ran.returncode, ran.stdout) == (0, b"")


def test_on_a_terminal_the_server_says_what_it_is_for_and_ctrl_c_ends_it(folder: Path) -> None:
    with Terminal(folder, "mcp") as terminal:
        terminal.until(lambda lines: "Ctrl-C ends it" in " ".join(lines))
        terminal.interrupt()
        code, lines = terminal.end()
    assert code == 130
    assert "Traceback" not in " ".join(lines)


def test_lines_that_are_no_messages_are_survived(folder: Path) -> None:
    sent = b'\x00\xff\n{"jsonrpc": "2.0"\n[]\n"\\ud800"\n' + b"[" * 100_000 + b"\n"
    ping = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'
    ran = subprocess.run(LINE, input=sent + ping, capture_output=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0
    assert b'"id":1' in ran.stdout.replace(b" ", b"")
    assert b"Traceback" not in ran.stdout


def test_a_store_that_cannot_be_is_said_before_anything_is_served(folder: Path) -> None:
    ran = subprocess.run([*LINE, "--store", "https://x"], input=b"", capture_output=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 1
    assert b"server" in ran.stderr
    assert b"Traceback" not in ran.stderr
