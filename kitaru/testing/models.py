"""A model that answers what the test says, in the place of the providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from kitaru.runtime.llm.protocol import Answer, CallFailedError, Provider, Request


class FakeModel:
    """Answers every `kitaru.llm` of this process within a `with`: each answer once, in order, the last one for ever.

    An answer is a text, an Answer that says what it used, or a CallFailedError. `requests` is what was asked.
    """

    def __init__(self, *answers: str | Answer | CallFailedError) -> None:
        self.requests: list[Request] = []
        self._answers = list(answers) or [""]
        self._before: Provider | None = None

    async def answer(self, request: Request) -> Answer:
        """The next answer."""
        from kitaru.runtime.llm.protocol import Answer, CallFailedError

        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, CallFailedError):
            raise answer
        return Answer(answer) if isinstance(answer, str) else answer

    def __enter__(self) -> FakeModel:
        from kitaru.runtime.llm.protocol import use_provider

        self._before = use_provider(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        from kitaru.runtime.llm.protocol import use_provider

        use_provider(self._before)
