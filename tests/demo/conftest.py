"""The example's modules import each other by their plain names, as a script's neighbours do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "research"))
