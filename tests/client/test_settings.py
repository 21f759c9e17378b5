"""Which store is used, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kitaru.domain.errors import KitaruBackendError, KitaruFeatureNotAvailableError, KitaruUsageError
from kitaru.settings import configure, configured, resolve_durability, resolve_project, resolve_store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder two levels down, with everything that can name a store in place; tests take away what is nearer."""
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (folder / ".kitaru").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text('[tool.kitaru]\nstore = "runs"\n')
    monkeypatch.setenv("KITARU_STORE", "from-environment")
    configure(store="configured")
    return folder


def test_an_argument_comes_first(here: Path) -> None:
    assert resolve_store("given") == (str(here / "given"), "given as the store")


def test_then_configure(here: Path) -> None:
    assert resolve_store() == (str(here / "configured"), "set by kitaru.configure(store=...)")


def test_then_the_environment(here: Path) -> None:
    configure(store=None)
    assert resolve_store() == (str(here / "from-environment"), "set by KITARU_STORE")


def test_then_the_nearest_pyproject_relative_to_its_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(store=None)
    monkeypatch.delenv("KITARU_STORE")
    found = resolve_store()
    assert found.location == str(here.parent / "runs")
    assert "pyproject.toml" in found.why


def test_then_the_nearest_kitaru_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(store=None)
    monkeypatch.delenv("KITARU_STORE")
    (here.parent / "pyproject.toml").write_text("[tool.other]\nx = 'kitaru'\n")
    assert resolve_store().location == str(here / ".kitaru")


def test_then_the_users_data_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(store=None)
    monkeypatch.delenv("KITARU_STORE")
    (here.parent / "pyproject.toml").unlink()
    (here / ".kitaru").rmdir()
    found = resolve_store(start=here)
    assert found.location.endswith("kitaru")
    assert "user's data folder" in found.why


def test_a_configured_store_stays_where_it_was_when_the_folder_changes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here.parent)
    assert resolve_store().location == str(here / "configured")


def test_a_broken_pyproject_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(store=None)
    monkeypatch.delenv("KITARU_STORE")
    (here.parent / "pyproject.toml").write_text("[tool.kitaru\n")
    with pytest.raises(KitaruUsageError, match=r"pyproject\.toml"):
        resolve_store()


@pytest.mark.parametrize("text", ["", "  ", "a\0b"])
def test_what_is_no_folder_is_refused(text: str) -> None:
    with pytest.raises(KitaruUsageError):
        resolve_store(text)


def a_file(place: Path) -> None:
    place.write_text("words")


def a_link_to_nothing(place: Path) -> None:
    place.symlink_to("gone")


def a_link_to_itself(place: Path) -> None:
    place.symlink_to(place)


def a_link_to_a_file(place: Path) -> None:
    place.with_name("words").write_text("words")
    place.symlink_to("words")


@pytest.mark.parametrize("below", ["", "below", "far/below"])
@pytest.mark.parametrize("make", [a_file, a_link_to_nothing, a_link_to_itself, a_link_to_a_file])
@pytest.mark.parametrize("how", ["KITARU_STORE", "given", "configure", "pyproject"])
def test_what_stands_where_the_folder_would_be_is_named_with_who_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, make: Callable[[Path], None], below: str
) -> None:
    place = tmp_path / "place"
    make(place)
    store = str(place / below)
    if how == "KITARU_STORE":
        monkeypatch.setenv("KITARU_STORE", store)
    elif how == "configure":
        configure(store=store)
    elif how == "pyproject":
        (tmp_path / "pyproject.toml").write_text(f"[tool.kitaru]\nstore = '{store}'\n")
    why = {"given": "given as the store", "configure": "kitaru.configure", "pyproject": "pyproject.toml"}.get(how, how)
    what = "is a link to '" if place.is_symlink() else "is a file"
    with pytest.raises(KitaruBackendError) as refused:
        resolve_store(store if how == "given" else None, start=tmp_path)
    assert [part in refused.value.message for part in (f"{place} {what}", why, "name a folder")] == [True] * 3
    assert refused.value.code == "store-unreachable"


def test_a_link_to_a_folder_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert resolve_store(tmp_path / "link" / "new").location == str(tmp_path / "link" / "new")


@pytest.mark.parametrize("url", ["https://kitaru.example.org", "postgresql://localhost/db"])
def test_a_url_is_not_available_yet(url: str) -> None:
    with pytest.raises(KitaruFeatureNotAvailableError):
        resolve_store(url)


def test_a_server_in_the_environment_is_not_available_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_SERVER_URL", "https://kitaru.example.org")
    with pytest.raises(KitaruFeatureNotAvailableError):
        resolve_store()


def test_what_is_not_given_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(project="a", cache="v2")
    configure(retries=3)
    assert (configured.project, configured.cache, configured.retries) == ("a", "v2", 3)


def test_none_takes_a_default_back() -> None:
    configure(project="a")
    configure(project=None)
    assert resolve_project() == "default"


@pytest.mark.parametrize("bad", [{"retries": -1}, {"retries": True}, {"cache": 3}, {"durability": "none"}, {"store": ""}])
def test_a_bad_default_is_refused_and_changes_nothing(bad: dict[str, object]) -> None:
    before = configured.project, configured.retries, configured.cache, configured.store
    with pytest.raises(KitaruUsageError):
        configure(project="changed", **bad)  # type: ignore[arg-type]
    assert (configured.project, configured.retries, configured.cache, configured.store) == before


def test_an_unknown_durability_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_DURABILITY", "none")
    with pytest.raises(KitaruUsageError):
        resolve_durability()


def test_settings_import_neither_tomllib_nor_platformdirs_to_take_an_argument(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from kitaru.settings import resolve_store; resolve_store(sys.argv[1]); "
    code += "print({'tomllib', 'platformdirs', 'pydantic'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()"
