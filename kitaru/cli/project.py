"""`kitaru init`, `status`, `trust`, `completion`: where things are."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kitaru.cli import output
from kitaru.cli.options import Format, Project, Store, client_for
from kitaru.cli.output import Output
from kitaru.domain.errors import KitaruUsageError
from kitaru.settings import FOLDER, config_dir, resolve_store


class Shell(StrEnum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def init(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The project's folder.")] = ".", form: Format = Output.TEXT
) -> None:
    """Make a store for a folder and everything below it."""
    base = Path(path).expanduser().absolute()
    if not base.is_dir():
        raise KitaruUsageError(f"{base} is not a folder; make it first")
    folder = base / FOLDER
    is_new = not folder.exists()
    folder.mkdir(mode=0o700, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    if form is Output.JSON:
        output.print_item("init", {"location": str(folder), "created": is_new})
    else:
        output.tell(f"{folder} {'is the store of this folder now' if is_new else 'was there already'}")


def status(store: Store = None, project: Project = None, form: Format = Output.TEXT) -> None:
    """Show which store is used, why, and what is in it."""
    from kitaru import __version__

    with client_for(store, project) as client:
        info = client.info()
    if form is Output.JSON:
        output.print_item("status", {**output.plain(info), "version": __version__, "config": str(config_dir())})
        return
    counts = "   ".join(f"{count} {name}" for name, count in info.executions.items())
    output.print_fields(
        (
            ("Store", info.location),
            ("Why", info.why),
            ("Project", info.project),
            ("Executions", counts or ("none" if info.store_id else "none: the store is made by the first run")),
            ("Config", config_dir()),
            ("Version", __version__),
        )
    )


def trust(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder that holds flows.")],
    store: Store = None,
    form: Format = Output.TEXT,
) -> None:
    """Let executions of this store load code from a folder and everything below it."""
    from kitaru import compose
    from kitaru.runtime.trust import trust_tree

    choice = resolve_store(store)
    folder = os.path.abspath(os.path.expanduser(path))
    if not os.path.isdir(folder):
        raise KitaruUsageError(f"{path} is not a folder; give one that holds your flows")
    trusted = trust_tree(compose.open_log(choice).store_id, folder)
    if form is Output.JSON:
        output.print_item("trust", {"folder": trusted, "store": choice.location})
    else:
        output.tell(f"{trusted} is trusted for the store {choice.location}")


def completion(
    shell: Annotated[Shell | None, typer.Argument(metavar="SHELL", help="The shell; without it, the one in $SHELL.")] = None,
    form: Format = Output.TEXT,
) -> None:
    """Print the completion script: put `source <(kitaru completion bash)` into your shell's start-up file."""
    from typer.completion import get_completion_script  # pyright: ignore[reportPrivateImportUsage]

    named = shell.value if shell is not None else os.path.basename(os.environ.get("SHELL", ""))
    if named not in list(Shell):
        raise KitaruUsageError(f"name a shell: {', '.join(Shell)}")
    script = get_completion_script(prog_name="kitaru", complete_var="_KITARU_COMPLETE", shell=named)
    if form is Output.JSON:
        output.print_item("completion", {"shell": named, "script": script})
    else:
        sys.stdout.write(f"{script}\n")


COMMANDS = {"init": init, "status": status, "trust": trust, "completion": completion}
"""The commands by name."""
