"""What every event log does when histories are dropped: the part of the contract that is about retention."""

from __future__ import annotations

from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import KitaruNotFoundError, KitaruStateError
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES
from kitaru.domain.payload import Payload
from kitaru.domain.state import ExecutionStatus
from kitaru.store.log import EventLog, Head
from kitaru.testing.events import append, call, completed, raises, start

_LARGE = b"z" * (INLINE_PAYLOAD_BYTES + 1)


class DroppingContract:
    """The cases; EventLogContract has them all."""

    log: EventLog

    def dropped(self) -> Head:
        """An execution whose events are gone."""
        head = append(self.log, start(self.log), *call(1, b"a value"), *call(2, _LARGE), completed())
        assert self.log.drop_histories([(head.exec_id, head.version)], "me", 9) == [head.exec_id]
        return head

    def test_a_dropped_history_leaves_one_event_that_says_how_it_ended(self) -> None:
        before = self.dropped()
        (recorded,) = self.log.read(before.exec_id)
        event = recorded.event
        assert isinstance(event, e.HistoryDropped)
        assert (recorded.version, event.through, event.previous) == (before.version + 1, before.version, before.digest.hex())
        after = self.log.head(before.exec_id)
        assert (after.number, after.version) == (before.number, before.version + 1)
        assert (after.state.status, after.state.epoch, after.state.erased) == (ExecutionStatus.COMPLETED, 1, True)

    def test_a_dropped_history_is_read_in_every_way(self) -> None:
        head = self.dropped()
        assert [event for batch in self.log.outline(head.exec_id) for event in batch] == [
            recorded.event for recorded in self.log.read(head.exec_id)
        ]
        assert list(self.log.read(head.exec_id, limit=1)) == []
        assert list(self.log.read(head.exec_id, after=head.version - 1, limit=1)) == []
        assert [r.version for r in self.log.read(head.exec_id, after=head.version)] == [head.version + 1]
        assert [r.version for r in self.log.tail() if r.exec_id == head.exec_id] == [head.version + 1]

    def test_a_stream_goes_on_after_its_history_was_dropped(self) -> None:
        head = self.dropped()
        self.log.execute(head.exec_id, c.ChangeTags(("late",), (), "me"), 10)
        assert [type(r.event) for r in self.log.read(head.exec_id)] == [e.HistoryDropped, e.TagsChanged]
        with raises(KitaruStateError):
            self.log.execute(head.exec_id, c.Resume("me", None, None), 11)

    def test_values_go_with_a_dropped_history(self) -> None:
        head = append(self.log, start(self.log), completed(_LARGE))
        (*_, last) = self.log.read(head.exec_id)
        assert isinstance(last.event, e.ExecutionCompleted)
        self.log.drop_histories([(head.exec_id, head.version)], "me", 9)
        with raises(KitaruNotFoundError):
            self.log.load(Payload(last.event.output.digest, last.event.output.size, "k1"))

    def test_read_models_keep_what_they_keep(self) -> None:
        head = self.dropped()
        assert self.log.query("SELECT events FROM event_counts WHERE number = ?", (head.number,)) == [(head.version + 1,)]

    def test_what_has_gone_on_or_runs_keeps_its_history(self) -> None:
        running = append(self.log, start(self.log), *call(1))
        ended = append(self.log, start(self.log), completed())
        after, _ = self.log.execute(ended.exec_id, c.ChangeTags(("t",), (), "me"), 5)
        chosen = [(running.exec_id, running.version), (ended.exec_id, ended.version), ("no such", 1)]
        assert self.log.drop_histories(chosen, "me", 9) == []
        assert len(list(self.log.read(running.exec_id))) == running.version
        assert len(list(self.log.read(ended.exec_id))) == after.version

    def test_an_execution_without_a_history_is_deleted_as_any_other(self) -> None:
        head = self.dropped()
        self.log.delete(head.exec_id)
        assert [tombstone.exec_id for tombstone in self.log.tombstones()] == [head.exec_id]
        with raises(KitaruNotFoundError):
            self.log.head(head.exec_id)

    def test_positions_rise_past_a_dropped_history(self) -> None:
        before = self.log.last_position()
        head = self.dropped()
        position = self.log.last_position()
        assert position > before
        assert start(self.log).number == head.number + 1
        assert min(r.position for r in self.log.tail(after=position)) > position
