"""What a call of a language model used and cost: the `llm_usage_v1` record, its figures, and how figures add up.

Tokens are inclusive: input counts what was read from and written to a cache, output counts reasoning. Costs are US dollars,
kept as whole numbers of 10^-10 dollars, so that they add up the same in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Annotated, Literal, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from kitaru.domain.limits import MAX_NAME_CHARS

Adapter = Literal["kitaru.llm", "pydantic_ai", "openai_agents", "claude_agent_sdk", "langgraph"]
Surface = Literal["direct_llm", "model_call", "runner_call", "agent_invocation", "graph_call"]
BillingEffect = Literal["incurred", "reused_not_incurred", "unknown"]
CacheStatus = Literal["executed", "checkpoint_cache_hit", "replay_reused", "unknown"]
CostSource = Literal["provider_reported", "list_price", "calculator", "none", "calculator_error"]
UsageStatus = Literal["completed", "failed", "interrupted"]

UNITS = 10**10
"""Units of a dollar: a cost has ten places."""

MAX_TOKENS, MAX_COST = 10**12, 10**6
"""Tokens and dollars of one record. More is no measurement."""

MAX_SUM = 2**62
"""The largest sum: with one record more it still fits the 64 bits in which a store adds."""

MAX_WARNINGS, MAX_WARNING_CHARS = 10, 256
MAX_SEEN = 100
"""Models, and warnings, that a summary names."""
MAX_RAW_BYTES = 8 * 1024
"""Of what a provider said about its usage, as JSON; more is left out with a warning."""

_PLACE = Decimal(1) / UNITS

Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
Tokens = Annotated[int | None, Field(ge=0, le=2 * MAX_TOKENS)]
CostUnits = Annotated[int | None, Field(ge=0, le=MAX_COST * UNITS)]
Dollars = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]
"""An amount in US dollars with at most ten places: a number in JSON."""


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class TokenUsage(_Fact):
    """Tokens of one record; None where nobody said. `raw` is what the provider said, as it said it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: dict[str, object] | None = None


class UsageCost(_Fact):
    """What one record cost: `actual` was reported by the provider, `estimated` was computed."""

    actual_cost_usd: Dollars | None = None
    estimated_cost_usd: Dollars | None = None
    currency: Literal["USD"] = "USD"
    source: CostSource = "none"
    source_label: str | None = None
    pricing_version: str | None = None


class UsageRecord(_Fact):
    """One `llm_usage_v1` record: one try of a call of a model, or one invocation of an agent."""

    schema_version: Literal[1] = 1
    record_id: Name
    event_id: Name | None = None
    adapter: Adapter = "kitaru.llm"
    surface: Surface = "direct_llm"
    call_name: Name | None = None
    checkpoint_id: str | None = None
    checkpoint_name: str | None = None
    attempt: int | None = None
    provider: Name | None = None
    model: Name | None = None
    requested_model: Name | None = None
    resolved_model: Name | None = None
    usage: TokenUsage = Field(default_factory=TokenUsage)
    cost: UsageCost = Field(default_factory=UsageCost)
    latency_ms: float | None = None
    status: UsageStatus = "completed"
    billing_effect: BillingEffect = "incurred"
    cache_status: CacheStatus = "executed"
    warnings: tuple[str, ...] = ()


