"""`kitaru model …`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from kitaru import aliases
from kitaru.cli import completing, output
from kitaru.cli.options import Format
from kitaru.cli.output import Output

Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="The name for it.", autocompletion=completing.models)]

HELP = "Name the models that LLM calls use."


def register(
    alias: Alias,
    model: Annotated[str, typer.Option("--model", help="provider/model, such as openai/gpt-5-mini.")],
    base_url: Annotated[str | None, typer.Option("--base-url", help="Where it is served, if not by its provider.")] = None,
    secret: Annotated[
        str | None, typer.Option("--secret", help="The secret that holds its key.", autocompletion=completing.secrets)
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Use it for calls that name no model.")] = False,
    form: Format = Output.TEXT,
) -> None:
    """Name a model, in your configuration folder; the first one is the default."""
    made = aliases.register_model(alias, model, base_url=base_url, secret=secret, default=default)
    if form is Output.JSON:
        output.print_item("model.register", asdict(made))
        return
    output.tell(f"{made.alias} is {made.model} now{', the default' if made.is_default else ''}")


def list_(form: Format = Output.TEXT) -> None:
    """List your models."""
    found = aliases.list_models()
    if form is Output.JSON:
        output.print_items("model.list", [asdict(alias) for alias in found])
        return
    if not found:
        output.tell("no models; `kitaru model register ALIAS --model provider/model` names one")
        return
    rows = [
        (each.alias, "default" if each.is_default else "", each.model, each.base_url or "", each.secret or "")
        for each in found
    ]
    output.print_table(("Alias", "Default", "Model", "Base URL", "Secret"), rows)


def remove(alias: Alias, form: Format = Output.TEXT) -> None:
    """Forget a name; its secret stays."""
    aliases.remove_model(alias)
    if form is Output.JSON:
        output.print_item("model.remove", {"alias": alias})
        return
    output.tell(f"{alias} is no model any more")


COMMANDS = {"register": register, "list": list_, "remove": remove}
"""The commands by name."""
