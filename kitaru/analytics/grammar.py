"""What may be asked of statistics, checked: every mistake is a KitaruUsageError that names the token and the choices.

Pure, and the same for three subjects: executions, their checkpoint calls, their LLM usage records. Status and time are the
subject's own (a call's start, a record's time), as are type, model and the like; flow, stack, tags and metadata are its
execution's. That holds for what is grouped by and for what is filtered by: `statuses`, `since` and `until` of the filters
are of the subject, the others of its execution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from reprlib import Repr
from typing import Literal, NamedTuple, TypedDict, Unpack, cast

from kitaru.domain.errors import KitaruUsageError
from kitaru.domain.limits import MAX_NAME_CHARS
from kitaru.projections.listing.filters import STATUSES, Filters, Selection, make_filters, make_statuses

Subject = Literal["executions", "checkpoints", "llm_usage"]

GRANULARITIES = ("hour", "day", "week", "month")
AGGREGATIONS = ("avg", "sum", "min", "max", "p50", "p90", "p95", "p99", "count", "count_distinct")

_OF_EXECUTION = ("flow", "stack", "tag", "time", "metadata")
DIMENSIONS: Mapping[Subject, tuple[str, ...]] = {
    "executions": ("status", *_OF_EXECUTION),
    "checkpoints": ("checkpoint", "type", "status", *_OF_EXECUTION),
    "llm_usage": ("model", "provider", "adapter", "billing_effect", "checkpoint", "status", *_OF_EXECUTION),
}
"""What a subject is grouped by."""

_LLM = ("llm_cost", "llm_tokens", "llm_input_tokens", "llm_output_tokens")
SOURCES: Mapping[Subject, tuple[str, ...]] = {
    "executions": (
        "duration", "active_duration", "wait_duration", "step_count", "cached_step_count", "output_artifact_count",
        "attempt_count", *_LLM, "metadata",
    ),
    "checkpoints": ("duration", "attempt_count", *_LLM),
    "llm_usage": (
        "cost", "actual_cost", "estimated_cost", "tokens", "input_tokens", "output_tokens", "cached_input_tokens",
        "reasoning_tokens", "latency",
    ),
}  # fmt: skip
"""What a subject's metrics are taken from; docs/reference/statistics.md says what each is. Durations are seconds."""

STATUSES_OF: Mapping[Subject, tuple[str, ...]] = {
    "executions": STATUSES,
    "checkpoints": ("running", "completed", "failed", "interrupted"),
    "llm_usage": ("completed", "failed", "interrupted"),
}
"""The statuses of a subject."""

MAX_GROUPINGS, MAX_METRICS, MOST_GROUPS = 16, 64, 10_000

_KEYS = {"flow": "flow_id", "stack": "stack_id"}
_SHORTCUTS = {
    "llm_cost": "kitaru_llm_display_cost_usd_v1",
    "llm_tokens": "kitaru_llm_total_tokens_v1",
    "llm_input_tokens": "kitaru_llm_input_tokens_v1",
    "llm_output_tokens": "kitaru_llm_output_tokens_v1",
}
"""Of executions these sources are metadata like any other."""

_short = Repr()
_short.maxstring = _short.maxother = 120


class Grouping(NamedTuple):
    """One key of a group, called `name` in the answer. A time has a granularity, metadata its key."""

    dimension: str
    name: str
    granularity: str | None = None
    metadata_key: str | None = None


class Metric(NamedTuple):
    """One number of a group. An execution's llm_* sources are metadata metrics here."""

    name: str
    source: str
    aggregation: str
    metadata_key: str | None = None


class Query(NamedTuple):
    """A question that can be answered. `timezone` is a name that zoneinfo knows, or UTC."""

    subject: Subject
    groupings: tuple[Grouping, ...]
    metrics: tuple[Metric, ...]
    filters: Filters
    timezone: str
    max_groups: int

    @property
    def time(self) -> int | None:
        """The place of the time among the groupings."""
        return next((place for place, grouping in enumerate(self.groupings) if grouping.dimension == "time"), None)


@dataclass(frozen=True, slots=True)
class ExecutionStatisticsGrouping:
    """What to group by, spelled out. `name` is what the key is called in the answer."""

    dimension: str
    name: str | None = None
    time_granularity: str | None = None
    metadata_key: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionStatisticsMetric:
    """What to aggregate, spelled out."""

    name: str
    source: str
    aggregation: str
    metadata_key: str | None = None


GroupBy = str | ExecutionStatisticsGrouping | Mapping[str, object]
MetricSpec = str | ExecutionStatisticsMetric | Mapping[str, object]


class Asked(TypedDict, total=False):
    """How to group and measure, as a user gives it."""

    group_by: GroupBy | Iterable[GroupBy]
    metrics: MetricSpec | Iterable[MetricSpec]
    timezone: str
    max_groups: int


