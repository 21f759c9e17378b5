"""How a Python process that runs a module of this very package is begun: it must find no other one of the name."""

from __future__ import annotations

import os
import sys

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def command(module: str, *words: str) -> list[str]:
    """What runs a module of this package. -P: not from whatever folder the process runs in."""
    return [sys.executable, "-P", "-m", module, *words]


def environment() -> dict[str, str]:
    """This process's, with the folder that this package is in before all others."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_HOME, os.environ.get("PYTHONPATH"))))}
