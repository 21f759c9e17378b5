"""`kitaru secrets …`. No value of a secret is ever printed, in no message either."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

from kitaru import secrets
from kitaru.cli import completing, output
from kitaru.cli.options import Format
from kitaru.cli.output import Output
from kitaru.domain.errors import KitaruUsageError

Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name.", autocompletion=completing.secrets)]

HELP = "Keep credentials, encrypted, in your configuration folder."
_PAIR = re.compile(r"(?:--)?([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_HIDDEN = "***"


def set_(
    context: typer.Context,
    name: Name,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read lines of KEY=value from standard input.")] = False,
    form: Format = Output.TEXT,
) -> None:
    """Keep a secret, in the place of one of that name: --KEY=value, once for each key, or --stdin.

    Other users of the machine can see a command line while it runs, and shells keep it: --stdin is for them.
    """
    given = [*context.args]
    if stdin:
        given += [line for line in sys.stdin.read().splitlines() if line.strip()]
    made = secrets.create_secret(name, _pairs(given), replace=True)
    if form is Output.JSON:
        output.print_item("secrets.set", _shown(made))
        return
    output.tell(f"{name} keeps {', '.join(sorted(made.values))}")


set_.takes = {"allow_extra_args": True, "ignore_unknown_options": True}  # type: ignore[attr-defined]


def list_(form: Format = Output.TEXT) -> None:
    """List your secrets by name, and the keys of each."""
    found = secrets.list_secrets()
    if form is Output.JSON:
        output.print_items("secrets.list", [_shown(secret) for secret in found])
        return
    if not found:
        output.tell("no secrets; `kitaru secrets set NAME --stdin` keeps one")
        return
    output.print_table(("Secret", "Keys"), [(secret.name, ", ".join(sorted(secret.values))) for secret in found])


def show(name: Name, form: Format = Output.TEXT) -> None:
    """Show the keys of a secret; kitaru.get_secret gives its values to your code."""
    found = secrets.get_secret(name)
    if form is Output.JSON:
        output.print_item("secrets.show", _shown(found))
        return
    output.print_fields((("Secret", name), *((key, _HIDDEN) for key in sorted(found.values))))


def delete(name: Name, form: Format = Output.TEXT) -> None:
    """Forget a secret."""
    secrets.delete_secret(name)
    if form is Output.JSON:
        output.print_item("secrets.delete", {"name": name})
        return
    output.tell(f"{name} is gone")


def _pairs(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in given:
        pair = _PAIR.fullmatch(word)
        if pair is None:
            raise KitaruUsageError("a secret's values are given as --KEY=value, or as lines of KEY=value with --stdin")
        if pair[1] in found:
            raise KitaruUsageError(f"the key {pair[1]!r} was given twice")
        found[pair[1]] = pair[2]
    if not found:
        raise KitaruUsageError("the secret has no values; give --KEY=value, or lines of KEY=value with --stdin")
    return found


def _shown(secret: secrets.Secret) -> dict[str, object]:
    return {"name": secret.name, "values": dict.fromkeys(sorted(secret.values), _HIDDEN)}


COMMANDS = {"set": set_, "list": list_, "show": show, "delete": delete}
"""The commands by name."""