def make_query(subject: Subject, project: str, now: int, selection: Selection, **asked: Unpack[Asked]) -> Query:
    """Check a question as a user gives it. `now` is microseconds since 1970, for ages like `7d`. Raises KitaruUsageError."""
    of_execution = selection.copy()
    status = of_execution.pop("status", None)
    filters = make_filters(project, now, **of_execution)._replace(statuses=make_statuses(status, STATUSES_OF[subject]))
    return Query(
        subject,
        _groupings(subject, asked.get("group_by", ())),
        _metrics(subject, asked.get("metrics", ())),
        _storable(filters),
        _zone(asked.get("timezone", "UTC")),
        _most(asked.get("max_groups", 1000)),
    )


def grouping_tokens(subject: Subject) -> str:
    """The tokens that `group_by` takes, for people."""
    tokens = {"time": f"time:{'|'.join(GRANULARITIES)}", "metadata": "metadata:<key>"}
    return ", ".join(tokens.get(dimension, dimension) for dimension in DIMENSIONS[subject])


# --- group_by ---------------------------------------------------------------------------------------------------------


def _groupings(subject: Subject, given: object) -> tuple[Grouping, ...]:
    items = _listed("group_by", given, MAX_GROUPINGS, f"tokens: {grouping_tokens(subject)}")
    found: list[Grouping] = []
    for item in items:
        grouping = _grouping(subject, item)
        for other in found:
            if grouping.dimension == other.dimension == "time":
                raise KitaruUsageError(
                    f"group_by {_shown(item)}: time is grouped by already, by {other.granularity}; once is all"
                )
            if (grouping.dimension, grouping.metadata_key) == (other.dimension, other.metadata_key):
                raise KitaruUsageError(f"group_by {_shown(item)} stands there twice")
            if grouping.name == other.name:
                raise KitaruUsageError(
                    f"group_by {_shown(item)}: a key is called {_shown(other.name)} already; give this one a `name` "
                    "of its own, as ExecutionStatisticsGrouping(dimension, name)"
                )
        found.append(grouping)
    return tuple(found)


def _grouping(subject: Subject, item: object) -> Grouping:
    given = _of_token(item) if isinstance(item, str) else _fields_of("group_by", item, ExecutionStatisticsGrouping)
    dimension, granularity, key = given["dimension"], given["time_granularity"], given["metadata_key"]
    if not isinstance(dimension, str) or dimension not in DIMENSIONS[subject]:
        raise KitaruUsageError(
            f"there is no grouping {_shown(item)}; group {_called(subject)} by {grouping_tokens(subject)}"
        )
    if dimension == "time":
        if granularity not in GRANULARITIES:
            raise KitaruUsageError(f"group_by {_shown(item)}: time goes by {', '.join(GRANULARITIES)}, such as 'time:day'")
    elif granularity is not None:
        raise KitaruUsageError(f"group_by {_shown(item)}: only time has a granularity, not {dimension}")
    if dimension == "metadata":
        key = _key("group_by", item, key, "metadata:customer_tier")
    elif key is not None:
        raise KitaruUsageError(f"group_by {_shown(item)}: only metadata has a key, not {dimension}")
    default = {"time": granularity, "metadata": key}.get(dimension, _KEYS.get(dimension, dimension))
    name = default if given["name"] is None else _name("group_by", item, given["name"])
    return Grouping(dimension, cast("str", name), cast("str | None", granularity), key)


def _of_token(token: str) -> dict[str, object]:
    """The fields of `status`, `time:day`, `metadata:<the rest>`; another token is its own dimension, and refused."""
    head, colon, rest = token.partition(":")
    is_split = colon and head in ("time", "metadata")
    return {
        "dimension": head if is_split or token in ("time", "metadata") else token,
        "name": None,
        "time_granularity": rest if is_split and head == "time" else None,
        "metadata_key": rest if is_split and head == "metadata" else None,
    }


# --- metrics ----------------------------------------------------------------------------------------------------------


def _metrics(subject: Subject, given: object) -> tuple[Metric, ...]:
    found: dict[str, Metric] = {}
    for item in _listed("metrics", given, MAX_METRICS, f"specs: {_spec_of(subject)}"):
        metric = _metric(subject, item)
        if metric.name in found:
            raise KitaruUsageError(
                f"metric {_shown(item)}: a metric is called {_shown(metric.name)} already; names are unique"
            )
        found[metric.name] = metric
    return tuple(found.values())


def _metric(subject: Subject, item: object) -> Metric:
    given = _of_spec(subject, item) if isinstance(item, str) else _fields_of("metrics", item, ExecutionStatisticsMetric)
    source, aggregation, key = given["source"], given["aggregation"], given["metadata_key"]
    name = _name("metric", item, given["name"])
    if not isinstance(source, str) or source not in SOURCES[subject]:
        raise KitaruUsageError(
            f"metric {_shown(item)}: there is no source {_shown(source)} of {_called(subject)}; "
            f"the sources are {', '.join(SOURCES[subject])}"
        )
    if aggregation not in AGGREGATIONS:
        raise KitaruUsageError(
            f"metric {_shown(item)}: there is no aggregation {_shown(aggregation)}; "
            f"the aggregations are {', '.join(AGGREGATIONS)}"
        )
    if source == "metadata":
        key = _key("metric", item, key, "score:metadata:score:avg")
    elif key is not None:
        raise KitaruUsageError(f"metric {_shown(item)}: only the source metadata has a key, not {source}")
    elif subject == "executions" and source in _SHORTCUTS:
        source, key = "metadata", _SHORTCUTS[source]
    return Metric(name, source, cast("str", aggregation), key)


