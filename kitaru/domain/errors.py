"""Every error that Kitaru raises, in one tree.

KitaruError
├── KitaruUsageError (ValueError): what was typed or passed is wrong
│   └── KitaruWaitValidationError: an answer does not fit its wait
├── KitaruContextError (RuntimeError): called from a place where it cannot work
├── KitaruStateError (RuntimeError): the execution's state does not allow it
│   └── KitaruFencedError: another runner has taken the execution over
├── KitaruNotFoundError (LookupError): no such execution, artifact, wait
├── KitaruRuntimeError (RuntimeError): the runtime could not do it
├── KitaruWaitExpiredError (TimeoutError): a wait closed without an answer
├── KitaruBudgetExceededError: a cost or token budget is used up
├── KitaruExecutionError: an execution ended without a value
│   ├── KitaruUserCodeError: the flow or a checkpoint raised
│   └── KitaruDivergenceError: the code no longer makes the recorded calls
├── KitaruBackendError: the store failed
│   ├── KitaruLogRetrievalError
│   └── KitaruConnectionError
└── KitaruFeatureNotAvailableError (NotImplementedError)

This module imports nothing but the standard library's enum: raising must stay possible when all else failed.
"""

from __future__ import annotations

from enum import StrEnum


class FailureOrigin(StrEnum):
    """Where a failure happened; recorded at that place, never guessed from text."""

    USER_CODE = "user_code"
    RUNTIME = "runtime"
    BACKEND = "backend"
    DIVERGENCE = "divergence"
    UNKNOWN = "unknown"


_MOST_SHOWN = 4_000


class KitaruError(Exception):
    """The root. `code` is a stable kebab-case name; the message says what happened and what to do next."""

    code: str = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    @property
    def message(self) -> str:
        """The text given, without notes."""
        return str(self.args[0]) if self.args else ""


class KitaruUsageError(KitaruError, ValueError):
    """What was typed or passed is wrong; nothing was changed."""

    code = "usage"


class KitaruWaitValidationError(KitaruUsageError):
    """An answer does not fit the wait's schema; the execution stays waiting."""

    code = "wait-validation"


class KitaruContextError(KitaruError, RuntimeError):
    """The call was made from a place where it cannot work."""

    code = "context"


class KitaruStateError(KitaruError, RuntimeError):
    """The execution's state does not allow the operation; nothing was changed."""

    code = "state"


class KitaruFencedError(KitaruStateError):
    """Another runner has taken the execution over; this one's appends are refused."""

    code = "fenced"


class KitaruNotFoundError(KitaruError, LookupError):
    """There is no such thing in the named store."""

    code = "not-found"


class KitaruRuntimeError(KitaruError, RuntimeError):
    """The runtime could not do what was asked."""

    code = "runtime"


class KitaruWaitExpiredError(KitaruError, TimeoutError):
    """A wait closed without an answer and had no default."""

    code = "wait-expired"


class KitaruBudgetExceededError(KitaruError):
    """The execution has spent its budget of cost or tokens; the next LLM call was not made.

    `budget` is max_cost_usd or max_tokens; `spent` and `limit` are US dollars, or tokens.
    """

    code = "budget-exceeded"

    def __init__(
        self,
        message: str,
        *,
        exec_id: str | None = None,
        budget: str | None = None,
        spent: float | None = None,
        limit: float | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.exec_id = exec_id
        self.budget = budget
        self.spent = spent
        self.limit = limit


class KitaruExecutionError(KitaruError):
    """An execution ended without a value: cancelled, failed in the runtime, or unknown."""

    code = "execution"

    def __init__(
        self,
        message: str,
        *,
        exec_id: str | None = None,
        status: str | None = None,
        failure_origin: FailureOrigin | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.exec_id = exec_id
        self.status = status
        self.failure_origin = failure_origin


class KitaruUserCodeError(KitaruExecutionError):
    """The flow's body or a checkpoint's body raised."""

    code = "user-code"


class KitaruDivergenceError(KitaruExecutionError):
    """The flow's code no longer makes the calls that its history records."""

    code = "divergence"


class KitaruBackendError(KitaruError):
    """The store failed: unreachable, full, damaged, or written by a newer version."""

    code = "backend"


class KitaruLogRetrievalError(KitaruBackendError):
    """Runtime logs could not be read."""

    code = "log-retrieval"


class KitaruConnectionError(KitaruBackendError):
    """A server could not be reached."""

    code = "connection"


class KitaruFeatureNotAvailableError(KitaruError, NotImplementedError):
    """The feature is documented and not built yet."""

    code = "feature-not-available"


def shortened(message: str) -> str:
    """A message as people read it: of one that quotes a megabyte the beginning and the end."""
    if len(message) <= _MOST_SHOWN:
        return message
    left, right = message[: _MOST_SHOWN * 3 // 4], message[-_MOST_SHOWN // 4 :]
    return f"{left}… ({len(message) - len(left) - len(right)} characters left out) …{right}"


def shown_type(recorded: str) -> str:
    """An exception's recorded type as people know it: where a class of this package is defined is nobody's business."""
    name = recorded.rpartition(".")[2]
    if recorded.startswith("kitaru."):
        return f"kitaru.{name}" if name in globals() else name
    return recorded.removeprefix("builtins.")
