"""The command line: parse, call the client, print. `main` is what the `kitaru` command runs.

Nothing is imported here: `kitaru --version` costs what Python costs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    given = list(sys.argv[1:] if argv is None else argv)
    if given in (["--version"], ["-V"]):
        from kitaru import __version__

        try:
            print(f"kitaru {__version__}", flush=True)
        except OSError as error:
            print(f"Error: {error.strerror}", file=sys.stderr)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python says so again at its end
            return 1
        return 0
    from kitaru.cli.app import run

    return run(given)


def serve_mcp() -> int:
    """What the `kitaru-mcp` command runs: `kitaru mcp`."""
    return main(["mcp", *sys.argv[1:]])
