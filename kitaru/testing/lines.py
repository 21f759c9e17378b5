"""What every event log does with log lines: the part of the contract that is about telemetry."""

from __future__ import annotations

from kitaru.domain import commands as c
from kitaru.store.lines import LogLine, Wanted, last_lines, read_lines, repeated_of
from kitaru.store.log import EventLog
from kitaru.testing.events import append, call, completed, start


def line(number: int, message: str, **more: object) -> LogLine:
    """A line of the flow's body."""
    return LogLine(number, 1, "step", "INFO", message)._replace(**more)


class LogLinesContract:
    """The cases; EventLogContract has them all."""

    log: EventLog

    def messages(self, number: int, **more: object) -> list[str]:
        """The messages of an execution's lines, as they are read."""
        self.log.lines.flush()
        wanted = Wanted(number, "step")._replace(**more)
        return [found.message for found in read_lines(self.log, wanted)]

    def test_lines_are_read_in_the_order_in_which_they_were_added(self) -> None:
        first, second = start(self.log).number, start(self.log).number
        for n in range(3):
            self.log.lines.add(line(first, f"first {n}"))
            self.log.lines.add(line(second, f"second {n}"))
        assert self.messages(first) == ["first 0", "first 1", "first 2"]
        assert self.messages(second) == ["second 0", "second 1", "second 2"]

    def test_lines_are_chosen_by_source_and_call(self) -> None:
        number = start(self.log).number
        self.log.lines.add(line(number, "body"))
        self.log.lines.add(line(number, "own", source="runner"))
        self.log.lines.add(line(number, "called", checkpoint="step", invocation_id="step_2", call=2, attempt=1))
        assert self.messages(number) == ["body", "called"]
        assert self.messages(number, source="runner") == ["own"]
        assert self.messages(number, checkpoint="step") == self.messages(number, checkpoint="step_2") == ["called"]
        assert self.messages(number, checkpoint="an id", call=2) == ["called"]
        assert self.messages(number, checkpoint="step_3") == []

    def test_lines_are_read_on_from_a_row(self) -> None:
        number = start(self.log).number
        for n in range(5):
            self.log.lines.add(line(number, str(n)))
        self.log.lines.flush()
        wanted = Wanted(number, "step")
        first = read_lines(self.log, wanted, limit=2)
        assert [found.message for found in read_lines(self.log, wanted, after=first[-1].row)] == ["2", "3", "4"]
        assert [found.message for found in last_lines(self.log, wanted, 2)] == ["3", "4"]

    def test_lines_ride_with_the_next_append(self) -> None:
        head = start(self.log)
        self.log.lines.add(line(head.number, "before"))
        append(self.log, head, *call(1))
        assert [found.message for found in read_lines(self.log, Wanted(head.number, "step"))] == ["before"]

    def test_lines_of_a_body_tell_how_many_there_are(self) -> None:
        number = start(self.log).number
        for path, ordinal in (("", 1), ("", 2), ("1/", 1)):
            self.log.lines.add(line(number, "printed", path=path, ordinal=ordinal))
        self.log.lines.flush()
        assert repeated_of(self.log, number) == {"": 2, "1/": 1}

    def test_lines_go_with_a_deleted_execution_and_none_comes_after(self) -> None:
        head = append(self.log, start(self.log), completed())
        self.log.lines.add(line(head.number, "kept"))
        assert self.messages(head.number) == ["kept"]
        self.log.delete(head.exec_id)
        self.log.lines.add(line(head.number, "late"))
        assert self.messages(head.number) == []

    def test_lines_go_with_erased_values_and_none_comes_after(self) -> None:
        head = append(self.log, start(self.log), completed())
        self.log.lines.add(line(head.number, "kept"))
        assert self.messages(head.number) == ["kept"]
        self.log.execute(head.exec_id, c.Erase("me"), 9)
        self.log.lines.add(line(head.number, "late"))
        assert self.messages(head.number) == []

    def test_a_line_that_cannot_be_written_hinders_nothing(self) -> None:
        head = start(self.log)
        self.log.lines.add(line(head.number, "whole", lineno=2**70))
        self.log.lines.add(line(head.number, "after"))
        append(self.log, head, *call(1))
        assert self.log.head(head.exec_id).version == 4
