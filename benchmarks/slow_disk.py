"""A slower disk on demand: compiles slow_sync.c once and gives the environment that puts it under a program."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("slow_sync.c")


class NoSlowDisk(Exception):  # noqa: N818
    """Syncs cannot be slowed here; the message says why."""


def environment(folder: Path, milliseconds: float) -> dict[str, str]:
    """What to add to a child's environment so that each of its syncs takes `milliseconds` longer. Raises NoSlowDisk."""
    if sys.platform != "linux":
        raise NoSlowDisk(f"the shim needs LD_PRELOAD, which {sys.platform} does not have")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoSlowDisk("no C compiler (gcc, cc) for the shim")
    library = folder / "slow_sync.so"
    made = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise NoSlowDisk(f"the shim does not compile: {made.stderr.strip().splitlines()[-1:]}")
    preloaded = " ".join(filter(None, [str(library), os.environ.get("LD_PRELOAD")]))
    return {"LD_PRELOAD": preloaded, "BENCH_SYNC_DELAY_US": str(round(milliseconds * 1000))}


def syncs() -> int | None:
    """Syncs of this process since it began, None when it runs without the shim."""
    try:
        counter = ctypes.CDLL(None).bench_sync_count
    except AttributeError:
        return None
    counter.restype = ctypes.c_long
    return int(counter())
