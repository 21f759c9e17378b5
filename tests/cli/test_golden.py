"""Every command off a terminal: its text and its JSON as they were looked at and kept, and its exit code."""

from __future__ import annotations

import re

import pytest
import typer.main

from kitaru.cli.app import build
from tests.cli.play import GOLDEN, PLAY, Played, Scene, golden, parsed, play, stage
from tests.docs.references import commands

pytestmark = pytest.mark.timeout(300)  # the first test plays all of it
SCENES = {scene.name: scene for scene in PLAY}
FORMS = ("text", "json")


@pytest.fixture(scope="module")
def played() -> dict[str, dict[str, Played]]:
    """What came of every scene, in each form."""
    found: dict[str, dict[str, Played]] = {}
    for form in FORMS:
        with stage() as folder:
            found[form] = {scene.name: result for scene, result in play(folder, form)}
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SCENES)
def test_a_command_prints_what_was_kept(played: dict[str, dict[str, Played]], form: str, name: str) -> None:
    expected = golden(SCENES[name], form).read_text()
    assert played[form][name].shown == expected, "python -m tests.cli.play --write keeps what it prints now"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SCENES)
def test_its_exit_code_is_the_documented_one(played: dict[str, dict[str, Played]], form: str, name: str) -> None:
    assert played[form][name].code == SCENES[name].code


@pytest.mark.parametrize("name", SCENES)
def test_json_is_an_envelope_or_an_error_and_nothing_else(played: dict[str, dict[str, Played]], name: str) -> None:
    shown = played["json"][name].shown
    documents = parsed(shown)
    for document in documents:
        assert isinstance(document, dict)
        if document.get("jsonrpc") == "2.0":
            assert document.keys() - {"jsonrpc", "id"} == {"result"}
            continue
        assert {"command"} < set(document)
        assert {"item", "items", "event"} & set(document), document
    if not documents:
        assert re.search(r'\{"command": "[a-z.-]+", "error": \{"type": "\w+", "code": "[a-z-]+", "message": ', shown)


def test_every_command_is_played() -> None:
    real = {name for name, _ in commands(typer.main.get_command(build()))}
    typed = {name for name in real for scene in PLAY if f"{scene.words} ".startswith(f"{name} ")}
    assert real - typed == set(), "a scene in tests/cli/play.py plays it"


def test_nothing_is_kept_that_is_not_played() -> None:
    kept = {path.name for path in GOLDEN.iterdir()}
    assert kept == {golden(scene, form).name for scene in PLAY for form in FORMS}


def test_scenes_have_names_of_their_own() -> None:
    assert len(SCENES) == len(PLAY)
    assert all(isinstance(scene, Scene) for scene in PLAY)
