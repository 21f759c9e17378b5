"""What is set for a run: the closest setting wins, images are recorded and warned about."""

from __future__ import annotations

from typing import Any

import pytest

import kitaru
from kitaru import flow
from kitaru.domain.events import ExecutionStarted
from kitaru.runtime.options import ImageSettings
from kitaru.store.log import EventLog
from tests.runtime.records import events_of


@flow
def adding(a: int, b: int = 2, *, c: int = 3) -> int:
    return a + b + c


def started_of(log: EventLog, exec_id: str) -> ExecutionStarted:
    first = events_of(log, exec_id)[0]
    assert isinstance(first, ExecutionStarted)
    return first


# --- what is set closest wins ------------------------------------------------------------------------------------------


@flow(retries=1)
def with_retries() -> None: ...


@pytest.mark.parametrize(
    ("configured", "tried", "given", "expected"),
    [(None, adding, {}, 0), (3, adding, {}, 3), (3, with_retries, {}, 1), (3, with_retries, {"retries": 0}, 0)],
    ids=["nothing", "configure", "flow", "run"],
)
def test_the_closest_retries_win(log: EventLog, configured: int | None, tried: Any, given: Any, expected: int) -> None:
    kitaru.configure(retries=configured)
    inputs = {"a": 1} if tried is adding else {}
    handle = tried.run(**inputs, **given)
    assert started_of(log, handle.exec_id).options.retries == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("0", False), ("v7", "v7"), ("", None)], ids=["true", "zero", "text", "empty"]
)
def test_the_environments_cache_is_the_flows_default(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, text: str, expected: Any
) -> None:
    monkeypatch.setenv("KITARU_CACHE", text)
    assert started_of(log, adding.run(1).exec_id).options.default_cache == expected


def test_configures_cache_wins_over_the_environments(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_CACHE", "v7")
    kitaru.configure(cache=False)
    assert started_of(log, adding.run(1).exec_id).options.default_cache is False


# --- images ------------------------------------------------------------------------------------------------------------


def image_flow(name: str, **options: Any) -> Any:
    @flow(name=name, **options)
    def pictured() -> int:
        return 1

    return pictured


def test_an_image_is_recorded_and_warned_about_once(log: EventLog) -> None:
    pictured = image_flow("pictured once", image="python:3.13")
    with pytest.warns(UserWarning, match="pictured once"):
        handle = pictured.run()
    pictured.run()  # a second warning would be an error here
    assert started_of(log, handle.exec_id).options.image == "python:3.13"


def test_the_warning_about_an_image_points_at_the_callers_line() -> None:
    pictured = image_flow("pictured line", image="python:3.13")
    with pytest.warns(UserWarning, match="pictured line") as caught:
        pictured.run()
    assert caught[0].filename == __file__


def test_image_settings_are_recorded(log: EventLog) -> None:
    pictured = image_flow("pictured settings")
    with pytest.warns(UserWarning, match="pictured settings"):
        handle = pictured.run(image=ImageSettings(base_image="python:3.13"))
    assert "python:3.13" in (started_of(log, handle.exec_id).options.image or "")
