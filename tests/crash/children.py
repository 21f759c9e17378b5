"""The tests' side of the fork server: real processes, started, signalled by their own id, and waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds after which a child that does not end is a failure."""


@dataclass
class Child:
    """One process. Its pid stays its own until `wait` has told how it ended."""

    server: ForkServer
    pid: int
    output: Path
    errors: Path
    code: int | None = None
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.code is None, "it has been waited for: the pid may be another's"
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code; negative: the signal that ended it."""
        if self.code is None:
            self.code = self.server.status(self.pid, seconds)
            assert self.code is not None, f"process {self.pid} did not end in {seconds} s: {self.trouble()}"
        return self.code

    def finish(self, seconds: float = PATIENCE) -> list[dict[str, Any]]:
        """Wait for its good end; what it said."""
        code = self.wait(seconds)
        assert code == 0, f"the process ended with {code}: {self.trouble()}"
        return self.said()

    def said(self) -> list[dict[str, Any]]:
        """The whole lines that it has written so far."""
        if self.output.exists():
            with self.output.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read += len(line)
                    self._lines.append(json.loads(line))
        return self._lines

    def await_line(self, holds: Callable[[dict[str, Any]], bool] = lambda _: True, seconds: float = PATIENCE) -> dict[str, Any]:
        """The first line that `holds`; it may have ended meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            for line in self.said():
                if holds(line):
                    return line
            assert time.monotonic() < deadline, f"process {self.pid} did not say it in {seconds} s: {self.trouble()}"
            if self.code is None:
                self.code = self.server.status(self.pid, 0)
            elif not any(holds(line) for line in self.said()):
                raise AssertionError(f"the process ended with {self.code} before it said it: {self.trouble()}")
            time.sleep(0.0005)

    def trouble(self) -> str:
        """What it wrote to stderr."""
        return self.errors.read_text(errors="replace")[-4000:] if self.errors.exists() else "(nothing on stderr)"


class ForkServer:
    """A process that has imported kitaru and forks the children; see programs/forkserver.py."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(PROGRAMS / "forkserver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**clean_environment(), **(environment or {})},
            text=True,
        )
        self._count = 0
        self._answer()

    def start(self, program: str, folder: Path, environment: Mapping[str, str] | None = None, **arguments: Any) -> Child:
        """Run `module:function(**arguments)` of the programs folder; `folder` gets its output and is where it works."""
        return self.start_all(program, folder, [arguments], environment)[0]

    def start_all(
        self, program: str, folder: Path, each: list[dict[str, Any]], environment: Mapping[str, str] | None = None
    ) -> list[Child]:
        """The same program several times at once."""
        return self.start_each(folder, [(program, arguments) for arguments in each], environment)

    def start_each(
        self, folder: Path, programs: list[tuple[str, dict[str, Any]]], environment: Mapping[str, str] | None = None
    ) -> list[Child]:
        """Several programs at once; two or more share a `barrier`, which they get as an argument."""
        orders: list[dict[str, Any]] = []
        for program, arguments in programs:
            self._count += 1
            orders.append(
                {
                    "program": program,
                    "arguments": arguments,
                    "folder": str(folder),
                    "output": str(folder / f"{self._count}.out"),
                    "errors": str(folder / f"{self._count}.err"),
                    "environment": {**store_environment(folder), **(environment or {})},
                }
            )
        self._order({"do": "start", "children": orders})
        pids = self._answer()["pids"]
        return [
            Child(self, pid, Path(order["output"]), Path(order["errors"]))
            for pid, order in zip(pids, orders, strict=True)
        ]

    def run(self, program: str, folder: Path, environment: Mapping[str, str] | None = None, **arguments: Any) -> list[dict[str, Any]]:
        """Run a program to its good end; what it said."""
        return self.start(program, folder, environment, **arguments).finish()

    def status(self, pid: int, seconds: float) -> int | None:
        """How a child ended; None if it did not in time."""
        self._order({"do": "wait", "pid": pid, "seconds": seconds})
        return self._answer()["status"]

    def close(self) -> None:
        """Kill the children left, and end it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()

    def _order(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the fork server ended with {self._process.wait()}"
        return json.loads(line)


def clean_environment() -> dict[str, str]:
    """This process's environment without what would change kitaru, and with this checkout first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KITARU_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))}


def store_environment(folder: Path) -> dict[str, str]:
    """Points kitaru to the store and the user's configuration of a test's folder."""
    return {"KITARU_STORE": str(folder / "store"), "KITARU_CONFIG_DIR": str(folder / "config")}
