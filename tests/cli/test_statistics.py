"""`kitaru executions statistics` prints what the golden files in tests/cli/statistics show, letter by letter.

`python -m tests.cli.test_statistics` writes them anew; the diff is to be read.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kitaru.cli.statistics import title_of
from kitaru.client import KitaruClient
from kitaru.domain import events as e
from kitaru.domain.usage import UsageFigures
from kitaru.store.log import EventLog
from tests.cli.commands import PATIENCE, environment
from tests.cli.conftest import Run
from tests.client.recording import append, completed, failure, opened, started, wait
from tests.client.recording import value as payload

GOLDEN = Path(__file__).parent / "statistics"
CASES = {
    "no_grouping": (),
    "status": ("--group-by", "status"),
    "one_row": ("--group-by", "status", "--flow", "nightly"),
    "none_key": ("--group-by", "metadata:customer_tier"),
    "mixed_keys": ("--group-by", "metadata:version"),
    "tags": ("--group-by", "tag", "--metric", "n:duration:count"),
    "metrics": (
        "--group-by", "status", "--metric", "duration_avg:duration:avg", "--metric", "score:metadata:score:sum",
        "--metric", "p90_duration:duration:p90", "--metric", "steps:step_count:sum",
    ),
    "several": ("--group-by", "status", "--group-by", "flow", "--metric", "duration_sum:duration:sum"),
    "truncated": ("--group-by", "status", "--max-groups", "1"),
    "days": ("--group-by", "time:day", "--group-by", "status"),
    "days_truncated": ("--group-by", "time:day", "--max-groups", "2"),
    "days_in_a_zone": ("--group-by", "time:day", "--timezone", "Asia/Kathmandu"),
    "hours_in_a_zone": ("--group-by", "time:hour", "--timezone", "Europe/Berlin"),
    "weeks": ("--group-by", "time:week", "--metric", "longest:duration:max"),
    "months": ("--group-by", "time:month"),
    "filtered": ("--where", "score >= 1", "--status", "completed", "--status", "failed", "--since", "2026-03-01"),
    "none_found": ("--group-by", "status", "--flow", "unknown"),
}  # fmt: skip
EMPTY = {"empty": (), "empty_grouped": ("--group-by", "status", "--group-by", "time:day")}
FORMS = ("text", "json", "jsonl", "csv")


def at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1_000_000)  # type: ignore[misc]


def fill(log: EventLog) -> None:
    """Seven executions around the end of February and the beginning of summer time."""

    def ran(flow: str, began: int, took: int | None, fails: bool = False, **more: object) -> None:
        head = append(log, started(log, flow, at=began, **more), opened(1, at=began), completed(1, at=began + 1))  # type: ignore[arg-type]
        if took is not None:
            end = failure(at=began + took) if fails else e.ExecutionCompleted(at=began + took, output=payload(1))
            append(log, head, end)

    ran(
        "research",
        at(2026, 2, 28, 23, 50),
        12_500_000,
        tags=("nightly", "vip"),
        metadata={"customer_tier": "pro", "score": 3},
    )
    ran(
        "research", at(2026, 3, 1, 10), 3_000_000, True, tags=("nightly",), metadata={"customer_tier": "pro", "version": "1"}
    )
    ran(
        "research", at(2026, 3, 1, 22, 30), 100_123_457, metadata={"customer_tier": "enterprise", "score": 1.5, "version": 1}
    )
    ran("research", at(2026, 3, 29, 0, 30), 1_234_567_891_234, metadata={"score": 1234567.25, "version": 1.0})
    ran("index", at(2026, 3, 29, 1, 30), None, metadata={"customer_tier": {"name": "pro"}, "version": True})
    append(log, started(log, "index", at=at(2026, 3, 29, 2, 30), metadata={"version": 2.5}), wait(1))
    ran("nightly", at(2026, 3, 30, 8), 250_000, metadata={"customer_tier": "pro", "score": "high", "version": "a\nb"})


def shown(text: str) -> str:
    """What is printed, with ids of flows that do not depend on the store."""
    ids: dict[str, str] = {}
    pattern = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
    return pattern.sub(lambda found: ids.setdefault(found[0], f"flow-{len(ids) + 1:-<31}"), text)


def name_of(case: str, form: str) -> Path:
    return GOLDEN / f"{case}.{'txt' if form == 'text' else form}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_statistics_print_what_the_golden_file_shows(run: Run, log: EventLog, case: str, form: str) -> None:
    fill(log)
    ran = run("executions", "statistics", *CASES[case], "-o", form)
    assert (ran.code, ran.err) == (0, "")
    assert shown(ran.out) == name_of(case, form).read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", EMPTY)
def test_an_empty_store_prints_what_the_golden_file_shows(run: Run, log: EventLog, case: str, form: str) -> None:
    ran = run("executions", "statistics", *EMPTY[case], "-o", form)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == name_of(case, form).read_text(encoding="utf-8")


def test_a_store_that_is_not_there_yet_says_so_and_counts_nothing(run: Run) -> None:
    ran = run("executions", "statistics", "--group-by", "status")
    assert (ran.code, ran.out) == (0, "Kitaru execution statistics\nstatistics: none found\n")
    assert "there is no store" in ran.err


def test_json_is_the_clients_model(run: Run, log: EventLog, folder: Path) -> None:
    fill(log)
    words = ("--group-by", "flow", "--metric", "duration_avg:duration:avg", "--max-groups", "2")
    item = run("executions", "statistics", *words, "-o", "json").json["item"]
    with KitaruClient(folder / ".kitaru") as client:
        found = client.executions.statistics(group_by="flow", metrics="duration_avg:duration:avg", max_groups=2)
    assert item == json.loads(found.model_dump_json())
    assert item["group_count"] == len(found.groups) == 2  # type: ignore[index]
    assert item["truncated"] is True  # type: ignore[index]


def test_csv_has_its_header_when_there_is_nothing_and_a_row_for_each_group(run: Run, log: EventLog) -> None:
    fill(log)
    words = ("executions", "statistics", "--group-by", "metadata:score", "--metric", "score:metadata:score:max", "-o", "csv")
    rows = list(csv.reader(io.StringIO(run(*words).out)))
    assert rows[0] == ["score", "execution_count", "score"]
    assert ["1234567.25", "1", "1234567.25"] in rows
    assert run(*words, "--flow", "unknown").out == "score,execution_count,score\n"


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("flow_id", "Flow ID"), ("stack_id", "Stack ID"), ("duration_avg", "Duration Avg"), ("status", "Status"),
        ("id", "ID"), ("customer.tier", "Customer.tier"), ("a b", "A B"), ("", ""), ("_", " "), ("llm_p95", "Llm P95"),
        ("ключ", "Ключ"),
    ],
)  # fmt: skip
def test_titles_are_the_keys_with_spaces_capitalised(key: str, title: str) -> None:
    assert title_of(key) == title


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--group-by", "bogus"), "time:hour|day|week|month"),
        (("--group-by", "time:day", "--group-by", "time:hour"), "'time:hour'"),
        (("--metric", "duration"), "<name>:<source>:<aggregation>"),
        (("--metric", "n:duration:median"), "'median'"),
        (("--timezone", "Mars/Olympus"), "'Mars/Olympus'"),
        (("--max-groups", "0"), "1 to 10000"),
        (("--max-groups", "10001"), "1 to 10000"),
        (("--max-groups", "many"), "max-groups"),
        (("--since", "2026-03-02", "--until", "2026-03-01"), "2026-03-02"),
        (("--where", "k ~ 3"), "KEY OP VALUE"),
        (("--status", "done"), "'done'"),
        (("--plot", "--output", "json"), "--plot"),
    ],
)
def test_what_is_typed_wrongly_is_named_with_what_is_right(run: Run, words: tuple[str, ...], said: str) -> None:
    ran = run("executions", "statistics", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_a_key_that_looks_like_sql_or_markup_is_only_a_name(run: Run, log: EventLog) -> None:
    key = "[red]x[/red]'); DROP TABLE executions; --\x1b[31m"
    started(log, metadata={key: 3})
    ran = run("executions", "statistics", "--group-by", f"metadata:{key}", "--metric", f"m:metadata:{key}:sum")
    assert ran.code == 0
    assert ran.out.splitlines()[2].split() == ["3", "1", "3"]
    assert "\x1b" not in ran.out
    assert run("executions", "statistics").out.splitlines()[-1] == "1"


def test_a_sum_past_what_a_float_holds_is_null_in_json(run: Run, log: EventLog) -> None:
    for _ in range(2):
        started(log, metadata={"k": 1.7e308})
    ran = run("executions", "statistics", "--metric", "s:metadata:k:sum", "-o", "json")
    assert json.loads(ran.out, parse_constant=pytest.fail)["item"]["groups"][0]["metrics"] == {"s": None}


WORDS = st.text(max_size=12) | st.sampled_from(
    [
        "--group-by", "--group-by=status", "--metric", "n:duration:avg", "metadata:k", "time:day", "time:",
        "m:metadata:k:p99",
        "--where", "k > 1", "k ~", "--since", "7d", "--until", "1d", "--timezone", "Asia/Tokyo", "--max-groups", "0",
        "3", "--plot",
        "-o", "csv", "jsonl", "json", "--tag", "--stack", "--flow", "--status", "failed", "\0", "\udc80", "'; DROP TABLE x",
    ]
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["executions", "checkpoints", "llm-usage"]), st.lists(WORDS, max_size=7))
def test_no_question_that_is_typed_ends_in_a_traceback(run: Run, log: EventLog, group: str, words: list[str]) -> None:
    """R24."""
    ran = run(group, "statistics", *words)
    assert ran.code in (0, 1, 2)
    assert "Traceback" not in ran.out + ran.err
    assert "internal" not in ran.err


# --- on a terminal ---------------------------------------------------------------------------------------------------------


def on_terminal(width: int, *words: str, **more: str) -> str:
    """What a command prints on a terminal of its own."""
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    line = [sys.executable, "-m", "kitaru.cli", "executions", "statistics", *words]
    sized = {name: value for name, value in environment().items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    child = subprocess.Popen(line, env={**sized, "TERM": "xterm", **more}, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    while True:
        try:
            printed += os.read(terminal, 10_000) or b""
        except OSError:  # Linux says so when the other side is closed
            break
    os.close(terminal)
    assert child.wait(PATIENCE) == 0, printed
    return printed.decode().replace("\r\n", "\n")


def on_screen(printed: str) -> str:
    """The characters that are seen."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


