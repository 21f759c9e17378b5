"""R17, R18: the read models' rows are the fold of the events, however they were batched, and a rebuild gives them again.

`Oracle` folds the same events in plain Python and imports nothing from kitaru.projections.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru.domain import events as e
from kitaru.domain.errors import FailureOrigin
from kitaru.domain.payload import Payload
from kitaru.domain.state import ABSENT, ExecutionState, evolve
from kitaru.projections.artifacts import Artifacts
from kitaru.projections.executions import Executions
from kitaru.projections.reuse import ReuseIndex
from kitaru.projections.waits import PendingWaits
from kitaru.store.log import Head

MODELS = (Executions, PendingWaits, Artifacts, ReuseIndex)
Stream = list[e.EventBase]


def payload(value: object) -> Payload:
    return Payload.of(json.dumps(value, separators=(",", ":")).encode(), "k1")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-2, 2),
    st.sampled_from(["a", "b", "é", ""]),
    st.just([1]),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 3), max_size=2),
    st.just({"$": "float", "v": "nan"}),
)
METADATA = st.dictionaries(st.sampled_from(["tier", "cost", "progress"]), VALUES, max_size=3)
TAGS = st.lists(st.sampled_from(["red", "green", "blue"]), max_size=3).map(tuple)
FAILURE = {"origin": FailureOrigin.USER_CODE, "exception_type": "builtins.ValueError"}


def next_event(draw: st.DrawFn, s: ExecutionState, at: int) -> e.EventBase:
    """Any event that may follow in this state."""
    if s.status is None:
        return start(draw, at)
    makers: list[Callable[[], e.EventBase]] = [lambda: e.TagsChanged(at=at, by="me", add=draw(TAGS), remove=draw(TAGS))]
    if s.status.is_finished:
        makers.append(lambda: e.PayloadErased(at=at, by="me", through=s.version))
        if s.status == "failed":
            makers.append(lambda: e.ExecutionRetried(at=at, by="me"))
    else:
        makers += [partial(make, draw, s, at) for make in (*LIFE, *WORK, *WORK)]
        makers += [partial(closed, draw, at, p.wait) for p in s.pending]
        makers += [partial(tried, draw, s, at, call) for call in s.attempts if not s.failed >> call & 1] * 3
    return draw(st.sampled_from(makers))()


def start(draw: st.DrawFn, at: int) -> e.EventBase:
    flow = draw(st.sampled_from("fg"))
    return e.ExecutionStarted(
        at=at, flow_id=f"id-{flow}", flow_name=flow, project="default", stack="local", tags=draw(TAGS),
        metadata=draw(st.none() | METADATA.map(payload)), inputs=payload({}), target=e.Target(file="/f.py", qualname="f"),
        options=e.FlowOptions(retries=1),
    )  # fmt: skip


def opened(_: st.DrawFn, s: ExecutionState, at: int) -> e.EventBase:
    return e.AttemptStarted(at=at, call=s.calls + 1, attempt=1, invocation_id="c", name="c", input_digest="00")


def reused(_: st.DrawFn, s: ExecutionState, at: int) -> e.EventBase:
    return e.CheckpointReused(
        at=at, call=s.calls + 1, invocation_id="c", name="c", input_digest="00", output=payload(2), original_call_id="o.c1"
    )


def waiting(draw: st.DrawFn, s: ExecutionState, at: int) -> e.EventBase:
    expires = draw(st.none() | st.just(9))
    number = s.waits + 1
    return e.WaitOpened(
        at=at, wait=number, kind="input", invocation_id=f"w_{number}", name="w", question=payload("ok?"), expires_at=expires
    )


def failed(draw: st.DrawFn, _: ExecutionState, at: int) -> e.EventBase:
    trace = draw(st.none() | st.just(payload("tb")))
    return e.ExecutionFailed(at=at, message=payload("no"), traceback=trace, **FAILURE)


LIFE = (
    lambda _, s, at: e.RunnerClaimed(at=at, epoch=s.epoch + 1, runner="r"),
    lambda _, s, at: e.ExecutionSuspended(at=at),
    lambda _, s, at: e.ExecutionResumed(at=at, by="me"),
    lambda _, s, at: e.ExecutionRetried(at=at, by="runner", automatic=True),
    lambda _, s, at: e.CancelRequested(at=at, by="me"),
    lambda _, s, at: e.ExecutionCancelled(at=at),
    lambda _, s, at: e.ExecutionCompleted(at=at, output=payload(1)),
    failed,
)
WORK = (
    opened,
    reused,
    waiting,
    lambda draw, s, at: e.MetadataLogged(at=at, key="k", values=payload(draw(METADATA))),
    lambda _, s, at: e.ArtifactSaved(at=at, name="report", kind="output", value=payload("r")),
)


def closed(draw: st.DrawFn, at: int, wait: int) -> e.EventBase:
    if draw(st.booleans()):
        return e.WaitExpired(at=at, wait=wait)
    return e.WaitResolved(at=at, wait=wait, value=payload(3), by="me")


def tried(draw: st.DrawFn, s: ExecutionState, at: int, call: int) -> e.EventBase:
    attempt = s.attempts[call]
    if not s.in_flight >> call & 1:
        return e.AttemptStarted(at=at, call=call, attempt=attempt + 1)
    match draw(st.integers(0, 3)):
        case 0:
            return e.AttemptFailed(at=at, call=call, attempt=attempt, message=payload("x"), **FAILURE)
        case 1:
            return e.MetadataLogged(at=at, call=call, attempt=attempt, values=payload({"tier": "inner"}))
        case _:
            key = draw(st.sampled_from([None, "k1", "k2"]))
            return e.CheckpointCompleted(at=at, call=call, attempt=attempt, output=payload("out"), reuse_key=key)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    state, found = ABSENT, Stream()
    at = 1_000
    for _ in range(draw(st.integers(1, 25))):
        at += draw(st.integers(-3, 10))  # clocks go back too
        event = next_event(draw, state, at)
        found.append(event)
        state = evolve(state, event)  # type: ignore[arg-type]
    return found


def forgotten(stream: Stream) -> Stream:
    """What a rebuild reads: the bytes of erased payloads are gone."""
    through = max((event.through for event in stream if isinstance(event, e.PayloadErased)), default=0)
    out = Stream()
    for version, event in enumerate(stream, 1):
        gone = {
            name: value.model_copy(update={"data": None})
            for name in event.payloads
            if version <= through and (value := getattr(event, name)) is not None
        }
        out.append(event.model_copy(update=gone))
    return out


class Models:
    """The real projectors on a database of their own."""

    def __init__(self, prefix: str = "") -> None:
        self.db = sqlite3.connect(":memory:")
        self.models = [model(prefix) for model in MODELS]
        self.versions: dict[int, int] = {}
        self.states: dict[int, ExecutionState] = {}
        for model in self.models:
            model.create(self.execute, 1)

    def execute(self, sql: str, parameters: Sequence[object]) -> sqlite3.Cursor:
        return self.db.execute(sql, tuple(parameters))

    def apply(self, number: int, batch: Stream) -> None:
        state = self.states.get(number, ABSENT)
        numbered = list(enumerate(batch, state.version + 1))
        for event in batch:
            state = evolve(state, event)  # type: ignore[arg-type]
        self.states[number] = state
        for model in self.models:
            model.apply(self.execute, Head(number, f"exec-{number}", b"", state), numbered)

    def remove(self, number: int) -> None:
        for model in self.models:
            model.remove(self.execute, number, f"exec-{number}")

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        tables = [table for model in self.models for table in model.tables]
        return {
            table.removeprefix("shadow_"): sorted(self.db.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in tables
        }


class Oracle:
    """The rows again, by a fold that knows nothing of SQL."""

    def __init__(self) -> None:
        self.tables: dict[str, list[tuple[object, ...]]] = {
            name: []
            for name in (
                "executions", "execution_details", "execution_tags", "execution_metadata", "flows", "pending_waits",
                "artifacts", "reuse",
            )
        }  # fmt: skip

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        self.tables["flows"] = list(set(self.tables["flows"]))
        return {name: sorted(rows, key=repr) for name, rows in self.tables.items()}

    def add(self, number: int, stream: Stream) -> None:  # noqa: PLR0912, PLR0915
        row: dict[str, object] = {}
        counts = {"calls": 0, "attempts": 0, "cached": 0, "artifacts": 0}
        metadata: dict[str, object] = {}
        failure: tuple[object, ...] = (None, None, None, None)
        tags: dict[str, None] = {}
        waits: dict[int, tuple[object, ...]] = {}
        since: int | None = None
        waited = 0
        artifacts: dict[int, list[object]] = {}
        reuse: dict[int, tuple[object, ...]] = {}
        has_blob = False

        def leave(at: int) -> None:
            nonlocal since, waited
            if since is not None and not waits:
                waited, since = waited + max(at - since, 0), None

        for version, event in enumerate(stream, 1):
            match event:
                case e.ExecutionStarted():
                    row = {"flow": event.flow_name, "started": event.at, "queued": 1, "status": "running", "cancel": 0}
                    row |= {"runner": None, "ended": None}
                    tags = dict.fromkeys(event.tags)
                    metadata = logged(event.metadata)
                    has_blob = bool(metadata)
                case e.RunnerClaimed():
                    row |= {"runner": event.runner, "queued": 0}
                case e.ExecutionSuspended():
                    row |= {"runner": None, "queued": 0}
                case e.ExecutionResumed():
                    row["queued"] = 1
                case e.ExecutionRetried():
                    row |= {"queued": int(not event.automatic), "status": "running", "cancel": 0, "ended": None}
                    failure = (None, None, None, None)
                case e.CancelRequested():
                    row["cancel"] = 1
                case e.ExecutionCancelled() | e.ExecutionFailed() | e.ExecutionCompleted():
                    status = type(event).__name__.removeprefix("Execution").lower()
                    row |= {"status": status, "runner": None, "queued": 0, "ended": max(event.at, row["started"])}
                    waits.clear()
                    leave(event.at)
                    if isinstance(event, e.ExecutionFailed):
                        trace = event.traceback.data if event.traceback else None
                        failure = ("user_code", "builtins.ValueError", event.message.data, trace)
                case e.AttemptStarted():
                    counts["attempts"] += 1
                    counts["calls"] += event.attempt == 1
                case e.CheckpointReused():
                    counts["calls"] += 1
                    counts["cached"] += 1
                case e.WaitOpened():
                    row["status"] = "waiting"
                    since = event.at if since is None else since
                    waits[event.wait] = (
                        number, event.wait, version, "input", event.invocation_id, "w", b'"ok?"', None, None, event.at,
                        event.expires_at,
                    )  # fmt: skip
                case e.WaitResolved() | e.WaitExpired():
                    del waits[event.wait]
                    if not waits:
                        row["status"] = "running"
                    leave(event.at)
                case e.MetadataLogged(call=None):
                    new = logged(event.values)
                    has_blob = has_blob or bool(new)
                    metadata = merge(metadata, new)
                case e.TagsChanged():
                    tags |= dict.fromkeys(event.add)
                    tags = {tag: None for tag in tags if tag not in event.remove}
                case e.PayloadErased():
                    metadata, has_blob = {}, False
                    failure = (*failure[:2], None, None)
                    for saved in artifacts.values():
                        saved[-1] = 1
                    reuse.clear()
                case _:
                    pass
            match event:
                case e.CheckpointCompleted() | e.CheckpointReused():
                    counts["artifacts"] += 1
                    artifacts[version] = [number, version, event.call, None, None, event.output.size, event.at, 0]
                case e.ArtifactSaved():
                    counts["artifacts"] += 1
                    artifacts[version] = [number, version, None, "report", "output", event.value.size, event.at, 0]
                case _:
                    pass
            if isinstance(event, e.CheckpointCompleted) and event.reuse_key:
                reuse[version] = (event.reuse_key, number, version, f"exec-{number}")
        t = self.tables
        flow = row["flow"]
        t["executions"].append(
            (
                number, f"exec-{number}", len(stream), "default", f"id-{flow}", flow, "local", row["status"], row["queued"],
                row["runner"], row["cancel"], row["started"], row["ended"], *counts.values(), len(waits), since, waited, None,
            )
        )  # fmt: skip
        spec = {
            "target": {"file": "/f.py", "qualname": "f", "digest": None},
            "options": e.FlowOptions(retries=1).model_dump(),
        }
        blob = json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode() if has_blob else None
        t["execution_details"].append((number, dumped(spec), dumped(list(tags)), blob, *failure))
        t["execution_tags"] += [(tag, number) for tag in tags]
        kinds = {bool: "b", int: "n", float: "n", str: "t"}
        t["execution_metadata"] += [
            (key, number, kinds[type(value)], int(value) if value is True or value is False else value)
            for key, value in metadata.items()
            if type(value) in kinds
        ]
        t["flows"].append((f"id-{flow}", flow, "default"))
        t["pending_waits"] += waits.values()
        t["artifacts"] += [tuple(saved) for saved in artifacts.values()]
        t["reuse"] += reuse.values()


def dumped(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def logged(values: Payload | None) -> dict[str, object]:
    return {} if values is None or values.data is None else json.loads(values.data)


def merge(old: dict[str, object], new: dict[str, object]) -> dict[str, object]:
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        both = isinstance(value, dict) and isinstance(before, dict) and "$" not in value and "$" not in before
        merged[key] = merge(before, value) if both else value
    return merged


def expected(found: dict[int, Stream]) -> dict[str, list[tuple[object, ...]]]:
    oracle = Oracle()
    for number, stream in found.items():
        oracle.add(number, stream)
    return oracle.dump()


def apply_interleaved(models: Models, found: dict[int, Stream], cuts: list[tuple[int, int]]) -> None:
    """The streams in batches: each cut is (which stream, how many of its events); what is left follows."""
    at = dict.fromkeys(found, 0)
    for choice, size in cuts:
        number = list(found)[choice % len(found)]
        batch = found[number][at[number] : at[number] + size]
        at[number] += size
        if batch:
            models.apply(number, batch)
    for number, stream in found.items():
        if stream[at[number] :]:
            models.apply(number, stream[at[number] :])


CUTS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=30)
SOME_STREAMS = st.lists(streams(), min_size=1, max_size=3).map(lambda found: dict(zip(count(1), found, strict=False)))


@settings(max_examples=300, deadline=None)
@given(SOME_STREAMS, CUTS)
def test_rows_are_the_fold_under_any_batch_split(found: dict[int, Stream], cuts: list[tuple[int, int]]) -> None:
    models = Models()
    apply_interleaved(models, found, cuts)
    assert models.dump() == expected(found)


@settings(max_examples=200, deadline=None)
@given(SOME_STREAMS, CUTS)
def test_a_rebuild_gives_the_same_rows_though_erased_bytes_are_gone(
    found: dict[int, Stream], cuts: list[tuple[int, int]]
) -> None:
    live, rebuilt = Models(), Models("shadow_")
    apply_interleaved(live, found, cuts)
    for number, stream in reversed(found.items()):
        rebuilt.apply(number, forgotten(stream))
    assert rebuilt.dump() == live.dump()


@settings(max_examples=100, deadline=None)
@given(SOME_STREAMS, st.integers(0, 2))
def test_removing_an_execution_leaves_the_rows_of_the_others(found: dict[int, Stream], which: int) -> None:
    models = Models()
    apply_interleaved(models, found, [])
    gone = list(found)[which % len(found)]
    models.remove(gone)
    assert models.dump() == expected({number: stream for number, stream in found.items() if number != gone})


def started(at: int = 0) -> e.ExecutionStarted:
    return e.ExecutionStarted(
        at=at, flow_id="id-f", flow_name="f", project="default", stack="local", inputs=payload({}),
        target=e.Target(file="/f.py", qualname="f"), options=e.FlowOptions(),
    )  # fmt: skip


def test_a_checkpoint_costs_two_updates_and_one_insert() -> None:
    models = Models()
    models.apply(1, [started()])
    seen: list[str] = []
    models.db.set_trace_callback(lambda sql: seen.append(sql.split()[0]))
    models.apply(1, [e.AttemptStarted(at=1, call=1, attempt=1, invocation_id="c", name="c", input_digest="0")])
    models.apply(1, [e.CheckpointCompleted(at=2, call=1, attempt=1, output=payload(1))])
    assert sorted(sql for sql in seen if sql != "BEGIN") == ["INSERT", "UPDATE", "UPDATE"]


def test_no_row_says_that_an_execution_ended_before_it_started() -> None:
    models = Models()
    models.apply(1, [started(at=100), e.ExecutionCompleted(at=40, output=payload(1))])
    assert models.db.execute("SELECT started_at, ended_at FROM executions").fetchall() == [(100, 100)]


def test_metadata_past_the_inline_limit_is_left_out_as_it_would_be_in_a_rebuild() -> None:
    models = Models()
    models.apply(1, [started(), e.MetadataLogged(at=1, key="k", values=payload({"big": "x" * 20_000}))])
    assert models.dump()["execution_metadata"] == []


def test_a_hot_update_touches_no_index() -> None:
    """A checkpoint's two updates set no column that an index holds."""
    models = Models()
    names = [row[0] for row in models.db.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE '%_g1'")]
    indexed = {row[2] for name in names for row in models.db.execute(f"PRAGMA index_info({name})")}
    assert not indexed & {"version", "checkpoint_count", "attempt_count", "artifact_count"}
