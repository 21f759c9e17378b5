"""Flows that ask a model, run to their end, and what was recorded of them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import kitaru
from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.client.models import CheckpointCall, Execution
from kitaru.runtime.handle import FlowHandle


class Question(NamedTuple):
    """The arguments of a call."""

    prompt: Any
    options: dict[str, Any]


_questions: list[Question] = []


@flow
def ask(number: int) -> object:
    """In the body: a checkpoint of its own."""
    question = _questions[number]
    return kitaru.llm(question.prompt, **question.options)


@flow
async def ask_async(number: int) -> object:
    question = _questions[number]
    return await kitaru.llm_async(question.prompt, **question.options)


@checkpoint
def inside(number: int) -> object:
    """In a checkpoint: where it stands."""
    question = _questions[number]
    return kitaru.llm(question.prompt, **question.options)


@checkpoint
async def inside_async(number: int) -> object:
    question = _questions[number]
    return await kitaru.llm_async(question.prompt, **question.options)


@flow
def ask_inside(number: int) -> object:
    return inside(number)


@flow
async def ask_inside_async(number: int) -> object:
    return await inside_async(number)


FLOWS = {"body": ask, "async body": ask_async, "checkpoint": ask_inside, "async checkpoint": ask_inside_async}


def start(prompt: Any = "2 + 2?", where: str = "body", **options: Any) -> FlowHandle[object]:
    """Ask in a flow."""
    _questions.append(Question(prompt, options))
    return FLOWS[where].run(len(_questions) - 1)


def execution_of(handle: FlowHandle[Any]) -> Execution:
    """It, ended."""
    with suppress(kitaru.KitaruExecutionError):
        handle.wait(60)
    with KitaruClient() as client:
        return client.executions.get(handle.exec_id)


def calls_of(handle: FlowHandle[Any]) -> list[CheckpointCall]:
    """Its calls, once it has ended."""
    found = execution_of(handle).checkpoints
    assert found is not None
    return found


def records_of(handle: FlowHandle[Any]) -> list[dict[str, Any]]:
    """Its usage records in their order, as JSON has them."""
    execution_of(handle)
    return [record.model_dump(mode="json") for call in calls_of(handle) for record in call.llm_usage_records]
