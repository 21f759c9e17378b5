"""What a figure is, what was to be reached, and whether it was."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a figure stands to its mark."""

    MET = "met"
    MISSED = "missed"
    FAR = "under half"
    """Below half of the mark: what owns it is not done."""
    INFO = ""
    BLANK = "not measured"


@dataclass(frozen=True)
class Mark:
    """A limit for a ratio, or for a figure in its own unit."""

    limit: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:,g}"

    def reached(self, value: float) -> float:
        """The share of the mark that `value` reaches: 1 or more is met."""
        if self.at_least:
            return value / self.limit
        return self.limit / value if value > 0 else float("inf")


def at_least(limit: float) -> Mark:
    """More is better."""
    return Mark(limit, at_least=True)


def at_most(limit: float) -> Mark:
    """Less is better."""
    return Mark(limit, at_least=False)


@dataclass(frozen=True)
class Row:
    """One line of the table. `figure` is for people; `value` stands against `mark`, `unit` says what the value is of.

    A row without a value says in `note` why it is blank.
    """

    id: str
    what: str
    figure: str = ""
    value: float | None = None
    unit: str = ""
    mark: Mark | None = None
    note: str = ""
    rate: float | None = None
    """What a chart of rates shows; in the unit of its chart."""

    @property
    def reached(self) -> float | None:
        """The share of the mark that is reached, None without a mark or a value."""
        return None if self.mark is None or self.value is None else self.mark.reached(self.value)

    @property
    def verdict(self) -> Verdict:
        """Met, missed, or why there is none."""
        if self.value is None and not self.figure:
            return Verdict.BLANK
        if self.reached is None:
            return Verdict.INFO
        if self.reached >= 1:
            return Verdict.MET
        return Verdict.MISSED if self.reached >= 0.5 else Verdict.FAR
