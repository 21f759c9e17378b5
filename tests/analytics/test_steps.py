"""Statistics of checkpoint calls and of LLM usage: on disk and in memory, with and without a base."""

from __future__ import annotations

from kitaru.domain import events as e
from kitaru.domain.usage import UsageFigures
from kitaru.store.log import EventLog, Head
from kitaru.testing.events import append
from tests.analytics.counting import Place, counts, raw
from tests.analytics.filling import SECOND, end, payload, run


def opened(number: int, name: str = "step", *, at: int = 0, kind: str | None = None) -> e.AttemptStarted:
    return e.AttemptStarted(
        at=at, call=number, attempt=1, invocation_id=name, name=name, checkpoint_type=kind, input_digest="00"
    )


def completed(number: int, *, at: int, attempt: int = 1) -> e.CheckpointCompleted:
    return e.CheckpointCompleted(at=at, call=number, attempt=attempt, output=payload(1))


def failed(number: int, *, at: int) -> e.AttemptFailed:
    return e.AttemptFailed(
        at=at, call=number, attempt=1, origin=e.FailureOrigin.USER_CODE, exception_type="builtins.ValueError",
        message=payload("no"),
    )  # fmt: skip


def used(call: int, record: str, *, at: int = 0, **figures: object) -> e.LLMUsageRecorded:
    said = {"record_id": record, "usage": {"raw": {"x": 1}}, "cost": {"source": "calculator"}, "surface": "direct_llm"}
    return e.LLMUsageRecorded(
        at=at,
        call=call,
        attempt=1,
        record_id=record,
        record=payload(said),
        figures=UsageFigures(**figures),  # type: ignore[arg-type]
    )


def filled(log: EventLog) -> Head:
    """Three calls of an execution with tag and metadata, one of another."""
    head = run(log, "a", seconds=None, tags=("x",), metadata={"tier": "pro"})
    head = append(
        log,
        head,
        opened(1, "fetch", at=SECOND, kind="tool"),
        completed(1, at=3 * SECOND),
        opened(2, "think", at=4 * SECOND, kind="llm_call"),
        used(2, "r1", at=5 * SECOND, model="m", actual_cost=3 * 10**9, total_tokens=12, input_tokens=10, output_tokens=2),
        used(2, "r2", at=6 * SECOND, model="m", estimated_cost=10**9, total_tokens=5, latency_us=250_000, provider="p"),
        used(2, "r3", model="n", billing_effect="reused_not_incurred", actual_cost=10**10, total_tokens=100),
        failed(2, at=7 * SECOND),
        e.AttemptStarted(at=8 * SECOND, call=2, attempt=2),
        completed(2, at=9 * SECOND, attempt=2),
        opened(3, "think", at=10 * SECOND, kind="llm_call"),
    )
    append(log, run(log, "b", seconds=None), opened(1, "fetch", at=SECOND))
    return head


def test_calls_are_counted_by_name_type_and_status(place: Place) -> None:
    filled(place.log)
    assert counts(place, "checkpoint", subject="checkpoints") == {"fetch": 2, "think": 2}
    assert counts(place, "type", subject="checkpoints") == {"tool": 1, "llm_call": 2, None: 1}
    assert counts(place, "status", subject="checkpoints") == {"completed": 2, "running": 2}
    assert counts(place, ["checkpoint", "status"], subject="checkpoints", status="running") == {
        ("think", "running"): 1, ("fetch", "running"): 1,
    }  # fmt: skip


def test_calls_have_what_their_execution_has(place: Place) -> None:
    filled(place.log)
    assert counts(place, "tag", subject="checkpoints") == {"x": 3, None: 1}
    assert counts(place, "metadata:tier", subject="checkpoints") == {"pro": 3, None: 1}
    assert counts(place, subject="checkpoints", flow="a") == {(): 3}
    assert counts(place, subject="checkpoints", tags="x") == {(): 3}
    assert counts(place, subject="checkpoints", where={"tier": {"!=": "pro"}}) == {(): 1}


def test_calls_are_measured(place: Place) -> None:
    filled(place.log)
    specs = ("d:duration:sum", "a:attempt_count:sum", "c:llm_cost:sum", "t:llm_tokens:sum", "i:llm_input_tokens:max")
    found = {group.keys: group.metrics for group in raw(place, "checkpoint", specs, subject="checkpoints")}
    assert found == {("fetch",): (2.0, 2, None, None, None), ("think",): (5.0, 3, 0.4, 117, 10)}


def test_usage_is_counted_by_model_and_effect(place: Place) -> None:
    filled(place.log)
    assert counts(place, "model", subject="llm_usage") == {"m": 2, "n": 1}
    assert counts(place, "provider", subject="llm_usage") == {"p": 1, None: 2}
    assert counts(place, "billing_effect", subject="llm_usage") == {"incurred": 2, "reused_not_incurred": 1}
    assert counts(place, "adapter", subject="llm_usage") == {"kitaru.llm": 3}
    assert counts(place, "checkpoint", subject="llm_usage") == {"think": 3}
    assert counts(place, "tag", subject="llm_usage", where={"tier": "pro"}) == {"x": 3}


def test_costs_add_up_in_ten_places(place: Place) -> None:
    head = filled(place.log)
    specs = ("c:cost:sum", "a:actual_cost:sum", "e:estimated_cost:sum", "t:tokens:sum", "l:latency:avg")
    (group,) = raw(place, (), specs, subject="llm_usage")
    assert group.metrics == (0.4, 1.3, 0.1, 117, 0.25)
    append(place.log, head, *(used(3, f"s{number}", actual_cost=1) for number in range(7)))
    (group,) = raw(place, (), "c:cost:sum", subject="llm_usage")
    assert group.metrics == (0.4000000007,)


def test_calls_follow_the_store(place: Place) -> None:
    head = run(place.log, seconds=None)
    assert counts(place, "status", subject="checkpoints") == {}
    for number in range(1, 4):
        head = append(place.log, head, opened(number, at=number))
        assert counts(place, "status", subject="checkpoints").get("running") == 1
        head = append(place.log, head, completed(number, at=number))
        assert counts(place, "status", subject="checkpoints") == {"completed": number}
    end(place.log, head, 9)
    place.log.delete(head.exec_id)
    assert counts(place, "status", subject="checkpoints") == {}


def test_records_keep_their_figures_when_payloads_are_erased(place: Place) -> None:
    head = end(place.log, filled(place.log), 20 * SECOND)
    before = raw(place, "model", "c:cost:sum", subject="llm_usage")
    place.log.erase(head.exec_id, "me", 21 * SECOND)
    assert sorted(raw(place, "model", "c:cost:sum", subject="llm_usage")) == sorted(before)
    assert counts(place, "metadata:tier") == {None: 2}


def test_a_record_past_the_inline_limit_counts(place: Place) -> None:
    head = append(place.log, run(place.log, seconds=None), opened(1))
    big = e.LLMUsageRecorded(
        at=1,
        call=1,
        attempt=1,
        record_id="r",
        record=payload({"usage": {"raw": {"x": "y" * 40_000}}}),
        figures=UsageFigures(),
    )
    append(place.log, head, big)
    assert counts(place, "adapter", subject="llm_usage") == {"kitaru.llm": 1}
