"""Runs one flow of `count` checkpoints in a fresh process and tells that process's peak memory."""

from __future__ import annotations

import resource
import sys

import kitaru
from benchmarks.contenders.kitaru_flows import steps


def main() -> None:
    """Print the peak of this process in KiB. `python -m benchmarks.contenders.peak_memory STORE COUNT`."""
    kitaru.configure(store=sys.argv[1])
    steps.run(int(sys.argv[2])).wait()
    print(peak_kib())


def peak_kib() -> int:
    """The most memory that this process ever held.

    From VmHWM where there is one: ru_maxrss of a child begins with the peak of the process that started it.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak


if __name__ == "__main__":
    main()
