"""Where the running code stands: in a flow's body, in a checkpoint's body, or outside.

Imports only the standard library's contextvars and threading: decorating a function must stay cheap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from kitaru.domain.errors import KitaruContextError, KitaruUsageError

if TYPE_CHECKING:
    from kitaru.domain.events import ArtifactSaved, LLMUsageRecorded, MetadataLogged
    from kitaru.runtime.budget import Budget
    from kitaru.runtime.printed import Printed
    from kitaru.runtime.session import Session


class FlowScope:
    """The flow's own thread, or one of its tasks. `path` is "" for the body and "2/1/" for the first task of its second.

    Ids are given here in the order of the calls; a task's ids carry its path, so that no interleaving moves them.
    """

    __slots__ = ("_is_past_record", "counters", "path", "printed", "session", "tasks", "thread")

    def __init__(self, session: Session, path: str = "", *, is_past_record: bool = False) -> None:
        self.session = session
        self.path = path
        self.thread = threading.get_ident()
        self.counters: dict[str, int] = {}
        self.tasks = 0
        self.printed: Printed | None = None
        self._is_past_record = is_past_record

    @property
    def is_past_record(self) -> bool:
        """Whether the code here may do what no run of the body before it has done: it got an outcome that is new."""
        return self._is_past_record or (not self.path and self.session.is_past_record)

    def pass_record(self) -> None:
        """An outcome is new."""
        self._is_past_record = True

    @property
    def exec_id(self) -> str:
        """The execution's id."""
        return self.session.exec_id

    def record(self, fact: Fact) -> None:
        """Record a fact of the flow's body."""
        self.session.report(lambda _, at: (fact(at),))

    def child(self) -> FlowScope:
        """The scope of the next task that this one starts."""
        self.tasks += 1
        return FlowScope(self.session, f"{self.path}{self.tasks}/", is_past_record=self.is_past_record)

    def take(self, name: str, *, numbered: bool = False) -> str:
        """The next free invocation id of a name: `name`, `name_2`, …; `numbered`: the first one is `name_1`."""
        taken = self.session.taken
        number = self.counters.get(name, 0)
        while True:
            number += 1
            candidate = self.path + (name if number == 1 and not numbered else f"{name}_{number}")
            if candidate not in taken:
                break
        self.counters[name] = number
        taken.add(candidate)
        return candidate

    def pin(self, invocation_id: str) -> str:
        """Take an id that the caller chose. Raises KitaruUsageError when it is taken or no id."""
        if not invocation_id or "/" in invocation_id:
            raise KitaruUsageError(f"id={invocation_id!r} cannot be an invocation id: it is empty or contains '/'")
        if invocation_id in self.session.taken:
            raise KitaruUsageError(f"the invocation id {invocation_id!r} is taken in this execution; choose another")
        self.session.taken.add(invocation_id)
        return invocation_id


class CallScope:
    """One attempt of a checkpoint call."""

    __slots__ = ("abandon", "attempt", "call", "held", "invocation_id", "llm_calls", "name", "printed", "session")

    def __init__(self, session: Session, call: int, attempt: int, name: str, invocation_id: str) -> None:
        self.session = session
        self.call = call
        self.attempt = attempt
        self.name = name
        self.invocation_id = invocation_id
        self.llm_calls: dict[str, int] | None = None
        """How many LLM calls were made here under each name."""
        self.held: list[Fact] | None = None
        """Facts that are recorded with the outcome, or not at all; None: each is recorded when it is told."""
        self.printed: Printed | None = None
        self.abandon: Callable[[], None] | None = None
        """How to end a body that runs elsewhere, when nobody waits for it any more."""

    @property
    def exec_id(self) -> str:
        """The execution's id."""
        return self.session.exec_id

    def record(self, fact: Fact) -> None:
        """Record a fact of this attempt, now or with its outcome."""
        if self.held is None:
            self.session.report(lambda _, at: (fact(at),))
        else:
            self.held.append(fact)


class RemoteScope:
    """One attempt in a process of its own: what it records is sent to the runner."""

    __slots__ = ("budget", "exec_id", "invocation_id", "llm_calls", "name", "printed", "send")

    def __init__(self, exec_id: str, invocation_id: str, name: str, send: Callable[[dict[str, object]], None]) -> None:
        self.exec_id = exec_id
        self.invocation_id = invocation_id
        self.name = name
        self.send = send
        self.llm_calls: dict[str, int] | None = None
        self.printed: Printed | None = None
        self.budget: Budget | None = None
        """What was left when the attempt began, less what it recorded since."""


Fact = Callable[[int], "ArtifactSaved | LLMUsageRecorded | MetadataLogged"]
"""An event of an attempt, made from the time at which it is recorded."""

Scope = FlowScope | CallScope | RemoteScope | None
current: ContextVar[Scope] = ContextVar("kitaru_scope", default=None)


def flow_scope(what: str) -> FlowScope:
    """The flow body's scope, for a call that is only possible there. Raises KitaruContextError."""
    scope = current.get()
    if isinstance(scope, FlowScope):
        if scope.thread == threading.get_ident():
            return scope
        raise KitaruContextError(
            f"{what} was called from a thread of your own inside a flow; only the flow's own thread and its tasks may: "
            "use .submit(...) or .map(...) to run checkpoints at the same time",
            code="foreign-thread",
        )
    if scope is None:
        raise KitaruContextError(
            f"{what} was called outside a flow; call it in a function decorated with @flow, started by .run(...) "
            "(in a thread of your own inside a flow: use .submit(...) instead)",
            code="outside-flow",
        )
    raise KitaruContextError(
        f"{what} was called inside the checkpoint {scope.name!r}; only a flow's body may: call it there, before or after",
        code="inside-checkpoint",
    )
