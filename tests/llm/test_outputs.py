"""Structured output: any type that pydantic describes, asked for as a tool, checked, and recorded as itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import kitaru
from kitaru import flow
from kitaru.domain.errors import KitaruRuntimeError, KitaruUsageError
from kitaru.testing import FakeClock
from tests.llm.asking import start
from tests.llm.servers import Server, answers, completes, replies


class City(BaseModel):
    """A place."""

    name: str
    people: int


@dataclass
class Pair:
    """Two numbers."""

    left: int
    right: int


TYPES: dict[str, tuple[Any, str, Any]] = {
    "model": (City, '{"name": "Tokyo", "people": 9}', City(name="Tokyo", people=9)),
    "dataclass": (Pair, '{"left": 1, "right": 2}', Pair(1, 2)),
    "list": (list[int], '{"value": [1, 2]}', [1, 2]),
    "list of models": (list[City], '{"value": [{"name": "a", "people": 1}]}', [City(name="a", people=1)]),
    "int": (int, '{"value": 7}', 7),
    "text": (str, '{"value": "x"}', "x"),
    "choice": (Literal["yes", "no"], '{"value": "yes"}', "yes"),
    "dict": (dict[str, int], '{"a": 1}', {"a": 1}),
    "optional": (City | None, '{"value": null}', None),
}


@pytest.mark.parametrize("what", TYPES)
def test_an_answer_comes_back_as_the_type(server: Server, what: str) -> None:
    kind, text, value = TYPES[what]
    server.answers = answers(text)
    handle = start(model=server.model, output_type=kind)
    found = handle.wait(60)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("what", TYPES)
def test_the_recorded_answer_has_the_type_too(openai: Server, what: str) -> None:
    kind, text, value = TYPES[what]
    openai.answers = completes(text)
    found: list[Any] = []

    @flow(retries=1)
    def again() -> None:
        found.append(kitaru.llm("?", model="openai/gpt-4o-mini", output_type=kind))
        if len(found) == 1:
            raise ConnectionError("not yet")

    again.run().wait(60)
    assert found == [value, value]
    assert type(found[1]) is type(value)
    assert len(openai.asked) == 1


def test_the_schema_is_asked_for_as_a_tool_that_has_to_be_called(openai: Server, anthropic: Server) -> None:
    openai.answers, anthropic.answers = completes(TYPES["model"][1]), replies(TYPES["model"][1])
    for model in ("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"):
        start(model=model, output_type=City).wait(60)
    (tool,) = openai.asked[0].body["tools"]
    assert set(tool["function"]["parameters"]["properties"]) == {"name", "people"}
    assert openai.asked[0].body["tool_choice"] == "required"
    (tool,) = anthropic.asked[0].body["tools"]
    assert set(tool["input_schema"]["properties"]) == {"name", "people"}
    assert anthropic.asked[0].body["tool_choice"] == {"type": "any"}


def test_the_response_artifact_is_plain(openai: Server) -> None:
    openai.answers = completes(TYPES["model"][1])
    handle = start(model="openai/gpt-4o-mini", output_type=City)
    handle.wait(60)
    assert kitaru.load(handle.exec_id, "llm_1_response") == {"name": "Tokyo", "people": 9}


WRONG = ['{"name": "Tokyo"}', '{"name": 3, "people": "many"}', "[]", "null"]


@pytest.mark.parametrize("text", WRONG)
def test_an_answer_that_does_not_fit_is_asked_for_again(openai: Server, text: str, clock: FakeClock) -> None:
    openai.script = [completes(text)]
    openai.answers = completes(TYPES["model"][1])
    assert start(model="openai/gpt-4o-mini", output_type=City).wait(60) == City(name="Tokyo", people=9)
    assert len(openai.asked) == 2


@pytest.mark.parametrize("step", [completes("{nonsense"), completes("just words", calls_tool=False), *map(completes, WRONG)])
def test_when_none_fits_the_error_is_typed(openai: Server, step: Any, clock: FakeClock) -> None:
    openai.answers = step

    @flow
    def careful() -> str:
        try:
            kitaru.llm("?", model="openai/gpt-4o-mini", output_type=City, retries=1)
        except KitaruRuntimeError as error:
            return error.code
        return "no error"

    assert careful.run().wait(60) in ("llm-output", "llm-no-answer", "llm-malformed")
    assert len(openai.asked) == 2


def test_the_error_says_where_it_does_not_fit(openai: Server, clock: FakeClock) -> None:
    openai.answers = completes('{"name": "Tokyo", "people": "many"}')

    @flow
    def careful() -> str:
        try:
            kitaru.llm("?", model="openai/gpt-4o-mini", output_type=City)
        except KitaruRuntimeError as error:
            return error.message
        return "no error"

    assert "people: Input should be a valid integer" in str(careful.run().wait(60))


@pytest.mark.parametrize("kind", [object(), "no such type", 3, lambda: None, type("Opaque", (), {})])
def test_a_type_without_a_schema_is_refused(openai: Server, kind: Any) -> None:
    @flow
    def refused() -> bool:
        with pytest.raises(KitaruUsageError, match="output_type"):
            kitaru.llm("?", model="openai/gpt-4o-mini", output_type=kind)
        return True

    assert refused.run().wait(60) is True
    assert openai.asked == []
