"""The harness of `python -m benchmarks`: verdicts, taking turns, and what its files may say."""

import json
import platform
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import charts, machine, report
from benchmarks.marks import Row, Verdict, at_least, at_most
from benchmarks.rounds import ContenderError, Plan, Round, Series, take_turns

TURN = "from benchmarks.turns import serve; serve(lambda n: {'seconds': n * 0.5, 'seen': n}, warm_up=0)"
ROW = Row("P1", "a <measure>", "10 ms", 1.5, "x raw", at_most(3), note="a remark")


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.5, Verdict.MET), (0.49, Verdict.MISSED), (0.25, Verdict.MISSED), (0.24, Verdict.FAR)]
)
def test_at_least(value: float, verdict: Verdict) -> None:
    assert Row("P1", "", "f", value, mark=at_least(0.5)).verdict is verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [(3, Verdict.MET), (3.1, Verdict.MISSED), (6, Verdict.MISSED), (6.1, Verdict.FAR)]
)
def test_at_most(value: float, verdict: Verdict) -> None:
    assert Row("P5", "", "f", value, mark=at_most(3)).verdict is verdict


def test_a_row_without_a_figure_is_blank_and_says_why() -> None:
    row = Row("P3", "slow disk", mark=at_least(4), note="no C compiler")
    assert (row.verdict, "no C compiler" in report.table([row])) == (Verdict.BLANK, True)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    ours = [Round(seconds, 0, 1, {}) for seconds in (1, 10, 4)]
    theirs = [Round(seconds, 0, 1, {}) for seconds in (2, 5, 4)]
    series = Series({"ours": ours, "theirs": theirs})
    assert (series.speed_ratio("ours", "theirs"), series.cost_ratio("ours", "theirs")) == (1, 1)


def test_a_contender_that_is_twice_as_fast_has_a_speed_ratio_of_two() -> None:
    series = Series({"ours": [Round(1, 0, 10, {})], "theirs": [Round(2, 0, 10, {})]})
    assert series.speed_ratio("ours", "theirs") == 2


def test_every_contender_takes_every_round(tmp_path: Path) -> None:
    plans = [Plan(name, [sys.executable, "-c", TURN], count) for name, count in (("a", 2), ("b", 6))]
    series = take_turns(plans, 3, tmp_path)
    assert [[turn.extra["seen"] for turn in series.rounds[name]] for name in "ab"] == [[2, 2, 2], [6, 6, 6]]


def test_seconds_that_a_contender_tells_replace_those_of_the_call(tmp_path: Path) -> None:
    series = take_turns([Plan("a", [sys.executable, "-c", TURN], 4)], 1, tmp_path)
    assert series.seconds("a") == 0.5


def test_a_contender_that_dies_says_what_it_wrote(tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match="no such thing"):
        take_turns([Plan("a", [sys.executable, "-c", "import sys; sys.exit('no such thing')"], 1)], 1, tmp_path)


def test_what_a_contender_prints_does_not_disturb_its_answers(tmp_path: Path) -> None:
    noisy = "from benchmarks.turns import serve; serve(lambda n: print('chatter'), warm_up=1)"
    assert len(take_turns([Plan("a", [sys.executable, "-c", noisy], 1)], 2, tmp_path).rounds["a"]) == 2


@pytest.mark.parametrize("chart", [charts.reached("t", [ROW]), charts.bars("t & u", {"Kitaru: <x>": 2, "raw": 3}, "/s")])
def test_a_chart_is_well_formed(chart: str) -> None:
    assert ET.fromstring(chart).tag.endswith("svg")


def test_an_empty_chart_is_well_formed() -> None:
    assert ET.fromstring(charts.reached("t", [])).tag.endswith("svg")


def test_the_results_name_no_host_and_no_path() -> None:
    document = report.as_json([ROW], machine.facts(), {"rounds": 7}).decode()
    assert [secret for secret in (platform.node(), str(Path.home()), str(Path.cwd())) if secret in document] == []


def test_the_results_hold_every_row() -> None:
    assert json.loads(report.as_json([ROW, ROW], {}, {}))["rows"][1]["verdict"] == "met"
