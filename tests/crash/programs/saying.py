"""What a program tells its test: lines of JSON, each written whole, which a SIGKILL right afterwards does not take back."""

from __future__ import annotations

import json
import os
from typing import Any


def say(**what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())
