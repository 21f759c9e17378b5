"""The example's plain functions, on documents made here."""

from pathlib import Path

import pytest
import reading

QUESTION = "Which files are locked?"
SOURCE = '''"""Lock files.

A lock keeps a file from two writers. It is released when the process dies.
"""


def lock(path):
    """Lock the file at `path`."""


async def unlock(path): ...
'''


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "locks.py"
    path.write_text(SOURCE, encoding="utf-8")
    return str(path)


def test_definitions_and_their_docstrings_are_counted(source: str) -> None:
    digest = reading.read_document(source, QUESTION)
    assert (digest.definitions, digest.documented) == (2, 1)


def test_hits_are_counted_by_stem(source: str) -> None:
    assert reading.read_document(source, QUESTION).hits == {"fil": 3, "lock": 3}


def test_the_passage_has_the_words_of_the_question(source: str) -> None:
    assert reading.read_document(source, QUESTION).passage.startswith("A lock keeps a file from two writers.")


def test_bytes_that_are_not_what_the_file_declares_are_read_as_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes(b"caf\xe9 " * 20)
    assert reading.read_document(str(path), QUESTION).encoding == "latin-1"


def test_source_that_does_not_parse_is_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("def (: files files", encoding="utf-8")
    assert reading.read_document(str(path), QUESTION).hits == {"fil": 2}


def test_a_document_that_is_gone_raises_what_the_checkpoint_retries(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        reading.read_document(str(tmp_path / "gone.py"), QUESTION)


def test_the_document_that_answers_the_question_ranks_first(source: str, tmp_path: Path) -> None:
    other = tmp_path / "colours.py"
    other.write_text('"""Red, green and blue, and a file."""', encoding="utf-8")
    digests = [reading.read_document(path, QUESTION) for path in (str(other), source)]
    assert [finding.digest.path for finding in reading.rank_digests(digests, QUESTION)] == [source, str(other)]


def test_the_documents_are_the_same_on_every_call() -> None:
    assert reading.find_documents(50) == reading.find_documents(50)


def test_this_machine_has_documents_enough_for_the_demo() -> None:
    assert len(reading.find_documents(200)) == 200
