"""What an execution may spend on LLM calls, and what it has spent. Pure."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from kitaru.domain.errors import KitaruBudgetExceededError
from kitaru.domain.usage import UNITS, Totals, UsageFigures, dollars, totals_of

if TYPE_CHECKING:
    from kitaru.runtime.session import Session

logger = logging.getLogger("kitaru")


class Budget(NamedTuple):
    """The limits, None where there is none, and the sums of what is recorded."""

    max_cost_usd: float | None = None
    max_tokens: int | None = None
    totals: Totals = Totals()

    @classmethod
    def of(cls, session: Session) -> Budget:
        """An execution's, as of now."""
        options = session.options
        return cls(options.max_cost_usd, options.max_tokens, session.history.usage)

    def spent_by(self, figures: UsageFigures) -> Budget:
        """With one more record."""
        return self._replace(totals=self.totals.plus(totals_of(figures)))

    @property
    def tokens(self) -> int:
        """The tokens that count: those of reused records were spent by another execution."""
        return self.totals.total_tokens - self.totals.reused_total_tokens

    @property
    def cost(self) -> int:
        """The cost that counts, in units of 10^-10 dollars: the actual one, where there is none the estimated one."""
        return self.totals.display_cost_usd


def check(exec_id: str, budget: Budget) -> None:
    """Raise KitaruBudgetExceededError when a limit is reached."""
    most, tokens = budget.max_cost_usd, budget.max_tokens
    if most is not None and budget.cost >= Decimal(str(most)) * UNITS:
        spent = float(dollars(budget.cost))
        raise KitaruBudgetExceededError(
            f"the execution {exec_id} has spent {spent:.10g} USD on LLM calls and may spend {most:.10g}; replay it with "
            f"more: FLOW.options(max_cost_usd=…).replay({exec_id!r}, from_=…)",
            exec_id=exec_id,
            budget="max_cost_usd",
            spent=spent,
            limit=most,
        )
    if tokens is not None and budget.tokens >= tokens:
        raise KitaruBudgetExceededError(
            f"the execution {exec_id} has used {budget.tokens:,} tokens of LLM calls and may use {tokens:,}; replay it with "
            f"more: FLOW.options(max_tokens=…).replay({exec_id!r}, from_=…)",
            exec_id=exec_id,
            budget="max_tokens",
            spent=budget.tokens,
            limit=tokens,
        )
