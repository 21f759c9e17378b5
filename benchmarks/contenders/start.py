"""Starts one short process after another: a round of `count` starts of the command line given after `--`."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.turns import Answer, serve


def main() -> None:
    """Serve rounds of starts; a start that fails ends the contender with what it wrote."""
    command = sys.argv[sys.argv.index("--") + 1 :]

    def run(count: int) -> Answer:
        for _ in range(count):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{command} ended with exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return None

    serve(run, warm_up=2)


if __name__ == "__main__":
    main()
