"""The reference of statistics names what the grammar has, and nothing else."""

from __future__ import annotations

import pytest

from kitaru.analytics import grammar
from kitaru.analytics.grammar import Subject
from tests.docs.test_references import _CODE, first_cells, rows, sections

PAGE = sections("statistics.md", 2)
SUBJECTS: tuple[Subject, ...] = tuple(grammar.DIMENSIONS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_groupings_of_a_subject_are_in_the_reference_with_their_keys(subject: Subject) -> None:
    shown = {}
    for token, key, of in rows(PAGE["Groupings"]):
        if subject in of.split(", "):
            shown |= dict(zip(_CODE.findall(token), _CODE.findall(key) or [None], strict=True))
    wanted: dict[str, str | None] = {}
    for dimension in grammar.DIMENSIONS[subject]:
        tokens = {"time": [f"time:{each}" for each in grammar.GRANULARITIES], "metadata": ["metadata:<key>"]}
        for token in tokens.get(dimension, [dimension]):
            made = grammar.make_query(subject, "default", 0, {}, group_by=token).groupings[0]
            wanted[token] = None if dimension == "metadata" else made.name
    assert shown == wanted


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_sources_of_a_subject_are_in_the_reference(subject: Subject) -> None:
    table = PAGE["Metrics"].split(f"| source of {subject} |")[1].split("\n\n")[0]
    assert tuple(first_cells(table)) == grammar.SOURCES[subject]


def test_the_aggregations_the_statuses_and_the_limits_are_in_the_reference() -> None:
    assert tuple(first_cells(PAGE["Metrics"].split("| aggregation |")[1])) == grammar.AGGREGATIONS
    shown = {subject: tuple(_CODE.findall(statuses)) for subject, statuses in rows(PAGE["Filters"]) if subject in SUBJECTS}
    assert shown == dict(grammar.STATUSES_OF)
    assert f"at most {grammar.MAX_GROUPINGS}" in PAGE["Groupings"]
    assert f"at most {grammar.MAX_METRICS}" in PAGE["Metrics"]
    assert f"1 to {grammar.MOST_GROUPS:,}" in PAGE["Order, and how much of it"].replace("\n", " ")


def test_what_a_short_source_stands_for_is_in_the_reference() -> None:
    for source, meaning in rows(PAGE["Metrics"].split("| source of checkpoints |")[0]):
        if "short for" in meaning:
            made = grammar.make_query("executions", "default", 0, {}, metrics=f"n:{_CODE.findall(source)[0]}:sum").metrics[0]
            assert _CODE.findall(meaning) == [made.metadata_key]
