"""Listing executions from their rows: newest first, by any filter, in time that does not grow with what does not match.

Reads the tables of kitaru.projections.executions and waits; imports no event class and writes nothing.
"""

from __future__ import annotations

from kitaru.projections.listing.filters import Condition, Filters, Selection, make_filters
from kitaru.projections.listing.rows import (
    ExecutionRow,
    WaitRow,
    count_by_status,
    find_row,
    is_current,
    read_inbox,
    read_rows,
    read_waits,
)
from kitaru.projections.listing.sources import find_numbers

__all__ = [
    "Condition",
    "ExecutionRow",
    "Filters",
    "Selection",
    "WaitRow",
    "count_by_status",
    "find_numbers",
    "find_row",
    "is_current",
    "make_filters",
    "read_inbox",
    "read_rows",
    "read_waits",
]
