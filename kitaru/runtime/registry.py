"""The flows that this process has decorated, by file and qualified name. No imports: this runs at decoration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow

flows: dict[tuple[str, str], Flow[..., object]] = {}
"""(the code's file name, the function's qualified name) → the flow; the latest decoration counts."""
