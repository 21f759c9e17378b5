"""One try of an LLM call: ask, record what it used, and give the answer or say why there is none.

`Call` is a call with its name; it is tried until it has an answer or another try is not worth it. Who decides to try again
stands outside: the attempts of a checkpoint, or the loop in `inline`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import NamedTuple

from kitaru.domain.errors import KitaruError, KitaruRuntimeError
from kitaru.runtime import facts
from kitaru.runtime.leaving import RunnerLeaves
from kitaru.runtime.llm import choice, failing, loop, prices, protocol, recording
from kitaru.runtime.llm.outputs import OutputType
from kitaru.runtime.llm.protocol import Answer, CallFailedError, Message, Metered, Request
from kitaru.runtime.llm.redaction import Redactor, ambient
from kitaru.runtime.scope import CallScope, current
from kitaru.runtime.usage import check_budget

_FIRST_PAUSE, _LONGEST_BACKOFF = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A call's arguments, checked. `prompt` is what is kept as the artifact."""

    messages: tuple[Message, ...]
    prompt: object
    model: str | None
    temperature: float | None
    max_tokens: int | None
    output: OutputType | None
    timeout: float
    retries: int

    def recorded(self) -> dict[str, object]:
        """What makes it the same call: the inputs that are recorded by their digest."""
        return {
            "messages": [list(message) for message in self.messages],
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "output": None if self.output is None else self.output.schema,
        }


class _Result(NamedTuple):
    """What an exchange came to, and how long it took. `refused`: no request was made."""

    value: object = None
    refused: KitaruError | None = None
    answer: Answer | None = None
    failed: CallFailedError | None = None
    latency_ms: float = 0


class Call:
    """A call by name. Its tries are made one after the other.

    `is_checkpoint`: it is a checkpoint of its own. What a try used, the answer and the outcome are recorded together then,
    so that no kill comes between them: an answer that is recorded is never asked for again.
    """

    def __init__(self, asked: Asked, name: str | None, *, is_checkpoint: bool) -> None:
        self.asked = asked
        self._is_checkpoint = is_checkpoint
        self.name = name
        """What it is called; None until its checkpoint has an id."""
        self.failed: CallFailedError | None = None
        """Why the last try gave no answer."""
        self._has_saved_prompt = False
        self._chosen: choice.Chosen | None = None
        self._redactor = Redactor(())

    def pause_after(self, failed: int) -> float | None:
        """Seconds to let pass before the next try when `failed` tries have failed before; None: it is not worth another."""
        last = self.failed
        if last is None or not last.is_retryable or failed >= self.asked.retries:
            return None
        backoff = min(_FIRST_PAUSE * 2.0 ** min(failed, 10), _LONGEST_BACKOFF)
        return backoff if last.retry_after is None else min(last.retry_after, failing.LONGEST_PAUSE)

    def try_once(self) -> object:
        """Ask, and give the answer. Raises KitaruRuntimeError; `failed` says why."""
        started = self._begin()
        future = loop.submit(self._exchange())
        with self._stopping(future):
            try:
                result = future.result()
            except CancelledError:
                self._interrupted(started)
                scope = current.get()
                if isinstance(scope, CallScope):
                    scope.session.check_leaving()
                raise
            except BaseException:
                future.cancel()
                raise
        return self._settle(result)

    async def try_once_async(self) -> object:
        """The same, while the loop goes on."""
        started = self._begin()
        future = loop.submit(self._exchange())
        try:
            result = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.cancel()
            self._interrupted(started)
            raise
        return self._settle(result)

    def _begin(self) -> float:
        """What goes before the request: the budget, the model and its credential, the prompt's artifact."""
        self.failed = None
        prices.check()
        check_budget()
        if choice.mock_response() is None:
            self._chosen = choice.choose(self.asked.model, needs_key=protocol.installed() is None)
            self._redactor = Redactor((*self._chosen.credentials, *ambient()))
        if not self._has_saved_prompt:
            facts.save(f"{self.name}_prompt", self.asked.prompt, type="prompt")
            self._has_saved_prompt = True
        return time.perf_counter()

    @contextmanager
    def _stopping(self, future: Future[_Result]) -> Generator[None]:
        """Give the request up with its execution."""
        scope = current.get()
        session = scope.session if isinstance(scope, CallScope) else None

        def stop() -> None:
            if session is not None and session.is_over:
                future.cancel()

        with nullcontext() if session is None else session.calling_on_leave(stop):
            yield

    async def _exchange(self) -> _Result:
        """One request and its answer as a value. Never raises but for its cancellation."""
        asked, chosen = self.asked, self._chosen
        mocked = choice.mock_response()
        began = time.perf_counter()
        answer: Answer | None = None
        value: object = None
        failed: CallFailedError | None = None
        refused: KitaruError | None = None
        try:
            if chosen is None:
                answer = Answer(mocked or "")
            else:
                provider = protocol.installed() or _direct(chosen.provider)
                began = time.perf_counter()
                try:
                    async with asyncio.timeout(asked.timeout):
                        answer = await provider.answer(self._request(chosen))
                except TimeoutError:
                    raise failing.timed_out(asked.timeout) from None
            value = text = self._redactor.answer(answer.text)  # one that came back in an answer has leaked
            if asked.output is not None:
                value = asked.output.value_of(text, answer.metered, is_mock=chosen is None)
        except CallFailedError as error:
            failed = error.with_traceback(None)
        except KitaruError as error:
            refused = error.with_traceback(None)
        except Exception as error:
            failed = CallFailedError(f"the provider raised {type(error).__name__}: {error}", code="llm-failed")
        return _Result(value, refused, answer, failed, (time.perf_counter() - began) * 1000)

    def _request(self, chosen: choice.Chosen) -> Request:
        asked = self.asked
        return Request(
            provider=chosen.provider,
            model=chosen.model,
            messages=asked.messages,
            base_url=chosen.base_url,
            api_key=chosen.api_key,
            temperature=asked.temperature,
            max_tokens=asked.max_tokens,
            schema=None if asked.output is None else asked.output.schema,
            timeout=asked.timeout,
        )

    def _settle(self, result: _Result) -> object:
        """Record what the try used and the answer, and give it. Raises KitaruRuntimeError."""
        if result.refused is not None:
            raise result.refused
        failed = self.failed = result.failed
        metered = failed.metered if failed is not None else result.answer.metered if result.answer is not None else Metered()
        warnings = (*metered.warnings, *(() if result.answer is None else result.answer.warnings))
        self._record("completed" if failed is None else "failed", metered, result.latency_ms, warnings)
        if failed is None:
            plain = result.value if self.asked.output is None else self.asked.output.plain(result.value)
            facts.save(f"{self.name}_response", plain, type="response")
            return result.value
        whom = "" if self._chosen is None else f" of {self._chosen.resolved}"
        raise KitaruRuntimeError(
            self._redactor.text(f"the LLM call {self.name!r}{whom} failed: {failed.message}"), code=failed.code
        )

    def _interrupted(self, started: float) -> None:
        with suppress(KitaruError, RunnerLeaves):
            self._record("interrupted", Metered(), (time.perf_counter() - started) * 1000, ())

    def _record(self, status: recording.Status, metered: Metered, latency_ms: float, warnings: tuple[str, ...]) -> None:
        scope = current.get()
        if self._is_checkpoint and isinstance(scope, CallScope):
            scope.held = []
        recording.record(self.name, self.asked.model, self._chosen, metered, latency_ms, status, warnings, self._redactor)


def _direct(provider: str) -> protocol.Provider:
    from kitaru.runtime.llm.direct import Direct

    return Direct(provider)
