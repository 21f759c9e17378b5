"""How logged metadata adds up."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru.domain.metadata import merged

KEYS = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.booleans() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2) | st.just({"$": "t"})
TREES = st.dictionaries(KEYS, st.recursive(SCALARS, lambda inner: st.dictionaries(KEYS, inner, max_size=3)), max_size=3)


def leaves(tree: dict[str, object], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """Every value that is no dict, by its path."""
    found: dict[tuple[str, ...], object] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and "$" not in value:
            found |= leaves(value, (*path, key))
        else:
            found[(*path, key)] = value
    return found


@pytest.mark.parametrize("value", [2, None, [2], {"$": "date", "v": "2026-01-01"}])
def test_what_is_no_dict_replaces_what_was_there(value: object) -> None:
    assert merged({"a": 1}, {"a": value}) == {"a": value}
    assert merged({"a": {"x": 1}}, {"a": value}) == {"a": value}


def test_lists_replace_each_other() -> None:
    assert merged({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}


def test_dicts_merge_at_every_depth() -> None:
    assert merged({"a": {"b": {"x": 1, "y": 1}}}, {"a": {"b": {"y": 2, "z": 2}}}) == {"a": {"b": {"x": 1, "y": 2, "z": 2}}}


def test_a_dict_replaces_what_was_no_dict() -> None:
    assert merged({"a": 1}, {"a": {"x": 1}}) == {"a": {"x": 1}}


def test_two_tagged_values_do_not_merge() -> None:
    assert merged({"a": {"$": "t", "v": 1, "w": 1}}, {"a": {"$": "t", "v": 2}}) == {"a": {"$": "t", "v": 2}}


def test_a_key_stays_where_it_first_stood() -> None:
    assert list(merged({"a": 1, "b": 1}, {"c": 2, "a": 2})) == ["a", "b", "c"]


@given(TREES, TREES)
def test_merging_changes_neither_side(old: dict[str, object], new: dict[str, object]) -> None:
    before = copy.deepcopy((old, new))
    merged(old, new)
    assert (old, new) == before


@given(TREES, TREES)
def test_every_new_value_is_there_afterwards(old: dict[str, object], new: dict[str, object]) -> None:
    found = leaves(merged(old, new))
    assert all(found[path] == value for path, value in leaves(new).items())


@given(TREES)
def test_logging_the_same_twice_changes_nothing(tree: dict[str, object]) -> None:
    assert merged(tree, tree) == tree
    assert merged({}, tree) == tree
    assert merged(tree, {}) == tree
