"""`kitaru executions statistics`, and the same of checkpoints and of LLM usage."""

# Without `from __future__ import annotations`: Typer evaluates annotations, and these are made for each subject.

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from kitaru.analytics.grammar import AGGREGATIONS, SOURCES, STATUSES_OF, Asked, Query, Subject, grouping_tokens, make_query
from kitaru.cli import output
from kitaru.cli.options import Flow, ListFormat, Project, Since, Stack, Store, Tags, Until, Where, absence, client_for
from kitaru.cli.output import ListOutput
from kitaru.cli.typed import conditions
from kitaru.domain.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient
    from kitaru.client.statistics import CheckpointStatistics, ExecutionStatistics, LLMUsageStatistics


class _Shown(NamedTuple):
    """How a subject's statistics are called."""

    command: str
    title: str
    things: str
    counted: str
    what: str


_OF: Mapping[Subject, _Shown] = {
    "executions": _Shown(
        "executions.statistics", "Kitaru execution statistics", "Executions", "execution_count", "executions"
    ),
    "checkpoints": _Shown(
        "checkpoints.statistics", "Kitaru checkpoint statistics", "Checkpoints", "checkpoint_count", "checkpoint calls"
    ),
    "llm_usage": _Shown(
        "llm-usage.statistics", "Kitaru LLM usage statistics", "Usage Records", "usage_record_count", "LLM usage records"
    ),
}


class _Group(NamedTuple):
    """A group of any subject."""

    keys: Mapping[str, object]
    counted: int
    metrics: Mapping[str, float | int | None]


def make_command(subject: Subject) -> Callable[..., None]:
    """The command of a subject."""
    tokens, statuses = grouping_tokens(subject), ", ".join(STATUSES_OF[subject])
    sources = ", ".join(SOURCES[subject]).replace("metadata", "metadata:KEY")
    metric_help = f"NAME:SOURCE:AGGREGATION; sources {sources}; aggregations {', '.join(AGGREGATIONS)}."

    def statistics(
        group_by: Annotated[list[str] | None, typer.Option("--group-by", help=f"A key to group by: {tokens}.")] = None,
        metric: Annotated[list[str] | None, typer.Option("--metric", help=metric_help)] = None,
        flow: Flow = None,
        status: Annotated[list[str] | None, typer.Option("--status", help=f"Only this status: {statuses}.")] = None,
        stack: Stack = None,
        tag: Tags = None,
        since: Since = None,
        until: Until = None,
        where: Where = None,
        timezone: Annotated[str, typer.Option("--timezone", help="Of the times: UTC, Europe/Berlin, …")] = "UTC",
        max_groups: Annotated[int, typer.Option("--max-groups", help="The most groups to show, 1 to 10000.")] = 1000,
        plot: Annotated[bool, typer.Option("--plot", help="Draw charts in place of the table.")] = False,
        store: Store = None,
        project: Project = None,
        form: ListFormat = ListOutput.TEXT,
    ) -> None:
        if plot and form is not ListOutput.TEXT:
            raise KitaruUsageError(f"--plot draws on a terminal; leave it out for --output {form.value}")
        if plot:  # before anything is asked or printed
            from kitaru.cli import charts

            charts.check()
        client = client_for(store, project)
        answer = _ask(client, subject)(
            group_by=group_by or (), metrics=metric or (), flow=flow, status=status or None, stack=stack, tags=tag or None,
            since=since, until=until, where=conditions(where or []), timezone=timezone, max_groups=max_groups,
        )  # fmt: skip
        if form is ListOutput.TEXT and (missing := absence(client)) is not None:
            output.tell(missing)
        asked: Asked = {"group_by": group_by or (), "metrics": metric or (), "max_groups": max_groups}
        _print(make_query(subject, client.project, 0, {}, **asked), answer, form, plot=plot)

    statistics.__doc__ = f"Count {_OF[subject].what}, by groups, with metrics, as of now."
    return statistics


def _ask(
    client: "KitaruClient", subject: Subject
) -> "Callable[..., ExecutionStatistics | CheckpointStatistics | LLMUsageStatistics]":
    match subject:
        case "executions":
            return client.executions.statistics
        case "checkpoints":
            return client.checkpoints.statistics
        case "llm_usage":
            return client.llm_usage.statistics


def _print(
    query: Query,
    answer: "ExecutionStatistics | CheckpointStatistics | LLMUsageStatistics",
    form: ListOutput,
    *,
    plot: bool,
) -> None:
    shown = _OF[query.subject]
    keys, metrics = [grouping.name for grouping in query.groupings], [metric.name for metric in query.metrics]
    item = output.plain(answer)
    if form is ListOutput.JSON:
        output.print_item(shown.command, item)
        return
    dumped = [output.plain(group) for group in answer.groups]
    if form is ListOutput.JSONL:
        output.print_lines(dumped)
        return
    groups = [_Group(group["keys"], group[shown.counted], group["metrics"]) for group in dumped]  # type: ignore[arg-type]
    if form is ListOutput.CSV:
        rows = ((*group.keys.values(), group.counted, *group.metrics.values()) for group in groups)
        output.print_csv_rows((*keys, shown.counted, *metrics), rows)
        return
    print(shown.title)
    if not groups:
        print("statistics: none found")
    elif plot:
        _draw(shown, groups, None if query.time is None else keys[query.time])
    else:
        output.print_table((*map(title_of, keys), shown.things, *map(title_of, metrics)), [_row(group) for group in groups])
    if answer.truncated:
        kept = output.count(len(groups), "group")
        print(f"truncated: only {kept}, because of --max-groups {query.max_groups}; 10000 is the most")


def title_of(key: str) -> str:
    """A column's title: `flow_id` is `Flow ID`, `duration_avg` is `Duration Avg`."""
    return " ".join("ID" if word == "id" else word[:1].upper() + word[1:] for word in key.replace("_", " ").split(" "))


def _row(group: _Group) -> list[str]:
    blank_none = ["" if value is None else _number(value) for value in group.metrics.values()]
    return [*map(_number, group.keys.values()), str(group.counted), *blank_none]


def _number(value: object) -> str:
    """A cell; floats have at most six significant digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _draw(shown: _Shown, groups: Sequence[_Group], time: str | None) -> None:
    from kitaru.cli.charts import Chart, draw

    others = [[_number(key) for name, key in group.keys.items() if name != time] for group in groups]
    labels = [" · ".join(map(output.clean, each)) or "all" for each in others]
    times = None if time is None else [str(group.keys[time]) for group in groups]
    draw(
        [
            Chart(shown.things, labels, times, [group.counted for group in groups]),
            *(
                Chart(output.clean(title_of(name)), labels, times, [group.metrics[name] for group in groups])
                for name in groups[0].metrics
            ),
        ]
    )


COMMANDS = {"statistics": make_command("executions")}
"""The command of executions by name."""
