"""`kitaru executions …`: envelopes, columns, exit codes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest

from kitaru.compose import close_logs
from kitaru.domain import events as e
from kitaru.domain.usage import UsageFigures
from kitaru.store.log import EventLog
from tests.cli import commands
from tests.cli.conftest import Run
from tests.client.recording import append, completed, failure, opened, started, value, wait


def test_get_is_the_clients_model_whole(run: Run, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1), wait(1))
    ran = run("executions", "get", head.exec_id[:30], "-o", "json")
    assert (ran.code, ran.json["command"]) == (0, "executions.get")
    item = ran.json["item"]
    assert item["exec_id"] == head.exec_id  # type: ignore[index]
    assert item["pending_wait"]["schema"] == {"type": "boolean"}  # type: ignore[index]


def test_get_as_text_names_checkpoints_and_failure(run: Run, log: EventLog) -> None:
    head = append(log, started(log, "agent"), opened(1, "fetch"), failure(1), failure())
    out = run("executions", "get", head.exec_id).out
    assert all(part in out for part in (head.exec_id, "agent", "failed", "fetch", "ValueError: no"))


def test_get_at_a_version(run: Run, log: EventLog) -> None:
    head = append(log, started(log), opened(1), e.ExecutionCompleted(at=9, output=value(1)))
    assert run("executions", "get", head.exec_id, "--at", "3", "-o", "json").json["item"]["status"] == "running"  # type: ignore[index]


def test_get_at_an_older_version_says_nothing_of_a_runner(run: Run, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1), e.ExecutionCompleted(at=9, output=value(1)))
    out = run("executions", "get", head.exec_id, "--at", "2").out
    assert "Runner" not in out
    assert "recover" not in out


def test_an_exception_of_kitaru_is_shown_by_its_public_name(run: Run, log: EventLog) -> None:
    head = append(log, started(log), failure(exception_type="kitaru.domain.errors.KitaruUsageError"))
    assert ": kitaru.KitaruUsageError: no" in run("executions", "get", head.exec_id).out
    head = append(log, started(log), failure(exception_type="kitaru.store.values.refusal.ValueNotEncodable"))
    assert ": ValueNotEncodable: no" in run("executions", "get", head.exec_id).out


def test_list_is_newest_first_with_a_count(run: Run, log: EventLog) -> None:
    ids = [started(log).exec_id for _ in range(3)]
    ran = run("executions", "list", "-o", "json")
    assert (ran.json["command"], ran.json["count"]) == ("executions.list", 3)
    assert [item["exec_id"] for item in ran.json["items"]] == ids[::-1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", ["text", "json", "csv"])
def test_a_row_that_cannot_be_read_is_told_on_stderr_and_hides_nothing(folder: Path, log: EventLog, form: str) -> None:
    heads = [started(log) for _ in range(3)]
    close_logs()
    before = commands.run("executions", "list", "-o", form, cwd=folder)
    with contextlib.closing(sqlite3.connect(folder / ".kitaru" / "kitaru.db")) as db, db:
        db.execute("UPDATE execution_details SET spec = '{' WHERE number = ?", (heads[1].number,))
    ran = commands.run("executions", "list", "-o", form, cwd=folder)
    assert (ran.returncode, ran.stdout) == (0, before.stdout)
    assert ran.stderr.startswith(f"the read model's row of execution '{heads[1].exec_id}' is damaged")
    assert "`kitaru store rebuild`" in ran.stderr
    assert commands.run("store", "rebuild", cwd=folder).returncode == 0
    assert commands.run("executions", "list", "-o", form, cwd=folder).stderr == ""


def test_list_shows_20_unless_told_otherwise(run: Run, log: EventLog) -> None:
    for _ in range(23):
        started(log)
    assert len(run("executions", "list", "-o", "jsonl").out.splitlines()) == 20
    assert len(run("executions", "list", "-o", "jsonl", "--limit", "0").out.splitlines()) == 23
    assert len(run("executions", "list", "-o", "jsonl", "--page", "2", "--size", "20").out.splitlines()) == 3


def test_plain_columns_are_whole_and_without_colour(run: Run, log: EventLog) -> None:
    name = "f" * 200
    head = started(log, name)
    ran = run("executions", "list")
    header, row = ran.out.splitlines()
    assert header.split()[:3] == ["Execution", "Flow", "Status"]
    assert row.startswith(f"{head.exec_id}   {name}   running")
    assert "\x1b" not in ran.out


def test_jsonl_is_an_item_a_line(run: Run, log: EventLog) -> None:
    head = started(log)
    assert json.loads(run("executions", "list", "-o", "jsonl").out)["exec_id"] == head.exec_id


def test_csv_has_a_header_and_json_for_what_is_no_scalar(run: Run, log: EventLog) -> None:
    head = started(log, tags=("a", "b"), metadata={"x": {"y": 1}})
    (row,) = csv.DictReader(io.StringIO(run("executions", "list", "-o", "csv").out))
    assert (row["exec_id"], json.loads(row["tags"]), json.loads(row["metadata"])) == (
        head.exec_id,
        ["a", "b"],
        {"x": {"y": 1}},
    )


def test_all_filters_reach_the_client(run: Run, log: EventLog) -> None:
    head = started(log, "f", tags=("a", "b"), metadata={"tier": "pro", "n": 3, "a b:c": True}, stack="worker", runner=None)
    started(log, "g")
    ran = run(
        "executions", "list", "-o", "jsonl", "--flow", "f", "--status", "running", "--status", "failed", "--stack", "worker",
        "--tag", "a", "--tag", "b", "--since", "1970-01-01", "--until", "1970-01-02", "--where", "tier = pro",
        "--where", "n>=3", "--where", "n != 4", "--where", "a b:c = true",
    )  # fmt: skip
    assert [json.loads(line)["exec_id"] for line in ran.out.splitlines()] == [head.exec_id]


def test_a_condition_whose_value_is_no_json_is_text(run: Run, log: EventLog) -> None:
    started(log, metadata={"v": "1.2.3"})
    assert run("executions", "list", "-o", "json", "--where", "v=1.2.3").json["count"] == 1
    assert run("executions", "list", "-o", "json", "--where", 'v="1.2.3"').json["count"] == 1


@pytest.mark.parametrize(
    "where", ["tier", "= 3", "n ~ 3", "n > [1]", "n=1e999", "n >", "n != ", "n=", "n => 3", "n=<3", " = 3", "== 3", "!= 3"]
)
def test_what_is_no_condition_is_exit_2(run: Run, log: EventLog, where: str) -> None:
    assert run("executions", "list", "--where", where).code == 2


@pytest.mark.parametrize(
    ("where", "meant"), [("n == 4", "n = 4"), ("n<>3", "n != 3"), ("n => 3", "n >= 3"), ("n =< 3", "n <= 3")]
)
def test_an_operator_of_another_language_is_told_by_ours(run: Run, log: EventLog, where: str, meant: str) -> None:
    ran = run("executions", "list", "--where", where)
    assert ran.code == 2
    assert f"type {meant}" in ran.err


def test_an_empty_text_is_asked_for_in_quotes(run: Run, log: EventLog) -> None:
    started(log, metadata={"v": ""})
    assert run("executions", "list", "-o", "json", "--where", 'v = ""').json["count"] == 1


def test_an_empty_list_names_the_store_on_stderr(run: Run, log: EventLog) -> None:
    ran = run("executions", "list")
    assert (ran.code, ran.out, ran.err) == (0, "", f"no executions yet in {log.location}\n")
    started(log)
    ran = run("executions", "list", "--page", "2")
    assert (ran.code, ran.out, ran.err) == (0, "", f"no executions on that page in {log.location}\n")


def test_a_list_of_a_store_that_is_not_there_says_so(run: Run, tmp_path: Path) -> None:
    for words in (("executions", "list"), ("executions", "list", "--flow", "f"), ("recover",)):
        ran = run(*words, "--store", str(tmp_path / "typo"))
        assert ran.err.startswith(f"there is no store in {tmp_path / 'typo'} yet")
    assert not (tmp_path / "typo").exists()


def test_latest(run: Run, log: EventLog) -> None:
    started(log, "f")
    head = started(log, "g")
    ran = run("executions", "latest", "--flow", "g", "-o", "json")
    assert (ran.json["command"], ran.json["item"]["exec_id"]) == ("executions.latest", head.exec_id)  # type: ignore[index]
    assert run("executions", "latest", "--flow", "nope").code == 3


def test_events_are_lines(run: Run, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1, "out"))
    lines = run("executions", "events", head.exec_id).out.splitlines()
    assert [line.split()[3] for line in lines] == [
        "ExecutionStarted",
        "RunnerClaimed",
        "AttemptStarted",
        "CheckpointCompleted",
    ]
    assert "output=out" in lines[3]


def test_events_as_json(run: Run, log: EventLog) -> None:
    ran = run("executions", "events", started(log).exec_id, "-o", "json")
    assert (ran.json["command"], ran.json["count"]) == ("executions.events", 2)


def test_following_ends_with_a_terminal_line_and_its_exit_code(run: Run, log: EventLog) -> None:
    head = append(log, started(log), wait(1), failure())
    ran = run("executions", "events", head.exec_id, "--follow", "-o", "json")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["event"] for line in lines] == ["log", "log", "log", "waiting", "log", "terminal"]
    assert (ran.code, lines[-1]["item"]["status"]) == (1, "failed")


def test_watching_a_finished_execution_ends_at_once(run: Run, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1), e.ExecutionCompleted(at=9, output=value(1)))
    ran = run("executions", "watch", head.exec_id)
    assert (ran.code, ran.out.split()) == (0, ["completed", "1/1", "checkpoints"])


def test_tag(run: Run, log: EventLog) -> None:
    head = started(log, tags=("a",))
    ran = run("executions", "tag", head.exec_id, "--add", "b", "--remove", "a", "-o", "json")
    assert ran.json["item"]["tags"] == ["b"]  # type: ignore[index]


def test_delete_wants_to_be_told_twice(run: Run, log: EventLog) -> None:
    head = append(log, started(log), e.ExecutionCompleted(at=9, output=value(1)))
    assert run("executions", "delete", head.exec_id).code == 2
    assert run("executions", "delete", head.exec_id, "--yes").code == 0
    assert run("executions", "get", head.exec_id).code == 3


def test_deleting_what_runs_is_exit_4(run: Run, log: EventLog) -> None:
    assert run("executions", "delete", started(log).exec_id, "--yes").code == 4


def test_artifacts_are_listed(run: Run, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1, {"a": 1}))
    ran = run("artifacts", "list", head.exec_id, "-o", "json")
    assert (ran.json["command"], ran.json["items"][0]["name"]) == ("artifacts.list", "step")  # type: ignore[index]


def test_an_artifact_is_shown_with_its_value(run: Run, log: EventLog) -> None:
    head = append(log, started(log), opened(1), completed(1, {"a": 1}))
    ran = run("artifacts", "get", f"{head.exec_id}.a4", "-o", "json")
    assert (ran.json["item"]["kind"], ran.json["value"]) == ("output", {"a": 1})  # type: ignore[index]
    assert run("artifacts", "get", f"{head.exec_id}.a4").out.endswith('{\n  "a": 1\n}\n')


def used(number: int, **figures: object) -> e.LLMUsageRecorded:
    told = UsageFigures(**{"input_tokens": 1000, "output_tokens": 234, "total_tokens": 1234, **figures})  # type: ignore[arg-type]
    record = value({"record_id": f"r{number}", "attempt": 1})
    return e.LLMUsageRecorded(at=2, call=1, attempt=1, record_id=f"r{number}", record=record, figures=told)


LINES: dict[str, tuple[list[dict[str, object]], str]] = {
    "one": ([{"actual_cost": 12_300_000}], "1 record, 1,234 tokens (1,000 in, 234 out), 0.00123 USD"),
    "no cost": ([{}, {}], "2 records, 2,468 tokens (2,000 in, 468 out), no cost known"),
    "all sides": (
        [{"actual_cost": 10**10}, {"billing_effect": "unknown"}, {"billing_effect": "reused_not_incurred"}],
        "3 records, 1 reused, 1 unknown, 3,702 tokens (3,000 in, 702 out), 1 USD, 2 without a cost",
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_get_tells_usage_on_one_line_and_no_key_of_it(run: Run, log: EventLog, name: str) -> None:
    records, line = LINES[name]
    head = append(log, started(log), opened(1), *(used(number, **figures) for number, figures in enumerate(records)))
    out = run("executions", "get", head.exec_id).out
    assert [text.partition("  ")[2].strip() for text in out.splitlines() if text.startswith("LLM usage")] == [line]
    assert "kitaru_llm" not in out
    assert "summary_v1" not in out


def test_usage_is_an_object_in_json(run: Run, log: EventLog) -> None:
    head = append(log, started(log), opened(1), used(1))
    for item in (
        run("executions", "get", head.exec_id, "-o", "json").json["item"],
        run("executions", "list", "-o", "json").json["items"][0],  # type: ignore[index]
    ):
        assert item["llm_usage_summary"]["total_tokens"] == item["metadata"]["kitaru_llm_total_tokens_v1"] == 1234  # type: ignore[index]
