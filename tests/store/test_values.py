"""The value codec, type by type: what comes back is of the exact type, and reads as plain JSON."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network, IPv6Interface, ip_address
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from kitaru.store.values import CODEC, decode, encode, encode_exact, to_plain

BERLIN = ZoneInfo("Europe/Berlin")

NATIVE = [
    None, True, False, 0, 1, -1, 2**64 - 1, -(2**63), 1.0, -0.0, 1.5e300, 5e-324, "", "text", "é€😀", "\x00\x1f\"\\",
    [], {}, [1, [2, {"a": None}]], {"b": 1, "a": [1.5, True, "x"]}, {"": 1},
]  # fmt: skip

TAGGED = [
    2**64, -(2**63) - 1, 10**5000, math.inf, -math.inf, "\ud800", "a\udfffb", (), (1, (2,)), [(1,)], set(),
    {1, "a", (2,)}, frozenset({frozenset({1}), None}), b"", b"\x00\xff", bytearray(b"ab"), 1 + 2j,
    complex(math.inf, -0.0), {1: "a"}, {True: 1}, {None: [(1, 2)]}, {(1, "x"): {"a": {b"k": 1}}},
    {"$": "tuple", "v": [1]}, {"$ref": 1}, {"\ud800": 1}, {"a": {"$": 1}}, OrderedDict(b=1, a=2),
    defaultdict(list, {"a": [1]}), defaultdict(None, {1: 2}), Counter("abca"), deque([1, (2,)]), deque([1], maxlen=3),
    range(3), range(0, 10**30, 7), slice(1, None, 2), slice("a", (1,), None), Decimal("1.10"), Decimal("-0E+7"),
    Decimal("sNaN123"), Decimal("-Infinity"), Fraction(-3, 10**30), datetime(2024, 2, 29, 1, 2, 3, 4),
    datetime(1, 1, 1), datetime(2024, 10, 27, 2, 30, fold=1), datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-5), "EST")),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=1, microseconds=5))),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(0), "Z")), date(2024, 2, 29), time(1, 2, 3, 4),
    time(2, 30, fold=1), time(1, tzinfo=UTC), time(1, tzinfo=BERLIN), timedelta(-1, 5, 7), timedelta.max, UTC, BERLIN,
    timezone(timedelta(hours=1)), uuid.UUID(int=5), uuid.uuid1(), PurePosixPath("a/b"), PureWindowsPath("C:\\x"),
    Path("/tmp/x"), Path("a\udcff"), IPv4Address("1.2.3.4"), ip_address("fe80::1%eth0"), IPv4Network("10.0.0.0/8"),
    IPv6Interface("::1/64"), re.compile("a+", re.IGNORECASE | re.DOTALL), re.compile(rb"\xff"),
]  # fmt: skip


def state(value: Any) -> Any:
    """A value's exact types and contents, told without the codec; sets and NaN compare."""
    kind = type(value)
    if kind in (list, tuple, deque):
        return (kind, getattr(value, "maxlen", None), [state(item) for item in value])
    if kind in (set, frozenset):
        return (kind, sorted(repr(state(item)) for item in value))
    if isinstance(value, dict):
        items = [(state(key), state(item)) for key, item in value.items()]
        return (kind, getattr(value, "default_factory", None), items)
    if kind in (float, complex, Decimal):
        return (kind, repr(value))
    if kind in (datetime, time):
        zone = value.tzinfo
        return (kind, value.replace(tzinfo=None).isoformat(), value.fold, type(zone), repr(zone))
    return (kind, value)


def named(value: object) -> str:
    """A test's name, the same in every process."""
    return type(value).__name__


