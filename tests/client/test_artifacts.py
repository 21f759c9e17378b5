"""`client.artifacts`: what executions recorded, and the values themselves."""

from __future__ import annotations

import pytest

from kitaru.client import KitaruClient
from kitaru.domain import events as e
from kitaru.domain.errors import KitaruUsageError
from kitaru.domain.payload import Payload
from kitaru.store.log import EventLog
from kitaru.store.values import encode
from tests.client.recording import append, completed, opened, started, value


@pytest.fixture
def execution(log: EventLog) -> str:
    """A step's result, a prompt that it saved, and a report of the flow's body."""
    prompt = e.ArtifactSaved(at=3, call=1, attempt=1, name="prompt_1", kind="prompt", value=value("why?"))
    report = e.ArtifactSaved(at=5, name="report", kind="output", tags=("final",), value=value({"n": 1}))
    return append(log, started(log), opened(1), prompt, completed(1, [1, 2]), report).exec_id


def test_results_and_saved_values_are_listed_oldest_first(client: KitaruClient, execution: str) -> None:
    found = client.artifacts.list(execution)
    assert [(a.name, a.kind, a.save_type, a.direction) for a in found] == [
        ("prompt_1", "prompt", "manual", "input"),
        ("step", "output", "step_output", "output"),
        ("report", "output", "manual", "output"),
    ]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"kind": "prompt"}, ["prompt_1"]), ({"name": "report"}, ["report"]),
        ({"producing_call": "step"}, ["prompt_1", "step"]),
        ({"limit": 1}, ["prompt_1"]), ({"limit": 0}, []), ({"kind": "blob"}, []),
    ],
)  # fmt: skip
def test_a_filter_leaves_what_matches(
    client: KitaruClient, execution: str, filters: dict[str, str], names: list[str]
) -> None:
    assert [a.name for a in client.artifacts.list(execution, **filters)] == names  # type: ignore[arg-type]


def test_the_producing_call_may_be_named_by_its_id(client: KitaruClient, execution: str) -> None:
    assert len(client.artifacts.list(execution, producing_call=f"{execution}.c1")) == 2


def test_a_value_is_loaded(client: KitaruClient, execution: str) -> None:
    assert [a.load() for a in client.artifacts.list(execution)] == ["why?", [1, 2], {"n": 1}]


def test_a_call_has_its_own_artifacts(client: KitaruClient, execution: str) -> None:
    (call,) = client.executions.get(execution).list_checkpoints()
    assert [a.load() for a in call.artifacts] == ["why?", [1, 2]]


def test_a_value_comes_back_with_its_exact_type(client: KitaruClient, log: EventLog) -> None:
    exact = (1, {b"k": {2.5}})
    saved = e.ArtifactSaved(at=3, name="x", kind="output", value=Payload.of(encode(exact), "k1"))
    head = append(log, started(log), saved)
    assert client.artifacts.list(head.exec_id)[0].load() == exact


def test_a_large_value_is_loaded(client: KitaruClient, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1, "x" * 100_000))
    (found,) = client.artifacts.list(head.exec_id)
    assert (found.size, found.load()) == (100_002, "x" * 100_000)


def test_an_execution_in_a_list_finds_its_artifacts(client: KitaruClient, execution: str) -> None:
    assert len(client.executions.list()[0].list_artifacts()) == 3


def test_a_negative_limit_is_refused(client: KitaruClient, execution: str) -> None:
    with pytest.raises(KitaruUsageError):
        client.artifacts.list(execution, limit=-1)
