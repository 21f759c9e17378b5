"""The reference pages that the code writes: `make references` puts them there, and a test holds each to the code.

What stands before the mark is the page's own; everything after it is written anew.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from kitaru.cli.app import build
from kitaru.mcp.tools import TOOLS, Tool
from tests.docs.pages import DOCS

MARK = "<!-- From here on the code writes this page: make references -->\n"
REFERENCE = DOCS / "reference"


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Each command by its words."""
    below = getattr(command, "commands", None)
    if below:
        for name, each in below.items():
            yield from commands(each, (*path, name))
    else:
        yield " ".join(path), command


def cli_page() -> str:
    """A section for each command, as its own help says."""
    return "\n".join(_command(name, each) for name, each in commands(typer.main.get_command(build())))


def _command(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    words = " ".join(["kitaru", name, *(_shown(each) for each in arguments)])
    lines = [f"## {words}", "", inspect.cleandoc(command.help or "").replace("\n\n", "\n\n"), ""]
    if arguments or options:
        lines += ["| | |", "|---|---|"]
        lines += [f"| {_shown(each).strip('[]')} | {_help(each)} |" for each in arguments]
        lines += [f"| {', '.join(f'`{word}`' for word in _words(each))} | {_help(each)} |" for each in options]
        lines.append("")
    return "\n".join(lines)


def _words(option: Any) -> list[str]:
    return sorted(option.opts, key=len) + list(option.secondary_opts)


def _shown(argument: Any) -> str:
    name = str(argument.metavar or argument.name).upper().strip("[]")
    return name if argument.required else f"[{name}]"


def _help(param: Any) -> str:
    desc = param.type_descriptor
    text = (param.help or "").rstrip(".").replace("|", "\\|")
    if desc.is_choice and desc.choices is not None:
        text += ": " + ", ".join(f"`{getattr(each, 'value', each)}`" for each in desc.choices)
    default = getattr(param.default, "value", param.default)
    if default not in (None, False, (), []):
        text += f" (`{default}` unless given)"
    return text + ("; may be repeated" if getattr(param, "multiple", False) else "")


def mcp_page() -> str:
    """A section for each tool, as a client is told."""
    return "\n".join(_tool(tool) for tool in TOOLS)


def _tool(tool: Tool) -> str:
    schema = tool.input_schema
    does = "reads" if tool.reads else "changes something that cannot be taken back" if tool.destroys else "changes something"
    lines = [f"## {tool.name}", "", tool.description, "", f"It {does}. {_gives(tool)}", ""]
    if schema["properties"]:
        lines += ["| argument | | |", "|---|---|---|"]
        required = schema.get("required", [])
        for name, each in schema["properties"].items():
            default = "required" if name in required else f"`{_json(each.get('default'))}`"
            lines.append(f"| `{name}` {_kind(each)} | {default} | {each['description'].rstrip('.')} |")
        lines.append("")
    return "\n".join(lines)


def _gives(tool: Tool) -> str:
    properties = tool.output_schema["properties"]
    return "It gives " + ", ".join(f"`{name}`" for name in properties) + "."


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("type", "any value"))


def _json(value: object) -> str:
    return {None: "null", True: "true", False: "false"}.get(value, str(value))  # type: ignore[call-overload]


PAGES = {"cli.md": cli_page, "mcp.md": mcp_page}
"""What writes each page."""


def written(name: str) -> str:
    """The page as it has to be."""
    own = (REFERENCE / name).read_text(encoding="utf-8").partition(MARK)[0]
    return f"{own}{MARK}\n{PAGES[name]()}"


def main() -> None:
    """Write every page."""
    for name in PAGES:
        Path(REFERENCE / name).write_text(written(name), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
