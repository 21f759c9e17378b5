"""`make inspector`: the server asked by the protocol's own Inspector, another program in another language.

It needs npx and the registry that npx gets the Inspector from, so it is no test of the suite. Every tool is listed, a flow
that prints a megabyte and exits is run, an error is an error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kitaru.client import KitaruClient
from kitaru.mcp.tools import TOOLS
from kitaru.runtime.trust import trust_tree
from tests.mcp.conftest import FLOWS, PATIENCE

PACKAGE = "@modelcontextprotocol/inspector"
PATIENCE_WITH_NPX = 300


def ask(folder: Path, method: str, *words: str) -> tuple[int, str]:
    """What the Inspector prints for one request to a fresh server, and its exit code."""
    server = [sys.executable, "-m", "kitaru.cli", "mcp"]
    line = ["npx", "--yes", PACKAGE, "--cli", *server, "--method", method, *words]
    ran = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_WITH_NPX, check=False)
    return ran.returncode, ran.stdout or ran.stderr


def call(folder: Path, name: str, **arguments: str) -> dict[str, Any]:
    """The result of a call."""
    words = [f"--tool-arg={key}={value}" for key, value in arguments.items()]
    code, said = ask(folder, "tools/call", "--tool-name", name, *words)
    assert said.startswith("{"), (code, said)
    return json.loads(said)


def main() -> int:
    """Ask; the exit code."""
    if shutil.which("npx") is None:
        print("npx is not here: install Node.js")
        return 1
    with TemporaryDirectory(prefix="kitaru-inspector-") as place:
        folder = Path(place).resolve()
        (folder / "flows.py").write_text(FLOWS)
        (folder / ".kitaru").mkdir()
        os.environ |= {"KITARU_CONFIG_DIR": str(folder / "config"), "TMPDIR": place}
        with KitaruClient(folder / ".kitaru") as client:
            trust_tree(client._access.log().store_id, str(folder))
            return _ask_all(folder, client)


def _ask_all(folder: Path, client: KitaruClient) -> int:
    code, said = ask(folder, "tools/list")
    assert code == 0, said
    listed = {tool["name"] for tool in json.loads(said)["tools"]}
    assert listed == {tool.name for tool in TOOLS}, listed
    print(f"tools/list: {len(listed)} tools")
    begun = call(folder, "kitaru_executions_run", target="flows.py:noisy")
    exec_id = begun["structuredContent"]["item"]["exec_id"]
    deadline = time.monotonic() + PATIENCE
    while not client.executions.get(exec_id).status.is_finished and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = call(folder, "kitaru_executions_get", exec_id=exec_id)["structuredContent"]["item"]
    assert (seen["status"], seen["failure"]["exception_type"]) == ("failed", "builtins.SystemExit"), seen
    print("kitaru_executions_run: a flow that prints a megabyte and exits, seen to the end")
    refused = call(folder, "kitaru_executions_get", exec_id="0000")
    assert refused["isError"], refused
    print(f"kitaru_executions_get: {refused['content'][0]['text']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
