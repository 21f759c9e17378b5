"""The tree of errors: the bases, the codes, and what an error says of itself."""

from __future__ import annotations

import copy
import re

import pytest

from kitaru.domain import errors
from kitaru.domain.errors import FailureOrigin, KitaruError, KitaruExecutionError, KitaruStateError

BASES: dict[str, tuple[str, ...]] = {
    "KitaruError": ("Exception",),
    "KitaruUsageError": ("KitaruError", "ValueError"),
    "KitaruWaitValidationError": ("KitaruUsageError",),
    "KitaruContextError": ("KitaruError", "RuntimeError"),
    "KitaruStateError": ("KitaruError", "RuntimeError"),
    "KitaruFencedError": ("KitaruStateError",),
    "KitaruNotFoundError": ("KitaruError", "LookupError"),
    "KitaruRuntimeError": ("KitaruError", "RuntimeError"),
    "KitaruWaitExpiredError": ("KitaruError", "TimeoutError"),
    "KitaruBudgetExceededError": ("KitaruError",),
    "KitaruExecutionError": ("KitaruError",),
    "KitaruUserCodeError": ("KitaruExecutionError",),
    "KitaruDivergenceError": ("KitaruExecutionError",),
    "KitaruBackendError": ("KitaruError",),
    "KitaruLogRetrievalError": ("KitaruBackendError",),
    "KitaruConnectionError": ("KitaruBackendError",),
    "KitaruFeatureNotAvailableError": ("KitaruError", "NotImplementedError"),
}
CODES = {
    "error", "usage", "wait-validation", "context", "state", "fenced", "not-found", "runtime", "wait-expired",
    "budget-exceeded", "execution", "user-code", "divergence", "backend", "log-retrieval", "connection",
    "feature-not-available",
}  # fmt: skip
CLASSES = {name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, KitaruError)}
EACH = pytest.mark.parametrize("error", CLASSES.values(), ids=CLASSES)


def test_the_tree_is_the_documented_one() -> None:
    assert {name: tuple(base.__name__ for base in value.__bases__) for name, value in CLASSES.items()} == BASES


def test_every_class_stands_in_the_drawing_of_the_tree() -> None:
    assert set(re.findall(r"Kitaru\w+Error|KitaruError", errors.__doc__ or "")) == set(BASES)


def test_the_codes_are_the_stable_ones_one_a_class() -> None:
    assert sorted(error.code for error in CLASSES.values()) == sorted(CODES)


@EACH
def test_a_code_is_kebab_case(error: type[KitaruError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.code)


@EACH
def test_an_error_says_its_message_and_nothing_else(error: type[KitaruError]) -> None:
    raised = error("it broke; do this")
    assert (str(raised), raised.message, raised.code) == ("it broke; do this", "it broke; do this", error.code)


@EACH
def test_an_error_takes_a_finer_code_of_its_own(error: type[KitaruError]) -> None:
    assert error("x", code="finer").code == "finer"
    assert error("x").code == error.code


@EACH
def test_a_copy_of_an_error_keeps_what_it_says(error: type[KitaruError]) -> None:
    copied = copy.copy(error("it broke", code="finer"))
    assert (type(copied), copied.message, copied.code) == (error, "it broke", "finer")


@EACH
def test_a_note_is_no_part_of_the_message(error: type[KitaruError]) -> None:
    raised = error("it broke")
    raised.add_note("seen twice")
    assert raised.message == "it broke"


@pytest.mark.parametrize("name", ["KitaruExecutionError", "KitaruUserCodeError", "KitaruDivergenceError"])
def test_an_execution_error_says_which_execution_and_where(name: str) -> None:
    error = CLASSES[name]
    assert issubclass(error, KitaruExecutionError)
    raised = error("it broke", exec_id="e1", status="failed", failure_origin=FailureOrigin.BACKEND)
    assert (raised.exec_id, raised.status, raised.failure_origin) == ("e1", "failed", FailureOrigin.BACKEND)


def test_an_execution_error_may_know_nothing_more() -> None:
    raised = KitaruExecutionError("it broke")
    assert (raised.exec_id, raised.status, raised.failure_origin) == (None, None, None)


def test_the_origins_are_the_five_documented_words() -> None:
    assert {str(origin) for origin in FailureOrigin} == {"user_code", "runtime", "backend", "divergence", "unknown"}


def test_an_error_without_a_message_has_an_empty_one() -> None:
    raised = KitaruStateError("x")
    raised.args = ()
    assert raised.message == ""


def test_every_error_is_a_public_name_and_shown_by_it() -> None:
    import kitaru

    for name, error in CLASSES.items():
        assert getattr(kitaru, name) is error
        assert errors.shown_type(f"kitaru.domain.errors.{name}") == f"kitaru.{name}"
    assert errors.shown_type("builtins.ValueError") == "ValueError"
    assert errors.shown_type("kitarus.own.Trouble") == "kitarus.own.Trouble"
