"""Laws of the value codec: exact types back, the same bytes again, nothing but one error on damage."""

from __future__ import annotations

import enum
import json
import math
import os
import subprocess
import sys
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from kitaru.domain.errors import KitaruBackendError
from kitaru.store.values import decode, encode, encode_exact, to_plain


class Level(enum.Enum):
    LOW = "low"
    HIGH = 2


class Word(str):
    pass


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Record:
    body: Any
    more: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Key:
    body: Any


class Model(BaseModel):
    body: Any
    count: int = 0


class SubModel(Model):
    extra: Any = None


ZONES = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=1), "X"), ZoneInfo("Europe/Paris")]
)
TEXT = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(["$", "$x", "\ud800", ""])
HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**64, -(2**63) - 1, 2**63, -0.0, math.nan, math.inf])
    | st.floats()
    | TEXT
    | st.binary(max_size=6)
    | st.decimals().filter(lambda number: not number.is_snan())
    | st.fractions()
    | st.uuids()
    | st.complex_numbers()
    | st.datetimes(timezones=ZONES)
    | st.times()
    | st.dates()
    | st.timedeltas()
    | st.ip_addresses()
    | st.sampled_from([Level.LOW, Level.HIGH])
    | TEXT.map(Word)
    | st.just(PurePosixPath("a/b")),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | st.builds(Pair, inner, inner)
        | st.builds(Key, inner)
    ),
    max_leaves=4,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT, inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.dictionaries(TEXT, inner, max_size=3).map(OrderedDict)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(lambda items: deque(items, 5))
        | st.sets(HASHABLE, max_size=3)
        | st.builds(Record, inner, st.lists(inner, max_size=2))
        | st.builds(Model, body=inner)
        | st.builds(SubModel, body=inner, extra=inner)
        | st.builds(ValueError, inner)
        | st.binary(max_size=4).map(bytearray)
        | st.text("abc").map(Counter)
    ),
    max_leaves=8,
)


def told(value: Any) -> str:
    """The exact type tree and contents, told without the codec; sets in the order of their elements' telling."""
    kind = type(value).__name__
    if isinstance(value, BaseModel):
        return f"{kind}({told(value.__dict__)},{sorted(value.model_fields_set)})"
    if isinstance(value, Record):
        return f"{kind}({told(vars(value))})"
    if isinstance(value, Key):
        return f"{kind}({told(value.body)})"
    if isinstance(value, ValueError):
        return f"{kind}({told(value.args)})"
    if isinstance(value, dict):
        return f"{kind}({[(told(key), told(item)) for key, item in value.items()]})"
    if isinstance(value, (list, tuple, deque)):
        return f"{kind}({[told(item) for item in value]},{getattr(value, 'maxlen', None)})"
    if isinstance(value, (set, frozenset)):
        return f"{kind}({sorted(told(item) for item in value)})"
    if isinstance(value, (float, complex)):
        return f"{kind}({value!r})".replace("-nan", "nan")
    return f"{kind}({value!a},{getattr(value, 'fold', None)},{getattr(value, 'tzinfo', None)!a})"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_any_value_comes_back_with_its_exact_type_tree_and_its_bytes(value: Any) -> None:
    data, decoded = encode_exact(value)
    assert told(decoded) == told(value)
    assert encode(decoded) == data == encode(value)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_any_value_reads_as_plain_json(value: Any) -> None:
    json.dumps(to_plain(encode(value)), allow_nan=False).encode()


@given(st.floats())
def test_any_float_comes_back_to_the_bit(number: float) -> None:
    assert repr(decode(encode(number))) == repr(number)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_comes_back(text: str) -> None:
    assert decode(encode(text)) == text
    assert decode(encode({text: text})) == {text: text}


def quiet(data: bytes) -> None:
    codes = {"payload-undecodable"}
    for reader in (decode, to_plain):
        try:
            reader(data)
        except KitaruBackendError as error:
            codes.add(error.code)
    assert codes == {"payload-undecodable"}


@given(st.binary())
def test_random_bytes_raise_nothing_but_the_one_error(data: bytes) -> None:
    quiet(data)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, st.data())
def test_damaged_bytes_raise_nothing_but_the_one_error(value: Any, data: st.DataObject) -> None:
    damaged = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        piece = data.draw(
            st.sampled_from([b"", b"\x00", b'"', b"}", b"]", b",1", b'{"$":"tuple","v":[]}', b"-1", b'"v":', b"5"])
        )
        damaged[at : at + data.draw(st.integers(0, 3))] = piece
    quiet(bytes(damaged))


TREE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab:$", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(list("$cvadmnfspx")), inner, max_size=4)
        | st.builds(
            lambda tag, cls, body, more: {"$": tag, "c": cls, "v": body} | more,
            st.sampled_from(
                [
                    "tuple",
                    "set",
                    "dict",
                    "data",
                    "model",
                    "enum",
                    "subclass",
                    "exception",
                    "datetime",
                    "Pattern",
                    "deque",
                ]
            ),
            st.sampled_from(
                [f"{__name__}:{name}" for name in ("Level", "Word", "Pair", "Record", "Key", "Model")] + ["builtins:OSError"]
            ),
            inner,
            st.dictionaries(st.sampled_from(list("admnfspx")), inner, max_size=2),
        )
    ),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREE)
def test_forged_tags_raise_nothing_but_the_one_error(tree: Any) -> None:
    quiet(json.dumps(tree, separators=(",", ":")).encode())


SCRIPT = """
from decimal import Decimal
from kitaru.store.values import encode
words = "the quick brown fox jumps over the lazy dog".split()
print(encode([set(words), frozenset(map(frozenset, words)), {1, "1", 1.5, None, b"1", (1,), Decimal(1) / 3, 2**70},
              {frozenset({w, (w, i)}) for i, w in enumerate(words)}]).decode())
"""


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    root = str(Path(__file__).parents[2])
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(found) == 1
    assert b"quick" in found.pop()


def test_the_codec_imports_no_library_that_only_some_values_need() -> None:
    code = (
        "import sys; from kitaru.store.values import encode, decode; decode(encode([(1,), {1: 2}, b'x']));"
        "names = 'pydantic decimal fractions zoneinfo ipaddress pathlib pickle'.split();"
        "print([name for name in names if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, timeout=60, text=True)
    assert ran.stdout.strip() == "[]"


def test_decimals_of_the_laws_are_exact() -> None:
    assert told(decode(encode(Decimal("1.10")))) == told(Decimal("1.10"))
