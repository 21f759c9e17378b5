"""What Tab offers: ids, names and states from the store that the command line names. Nothing is ever said of a failure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from kitaru.client.client import KitaruClient
    from kitaru.client.models import Execution

Found = list[tuple[str, str]]
_MOST = 50
_LOOKED_AT = 200
"""The newest executions, among which names of flows and tags are looked for."""


def typed_words() -> list[str]:
    """The words on the line that is being completed, as its shell gives them, without the one at the cursor."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    words = line.split()[1:]
    return words if not line or line[-1].isspace() else words[:-1]


def executions(ctx: typer.Context, incomplete: str) -> Found:
    """Ids that begin so, the newest first, each with its flow and status."""

    from kitaru import compose

    def ask(client: KitaruClient) -> Found:
        if not incomplete:
            return [(each.exec_id, _about(each.flow_name, each.status)) for each in client.executions.list(limit=_MOST)]
        if not compose.store_exists(client.store) or not incomplete.replace("-", "").isalnum():
            return []
        with closing(compose.open_reader(client.store)) as reader:
            return [(each, "") for each in reversed(reader.find_ids(incomplete.lower(), _MOST))]

    return _asked(ctx, ask)


def _about(flow: str, status: str) -> str:
    from kitaru.cli.output import clean

    return f"{clean(flow)} {status}"


def flows(ctx: typer.Context, incomplete: str) -> Found:
    """Names of flows that ran lately."""
    return _asked(ctx, lambda client: _named(incomplete, (each.flow_name for each in _newest(client))))


def tags(ctx: typer.Context, incomplete: str) -> Found:
    """Tags that were given lately."""
    return _asked(ctx, lambda client: _named(incomplete, (tag for each in _newest(client) for tag in each.tags)))


def statuses(incomplete: str) -> Found:
    """The five."""
    from kitaru.domain.status import ExecutionStatus

    return _named(incomplete, iter(ExecutionStatus))


def stacks(incomplete: str) -> Found:
    """Where flows run."""
    return _named(incomplete, iter(("local", "worker")))


def models(incomplete: str) -> Found:
    """Your names of models."""
    from kitaru.aliases import list_models

    return _kept(incomplete, lambda: (each.alias for each in list_models()))


def secrets(incomplete: str) -> Found:
    """Names of your secrets."""
    from kitaru.secrets import secret_names

    return _kept(incomplete, secret_names)


def _kept(incomplete: str, names: Callable[[], Iterable[str]]) -> Found:
    from kitaru.domain.errors import KitaruError

    try:
        return _named(incomplete, iter(names()))
    except (KitaruError, OSError):
        return []


def _newest(client: KitaruClient) -> Iterator[Execution]:
    return iter(client.executions.list(limit=_LOOKED_AT))


def _named(incomplete: str, names: Iterator[str]) -> Found:
    """Names that begin so, once each; those that a shell's line cannot hold are left out."""
    return [(name, "") for name in dict.fromkeys(names) if name.startswith(incomplete) and name.isprintable()][:_MOST]


def _asked(ctx: typer.Context, ask: Callable[[KitaruClient], Found]) -> Found:
    from kitaru.cli.options import client_for
    from kitaru.domain.errors import KitaruError

    try:
        with client_for(ctx.params.get("store"), ctx.params.get("project")) as client:
            return ask(client)
    except (KitaruError, OSError):
        return []