@pytest.mark.parametrize("case", ["metrics", "none_key", "truncated", "none_found", "several"])
def test_a_terminal_shows_the_same_table(log: EventLog, case: str) -> None:
    fill(log)
    printed = on_terminal(100, *CASES[case])
    assert shown(on_screen(printed)) == name_of(case, "text").read_text(encoding="utf-8")


def test_statuses_have_their_colours_on_a_terminal_unless_there_shall_be_none(log: EventLog) -> None:
    fill(log)
    printed = on_terminal(100, "--group-by", "status")
    assert "\x1b[32mcompleted" in printed
    assert "\x1b[31mfailed" in printed
    plain = on_terminal(100, "--group-by", "status", NO_COLOR="1")
    assert "\x1b[32m" not in plain
    assert on_screen(plain) == on_screen(printed)


def test_a_narrow_terminal_folds_the_columns_behind_the_first(log: EventLog) -> None:
    fill(log)
    seen = on_screen(on_terminal(60, *CASES["metrics"])).splitlines()
    assert all(len(line) <= 60 for line in seen)
    assert [line.split()[0] for line in seen if line[:1].islower()] == ["completed", "failed", "running", "waiting"]


def test_charts_fit_the_terminal(log: EventLog) -> None:
    fill(log)
    for width in (60, 100):
        seen = on_screen(on_terminal(width, "--group-by", "time:day", "--plot")).splitlines()
        assert max(map(len, seen)) in range(width - 2, width + 1)


