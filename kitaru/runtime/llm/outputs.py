"""Structured output: a type as the JSON schema that a provider is asked for, and an answer's JSON as that type."""

from __future__ import annotations

import inspect
import json
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from kitaru.domain.errors import KitaruUsageError
from kitaru.runtime.llm.protocol import CallFailedError, Metered

_WRAPPED = "value"
"""Providers take objects only: the field of the object around what is none."""
_MAX_SAID = 5


class OutputType:
    """A type, its schema, and how an answer becomes a value of it."""

    def __init__(self, kind: object) -> None:
        self.kind = kind
        if inspect.isroutine(kind):
            raise KitaruUsageError(f"output_type is the function {kind.__name__!r}; give a type, and call it yourself")
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(cast("Any", kind))
            schema = self._adapter.json_schema()
        except Exception as error:
            raise KitaruUsageError(
                f"output_type {kind!r} cannot be described to a model ({type(error).__name__}); give a type that pydantic "
                "has a JSON schema for, such as a BaseModel, a dataclass, list[str] or int"
            ) from None
        self.is_wrapped = schema.get("type") != "object"
        self.schema: dict[str, object] = _wrapped(schema) if self.is_wrapped else schema

    def plain(self, value: object) -> object:
        """A value in JSON's own types."""
        return self._adapter.dump_python(value, mode="json")

    def value_of(self, text: str, metered: Metered, *, is_mock: bool = False) -> object:
        """The value that a JSON text is. Raises CallFailedError that says where it does not fit."""
        try:
            found: object = json.loads(text)
        except (ValueError, RecursionError):
            raise CallFailedError(
                "the answer is no JSON, although it was asked for",
                code="llm-output",
                is_retryable=not is_mock,
                metered=metered,
            ) from None
        if self.is_wrapped and isinstance(found, dict) and set(cast("dict[str, object]", found)) == {_WRAPPED}:
            found = cast("dict[str, object]", found)[_WRAPPED]
        try:
            return self._adapter.validate_json(json.dumps(found))
        except ValidationError as wrong:
            said = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}"
                for each in wrong.errors(include_url=False, include_input=False, include_context=False)[:_MAX_SAID]
            )
            raise CallFailedError(
                f"the answer does not fit output_type: {said}", code="llm-output", is_retryable=not is_mock, metered=metered
            ) from None


def _wrapped(schema: dict[str, Any]) -> dict[str, object]:
    definitions = schema.pop("$defs", None)
    around: dict[str, object] = {
        "type": "object",
        "properties": {_WRAPPED: schema},
        "required": [_WRAPPED],
        "additionalProperties": False,
    }
    return around if definitions is None else {**around, "$defs": definitions}
