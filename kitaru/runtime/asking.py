"""The type that a wait asks for: its JSON schema, which is recorded, and what an answer becomes in the flow."""

from __future__ import annotations

from typing import cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from kitaru.domain.errors import KitaruUsageError, KitaruWaitValidationError

_MAX_SHOWN = 5


class AnswerType:
    """A `schema` as given to `wait`. Raises KitaruUsageError for what no JSON schema describes."""

    def __init__(self, schema: object) -> None:
        try:
            self._adapter: TypeAdapter[object] = TypeAdapter(cast("type[object]", schema))
            self.json_schema: dict[str, object] = self._adapter.json_schema()
        except Exception as error:  # pydantic raises several, and the type's own hooks whatever they like
            raise KitaruUsageError(f"schema={schema!r} is no type that can be asked for: {error}") from error

    def convert(self, value: object) -> object:
        """An answer as this type. Raises KitaruWaitValidationError: the type may ask more than its JSON schema says."""
        try:
            return self._adapter.validate_json(to_json(value, inf_nan_mode="constants"))
        except (ValidationError, PydanticSerializationError) as as_json:
            try:
                return self._adapter.validate_python(value)  # a default may be what JSON has no word for
            except ValidationError:
                raise KitaruWaitValidationError(_shown(as_json)) from as_json

    def check_default(self, default: object) -> None:
        """Raise KitaruUsageError when the default is no answer of this type."""
        try:
            self.convert(default)
        except KitaruWaitValidationError as refused:
            raise KitaruUsageError(f"default={default!r} does not fit the schema: {refused.message}") from refused.__cause__


def _shown(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'the answer'}: {each['msg']}"
        for each in error.errors(include_url=False, include_input=False, include_context=False)[:_MAX_SHOWN]
    )