def _of_spec(subject: Subject, spec: str) -> dict[str, object]:
    """The fields of `<name>:<source>:<aggregation>` and `<name>:metadata:<key, colons too>:<aggregation>`."""
    name, *parts = spec.split(":")
    has_key = parts[:1] == ["metadata"] and "metadata" in SOURCES[subject]
    if len(parts) < 2 + has_key or (not has_key and len(parts) > 2):
        raise KitaruUsageError(f"metric {_shown(spec)} has to be {_spec_of(subject)}")
    key = ":".join(parts[1:-1]) if has_key else None
    return {"name": name, "source": parts[0], "aggregation": parts[-1], "metadata_key": key}


def _spec_of(subject: Subject) -> str:
    sources = "|".join(source for source in SOURCES[subject] if source != "metadata")
    metadata = ", or <name>:metadata:<key>:<aggregation>" if "metadata" in SOURCES[subject] else ""
    return f"<name>:<source>:<aggregation> with source {sources}{metadata}; aggregation {'|'.join(AGGREGATIONS)}"


# --- what both, and the rest, are made of -----------------------------------------------------------------------------


def _listed(option: str, given: object, most: int, choices: str) -> tuple[object, ...]:
    """One item or several; a text, a mapping or an object is one."""
    if given is None:
        return ()
    if isinstance(given, (str, Mapping, ExecutionStatisticsGrouping, ExecutionStatisticsMetric)):
        return (cast("object", given),)
    if not isinstance(given, Iterable) or isinstance(given, (bytes, bytearray)):
        raise KitaruUsageError(f"{option} cannot be {_shown(given)}; it takes {choices}")
    items = tuple(cast("Iterable[object]", given))
    if len(items) > most:
        raise KitaruUsageError(f"{option} takes at most {most} at once, not {len(items)}")
    return items


def _fields_of(
    option: str, item: object, kind: type[ExecutionStatisticsGrouping | ExecutionStatisticsMetric]
) -> dict[str, object]:
    """The fields of an object, or of a mapping that stands for one; those left out are None."""
    known = tuple(field.name for field in fields(kind))
    if isinstance(item, kind):
        return asdict(item)
    if not isinstance(item, Mapping):
        raise KitaruUsageError(
            f"{option} takes texts, {kind.__name__} objects and mappings with {', '.join(known)}, not {_shown(item)}"
        )
    given = cast("Mapping[object, object]", item)
    unknown = [key for key in given if key not in known]
    if unknown:
        raise KitaruUsageError(
            f"{option} {_shown(given)}: there is no field {_shown(unknown[0])}; the fields are {', '.join(known)}"
        )
    return {name: given.get(name) for name in known}


def _name(option: str, item: object, name: object) -> str:
    if isinstance(name, str) and name.strip() and len(name) <= MAX_NAME_CHARS and _is_storable(name):
        return name
    raise KitaruUsageError(f"{option} {_shown(item)} needs a name of 1 to {MAX_NAME_CHARS} characters, not {_shown(name)}")


def _key(option: str, item: object, key: object, example: str) -> str:
    if isinstance(key, str) and key and _is_storable(key):
        return key
    raise KitaruUsageError(f"{option} {_shown(item)} needs the metadata's key, such as {example!r}, not {_shown(key)}")


def _zone(name: object) -> str:
    if name == "UTC":
        return "UTC"  # there without any data of time zones
    if isinstance(name, str):
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError):  # unknown; no name at all; a folder of names
            pass
        else:
            return name
    raise KitaruUsageError(f"there is no time zone {_shown(name)}; the names are those of IANA, such as UTC, Europe/Berlin")


def _most(number: object) -> int:
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= MOST_GROUPS:
        return number
    raise KitaruUsageError(f"max_groups has to be a whole number from 1 to {MOST_GROUPS}, not {_shown(number)}")


def _storable(filters: Filters) -> Filters:
    """The filters, if all their texts could be stored at all."""
    texts = (
        filters.flow,
        filters.stack,
        *filters.tags,
        *(text for each in filters.where for text in (each.key, each.value)),
    )
    for text in texts:
        if isinstance(text, str) and not _is_storable(text):
            raise KitaruUsageError(f"{_shown(text)} holds half a character (a lone surrogate); no store holds such a text")
    return filters


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _called(subject: Subject) -> str:
    return {"executions": "executions", "checkpoints": "checkpoint calls", "llm_usage": "LLM usage"}[subject]


def _shown(value: object) -> str:
    return _short.repr(value)
