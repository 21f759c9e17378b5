"""Kitaru: durable execution for agent flows.

The public names, loaded where first used: `import kitaru` costs no library's import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru.client import KitaruClient as KitaruClient
    from kitaru.domain.errors import FailureOrigin as FailureOrigin
    from kitaru.domain.errors import KitaruBackendError as KitaruBackendError
    from kitaru.domain.errors import KitaruBudgetExceededError as KitaruBudgetExceededError
    from kitaru.domain.errors import KitaruConnectionError as KitaruConnectionError
    from kitaru.domain.errors import KitaruContextError as KitaruContextError
    from kitaru.domain.errors import KitaruDivergenceError as KitaruDivergenceError
    from kitaru.domain.errors import KitaruError as KitaruError
    from kitaru.domain.errors import KitaruExecutionError as KitaruExecutionError
    from kitaru.domain.errors import KitaruFeatureNotAvailableError as KitaruFeatureNotAvailableError
    from kitaru.domain.errors import KitaruFencedError as KitaruFencedError
    from kitaru.domain.errors import KitaruLogRetrievalError as KitaruLogRetrievalError
    from kitaru.domain.errors import KitaruNotFoundError as KitaruNotFoundError
    from kitaru.domain.errors import KitaruRuntimeError as KitaruRuntimeError
    from kitaru.domain.errors import KitaruStateError as KitaruStateError
    from kitaru.domain.errors import KitaruUsageError as KitaruUsageError
    from kitaru.domain.errors import KitaruUserCodeError as KitaruUserCodeError
    from kitaru.domain.errors import KitaruWaitExpiredError as KitaruWaitExpiredError
    from kitaru.domain.errors import KitaruWaitValidationError as KitaruWaitValidationError
    from kitaru.runtime.checkpoint import checkpoint as checkpoint
    from kitaru.runtime.facts import current_execution_id as current_execution_id
    from kitaru.runtime.facts import idempotency_key as idempotency_key
    from kitaru.runtime.facts import is_replay as is_replay
    from kitaru.runtime.facts import load as load
    from kitaru.runtime.facts import log as log
    from kitaru.runtime.facts import progress as progress
    from kitaru.runtime.facts import save as save
    from kitaru.runtime.facts import tag as tag
    from kitaru.runtime.flow import FlowHandle as FlowHandle
    from kitaru.runtime.flow import flow as flow
    from kitaru.runtime.llm.call import llm as llm
    from kitaru.runtime.llm.call import llm_async as llm_async
    from kitaru.runtime.options import ImageSettings as ImageSettings
    from kitaru.runtime.usage import check_budget as check_budget
    from kitaru.runtime.usage import record_usage as record_usage
    from kitaru.runtime.waits import sleep as sleep
    from kitaru.runtime.waits import sleep_async as sleep_async
    from kitaru.runtime.waits import wait as wait
    from kitaru.runtime.waits import wait_async as wait_async
    from kitaru.secrets import create_secret as create_secret
    from kitaru.secrets import delete_secret as delete_secret
    from kitaru.secrets import get_secret as get_secret
    from kitaru.settings import configure as configure
    from kitaru.settings import connect as connect
    from kitaru.stacks import current_stack as current_stack
    from kitaru.stacks import list_stacks as list_stacks
    from kitaru.stacks import use_stack as use_stack

__version__ = "0.1.0"

_HOMES = {
    "kitaru.client": ("KitaruClient",),
    "kitaru.domain.errors": (
        "FailureOrigin",
        "KitaruBackendError",
        "KitaruBudgetExceededError",
        "KitaruConnectionError",
        "KitaruContextError",
        "KitaruDivergenceError",
        "KitaruError",
        "KitaruExecutionError",
        "KitaruFeatureNotAvailableError",
        "KitaruFencedError",
        "KitaruLogRetrievalError",
        "KitaruNotFoundError",
        "KitaruRuntimeError",
        "KitaruStateError",
        "KitaruUsageError",
        "KitaruUserCodeError",
        "KitaruWaitExpiredError",
        "KitaruWaitValidationError",
    ),
    "kitaru.runtime.checkpoint": ("checkpoint",),
    "kitaru.runtime.facts": (
        "current_execution_id",
        "idempotency_key",
        "is_replay",
        "load",
        "log",
        "progress",
        "save",
        "tag",
    ),
    "kitaru.runtime.flow": ("FlowHandle", "flow"),
    "kitaru.runtime.llm.call": ("llm", "llm_async"),
    "kitaru.runtime.options": ("ImageSettings",),
    "kitaru.runtime.usage": ("check_budget", "record_usage"),
    "kitaru.runtime.waits": ("sleep", "sleep_async", "wait", "wait_async"),
    "kitaru.secrets": ("create_secret", "delete_secret", "get_secret"),
    "kitaru.settings": ("configure", "connect"),
    "kitaru.stacks": ("current_stack", "list_stacks", "use_stack"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "FailureOrigin",
    "FlowHandle",
    "ImageSettings",
    "KitaruBackendError",
    "KitaruBudgetExceededError",
    "KitaruClient",
    "KitaruConnectionError",
    "KitaruContextError",
    "KitaruDivergenceError",
    "KitaruError",
    "KitaruExecutionError",
    "KitaruFeatureNotAvailableError",
    "KitaruFencedError",
    "KitaruLogRetrievalError",
    "KitaruNotFoundError",
    "KitaruRuntimeError",
    "KitaruStateError",
    "KitaruUsageError",
    "KitaruUserCodeError",
    "KitaruWaitExpiredError",
    "KitaruWaitValidationError",
    "__version__",
    "check_budget",
    "checkpoint",
    "configure",
    "connect",
    "create_secret",
    "current_execution_id",
    "current_stack",
    "delete_secret",
    "flow",
    "get_secret",
    "idempotency_key",
    "is_replay",
    "list_stacks",
    "llm",
    "llm_async",
    "load",
    "log",
    "progress",
    "record_usage",
    "save",
    "sleep",
    "sleep_async",
    "tag",
    "use_stack",
    "wait",
    "wait_async",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'kitaru' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
