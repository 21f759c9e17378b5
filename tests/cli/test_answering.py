"""`kitaru executions waits` and `input`: answers that fit, and everything that does not."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.store.log import EventLog, Head
from tests.cli.conftest import Run
from tests.client.recording import append, started, value, wait


def waiting(log: EventLog, *names: str, schema: object = "integer") -> Head:
    """An execution that nobody runs and that waits for each of the names."""
    kinds = {"json_schema": None if schema is None else value({"type": schema})}
    head = append(log, started(log), *(wait(number, name, **kinds) for number, name in enumerate(names, 1)))
    return append(log, head, e.ExecutionSuspended(at=5))


def version(log: EventLog, head: Head) -> int:
    return log.head(head.exec_id).version


def test_the_inbox_shows_all_that_waits_oldest_first(run: Run, log: EventLog) -> None:
    first, second = waiting(log, "a", "b"), waiting(log, "c")
    ran = run("executions", "waits", "-o", "json")
    assert (ran.json["command"], ran.json["count"]) == ("executions.waits", 3)
    items = ran.json["items"]
    assert [(item["exec_id"], item["name"]) for item in items] == [  # type: ignore[attr-defined]
        (first.exec_id, "a"), (first.exec_id, "b"), (second.exec_id, "c"),
    ]  # fmt: skip
    assert run("executions", "waits", second.exec_id, "-o", "jsonl").out.count("\n") == 1
    assert run("executions", "waits", "-o", "csv").out.count("\n") == 4
    assert run("executions", "waits").out.splitlines()[0].split() == ["Execution", "Wait", "Since", "Expires", "Question"]


def test_the_inbox_says_what_has_expired(run: Run, log: EventLog) -> None:
    append(log, started(log), wait(1, "early", expires_at=10), wait(2, "late", expires_at=10**17))
    early, late = run("executions", "waits").out.splitlines()[1:]
    assert ("1970-01-01 00:00:00Z (expired)" in early, "expired" in late) == (True, False)


def test_an_empty_inbox_says_so(run: Run, log: EventLog) -> None:
    started(log)
    ran = run("executions", "waits")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing waits for input\n")


def test_the_only_wait_needs_no_name(run: Run, log: EventLog) -> None:
    head = waiting(log, "approve")
    ran = run("executions", "input", head.exec_id, "--value", "7", "--by", "ann", "-o", "json")
    (closed,) = ran.json["item"]["waits"]  # type: ignore[index]
    assert (closed["outcome"], closed["value"], closed["by"]) == ("answered", 7, "ann")


@pytest.mark.parametrize("named", ["b", "{id}.w2", "{short}.w2"])
def test_a_wait_is_named_by_its_name_or_its_id(run: Run, log: EventLog, named: str) -> None:
    head = waiting(log, "a", "b")
    named = named.format(id=head.exec_id, short=head.exec_id[:30])
    assert run("executions", "input", head.exec_id, "--wait", named, "--value", "7").code == 0
    assert [pending.name for pending in log.head(head.exec_id).state.pending] == ["a"]


def test_a_wait_whose_name_is_anothers_number_is_not_mixed_up(run: Run, log: EventLog) -> None:
    head = waiting(log, "2", "x")
    assert run("executions", "input", head.exec_id, "--wait", "x", "--value", "7").code == 0
    assert [pending.name for pending in log.head(head.exec_id).state.pending] == ["2"]


def test_the_id_of_another_executions_wait_fits_none_here(run: Run, log: EventLog) -> None:
    head, other = waiting(log, "a"), waiting(log, "a")
    ran = run("executions", "input", head.exec_id, "--wait", f"{other.exec_id}.w1", "--value", "7")
    assert (ran.code, version(log, head)) == (4, head.version)


def test_a_wait_inside_a_task_is_found_by_its_bare_name(run: Run, log: EventLog) -> None:
    head = waiting(log, "1/q", "2/q", "2/only")
    ambiguous = run("executions", "input", head.exec_id, "--wait", "q", "--value", "1")
    assert (ambiguous.code, "'1/q', '2/q'" in ambiguous.err) == (4, True)
    assert run("executions", "input", head.exec_id, "--wait", "only", "--value", "1").code == 0
    assert run("executions", "input", head.exec_id, "--wait", "2/q", "--value", "1").code == 0


@pytest.mark.parametrize(
    ("typed", "schema", "recorded"),
    [
        ("true", "boolean", True), ("yes", "string", "yes"), ('"yes"', "string", "yes"), ("2024", "string", "2024"),
        ("null", None, None), ("fine", None, "fine"), ("[1, 2]", "array", [1, 2]), ("@-", "string", "from stdin"),
    ],
)  # fmt: skip
def test_an_answer_is_json_where_that_fits_else_text(
    run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch, typed: str, schema: str | None, recorded: object
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("from stdin"))
    head = waiting(log, "a", schema=schema)
    ran = run("executions", "input", head.exec_id, "--value", typed, "-o", "json")
    assert ran.json["item"]["waits"][0]["value"] == recorded  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--value", '"x"'), 2, "valid integer"),
        (("--value", "1.5"), 2, "valid integer"),
        (("--value", "{bad"), 2, "no JSON"),
        (("--value", "[" * 5000), 2, "does not fit"),
        (("--value", "@missing.json"), 2, "cannot be read"),
        (("--value", "1", "--wait", "nope"), 4, "'a'"),
        (("--value", "1", "--wait", ""), 2, "name"),
        (("--value", "1", "--wait", "a\x00b"), 2, "control character"),
        (("--value", "1", "--by", ""), 2, "by"),
        (("--value", "1", "--abort"), 2, "exclude"),
        ((), 2, "--value"),
    ],
)
def test_a_bad_answer_is_refused_and_changes_nothing(
    run: Run, log: EventLog, words: tuple[str, ...], code: int, says: str
) -> None:
    head = waiting(log, "a")
    ran = run("executions", "input", head.exec_id, *words)
    assert (ran.code, version(log, head)) == (code, head.version)
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_an_error_names_its_command(run: Run, log: EventLog) -> None:
    ran = run("executions", "input", waiting(log, "a").exec_id, "--value", "x", "-o", "json")
    assert (ran.code, ran.error["type"], ran.error["code"]) == (2, "KitaruWaitValidationError", "wait-validation")


def test_several_waits_want_a_name(run: Run, log: EventLog) -> None:
    head = waiting(log, "a", "b")
    ran = run("executions", "input", head.exec_id, "--value", "1")
    assert (ran.code, "'a', 'b'" in ran.err, version(log, head)) == (4, True, head.version)


def test_a_prefix_that_fits_two_is_exit_2(run: Run, log: EventLog) -> None:
    first, second = waiting(log, "a"), waiting(log, "a")
    assert first.exec_id[:8] == second.exec_id[:8]
    assert run("executions", "input", first.exec_id[:8], "--value", "1").code == 2


def test_no_execution_at_all_is_exit_2_and_an_unknown_one_exit_3(run: Run, log: EventLog) -> None:
    waiting(log, "a")
    assert run("executions", "input", "--value", "1").code == 2
    assert run("executions", "input", "ffff", "--value", "1").code == 3


def test_the_second_answer_is_exit_4(run: Run, log: EventLog) -> None:
    head = waiting(log, "a", "b")
    assert run("executions", "input", head.exec_id, "--wait", "a", "--value", "1").code == 0
    assert run("executions", "input", head.exec_id, "--wait", "a", "--value", "2").code == 4


def test_an_answer_of_50_mb_is_taken_where_it_fits(run: Run, log: EventLog, tmp_path: Path) -> None:
    (tmp_path / "large").write_text("x" * 50_000_000)
    text, number = waiting(log, "a", schema="string"), waiting(log, "a")
    assert run("executions", "input", text.exec_id, "--value", f"@{tmp_path / 'large'}").code == 0
    refused = run("executions", "input", number.exec_id, "--value", f"@{tmp_path / 'large'}")
    assert (refused.code, version(log, number), len(refused.err) < 1000) == (2, number.version, True)


def test_an_answer_past_the_limit_is_exit_2(run: Run, log: EventLog, tmp_path: Path) -> None:
    (tmp_path / "large").write_text("x" * (64 * 1024 * 1024 + 1))
    head = waiting(log, "a", schema="string")
    ran = run("executions", "input", head.exec_id, "--value", f"@{tmp_path / 'large'}")
    assert (ran.code, version(log, head), len(ran.err) < 1000) == (2, head.version, True)


def test_an_abort_cancels(run: Run, log: EventLog) -> None:
    head = waiting(log, "a")
    item = run("executions", "input", head.exec_id, "--abort", "-o", "json").json["item"]
    assert (item["status"], item["waits"][0]["outcome"]) == ("cancelled", "aborted")  # type: ignore[index]


def test_interactive_asks_for_all_and_asks_again_after_a_bad_answer(
    run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = waiting(log, "a"), waiting(log, "b"), waiting(log, "c")
    monkeypatch.setattr(sys, "stdin", io.StringIO("seven\n7\n\n9\n"))
    ran = run("executions", "input", "--interactive")
    assert (ran.code, "valid integer" in ran.err) == (0, True)
    assert [bool(log.head(head.exec_id).state.pending) for head in (first, second, third)] == [False, True, False]
    assert ran.err.endswith("answered 2 of 3\n")


def test_interactive_says_how_to_go_on(run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    head = waiting(log, "a", "b")
    monkeypatch.setattr(sys, "stdin", io.StringIO("7\n8\n"))
    said = run("executions", "input", head.exec_id, "--interactive").err
    assert f"answered a of {head.exec_id}, which still waits for b: kitaru executions input {head.exec_id}\n" in said
    assert f"answered b of {head.exec_id}; go on with: kitaru executions resume {head.exec_id}" in said


def test_interactive_ends_with_its_input(run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    head = waiting(log, "a")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run("executions", "input", head.exec_id, "--interactive").code == 0
    assert run("executions", "input", head.exec_id, "--interactive", "--wait", "nope").code == 4
    assert version(log, head) == head.version


def test_what_somebody_else_answered_meanwhile_is_skipped(run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    head = waiting(log, "a")

    class Slow(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            log.execute(head.exec_id, c.Answer("a", value(1), "other"), 6)
            return "2\n"

    monkeypatch.setattr(sys, "stdin", Slow())
    assert run("executions", "input", "--interactive").err.endswith("answered 0 of 1\n")


def test_interactive_does_not_ask_for_what_has_expired(run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    expired = append(log, started(log), wait(1, "late", expires_at=10))
    append(log, expired, e.ExecutionSuspended(at=5))
    other = waiting(log, "a")
    monkeypatch.setattr(sys, "stdin", io.StringIO("7\n"))
    ran = run("executions", "input", "--interactive")
    assert f"late of {expired.exec_id} has expired" in ran.err
    assert f"kitaru executions resume {expired.exec_id}" in ran.err
    assert ran.err.endswith("answered 1 of 1\n")
    assert log.head(other.exec_id).state.pending == ()


def test_interactive_takes_a_word_for_a_choice(run: Run, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    head = waiting(log, "a", schema="boolean")
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    ran = run("executions", "input", head.exec_id, "--interactive", "-o", "json")
    assert ran.json["items"][0]["waits"][0]["value"] is True  # type: ignore[index]
