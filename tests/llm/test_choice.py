"""Which model, where, with what credential: the argument, the environment, the aliases and their secrets."""

from __future__ import annotations

import pytest

import kitaru
from kitaru.aliases import register_model
from kitaru.domain.errors import KitaruRuntimeError, KitaruUsageError
from kitaru.runtime.llm.choice import choose
from tests.llm.asking import execution_of, records_of, start
from tests.llm.conftest import KEY
from tests.llm.servers import Server


def test_the_argument_goes_before_the_environment_and_that_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    register_model("fast", "openai/by-default")
    assert choose(None).resolved == "openai/by-default"
    monkeypatch.setenv("KITARU_DEFAULT_MODEL", "openai/by-environment")
    assert choose(None).resolved == "openai/by-environment"
    assert choose("openai/by-argument").resolved == "openai/by-argument"
    assert (choose("fast").resolved, choose("fast").requested) == ("openai/by-default", "fast")


def test_the_environment_may_name_an_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    register_model("first", "openai/a")
    register_model("second", "openai/b")
    monkeypatch.setenv("KITARU_DEFAULT_MODEL", "second")
    assert choose(None).resolved == "openai/b"


@pytest.mark.parametrize(
    ("model", "variable"),
    [("openai/a", "OPENAI_API_KEY"), ("anthropic/a", "ANTHROPIC_API_KEY"), ("openrouter/a/b", "OPENROUTER_API_KEY")],
)
def test_a_missing_credential_says_what_to_set(model: str, variable: str) -> None:
    with pytest.raises(KitaruRuntimeError, match=f"set {variable}, or keep it with `kitaru secrets set") as missing:
        choose(model)
    assert missing.value.code == "llm-credentials"


@pytest.mark.parametrize("values", [{"OPENAI_API_KEY": KEY, "x": "y"}, {"api_key": KEY, "x": "y"}, {"whatever": KEY}])
def test_an_aliass_secret_opens_it(values: dict[str, str]) -> None:
    kitaru.create_secret("mine", values)
    register_model("fast", "openai/a", secret="mine")
    assert choose("fast").api_key == KEY


def test_the_environment_goes_before_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    kitaru.create_secret("mine", {"api_key": "sk-kept-away"})
    register_model("fast", "openai/a", secret="mine")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    chosen = choose("fast")
    assert chosen.api_key == KEY
    assert set(chosen.credentials) == {KEY, "sk-kept-away"}


def test_a_secret_that_is_gone_or_holds_no_key_says_so() -> None:
    register_model("fast", "openai/a", secret="mine")
    with pytest.raises(KitaruRuntimeError, match="kitaru secrets set mine"):
        choose("fast")
    kitaru.create_secret("mine", {"a": "b", "c": "d"})
    with pytest.raises(KitaruRuntimeError, match="neither OPENAI_API_KEY nor api_key"):
        choose("fast")


def test_a_place_of_ones_own_needs_no_key() -> None:
    register_model("mine", "openai/llama", base_url="http://127.0.0.1:8000/v1")
    chosen = choose("mine")
    assert (chosen.base_url, chosen.api_key) == ("http://127.0.0.1:8000/v1", None)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "http://127.0.0.1:11434/v1"),
        ("10.0.0.5", "http://10.0.0.5:11434/v1"),
        ("10.0.0.5:99", "http://10.0.0.5:99/v1"),
        ("https://ollama.example", "https://ollama.example/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(host: str | None, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host is not None:
        monkeypatch.setenv("OLLAMA_HOST", host)
    assert choose("ollama/qwen3").base_url == url


def test_an_unknown_alias_says_which_there_are() -> None:
    register_model("fast", "openai/a")
    with pytest.raises(KitaruUsageError, match=r"there are: fast\); name a model as provider/model"):
        choose("slow")


def test_no_model_at_all_says_how_to_name_one() -> None:
    with pytest.raises(KitaruRuntimeError, match="KITARU_DEFAULT_MODEL, or run `kitaru model register`"):
        choose(None)


def test_a_call_goes_where_its_alias_says_with_its_secret(openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    kitaru.create_secret("mine", {"api_key": "sk-of-the-secret"})
    register_model("local", "openai/llama-4", base_url=f"{openai.url}/elsewhere/v1", secret="mine")
    (record,) = records_of(start())
    assert openai.asked[0].path == "/elsewhere/v1/chat/completions"
    assert openai.asked[0].headers["authorization"] == "Bearer sk-of-the-secret"
    assert openai.asked[0].body["model"] == "llama-4"
    assert (record["requested_model"], record["resolved_model"]) == ("local", "openai/llama-4")


def test_an_execution_tells_what_its_aliases_meant(openai: Server) -> None:
    register_model("fast", "openai/gpt-4o-mini")
    register_model("unused", "openai/gpt-4o")
    execution = execution_of(start(model="fast"))
    assert execution.frozen_execution_spec.model_registry == {"fast": "openai/gpt-4o-mini"}


def test_ollama_is_asked_without_a_key(openai: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", openai.url)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert start(model="ollama/qwen3").wait(60) == "four"
    assert openai.asked[0].path == "/v1/chat/completions"
    assert KEY not in str(openai.asked[0].headers)


def test_messages_reach_the_provider_in_their_roles(server: Server) -> None:
    messages = [
        {"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]  # fmt: skip
    start(messages, model=server.model, system="first", temperature=0.25, max_tokens=9).wait(60)
    body = server.asked[0].body
    systems = [message["content"] for message in body["messages"] if message["role"] == "system"]
    assert body.get("system", "\n\n".join(systems)) == "first\n\ns"
    assert [message["role"] for message in body["messages"] if message["role"] != "system"] == ["user", "assistant", "user"]
    assert body["temperature"] == 0.25
    assert 9 in (body.get("max_tokens"), body.get("max_completion_tokens"))