class UsageFigures(BaseModel):
    """What of a record adds up, and what it is grouped by: it stands in the event's body, and outlives its payload.

    Costs are in units of 10^-10 dollars, latencies in microseconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    event_id: Name | None = None
    adapter: Name = "kitaru.llm"
    provider: Name | None = None
    model: Name | None = None
    status: UsageStatus = "completed"
    billing_effect: BillingEffect = "incurred"
    input_tokens: Tokens = None
    output_tokens: Tokens = None
    total_tokens: Tokens = None
    cached_input_tokens: Tokens = None
    reasoning_tokens: Tokens = None
    actual_cost: CostUnits = None
    estimated_cost: CostUnits = None
    latency_us: Annotated[int | None, Field(ge=0)] = None
    warnings: tuple[str, ...] = ()

    @property
    def display_cost(self) -> int | None:
        """What is shown as its cost: the actual one, else the estimated one."""
        return self.actual_cost if self.actual_cost is not None else self.estimated_cost


class Totals(NamedTuple):
    """The sums over records, named as their flat metadata keys are; costs in units of 10^-10 dollars."""

    usage_record_count: int = 0
    incurred_usage_record_count: int = 0
    reused_usage_record_count: int = 0
    total_tokens: int = 0
    incurred_total_tokens: int = 0
    reused_total_tokens: int = 0
    actual_cost_usd: int = 0
    estimated_cost_usd: int = 0
    display_cost_usd: int = 0
    records_without_cost_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    incurred_input_tokens: int = 0
    incurred_output_tokens: int = 0
    reused_input_tokens: int = 0
    reused_output_tokens: int = 0

    def plus(self, other: Totals) -> Totals:
        """Both together; a sum stops at MAX_SUM."""
        return Totals(*(min(mine + its, MAX_SUM) for mine, its in zip(self, other, strict=True)))


COSTS = ("actual_cost_usd", "estimated_cost_usd", "display_cost_usd")
FLAT_KEYS = {f"kitaru_llm_{name}_v1": name for name in Totals._fields}
"""The metadata keys of the totals."""

SUMMARY_KEY, RECORDS_KEY = "llm_usage_summary_v1", "llm_usage_v1"
"""The metadata keys of an execution's summary and of a call's records."""

RESERVED_KEYS = frozenset((*FLAT_KEYS, SUMMARY_KEY, RECORDS_KEY))
"""The metadata keys that nobody logs."""


def totals_of(figures: UsageFigures) -> Totals:
    """What one record adds. A reused one adds no cost; what is neither incurred nor reused stands in the sums alone."""
    total, given, made = figures.total_tokens or 0, figures.input_tokens or 0, figures.output_tokens or 0
    incurred = figures.billing_effect == "incurred"
    reused = figures.billing_effect == "reused_not_incurred"
    pays = not reused
    return Totals(
        usage_record_count=1,
        incurred_usage_record_count=int(incurred),
        reused_usage_record_count=int(reused),
        total_tokens=total,
        incurred_total_tokens=total * incurred,
        reused_total_tokens=total * reused,
        actual_cost_usd=(figures.actual_cost or 0) * pays,
        estimated_cost_usd=(figures.estimated_cost or 0) * pays,
        display_cost_usd=(figures.display_cost or 0) * pays,
        records_without_cost_count=int(figures.display_cost is None),
        input_tokens=given,
        output_tokens=made,
        incurred_input_tokens=given * incurred,
        incurred_output_tokens=made * incurred,
        reused_input_tokens=given * reused,
        reused_output_tokens=made * reused,
    )


class UsageSummary(_Fact):
    """What the records of one execution add up to."""

    schema_version: Literal[1] = 1
    usage_record_count: int
    incurred_usage_record_count: int
    reused_usage_record_count: int
    total_tokens: int
    incurred_total_tokens: int
    reused_total_tokens: int
    actual_cost_usd: Dollars
    estimated_cost_usd: Dollars
    display_cost_usd: Dollars
    records_without_cost_count: int
    input_tokens: int
    output_tokens: int
    incurred_input_tokens: int
    incurred_output_tokens: int
    reused_input_tokens: int
    reused_output_tokens: int
    adapters: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    cost_policy: Literal["actual_else_estimated"] = "actual_else_estimated"
    warnings: tuple[str, ...] = ()


def dollars(units: int) -> Decimal:
    """Units of 10^-10 dollars as dollars."""
    return Decimal(units).scaleb(-10)


def flat(totals: Totals) -> dict[str, object]:
    """The totals under their metadata keys: whole numbers, and costs in dollars."""
    return {
        key: float(dollars(value)) if name in COSTS else value
        for (key, name), value in zip(FLAT_KEYS.items(), totals, strict=True)
    }


class UsageSeen(NamedTuple):
    """What was seen in the records, each once, in the order of the first time."""

    adapters: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def seen_with(seen: UsageSeen, figures: UsageFigures) -> UsageSeen:
    """What was seen, with one more record."""
    models = () if figures.model is None else (figures.model,)
    return UsageSeen(
        tuple(dict.fromkeys((*seen.adapters, figures.adapter))),
        tuple(dict.fromkeys((*seen.models, *models)))[:MAX_SEEN],
        tuple(dict.fromkeys((*seen.warnings, *figures.warnings)))[:MAX_SEEN],
    )


def summarised(totals: Totals, seen: UsageSeen) -> UsageSummary:
    """The totals as an execution's summary."""
    values = {name: dollars(value) if name in COSTS else value for name, value in totals._asdict().items()}
    return UsageSummary.model_validate({**values, **seen._asdict()})


