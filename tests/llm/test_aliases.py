"""Aliases of models: kept in the user's folder, one of them the default."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kitaru.aliases import Alias, default_model, get_model, list_models, register_model, remove_model
from kitaru.domain.errors import KitaruNotFoundError, KitaruUsageError


def test_the_first_alias_is_the_default_until_another_is_made_so() -> None:
    assert default_model() is None
    assert register_model("fast", "openai/gpt-5-mini") == Alias("fast", "openai/gpt-5-mini", is_default=True)
    assert not register_model("good", "anthropic/claude-opus-5", secret="anthropic").is_default
    assert register_model("good", "anthropic/claude-opus-5", secret="anthropic", default=True).is_default
    assert [(alias.alias, alias.is_default) for alias in list_models()] == [("fast", False), ("good", True)]


def test_a_removed_default_leaves_none() -> None:
    register_model("fast", "openai/gpt-5-mini")
    register_model("good", "anthropic/claude-opus-5")
    remove_model("fast")
    assert default_model() is None
    assert register_model("other", "ollama/qwen3").is_default


def test_an_unknown_alias_says_which_there_are() -> None:
    register_model("fast", "openai/gpt-5-mini")
    for ask in (get_model, remove_model):
        with pytest.raises(KitaruNotFoundError, match="there are: fast"):
            ask("slow")


@pytest.mark.parametrize("model", ["", "gpt-5", "openai/", "openai/ ", "/gpt-5", "nobody/gpt-5", "openai", 7, None])
def test_a_model_without_a_known_provider_is_refused(model: object, config: Path) -> None:
    with pytest.raises(KitaruUsageError):
        register_model("fast", model)  # type: ignore[arg-type]
    assert not config.exists()


def test_a_model_may_hold_further_slashes() -> None:
    assert register_model("r", "openrouter/meta-llama/llama-4").model == "openrouter/meta-llama/llama-4"


@pytest.mark.parametrize("alias", ["", "a/b", " ", "a\nb", 3])
def test_a_bad_alias_is_refused(alias: object) -> None:
    with pytest.raises(KitaruUsageError):
        register_model(alias, "openai/gpt-5")  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["", "x", "ftp://h/", "http://", "file:///etc/passwd", "http://h:99999/", "http://h:0/"])
def test_a_bad_base_url_is_refused(url: str) -> None:
    with pytest.raises(KitaruUsageError, match="base URL"):
        register_model("a", "openai/gpt-5", base_url=url)


@pytest.mark.parametrize("url", ["http://user:sk-canary@h/v1", "http://sk-canary@h/v1", "https://h/v1?key=sk-canary"])
def test_a_credential_in_a_url_is_refused_and_not_repeated(url: str, config: Path) -> None:
    with pytest.raises(KitaruUsageError, match="secrets set") as refused:
        register_model("a", "openai/gpt-5", base_url=url)
    assert "sk-canary" not in str(refused.value)
    assert not config.exists()


@pytest.mark.parametrize("content", ["", "[]", '{"models": 3}', '{"models": {"a": 3}}'])
def test_a_damaged_file_is_a_typed_error(config: Path, content: str) -> None:
    register_model("a", "openai/gpt-5")
    (config / "models.json").write_text(content)
    with pytest.raises(KitaruUsageError, match="kitaru model register"):
        list_models()


def test_writers_at_once_lose_nothing() -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: register_model(f"m{n}", "openai/gpt-5"), range(40)))
    assert len(list_models()) == 40
