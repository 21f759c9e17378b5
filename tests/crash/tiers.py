"""How often: the numbers of tiers P (`make test`), N (`make crash`) and R (KITARU_TIER=R, before a release)."""

from __future__ import annotations

import os

import pytest


def tiers(name: str, p: int, n: int, r: int | None = None, *, parts: int = 1) -> pytest.MarkDecorator:
    """Parametrise `name` with P's number, cut into `parts` that two workers can share, and with N's under the crash mark."""
    many = r if r is not None and os.environ.get("KITARU_TIER") == "R" else n
    quick = [pytest.param(p // parts, id=f"P{part + 1}" if parts > 1 else "P") for part in range(parts)]
    long = pytest.param(many, id="N", marks=[pytest.mark.crash, pytest.mark.timeout(7200)])
    return pytest.mark.parametrize(name, [*quick, long])