def record_key(record: UsageRecord) -> str:
    """The key of a record among those of its call: the try, its id, and the id of what it reports when it has one."""
    return "/".join(str(part) for part in (record.attempt, record.record_id, record.event_id) if part is not None)


# --- a record as it is given ------------------------------------------------------------------------------------------


def normalised(given: Mapping[str, object]) -> dict[str, object]:
    """A record's fields without what cannot be added up, each with a warning; the total filled in where it is absent.

    Everything else is left as it is, for the model to refuse.
    """
    found = dict(given)
    told = given.get("warnings")
    warnings = [str(each) for each in cast("list[object]", told)] if isinstance(told, (list, tuple)) else []
    usage, cost = given.get("usage"), given.get("cost")
    if isinstance(usage, Mapping):
        found["usage"] = _tokens(cast("Mapping[str, object]", usage), warnings)
    if isinstance(cost, Mapping):
        found["cost"] = _costs(cast("Mapping[str, object]", cost), warnings)
    latency = given.get("latency_ms")
    if latency is not None and not _is_amount(latency):
        warnings.append("the latency was no number from 0 and was left out")
        found["latency_ms"] = None
    distinct = dict.fromkeys(warning[:MAX_WARNING_CHARS] for warning in warnings)
    found["warnings"] = tuple(distinct)[:MAX_WARNINGS]
    return found


def figures_of(record: UsageRecord) -> UsageFigures:
    """What of a normalised record adds up."""
    usage, cost = record.usage, record.cost
    return UsageFigures(
        event_id=record.event_id,
        adapter=record.adapter,
        provider=record.provider,
        model=record.resolved_model or record.model or record.requested_model,
        status=record.status,
        billing_effect=record.billing_effect,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        actual_cost=_units(cost.actual_cost_usd),
        estimated_cost=_units(cost.estimated_cost_usd),
        latency_us=None if record.latency_ms is None else round(record.latency_ms * 1000),
        warnings=record.warnings,
    )


_COUNTS = ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "reasoning_tokens")


def _tokens(usage: Mapping[str, object], warnings: list[str]) -> dict[str, object]:
    found = dict(usage)
    for name in _COUNTS:
        count = found.get(name)
        if count is not None and (type(count) is not int or not 0 <= count <= MAX_TOKENS):
            warnings.append(f"{name} was no whole number from 0 to {MAX_TOKENS} and was left out")
            found[name] = None
    given, made = found.get("input_tokens"), found.get("output_tokens")
    if found.get("total_tokens") is None and (isinstance(given, int) or isinstance(made, int)):
        found["total_tokens"] = (given if isinstance(given, int) else 0) + (made if isinstance(made, int) else 0)
    return found


def _costs(cost: Mapping[str, object], warnings: list[str]) -> dict[str, object]:
    found = dict(cost)
    for name in ("actual_cost_usd", "estimated_cost_usd"):
        amount = found.get(name)
        if amount is None:
            continue
        found[name] = _amount(amount)
        if found[name] is None:
            warnings.append(f"{name} was no finite amount from 0 to {MAX_COST} and was left out")
    return found


def _amount(value: object) -> Decimal | None:
    """An amount in dollars at ten places, None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        return None
    try:
        amount = Decimal(str(value))
        if amount.is_finite() and 0 <= amount <= MAX_COST:
            return abs(amount.quantize(_PLACE, ROUND_HALF_EVEN))
    except InvalidOperation:
        pass
    return None


def _units(amount: Decimal | None) -> int | None:
    return None if amount is None else int(amount.scaleb(10))


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_TOKENS
