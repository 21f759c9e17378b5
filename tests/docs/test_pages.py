"""What the pages say is so: their blocks are run, their links lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import blocks, name_of, pages, run_page


@pytest.mark.parametrize("page", [page for page in pages() if any(b.is_run for b in blocks(page.read_text()))], ids=name_of)
def test_a_page_runs_and_prints_what_it_shows(page: Path, tmp_path: Path) -> None:
    for block, command, printed, wrong in run_page(page, tmp_path):
        what = block.text if command is None else f"$ {command.line}"
        assert wrong is None, f"{name_of(page)}:{block.line}: {wrong}\n{what}\n--- it printed\n{printed}"
