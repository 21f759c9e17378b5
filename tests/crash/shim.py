"""The C shim under a process: compiled where there is a compiler, loaded by LD_PRELOAD."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "shims" / "faults.c"


class NoShim(Exception):  # noqa: N818
    """There can be no shim here; the text says why."""


def compile_shim(folder: Path) -> Path:
    """The shared library. Raises NoShim."""
    if sys.platform != "linux":
        raise NoShim(f"the shim needs LD_PRELOAD, which {sys.platform} does not have")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoShim("no C compiler (gcc or cc) for tests/crash/shims")
    library = folder / "faults.so"
    command = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if made.returncode:
        raise NoShim(f"tests/crash/shims does not compile: {made.stderr[-400:]}")
    return library
