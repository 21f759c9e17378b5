"""What every event log does, whatever it is built on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import cast

from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import (
    KitaruBackendError,
    KitaruNotFoundError,
    KitaruRuntimeError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.domain.limits import INLINE_PAYLOAD_BYTES, MAX_NAME_CHARS, MAX_PAYLOAD_BYTES
from kitaru.domain.outline import CallCompleted, CallStarted
from kitaru.domain.payload import Payload, digest_of
from kitaru.domain.state import ExecutionStatus
from kitaru.store.log import AppendConflict, EventLog, Head, ProjectorFactory, Recorded
from kitaru.testing.counts import EventCounts
from kitaru.testing.dropping import DroppingContract
from kitaru.testing.events import append, call, completed, new_id, raises, start, started
from kitaru.testing.lines import LogLinesContract

_LARGE = b"x" * (INLINE_PAYLOAD_BYTES + 1)


class EventLogContract(LogLinesContract, DroppingContract):
    """Subclass it for a backend; each test gets a log of its own."""

    log: EventLog

    def make_log(self, projectors: Sequence[ProjectorFactory]) -> EventLog:
        """A new, empty log with these read models."""
        raise NotImplementedError

    def setup_method(self) -> None:
        """Open a log."""
        self.log = self.make_log((EventCounts,))

    def teardown_method(self) -> None:
        """Close it."""
        self.log.close()

    # --- starting, appending, reading -----------------------------------------------------------------------------------

    def test_a_start_begins_the_stream(self) -> None:
        head, events = self.log.execute(new_id(), c.Start(started(), "runner"), 1)
        assert [type(event) for event in events] == [e.ExecutionStarted, e.RunnerClaimed]
        assert (head.version, head.number, head.state.status, head.state.epoch) == (2, 1, ExecutionStatus.RUNNING, 1)

    def test_numbers_are_dense(self) -> None:
        assert [start(self.log).number for _ in range(3)] == [1, 2, 3]

    def test_what_was_appended_is_read_back_with_its_payloads(self) -> None:
        head = start(self.log)
        events = (*call(1, b"one"), *call(2, b""))
        append(self.log, head, *events)
        found = [recorded.event for recorded in self.log.read(head.exec_id, after=2)]
        assert found == list(events)

    def test_an_event_keeps_several_payloads_apart(self) -> None:
        head = start(self.log)
        failed = e.ExecutionFailed(
            at=5,
            origin="user_code",  # pyright: ignore[reportArgumentType]
            exception_type="ValueError",
            message=Payload.of(b"message", "k1"),
            traceback=Payload.of(_LARGE, "k1"),
            exception=Payload.of(b"", "k1"),
        )
        append(self.log, head, failed)
        found = cast("e.ExecutionFailed", self.events_of(head)[-1])
        assert found.traceback is not None
        assert found.exception is not None
        assert (found.message.data, found.traceback.data, found.exception.data) == (b"message", None, b"")

    def test_a_head_in_the_store_holds_all_but_the_calls(self) -> None:
        head = start(self.log)
        wait = e.WaitOpened(at=3, wait=1, kind="input", invocation_id="w", name="ask", expires_at=9)
        kept = append(self.log, head, *call(1), wait)
        assert self.log.head(head.exec_id) == kept._replace(
            state=kept.state._replace(calls=0, completed=0, attempts=head.state.attempts)
        )

    def test_read_gives_a_part(self) -> None:
        head = append(self.log, start(self.log), *call(1), *call(2))
        assert [r.version for r in self.log.read(head.exec_id, after=3, limit=2)] == [4, 5]
        assert [r.version for r in self.log.read(head.exec_id, after=6)] == []

    def test_an_outline_tells_the_same_story(self) -> None:
        wait = e.WaitOpened(at=3, wait=1, kind="input", invocation_id="w", name="ask", expires_at=9)
        again = e.AttemptStarted(at=4, call=3, attempt=2)
        large = e.CheckpointCompleted(at=5, call=3, attempt=2, output=Payload.of(_LARGE, "k1"))
        head = append(self.log, start(self.log), *call(1, b"one"), wait, *call(2, b"")[:1], call(3)[0])
        append(self.log, head, again, large)
        opened, completed_, *rest = [event for batch in self.log.outline(head.exec_id) for event in batch][2:]
        assert opened == CallStarted(1, 1, "step_1", "step", "0" * 64)
        assert isinstance(completed_, CallCompleted)
        assert (completed_.call, completed_.output) == (1, Payload.of(b"one", "k1"))
        assert rest[0] == wait
        assert [type(event) for event in rest[1:]] == [CallStarted, CallStarted, e.AttemptStarted, e.CheckpointCompleted]

    def test_an_outline_ends_where_it_is_asked_to(self) -> None:
        head = append(self.log, start(self.log), *call(1), *call(2))
        assert sum(map(len, self.log.outline(head.exec_id, limit=4))) == 4

    def test_the_tail_is_in_the_order_of_the_appends(self) -> None:
        a, b = start(self.log), start(self.log)
        b = append(self.log, b, *call(1))
        append(self.log, a, *call(1))
        tail = self.log.tail()
        assert [(r.number, r.version) for r in tail] == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (2, 4), (1, 3), (1, 4)]
        positions = [r.position for r in tail]
        assert positions == sorted(set(positions))
        assert self.log.tail(after=positions[2], limit=2) == tail[3:5]
        assert self.log.last_position() == positions[-1]

    def test_ids_are_found_by_their_beginning(self) -> None:
        ids = [start(self.log).exec_id for _ in range(3)]
        assert self.log.find_ids(ids[0][:8]) == ids
        assert self.log.find_ids(ids[1]) == [ids[1]]
        assert len(self.log.find_ids("", limit=2)) == 2
        assert self.log.find_ids("zzz") == []

    def test_an_unknown_execution_is_not_found(self) -> None:
        for ask in (self.log.head, self.log.read, self.log.delete):
            with raises(KitaruNotFoundError):
                ask(new_id())
        with raises(KitaruNotFoundError):
            self.log.execute(new_id(), c.Cancel("me", None), 1)

    # --- conflicts -----------------------------------------------------------------------------------------------------

    def test_an_append_to_an_older_head_conflicts_and_appends_nothing(self) -> None:
        head = start(self.log)
        append(self.log, head, *call(1))
        before = self.log.last_position()
        with raises(AppendConflict):
            append(self.log, head, *call(2))
        assert self.log.last_position() == before

    def test_an_append_repeated_with_its_ids_finds_itself(self) -> None:
        head, ids = start(self.log), [new_id(), new_id()]
        first = append(self.log, head, *call(1), ids=ids)
        assert append(self.log, head, *call(1), ids=ids) == first
        assert first.version == self.log.head(head.exec_id).version

    def test_an_append_finds_itself_under_what_came_later(self) -> None:
        head, ids = start(self.log), [new_id(), new_id()]
        first = append(self.log, head, *call(1), ids=ids)
        append(self.log, first, *call(2))
        assert append(self.log, head, *call(1), ids=ids) == first

    def test_a_command_is_decided_on_what_stands_there(self) -> None:
        head = start(self.log)
        append(self.log, head, e.WaitOpened(at=3, wait=1, kind="input", invocation_id="w", name="ask"))
        after, events = self.log.execute(head.exec_id, c.Answer("ask", Payload.of(b"42", "k1"), "me"), 4)
        assert [type(event) for event in events] == [e.WaitResolved]
        assert (after.version, after.state.status) == (4, ExecutionStatus.RUNNING)

    def test_a_refused_command_appends_nothing(self) -> None:
        head = start(self.log)
        with raises(KitaruStateError):
            self.log.execute(head.exec_id, c.Answer("ask", Payload.of(b"42", "k1"), "me"), 4)
        assert self.log.head(head.exec_id).version == 2

    def test_a_second_start_of_an_execution_is_refused(self) -> None:
        head = start(self.log)
        with raises(KitaruStateError):
            self.log.execute(head.exec_id, c.Start(started(), None), 1)

    def test_an_idempotency_key_gives_the_execution_that_has_it(self) -> None:
        head = start(self.log, key="k")
        assert self.log.execute(new_id(), c.Start(started(key="k"), "other"), 2) == (self.log.head(head.exec_id), ())
        assert start(self.log, "another flow", key="k").exec_id != head.exec_id

    def test_threads_lose_nothing(self) -> None:
        heads = [start(self.log) for _ in range(8)]
        errors: list[BaseException] = []

        def run(head: Head) -> None:
            try:
                for number in range(1, 26):
                    for event in call(number):
                        head = append(self.log, head, event)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(head,)) for head in heads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        for head in heads:
            assert [r.version for r in self.log.read(head.exec_id)] == list(range(1, 53))

    def test_threads_on_one_stream_lose_nothing(self) -> None:
        head = start(self.log)
        names = [f"tag {n}" for n in range(24)]

        def run(part: Sequence[str]) -> None:
            for name in part:
                self.log.execute(head.exec_id, c.ChangeTags((name,), (), "me"), 2)

        threads = [threading.Thread(target=run, args=(names[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tagged = [event.add[0] for event in self.events_of(head) if isinstance(event, e.TagsChanged)]
        assert sorted(tagged) == sorted(names)

    # --- payloads, deleting, erasing -------------------------------------------------------------------------------------

    def test_a_large_payload_is_loaded(self) -> None:
        head = append(self.log, start(self.log), *call(1, _LARGE))
        output = self.output_of(head)
        assert output.data is None
        assert self.log.load(output) == _LARGE

    def test_a_large_payload_can_be_recorded_again_by_digest(self) -> None:
        first = append(self.log, start(self.log), *call(1, _LARGE))
        reference = self.output_of(first)
        second = append(self.log, start(self.log), e.ExecutionCompleted(at=4, output=reference))
        assert self.log.load(self.output_of(second)) == _LARGE

    def test_a_payload_that_is_nowhere_is_refused(self) -> None:
        head = start(self.log)
        with raises(KitaruNotFoundError, KitaruRuntimeError):
            append(
                self.log,
                head,
                e.ExecutionCompleted(at=4, output=Payload(digest=digest_of(_LARGE), size=len(_LARGE), codec="k1")),
            )
        assert self.log.head(head.exec_id).version == 2

    def test_a_shared_payload_stays_while_somebody_has_it(self) -> None:
        first = append(self.log, start(self.log), completed(_LARGE))
        second = append(self.log, start(self.log), completed(_LARGE))
        output = self.output_of(first)
        self.log.delete(first.exec_id)
        assert self.log.load(output) == _LARGE
        self.log.delete(second.exec_id)
        with raises(KitaruNotFoundError):
            self.log.load(output)

    def test_a_deleted_execution_leaves_a_tombstone_behind_everything(self) -> None:
        first, second = start(self.log), start(self.log)
        second = append(self.log, second, completed())
        last = self.log.last_position()
        self.log.delete(second.exec_id)
        (tombstone,) = self.log.tombstones()
        assert tombstone.exec_id == second.exec_id
        assert tombstone.position > last
        append(self.log, first, *call(1))
        assert min(r.position for r in self.log.tail(after=last)) > tombstone.position
        assert start(self.log).number == 3
        with raises(KitaruNotFoundError):
            self.log.read(second.exec_id)

    def test_a_running_execution_is_not_deleted(self) -> None:
        head = start(self.log)
        with raises(KitaruStateError):
            self.log.delete(head.exec_id)
        assert self.log.head(head.exec_id).version == 2

    def test_erasing_forgets_the_bytes_and_keeps_the_events(self) -> None:
        head = append(self.log, start(self.log), *call(1, b"secret"), *call(2, _LARGE), completed(b"secret"))
        before = self.events_of(head)
        large = cast("e.CheckpointCompleted", before[5]).output
        after = self.log.erase(head.exec_id, "me", 9)
        found = self.events_of(head)
        assert [type(event) for event in found] == [*(type(event) for event in before), e.PayloadErased]
        assert cast("e.CheckpointCompleted", found[3]).output.data is None
        assert after.version == len(found)
        with raises(KitaruNotFoundError):
            self.log.load(large)

    def test_a_running_execution_is_not_erased(self) -> None:
        head = start(self.log)
        with raises(KitaruStateError):
            self.log.erase(head.exec_id, "me", 9)

    # --- limits --------------------------------------------------------------------------------------------------------

    def test_a_payload_at_the_limit_is_taken_and_one_over_it_refused(self) -> None:
        head = append(self.log, start(self.log), *call(1, b"x" * MAX_PAYLOAD_BYTES))
        with raises(KitaruRuntimeError):
            append(self.log, head, *call(2, b"x" * (MAX_PAYLOAD_BYTES + 1)))
        assert self.log.head(head.exec_id).version == 4

    def test_a_name_at_the_limit_is_taken_and_one_over_it_refused(self) -> None:
        head = start(self.log)
        after, _ = self.log.execute(head.exec_id, c.ChangeTags(("t" * MAX_NAME_CHARS,), (), "me"), 2)
        with raises(KitaruUsageError):
            self.log.execute(head.exec_id, c.ChangeTags(("t" * (MAX_NAME_CHARS + 1),), (), "me"), 2)
        assert self.log.head(head.exec_id).version == after.version

    def test_a_name_that_is_no_text_is_refused(self) -> None:
        head = start(self.log)
        with raises(KitaruUsageError):
            self.log.execute(head.exec_id, c.ChangeTags(("\ud800",), (), "me"), 2)

    def test_an_event_outside_the_union_is_refused(self) -> None:
        head = start(self.log)
        with raises(KitaruUsageError):
            append(self.log, head, e.EventBase(at=1))

    # --- read models, waking, closing ------------------------------------------------------------------------------------

    def test_read_models_are_as_fresh_as_the_events(self) -> None:
        head = append(self.log, start(self.log), *call(1))
        assert self.log.query("SELECT events FROM event_counts WHERE number = ?", (head.number,)) == [(4,)]
        head = append(self.log, head, completed())
        self.log.delete(head.exec_id)
        assert self.log.query("SELECT * FROM event_counts") == []

    def test_a_read_model_that_fails_takes_the_events_back(self) -> None:
        head = start(self.log)
        refused = e.ArtifactSaved(at=2, name="refuse", kind="blob", value=Payload.of(b"1", "k1"))
        with raises(RuntimeError):
            append(self.log, head, refused)
        assert self.log.head(head.exec_id).version == 2
        assert self.log.query("SELECT events FROM event_counts") == [(2,)]
        assert append(self.log, head, *call(1)).version == 4

    def test_queries_cannot_write(self) -> None:
        start(self.log)
        with raises(KitaruBackendError):
            self.log.query("DELETE FROM event_counts")
        assert len(self.log.query("SELECT * FROM event_counts")) == 1

    def test_a_snapshot_sees_one_moment(self) -> None:
        head = append(self.log, start(self.log), *call(1))
        with self.log.snapshot() as moment:
            assert moment.head(head.exec_id).version == 4
            assert [r.version for r in moment.read(head.exec_id)] == [1, 2, 3, 4]
            assert moment.query("SELECT events FROM event_counts") == [(4,)]

    def test_a_commit_changes_the_token(self) -> None:
        token = self.log.changes.token()
        assert self.log.changes.token() == token
        start(self.log)
        assert self.log.changes.token() != token
        assert self.log.changes.wait(token, 60) != token

    def test_waiting_for_nothing_ends_with_its_time(self) -> None:
        token = self.log.changes.token()
        assert self.log.changes.wait(token, 0.01) == token

    def test_a_commit_wakes_who_waits(self) -> None:
        token = self.log.changes.token()
        woken: list[int] = []
        thread = threading.Thread(target=lambda: woken.append(self.log.changes.wait(token, 60)))
        thread.start()
        start(self.log)
        thread.join(30)
        assert woken
        assert woken[0] != token

    def test_a_lease_lives_until_it_is_released(self) -> None:
        runner = self.log.leases.acquire()
        assert self.log.leases.acquire() == runner
        assert self.log.leases.is_alive(runner)
        self.log.leases.release()
        assert not self.log.leases.is_alive(runner)

    def test_a_closed_log_refuses(self) -> None:
        head = start(self.log)
        self.log.close()
        for use in (lambda: append(self.log, head, *call(1)), lambda: self.log.head(head.exec_id), self.log.tail):
            with raises(KitaruUsageError):
                use()

    def events_of(self, head: Head) -> list[e.EventBase]:
        """The stream's events."""
        return [recorded.event for recorded in self.log.read(head.exec_id)]

    def output_of(self, head: Head) -> Payload:
        """The output in the stream's last event."""
        last: Recorded = list(self.log.read(head.exec_id))[-1]
        assert isinstance(last.event, (e.CheckpointCompleted, e.ExecutionCompleted))
        return last.event.output