# --- the other subjects ----------------------------------------------------------------------------------------------------


def use(log: EventLog) -> None:
    """One execution with two calls, one of them reused, that used a model."""
    began = at(2026, 3, 1)
    spent = UsageFigures(model="gpt-5", total_tokens=1200, actual_cost=123_000_000, latency_us=1_500_000)
    reused = spent.model_copy(update={"billing_effect": "reused_not_incurred"})
    record = {"at": began, "record": payload({}), "attempt": 1}
    append(
        log,
        started(log, at=began),
        opened(1, "ask", at=began),
        e.LLMUsageRecorded(call=1, record_id="a", figures=spent, **record),
        completed(1, at=began + 2_500_000),
        e.CheckpointReused(
            at=began,
            call=2,
            invocation_id="ask_2",
            name="ask",
            input_digest="00",
            output=payload(1),
            original_call_id="x.c1",
        ),
        e.LLMUsageRecorded(call=2, record_id="b", figures=reused, **record),
    )


def test_checkpoint_calls_are_counted_by_the_same_grammar(run: Run, log: EventLog) -> None:
    use(log)
    words = ("--group-by", "checkpoint", "--metric", "p95:duration:p95", "--metric", "cost:llm_cost:sum")
    assert run("checkpoints", "statistics", *words).out.splitlines() == [
        "Kitaru checkpoint statistics",
        "Checkpoint   Checkpoints   P95     Cost",
        "ask          2             2.375   0.0123",
    ]
    envelope = run("checkpoints", "statistics", "--status", "completed", "-o", "json").json
    assert envelope["command"] == "checkpoints.statistics"
    assert envelope["item"]["groups"] == [{"keys": {}, "checkpoint_count": 2, "metrics": {}}]  # type: ignore[index]


