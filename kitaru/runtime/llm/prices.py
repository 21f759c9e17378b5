"""An estimate of what a call cost, by list price: only with KITARU_PRICES=genai-prices, always told as an estimate."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import NamedTuple

from kitaru.domain.errors import KitaruFeatureNotAvailableError, KitaruUsageError
from kitaru.runtime.llm.protocol import Metered

_VARIABLE = "KITARU_PRICES"
_CALCULATOR = "genai-prices"


class Estimate(NamedTuple):
    """A cost by list price, None when nobody lists one; `warning` when the calculator failed."""

    cost_usd: Decimal | None
    version: str
    warning: str | None = None


def check() -> None:
    """Refuse a setting that cannot be kept, before anything is paid.

    Raises KitaruUsageError, and KitaruFeatureNotAvailableError that says what to install.
    """
    named = os.environ.get(_VARIABLE)
    if not named:
        return
    if named != _CALCULATOR:
        raise KitaruUsageError(f"{_VARIABLE} is {named!r}; it can only be {_CALCULATOR!r}, or not set")
    try:
        import genai_prices  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise KitaruFeatureNotAvailableError(
            f"{_VARIABLE} asks for {_CALCULATOR}, which is not installed: run `pip install '.[prices]'` in this checkout"
        ) from None


def estimate(provider: str, model: str, metered: Metered) -> Estimate | None:
    """The list price of what was used; None unless it was asked for and the tokens are known."""
    if os.environ.get(_VARIABLE) != _CALCULATOR or metered.input_tokens is None or metered.output_tokens is None:
        return None
    import genai_prices

    version = f"{_CALCULATOR} {genai_prices.__version__}"
    used = {
        "input_tokens": metered.input_tokens,
        "output_tokens": metered.output_tokens,
        "cache_read_tokens": metered.cached_input_tokens,
        "cache_write_tokens": metered.cache_write_tokens,
    }
    counts = {name: count for name, count in used.items() if count is not None}
    for name in (metered.model, model):  # what answered, else what was asked: a dated name may not be listed
        try:
            if name is not None:
                return Estimate(
                    genai_prices.calc_price(genai_prices.Usage(**counts), name, provider_id=provider).total_price, version
                )
        except LookupError:
            continue
        except Exception as error:
            return Estimate(None, version, f"{_CALCULATOR} failed: {type(error).__name__}")
    return Estimate(None, version)
