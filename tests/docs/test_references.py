"""The references say what the code says: nothing is left out, and nothing is made up."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer.main

import kitaru
from kitaru.cli.app import build, code_of
from kitaru.client.artifacts import Artifacts
from kitaru.client.executions import Executions
from kitaru.client.statistics import Checkpoints, LLMUsage
from kitaru.domain import errors, limits
from kitaru.runtime.checkpoint import Checkpoint
from kitaru.runtime.flow import Flow
from kitaru.runtime.futures import CheckpointFuture, FutureList
from kitaru.runtime.handle import FlowHandle
from tests.docs import pages, references, sources
from tests.docs.pages import DOCS

REFERENCE = DOCS / "reference"
_CODE = re.compile(r"`([^`]+)`")


def text_of(page: str) -> str:
    return (REFERENCE / page).read_text(encoding="utf-8")


def sections(page: str, level: int) -> dict[str, str]:
    """The text under each heading of a level, up to the next heading of that level or a higher one."""
    mark = "#" * level
    found = re.split(rf"^{mark} (.+)$", text_of(page), flags=re.MULTILINE)
    higher = rf"^#{{1,{level}}} " if level > 1 else r"^# "
    return {
        title: re.split(higher, body, flags=re.MULTILINE)[0] for title, body in zip(found[1::2], found[2::2], strict=True)
    }


def rows(text: str) -> Iterator[list[str]]:
    """The rows of the tables, without their headings."""
    for line in text.splitlines():
        if line.startswith("| ") and line.endswith(" |"):
            yield [cell.strip() for cell in line[1:-1].split(" | ")]


def first_cells(text: str) -> list[str]:
    """What stands as code in the first cells."""
    return [code for row in rows(text) for code in _CODE.findall(row[0])]


# --- the SDK -----------------------------------------------------------------------------------------------------------

OWNERS: dict[str, tuple[Any, ...]] = {
    "Flow": (Flow,),
    "Checkpoint": (Checkpoint,),
    "Futures": (CheckpointFuture, FutureList),
    "FlowHandle": (FlowHandle,),
    "KitaruClient": (kitaru.KitaruClient,),
    "client.executions": (Executions,),
    "client.checkpoints": (Checkpoints,),
    "client.llm_usage": (LLMUsage,),
    "client.artifacts": (Artifacts,),
}


@pytest.mark.parametrize("module", ["kitaru", "kitaru.client", "kitaru.testing"])
def test_every_public_name_is_in_the_reference_and_no_other(module: str) -> None:
    named = [cell.partition("(")[0] for cell in first_cells(sections("sdk.md", 2)[module])]
    assert sorted(named) == sorted(importlib.import_module(module).__all__)


def members(owner: type) -> set[str]:
    """What a class and its bases define."""
    return {name for cls in owner.__mro__ if cls is not object for name in vars(cls)}


@pytest.mark.parametrize("title", OWNERS)
def test_every_method_is_in_the_reference_and_no_other(title: str) -> None:
    named = {cell.partition("(")[0] for cell in first_cells(sections("sdk.md", 2)[title])}
    for owner in OWNERS[title]:
        assert named <= members(owner)
    if title.startswith("client."):
        assert named == {name for name in members(OWNERS[title][0]) if not name.startswith("_")}


@pytest.mark.parametrize("title", ["kitaru", "kitaru.testing", *OWNERS])
def test_signatures_are_the_codes_own(title: str) -> None:
    for cell in first_cells(sections("sdk.md", 2)[title]):
        name, bracket, _ = cell.partition("(")
        for owner in OWNERS.get(title) or (importlib.import_module(title),):
            if bracket:
                assert shown_parameters(cell) == parameters(getattr(owner, name)), cell


def shown_parameters(cell: str) -> list[tuple[str, str, str | None]]:
    """Name, kind and default of the parameters of a signature as it is written."""
    arguments = ast.parse(f"def {cell}: ...").body[0].args  # type: ignore[attr-defined]
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + [ast.unparse(each) for each in arguments.defaults]
    kinds = ["POSITIONAL_ONLY"] * len(arguments.posonlyargs) + ["POSITIONAL_OR_KEYWORD"] * len(arguments.args)
    found = [(arg.arg, kind, default) for arg, kind, default in zip(positional, kinds, defaults, strict=True)]
    if arguments.vararg:
        found.append((arguments.vararg.arg, "VAR_POSITIONAL", None))
    for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append((arg.arg, "KEYWORD_ONLY", None if default is None else ast.unparse(default)))
    if arguments.kwarg:
        found.append((arguments.kwarg.arg, "VAR_KEYWORD", None))
    return found


def parameters(thing: Callable[..., object]) -> list[tuple[str, str, str | None]]:
    """The same of a signature as it is."""
    return [
        (each.name, each.kind.name, None if each.default is each.empty else written_default(each.default))
        for each in inspect.signature(thing).parameters.values()
        if each.name != "self"
    ]


def written_default(value: object) -> str:
    if isinstance(value, type):
        return value.__name__
    return "{}" if type(value).__name__ == "mappingproxy" else repr(value)


# --- the command line ----------------------------------------------------------------------------------------------------


def real_commands() -> dict[str, Any]:
    return dict(references.commands(typer.main.get_command(build())))


def shown_commands() -> dict[str, str]:
    """The text of each command's section by its words; what is in capitals is an argument."""
    found = {title: text for title, text in sections("cli.md", 2).items() if title.startswith("kitaru ")}
    return {" ".join(word for word in title.split()[1:] if word.islower()): text for title, text in found.items()}


