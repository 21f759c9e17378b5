"""A store of its own for each test, and the tools on it through the SDK's client, in memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult, Tool

from kitaru.client import Execution, KitaruClient
from kitaru.compose import close_logs
from kitaru.mcp.server import make_server
from kitaru.runtime import process
from kitaru.runtime.trust import trust_tree
from kitaru.settings import Configuration, configured

PATIENCE = 40.0
FLOWS = """
import os, sys, time
import kitaru
from kitaru import checkpoint, flow, wait

@checkpoint
def add(a: int, b: int) -> int:
    return a + b

@flow
def sums(a: int, b: int = 2) -> int:
    kitaru.log(a=a)
    return add(add(a, b), 1)

@flow
def asks() -> int:
    return 2 * wait(schema=int, name="approve", question="How many?", timeout=0)

@flow
def stays() -> int:
    return 2 * wait(schema=int, name="approve", timeout=60)

@checkpoint
def fragile(path: str) -> str:
    return open(path).read()

@flow
def reads(path: str) -> str:
    return fragile(path)

@flow
def noisy() -> None:
    print("x" * 1_000_000)
    sys.stdout.flush()
    os.write(1, b'{"jsonrpc": "2.0"}' * 1000)
    sys.exit(7)
"""


class Tools:
    """The tools of one store, called as a client calls them."""

    def __init__(self, client: KitaruClient, **options: Any) -> None:
        self.client = client
        self._options = options

    def list(self) -> dict[str, Tool]:
        """What is served, by name."""

        async def listed() -> list[Tool]:
            async with Client(make_server(self.client, **self._options)) as client:
                return (await client.list_tools()).tools

        return {tool.name: tool for tool in anyio.run(listed)}

    def call(self, name: str, /, **arguments: Any) -> CallToolResult:
        """What a call comes to. The client has checked it against the tool's output schema."""
        return self.call_all((name, arguments))[0]

    def call_all(self, *calls: tuple[str, dict[str, Any]]) -> list[CallToolResult]:
        """Several calls, one after the other, in one session."""

        async def called() -> list[CallToolResult]:
            async with Client(make_server(self.client, **self._options)) as client:
                return [await client.call_tool(name, arguments) for name, arguments in calls]

        return anyio.run(called)

    def protocol_error(self, name: str) -> str:
        """The protocol's own error for a call."""

        async def called() -> str:
            async with Client(make_server(self.client, **self._options)) as client:
                try:
                    await client.call_tool(name, {})
                except MCPError as error:
                    return error.message
                return ""

        return anyio.run(called)

    def get(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """The answer of a call that succeeds."""
        result = self.call(name, **arguments)
        assert not result.is_error, result.content
        return result.structured_content

    def refusal(self, name: str, /, **arguments: Any) -> tuple[str, str]:
        """The code and the message of a call that is refused."""
        result = self.call(name, **arguments)
        assert result.is_error, result.structured_content
        (said,) = result.content
        assert said.type == "text"
        assert "Traceback" not in said.text
        assert result.meta is not None
        return result.meta["kitaru/error"]["code"], said.text

    def wait_for(self, exec_id: str, is_so: Callable[[Execution], bool]) -> Execution:
        """The execution, once it is so."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.client.executions.get(exec_id)
            if is_so(found):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def wait_for_end(self, exec_id: str) -> Execution:
        """The execution, once it has ended."""
        return self.wait_for(exec_id, lambda found: found.status.is_finished)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's folder with a store and flows, and nothing else configured."""
    for name in ("KITARU_STORE", "KITARU_SERVER_URL", "KITARU_PROJECT", "KITARU_CACHE", "KITARU_STACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KITARU_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("KITARU_DURABILITY", "os")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    project = tmp_path / "project"
    (project / ".kitaru").mkdir(parents=True)
    (project / "flows.py").write_text(FLOWS)
    monkeypatch.chdir(project)
    yield project
    process.join_all()
    close_logs()
    fresh = Configuration()
    for name in Configuration.__slots__:
        setattr(configured, name, getattr(fresh, name))


@pytest.fixture
def tools(folder: Path) -> Iterator[Tools]:
    """The tools on the project's store."""
    with KitaruClient(folder / ".kitaru") as client:
        yield Tools(client)


@pytest.fixture
def trusted(folder: Path, tools: Tools) -> Iterator[Tools]:
    """The same, once the user has trusted the folder. What still runs at the end is ended."""
    trust_tree(tools.client._access.log().store_id, str(folder))
    yield tools
    for pid in children_of(os.getpid()):
        os.kill(pid, signal.SIGKILL)


def children_of(parent: int) -> list[int]:
    """The processes that this one started for tools and that are still there."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            line = (entry / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and int(stat[1]) == parent and b"kitaru.mcp.child" in line and stat[0] != "Z":
            found.append(int(entry.name))
    return found
