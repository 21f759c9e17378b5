"""What the pages say is so: their blocks are run, their links lead somewhere, the tests that they name are there."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, Result, blocks, name_of, pages, run_page

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)`")
_COUNTS = re.compile(r"[\d,]+(?: / [\d,]+)+")
_MACHINE = re.compile(r"(?<![\w.~])/(?:root|tmp|work|Users|home/(?!ada/))[\w/.-]*")
EVERY = [*pages(), *sorted((DOCS / "decisions").glob("*.md"))]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


RUN = [page for page in pages() if any(block.is_run for block in blocks(text_of(page)))]


@pytest.fixture(scope="session")
def result_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], list[Result]]]:
    """What came of a page. Alone, this process runs two at once, in the order of the tests: most of a page is waiting."""
    is_alone = "PYTEST_XDIST_WORKER" not in os.environ
    wanted = [item.callspec.params["page"] for item in request.session.items if item.name.startswith("test_a_page_runs[")]
    runs: dict[Path, Future[list[Result]]] = {}
    with ThreadPoolExecutor(2) as pool:

        def start(page: Path) -> Future[list[Result]]:
            if page not in runs:
                folder = tmp_path_factory.mktemp("page")  # here: its first folder is no work for two threads
                runs[page] = pool.submit(lambda: list(run_page(page, folder)))
            return runs[page]

        for page in wanted if is_alone else ():
            start(page)
        yield lambda page: start(page).result()


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_runs(page: Path, result_of: Callable[[Path], list[Result]]) -> None:
    for block, command, printed, wrong in result_of(page):
        what = block.text if command is None else f"$ {command.line}"
        assert wrong is None, f"{name_of(page)}:{block.line}: {wrong}\n{what}\n--- it printed\n{printed}"


@pytest.mark.parametrize("page", EVERY, ids=name_of)
def test_links_inside_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(text_of(page)):
        path, _, anchor = link.partition("#")
        if "://" not in link:
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{name_of(page)}: {link}"
            assert not anchor or anchor in slugs(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", EVERY, ids=name_of)
def test_no_page_names_a_machines_own_folders(page: Path) -> None:
    assert _MACHINE.findall(text_of(page)) == []


def test_every_page_is_reached_from_the_index() -> None:
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in _LINK.findall(text_of(DOCS / "index.md"))}
    assert {page for page in pages() if page.parent != DOCS and page != ROOT / "README.md"} <= linked


def test_the_readme_opens_with_the_demo_and_the_tests() -> None:
    first = blocks(text_of(ROOT / "README.md"))[0]
    assert [line.split("#")[0].strip() for line in first.text.splitlines()] == ["$ make demo", "$ make test"]


def test_make_knows_every_target_that_is_named() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {target for page in EVERY for target in re.findall(r"`(?:\w+=\w+ )?make ([a-z-]+)", text_of(page))} <= known


def test_every_test_that_a_guarantee_names_exists() -> None:
    named = _TEST.findall(text_of(DOCS / "guarantees.md"))
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_guarantee_has_a_test_and_the_counts_of_its_tiers() -> None:
    rows = [line.split(" | ") for line in text_of(DOCS / "guarantees.md").splitlines() if line.startswith("| R")]
    assert len(rows) > 20
    for row in rows:
        files = _TEST.findall(row[-1])
        assert files, row[0]
        for counts in _COUNTS.findall(row[2]):
            shown = tuple(int(count.replace(",", "")) for count in counts.split(" / "))
            assert any(shown == known for file in files for known in tiers_of(ROOT / file)), f"{row[0]}: {counts}"


def tiers_of(file: Path) -> list[tuple[int, ...]]:
    """The counts of P, N and R of a file's tests."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return [
        tuple(arg.value for arg in call.args[1:] if isinstance(arg, ast.Constant))
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "tiers"
    ]