def test_usage_records_are_counted_by_the_same_grammar(run: Run, log: EventLog) -> None:
    use(log)
    words = ("--group-by", "billing_effect", "--metric", "cost:cost:sum", "--metric", "latency:latency:max")
    assert run("llm-usage", "statistics", *words).out.splitlines() == [
        "Kitaru LLM usage statistics",
        "Billing Effect        Usage Records   Cost     Latency",
        "incurred              1               0.0123   1.5",
        "reused_not_incurred   1                        1.5",
    ]
    shown = run("llm-usage", "statistics", "--group-by", "model", "--metric", "tokens:tokens:sum", "-o", "jsonl").out
    assert json.loads(shown) == {"keys": {"model": "gpt-5"}, "usage_record_count": 2, "metrics": {"tokens": 2400}}


# --- charts ---------------------------------------------------------------------------------------------------------------


def test_plot_draws_a_bar_for_each_group(run: Run, log: EventLog) -> None:
    fill(log)
    lines = run("executions", "statistics", "--group-by", "status", "--plot").out.splitlines()
    assert lines[0] == "Kitaru execution statistics"
    bars = {line.split("┤")[0].strip(): line.count("█") for line in lines if "┤" in line}
    assert list(bars) == ["completed", "failed", "running", "waiting"]
    assert bars["completed"] > 3 * bars["failed"] > 0
    assert bars["failed"] == bars["running"] == bars["waiting"]


def test_plot_draws_lines_over_time_and_a_chart_for_each_metric(run: Run, log: EventLog) -> None:
    fill(log)
    words = ("--group-by", "time:month", "--group-by", "status", "--metric", "duration_avg:duration:avg", "--plot")
    ran = run("executions", "statistics", *words)
    assert (ran.code, ran.err) == (0, "")
    for text in ("Executions", "Duration Avg", "2026-02-01", "2026-03-01", "completed", "waiting"):
        assert text in ran.out


def test_plot_of_nothing_draws_nothing(run: Run, log: EventLog) -> None:
    assert run("executions", "statistics", "--group-by", "status", "--plot").out.splitlines()[-1] == "statistics: none found"
    fill(log)
    ran = run("executions", "statistics", "--group-by", "status", "--metric", "x:metadata:none:avg", "--plot")
    assert ran.err == "X: there is no number to draw\n"


def test_many_bars_and_many_lines_are_cut_and_that_is_said(run: Run, log: EventLog) -> None:
    for number in range(45):
        started(log, at=at(2026, 1, 1 + number % 3), metadata={"n": number})
    ran = run("executions", "statistics", "--group-by", "metadata:n", "--plot")
    assert "the first 40 of 45 are drawn" in ran.err
    ran = run("executions", "statistics", "--group-by", "metadata:n", "--group-by", "time:day", "--plot")
    assert "the 6 largest of 45 are drawn" in ran.err


@pytest.mark.parametrize("group", ["executions", "checkpoints", "llm-usage"])
def test_plot_without_plotext_says_what_to_install_and_nothing_else(folder: Path, group: str) -> None:
    (folder / "plotext.py").write_text("raise ImportError\n")
    line = [sys.executable, "-m", "kitaru.cli", group, "statistics", "--group-by", "status", "--plot"]
    paths = os.pathsep.join((str(folder), environment()["PYTHONPATH"]))
    ran = subprocess.run(line, env={**environment(), "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Error: --plot draws with plotext, which is not installed")
    assert "pip install '.[plot]'" in ran.stderr


# --- writing the golden files ----------------------------------------------------------------------------------------------


def _write() -> None:
    from tempfile import TemporaryDirectory

    from kitaru.compose import open_log
    from kitaru.settings import StoreChoice

    with TemporaryDirectory() as folder:
        for name, cases in (("full", CASES), ("empty", EMPTY)):
            log = open_log(StoreChoice(os.path.join(folder, name), "of the golden files"))
            if name == "full":
                fill(log)
            for case, words in cases.items():
                for form in FORMS:
                    line = ["-m", "kitaru.cli", "executions", "statistics", *words, "-o", form, "--store", log.location]
                    ran = subprocess.run([sys.executable, *line], capture_output=True, text=True, check=True)
                    name_of(case, form).write_text(shown(ran.stdout), encoding="utf-8")


if __name__ == "__main__":
    _write()
