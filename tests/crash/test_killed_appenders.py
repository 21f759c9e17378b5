"""R1: a process that appends is killed by SIGKILL at a random time; nothing that it had acknowledged is lost."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from tests.crash.children import Child, ForkServer
from tests.crash.inspection import Stream, last_position, read_streams
from tests.crash.tiers import tiers

BYSTANDER_BATCHES = 15


@tiers("kills", 100, 1_000, 10_000, parts=2)
def test_a_killed_appender_loses_nothing_that_it_had_acknowledged(
    kills: int, chance: random.Random, forkserver: ForkServer, folder: Path
) -> None:
    position = 0
    acknowledged = streams_seen = 0
    for kill in range(kills):
        victim = forkserver.start(
            "appending:random_batches", folder, threads=chance.randint(1, 3), seed=chance.getrandbits(32)
        )
        others = [
            forkserver.start("appending:random_batches", folder, threads=1, seed=kill, batches=BYSTANDER_BATCHES)
            for _ in range(chance.random() < 0.15)
        ]
        kill_at_random(victim, chance)
        for other in others:
            other.finish()
        streams = read_streams(folder, after=position, thorough=kill % 20 == 19 or kill == kills - 1)
        streams_seen += len(streams)
        acknowledged += check(streams, [victim, *others], position)
        position = last_position(folder)
    assert acknowledged > kills, "the kills came too early to show anything"
    assert len(read_streams(folder)) == streams_seen


def kill_at_random(victim: Child, chance: random.Random) -> None:
    if chance.random() < 0.15:
        time.sleep(chance.uniform(0, 0.03))  # while it opens the store
    else:
        victim.await_line()
        time.sleep(chance.uniform(0, 0.04))
    victim.kill()


def check(streams: dict[str, Stream], children: list[Child], before: int) -> int:
    """Every acknowledged version is there, every batch whole, every position new. The number of acknowledgements."""
    said = [line for child in children for line in child.said()]
    for line in said:
        found = streams.get(line["exec_id"])
        assert found is not None, f"the acknowledged start of {line['exec_id']} is lost"
        assert found.version >= line["version"], f"{line['exec_id']}: version {line['version']} was acknowledged, {found.version} is there"
    for stream in streams.values():
        assert stream.events[0].position > before
        check_batches(stream)
    return len(said)


def check_batches(stream: Stream) -> None:
    """The marks run through each batch from its first place to its last."""
    expected = (1, 0)
    for event in stream.events:
        if event.type in ("MetadataLogged", "ArtifactSaved", "CheckpointCompleted"):
            mark = json.loads(event.payloads[0])
            assert (mark["batch"], mark["place"]) == expected, f"{stream.exec_id}: half a batch before {mark}"
            is_last = mark["place"] == mark["of"] - 1
            expected = (mark["batch"] + 1, 0) if is_last else (mark["batch"], mark["place"] + 1)
    assert expected[1] == 0, f"{stream.exec_id}: the last batch is half"
