"""When to try again: what the response's headers ask for."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from kitaru.runtime.llm.failing import LONGEST_PAUSE, of_sdk, of_status, retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": formatdate(0)}, 0),
    ],
)
def test_how_long_a_response_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_it_may_name_a_date() -> None:
    found = retry_after({"retry-after": formatdate(time.time() + 100, usegmt=True)})
    assert found is not None
    assert 95 < found <= 100


def test_a_pause_too_long_is_said_and_not_made() -> None:
    failed = of_status(429, {"retry-after": str(LONGEST_PAUSE + 1)}, {"error": {"message": "slow down"}})
    assert not failed.is_retryable
    assert failed.message == "the provider answered 429: slow down (it asks to wait for 3601 s)"


@pytest.mark.parametrize("body", [None, "", [], {"error": None}, {"error": []}, {"error": {"message": None, "code": 5}}, 7])
def test_any_body_of_an_error_is_lived_with(body: object) -> None:
    assert of_status(500, {}, body).message.startswith("the provider answered 500")


def test_a_redirect_says_where_to_and_is_not_tried_again() -> None:
    failed = of_sdk(ValueError("no JSON"), 301, {"Location": "https://api.example/v1/chat"}, "")
    assert failed.message.startswith("the provider answered 301, a redirect to https://api.example/v1/chat, which is not")
    assert (failed.code, failed.is_retryable) == ("llm-refused", False)


def test_long_words_are_cut() -> None:
    assert len(of_status(500, {}, {"error": {"message": "x" * 10_000}}).message) < 600