@pytest.mark.parametrize("value", NATIVE, ids=named)
def test_a_json_native_value_is_itself_in_json(value: object) -> None:
    assert encode(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    assert state(decode(encode(value))) == state(value)


@pytest.mark.parametrize("value", TAGGED, ids=named)
def test_a_value_comes_back_with_its_exact_types(value: object) -> None:
    data, decoded = encode_exact(value)
    assert state(decoded) == state(value)
    assert state(decode(data)) == state(value)
    assert encode(decoded) == data == encode(value)


@pytest.mark.parametrize("value", [*NATIVE, *TAGGED], ids=named)
def test_every_value_reads_as_plain_json(value: object) -> None:
    plain = to_plain(encode(value))
    assert orjson.loads(json.dumps(plain, allow_nan=False)) == plain


def test_the_codec_has_a_version_name() -> None:
    assert CODEC == "k1"


def test_ordinary_data_does_not_corrupt_memory() -> None:
    """orjson.dumps 3.12.0 and 3.13.0 write past their buffer on exactly this; the process aborts now or later."""
    for strings in (93, 98, 204, 415, 836, 1684):
        value = [["a" * 150] * strings, *[10**18] * 100]
        assert encode_exact(value)[1] == value


def test_the_text_of_a_float_is_pythons() -> None:
    assert encode([1e22, 1e-7]) == b"[1e+22,1e-07]"  # orjson 3.11.0 wrote 1e22 and 1e-7


def test_nan_is_not_null() -> None:
    assert orjson.dumps(math.nan) == b"null"  # noqa: TID251 - the trap
    _, decoded = encode_exact([math.nan])
    assert isinstance(decoded, list)
    assert type(decoded[0]) is float
    assert math.isnan(decoded[0])


def test_negative_zero_keeps_its_sign() -> None:
    _, decoded = encode_exact({"a": [-0.0], "b": complex(-0.0, -0.0)})
    assert repr(decoded) == "{'a': [-0.0], 'b': (-0-0j)}"


def test_a_tuple_is_no_list() -> None:
    assert orjson.dumps((1,)) == b"[1]"  # noqa: TID251 - the trap
    assert decode(encode((1,))) == (1,)
    assert decode(encode([1])) == [1]


def test_true_one_and_one_point_zero_are_three_values() -> None:
    assert len({encode(True), encode(1), encode(1.0)}) == 3
    assert len({encode((True,)), encode((1,)), encode((1.0,))}) == 3
    assert state(decode(encode({1: True, 2: 1, 3: 1.0}))) == state({1: True, 2: 1, 3: 1.0})


def test_keys_that_are_not_text_stay_what_they_are() -> None:
    value = {1: "int", "1": "str", 1.5: "float", None: "none", b"1": "bytes"}
    assert state(decode(encode(value))) == state(value)


def test_dict_order_is_kept_and_counts() -> None:
    assert list(decode(encode({"b": 1, "a": 2}))) == ["b", "a"]  # type: ignore[call-overload]
    assert list(decode(encode({2: 1, 1: 2}))) == [2, 1]  # type: ignore[call-overload]
    assert encode({"b": 1, "a": 2}) != encode({"a": 2, "b": 1})


def test_data_cannot_forge_a_tag() -> None:
    for forged in ({"$": "tuple", "v": [1, 2]}, {"$": "enum", "c": "os:X", "n": "A"}, [{"$": "bytes", "v": "AA=="}]):
        assert decode(encode(forged)) == forged
        assert type(decode(encode(forged))) is type(forged)
    text = '{"$":"tuple","v":[1]}'
    assert decode(encode([text])) == [text]


def test_an_int_beyond_64_bits_stays_an_int() -> None:
    assert type(orjson.loads(b"18446744073709551616")) is float  # the trap
    for number in (2**64, -(2**63) - 1, -(2**64), 10**10_000):
        assert encode_exact([number])[1] == [number]
        assert type(decode(encode(number))) is int


def test_a_zoneinfo_does_not_become_an_offset() -> None:
    value = datetime(2024, 7, 1, tzinfo=BERLIN)
    assert value == datetime(2024, 7, 1, tzinfo=timezone(timedelta(hours=2)))  # the trap: equal all the same
    decoded = decode(encode(value))
    assert isinstance(decoded, datetime)
    assert type(decoded.tzinfo) is ZoneInfo
    assert str(decoded.tzinfo) == "Europe/Berlin"


def test_utc_comes_back_as_the_one_utc() -> None:
    assert decode(encode(UTC)) is UTC
    assert decode(encode(datetime(2024, 1, 1, tzinfo=UTC))).tzinfo is UTC  # type: ignore[attr-defined]


def test_a_decimal_is_the_same_in_any_context() -> None:
    with localcontext(Context(prec=2, capitals=0)):
        assert encode(Decimal("1.23456E+9")) == b'{"$":"Decimal","v":"1.23456E+9"}'
        assert str(Decimal("1.23456E+9")) == "1.23456e+9"  # the trap


def test_a_debugging_pattern_prints_nothing_when_read(capsys: pytest.CaptureFixture[str]) -> None:
    forged = encode(re.compile("a")).replace(b",32]", b",160]")
    assert decode(forged) == re.compile("a")
    assert capsys.readouterr().out == ""


def test_the_flow_never_receives_its_own_list() -> None:
    value = {"a": [1]}
    _, decoded = encode_exact(value)
    assert decoded == value
    assert decoded is not value
    assert decoded["a"] is not value["a"]  # type: ignore[index]


def test_sharing_is_not_kept() -> None:
    shared: list[int] = []
    left, right = decode(encode([shared, shared]))  # type: ignore[misc]
    assert left is not right


def test_two_nans_in_a_set_stay_two() -> None:
    value = {math.nan, float("nan"), -float("nan")}
    assert len(value) == len(decode(encode(value))) == 3  # type: ignore[arg-type]


def test_deep_values_within_the_limit_come_back() -> None:
    for wrap in (lambda x: [x], lambda x: (x,), lambda x: {1: x}, lambda x: frozenset({x})):
        value: Any = ()
        for _ in range(198):
            value = wrap(value)
        data, decoded = encode_exact(value)
        assert encode(decoded) == data
        to_plain(data)


PLAIN = [
    ((1, 2), [1, 2]),
    (b"\x00", {"$bytes": "AA=="}),
    (math.nan, "NaN"),
    ([math.inf, -math.inf], ["Infinity", "-Infinity"]),
    (2**70, str(2**70)),
    ({1: "a", "b": (1,)}, {"1": "a", "b": [1]}),
    ({1: "a", "1": "b"}, [[1, "a"], ["1", "b"]]),
    ({(1, 2): 3}, {"[1,2]": 3}),
    ({"$": 1}, {"$": 1}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (1 - 2j, "1.0-2.0j"),
    (range(0, 4, 2), "range(0, 4, 2)"),
    (Decimal("1.50"), "1.50"),
    (Fraction(1, 3), "1/3"),
    (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "2024-01-02T03:04:05+00:00"),
    (datetime(2024, 1, 2, tzinfo=BERLIN), "2024-01-02T00:00:00[Europe/Berlin]"),
    (time(1, 2, tzinfo=timezone(timedelta(hours=-3, minutes=-30))), "01:02:00-03:30"),
    (timedelta(minutes=1.5), 90.0),
    (Path("/a/b"), "/a/b"),
    (re.compile("a+"), "a+"),
    ("\ud800", "\ufffd\ufffd\ufffd"),
]


@pytest.mark.parametrize(("value", "plain"), PLAIN, ids=named)
def test_plain_form(value: object, plain: object) -> None:
    assert to_plain(encode(value)) == plain