@pytest.mark.parametrize("page", references.PAGES)
def test_a_page_that_the_code_writes_is_as_it_writes_it(page: str) -> None:
    assert text_of(page) == references.written(page), "make references writes it"


def test_every_command_is_in_the_reference_and_no_other() -> None:
    assert sorted(shown_commands()) == sorted(real_commands())


ELSEWHERE = re.compile(r"(model|secrets) \w+")
"""Commands that the pages of their own subjects show."""


def test_every_command_has_an_example_that_is_run() -> None:
    typed = "\n".join(
        command.line
        for page in pages.pages()
        for block in pages.blocks(page.read_text(encoding="utf-8"))
        if block.kind == "console" and block.is_run
        for command in pages.commands(block)
    )
    missing = {name for name in real_commands() if not re.search(rf"\bkitaru {name}\b", typed)}
    assert {name for name in missing if not ELSEWHERE.fullmatch(name)} == set()


@pytest.mark.parametrize("name", sorted(real_commands()))
def test_every_option_is_in_the_reference_and_no_other(name: str) -> None:
    real = {word for each in real_commands()[name].params for word in each.opts if word.startswith("-")}
    assert {word for word in first_cells(shown_commands()[name]) if word.startswith("-")} == real


@pytest.mark.parametrize("name", sorted(real_commands()))
def test_arguments_stand_in_the_headings(name: str) -> None:
    shown = [word for title in sections("cli.md", 2) if title.startswith(f"kitaru {name}") for word in title.split()]
    required = [each for each in real_commands()[name].params if not any(word.startswith("-") for word in each.opts)]
    assert sum(word.isupper() for word in shown) == len(required)
    assert sum(word.startswith("[") for word in shown) == sum(not each.required for each in required)


def test_exit_codes_are_those_of_the_errors() -> None:
    shown = {int(row[0]) for row in rows(sections("cli.md", 2)["Exit codes"]) if row[0].isdigit()}
    assert {code_of(cls("")) for cls in sources.error_classes().values()} <= shown
    assert shown == {0, 1, 2, 3, 4, 5, 6, 130}


# --- errors, events, limits, variables -------------------------------------------------------------------------------------


def test_the_tree_of_errors_is_the_modules_own() -> None:
    tree = re.search(r"```text\n(.*?)```", text_of("errors.md"), re.DOTALL)
    assert tree is not None
    assert tree[1].strip() in (errors.__doc__ or "")
    assert set(re.findall(r"Kitaru\w+", tree[1])) == set(sources.error_classes())


def test_every_error_code_is_in_the_reference_and_no_other() -> None:
    assert sorted(first_cells(sections("errors.md", 2)["Codes"])) == sorted(sources.error_codes())


def test_the_class_of_a_class_code_is_the_one_that_is_shown() -> None:
    shown = {row[0].strip("`"): row[1] for row in rows(sections("errors.md", 2)["Codes"])}
    assert {cls.code: name for name, cls in sources.error_classes().items()}.items() <= shown.items()


def test_every_event_is_in_the_reference_and_no_other() -> None:
    assert sorted(sections("events.md", 3)) == sorted(sources.event_classes())


@pytest.mark.parametrize("name", sources.event_classes())
def test_every_field_of_an_event_is_in_the_reference_with_its_type(name: str) -> None:
    shown = [(row[0].strip("`"), row[1]) for row in rows(sections("events.md", 3)[name]) if row[0].startswith("`")]
    cls = sources.event_classes()[name]
    assert shown == list(sources.event_fields(cls).items())
    assert tuple(field for field, kind in shown if kind.startswith("Payload")) == tuple(
        field for field in cls.model_fields if field in cls.payloads
    )


def test_limits_are_those_of_the_domain() -> None:
    shown = {row[0].strip("`"): int(row[1].replace(",", "")) for row in rows(text_of("limits.md")) if row[0].startswith("`")}
    assert shown == {name: value for name, value in vars(limits).items() if name.isupper()}


def test_every_variable_is_in_the_reference_and_no_other() -> None:
    assert sorted(first_cells(text_of("environment.md"))) == sorted(sources.environment_variables())
