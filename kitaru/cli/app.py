"""The commands put together, and the one place that turns whatever happens into a message and an exit code.

A group's module is imported when its name stands on the command line, or for help.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from kitaru.cli import completing, output
from kitaru.domain.errors import (
    KitaruBackendError,
    KitaruError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
)

if TYPE_CHECKING:
    from typer._click.core import Context

_TOP = ("kitaru.cli.project", "kitaru.cli.running", "kitaru.cli.working", "kitaru.cli.serving", "kitaru.cli.exporting")
_GROUPS = {
    "executions": (
        "kitaru.cli.executions",
        "kitaru.cli.logs",
        "kitaru.cli.answering",
        "kitaru.cli.steering",
        "kitaru.cli.statistics",
    ),
    "checkpoints": ("kitaru.cli.checkpoints",),
    "llm-usage": ("kitaru.cli.llm_usage",),
    "artifacts": ("kitaru.cli.artifacts",),
    "stack": ("kitaru.cli.stacks",),
    "model": ("kitaru.cli.models",),
    "secrets": ("kitaru.cli.secrets",),
    "store": ("kitaru.cli.store",),
}
_OPTIONS = {"help_option_names": ["-h", "--help"]}
_USAGE, _NOT_FOUND, _STATE, _STORE, _INTERRUPTED = 2, 3, 4, 5, 130


def build(words: Sequence[str] = ()) -> typer.Typer:
    """The application: all of it, or only the command that the first words of a command line name.

    Typer makes an adapter for every option of every command that it is given, some milliseconds each.
    """
    app = typer.Typer(
        name="kitaru",
        help="Durable execution for Python: run flows, see what they did, go on after a crash.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_OPTIONS,
    )
    app.callback()(_root)
    first, second = (*words, "", "")[:2]
    top: dict[str, Callable[..., object]] = {}
    for home in () if first in _GROUPS else _TOP:
        if first not in top:
            top |= import_module(home).COMMANDS
    _add(app, {first: top[first]} if first in top else top)
    for name in [first] if first in _GROUPS else [] if first in top else _GROUPS:
        home, *others = _GROUPS[name]
        module = import_module(home)
        group = typer.Typer(help=module.HELP, no_args_is_help=True, rich_markup_mode=None)
        commands: dict[str, Callable[..., object]] = dict(module.COMMANDS)
        for other in others:
            if second not in commands:
                commands |= import_module(other).COMMANDS
        _add(group, {second: commands[second]} if second in commands else commands)
        app.add_typer(group, name=name)
    return app


class _Command(TyperCommand):
    """A command whose usage line shows what has to be given as it is: `TARGET`, and not `{TARGET}`."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        return [piece.removeprefix("{").removesuffix("}") for piece in super().collect_usage_pieces(ctx)]


def _add(app: typer.Typer, commands: Mapping[str, Callable[..., object]]) -> None:
    for name, command in commands.items():
        settings = _OPTIONS | getattr(command, "takes", {})
        app.command(name, cls=_Command, context_settings=settings)(command)


def _root(version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and exit.")] = False) -> None:
    if version:
        from kitaru import __version__

        print(f"kitaru {__version__}")
        raise typer.Exit


def run(argv: Sequence[str]) -> int:
    """Run one command line; its exit code. Nothing but SystemExit of a second Ctrl-C ever leaves here."""
    output.prepare(argv)
    try:
        words = list(argv)
        if "_KITARU_COMPLETE" in os.environ:
            from typer.completion import completion_init  # pyright: ignore[reportPrivateImportUsage]

            completion_init()
            words = completing.typed_words()
        app = build([word for word in words if not word.startswith("-")])
        try:
            code: object = app(list(argv) or ["--help"], prog_name="kitaru", standalone_mode=False)
        finally:
            output.release_stdout()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        return _unread()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # the parser's word for it is 1
            return _unread()
        return left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    except Exception as error:
        return 1 if "_KITARU_COMPLETE" in os.environ else _failed(error)  # what is typed is not disturbed


def _unread() -> int:
    """Nobody reads on, which is no fault: `head` has what it wanted."""
    _give_up_stdout()
    return 0


def _give_up_stdout() -> None:
    """Let what is still in the buffer go nowhere: Python would say at its end that it cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _failed(error: Exception) -> int:
    """Say what went wrong, and give the exit code."""
    if isinstance(error, KitaruError):
        output.fail(type(error).__name__, error.code, error.message)
        return code_of(error)
    shown = getattr(error, "format_message", None)
    if type(error).__name__ == "NoArgsIsHelpError" and callable(shown):  # a group's name alone
        print(shown())
        return 0
    if callable(shown):  # what the parser says of a command line
        said = str(shown()).rstrip(".")
        is_known = not said.startswith("No such command")
        meant = "" if is_known else _elsewhere(output.typed_command())
        output.fail("KitaruUsageError", "usage", f"{said}{meant}; see: {output.help_line(is_known=is_known)}")
        return _USAGE
    if type(error).__name__ == "Abort":
        output.fail("KitaruUsageError", "aborted", "nothing was done")
        return 1
    if isinstance(error, RecursionError):
        output.fail("KitaruUsageError", "too-deep", "a value is nested too deeply")
        return _USAGE
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename is not None else ""
        output.fail("KitaruError", "operating-system", f"{error.strerror}{where}")
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_stdout()
        return 1
    if os.environ.get("KITARU_DEBUG"):
        raise error
    output.fail(
        type(error).__name__, "internal", f"{type(error).__name__}: {error}; KITARU_DEBUG=1 shows where, please report it"
    )
    return 1


def _elsewhere(word: str) -> str:
    """The commands of groups that have the name of a top command which there is not."""
    found = [
        f"kitaru {group} {word}"
        for group, homes in _GROUPS.items()
        if any(word in import_module(home).COMMANDS for home in homes)
    ]
    return f". Did you mean: {', '.join(found)}" if found else ""


def code_of(error: KitaruError) -> int:
    """The exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def code_of_kind(name: str) -> int:
    """The exit code of an error that is known by its class's name."""
    from kitaru.domain import errors

    kind: object = getattr(errors, name, None)
    return next((code for known, code in _CODES if isinstance(kind, type) and issubclass(kind, known)), 1)


_CODES = (
    (KitaruUsageError, _USAGE),
    (KitaruNotFoundError, _NOT_FOUND),
    (KitaruStateError, _STATE),
    (KitaruBackendError, _STORE),
)
