"""Runs one flow of N checkpoints and prints its id: `python -m benchmarks.contenders.one_execution STORE N`."""

from __future__ import annotations

import sys

import kitaru
from benchmarks.contenders.kitaru_flows import steps


def main() -> None:
    """Run it to the end."""
    kitaru.configure(store=sys.argv[1])
    handle = steps.run(int(sys.argv[2]))
    handle.wait()
    print(handle.exec_id)


if __name__ == "__main__":
    main()
