"""The command line: parse, call the client, print. `main` is what the `kitaru` command runs.

Nothing is imported here: `kitaru --version` costs what Python costs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given in (["--version"], ["-V"]):
        from kitaru import __version__

        print(f"kitaru {__version__}")
        return 0
    from kitaru.cli.app import run

    return run(given)
