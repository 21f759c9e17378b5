"""The flows that this process has decorated. No imports: this runs at decoration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow

flows: dict[tuple[str, str, str], Flow[..., object]] = {}
"""(the code's file name, the function's qualified name, the flow's name) → the flow; what was decorated last stands last.

The name is part of it: flows made in a loop or by lambdas share their file and qualified name.
"""
