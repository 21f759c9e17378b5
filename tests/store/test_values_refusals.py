"""What the value codec refuses: values that could not come back exactly, and bytes that it never wrote."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import sys
import threading
import time
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Literal, TypeVar
from typing import Generic as GenericBase
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, PrivateAttr, TypeAdapter, ValidationError

from kitaru.domain.errors import KitaruBackendError, KitaruUsageError
from kitaru.domain.limits import MAX_DEPTH
from kitaru.store.values import ValueNotEncodable, decode, encode, encode_exact, to_plain

T = TypeVar("T")


class Client:
    pass


class Offset(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=1)


@dataclass
class Holder:
    client: Any = None


class Sneaky:
    def __reduce__(self) -> Any:
        raise AssertionError("__reduce__ was asked")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("__getattr__ was asked")


class Secret(BaseModel):
    name: str
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class Page(BaseModel, GenericBase[T]):
    row: T


class Slotted(BaseModel):
    __slots__ = ("hidden",)
    name: str


@dataclass
class Hidden(functools.partial):  # type: ignore[type-arg]
    """Its function is where only C code sees it."""

    x: int = 0


class Closing(list[int]):
    def __del__(self) -> None:
        pass


@dataclass
class Shadowed:
    x: int


Moved = Shadowed


@dataclass
class Shadowed:  # type: ignore[no-redef] - the older class can no longer be found by its name
    x: int


@dataclass(eq=False)
class Restless:
    """Hashes by state that is not there yet when a set is built again."""

    x: int

    def __hash__(self) -> int:
        return hash(self.missing)  # type: ignore[attr-defined]


def invalid() -> ValidationError:
    try:
        TypeAdapter(int).validate_python("x")
    except ValidationError as error:
        return error
    raise AssertionError


def marked() -> OrderedDict[str, int]:
    value = OrderedDict(a=1)
    value.note = 1  # type: ignore[attr-defined]
    return value


REFUSED: list[tuple[Any, str, str]] = [
    (Client(), "$", "Client"),
    ([1, Client()], "$[1]", "Client"),
    ({"items": [0, {"client": Client()}]}, "$.items[1].client", "Client"),
    ({"odd key": Client()}, "$['odd key']", "Client"),
    ({1: Client()}, "$[1]", "Client"),
    ({2**200: Client()}, "$[<int>]", "Client"),
    ({(1, 2): Client()}, "$[<tuple>]", "Client"),
    ({Client(): 1}, "$.keys()[0]", "Client"),
    ({Client()}, "${}", "Client"),
    (Holder(Client()), "$.client", "Client"),
    (Holder([Holder(Client())]), "$.client[0].client", "Client"),
    (ValueError("x", Client()), "$.args[1]", "Client"),
    (Secret(name="a"), "$._lock", "lock"),
    ([Sneaky()], "$[0]", "Sneaky"),
    (int, "$", "type"),
    (Client, "$", "type"),
    (len, "$", "builtin_function_or_method"),
    (lambda: 1, "$", "function"),
    (sys, "$", "module"),
    ((x for x in []), "$", "generator"),
    (object(), "$", "object"),
    (..., "$", "ellipsis"),
    (memoryview(b"x"), "$", "memoryview"),
    (os.stat("."), "$", "os.stat_result"),
    (time.localtime(), "$", "time.struct_time"),
    (os.environ, "$", "os._Environ"),
    (invalid(), "$", "ValidationError"),
    (Closing(), "$", "Closing"),
    (Slotted(name="a"), "$", "Slotted"),
    (Hidden.__new__(Hidden, len), "$", "Hidden"),
    (marked(), "$", "OrderedDict"),
    ([datetime(2024, 1, 1, tzinfo=Offset())], "$[0]", "Offset"),
    (slice(Client(), 1), "$", "Client"),
    (defaultdict(lambda: 1), "$", "collections.defaultdict"),
    (Moved(1), "$", "Shadowed"),
    ({"page": Page[Literal["a"]](row="a")}, "$.page", "Page[Literal"),
    (re.compile("a", re.DEBUG), "$", "re.Pattern"),
]


@pytest.mark.parametrize(("value", "path", "name"), REFUSED, ids=range(len(REFUSED)))
def test_a_refusal_names_the_type_and_the_path(value: object, path: str, name: str) -> None:
    with pytest.raises(ValueNotEncodable) as caught:
        encode_exact(value)
    assert caught.value.path == path
    assert name in caught.value.type_name
    assert caught.value.type_name in str(caught.value)
    assert path in str(caught.value)
    assert "pydantic model" in str(caught.value)
    assert caught.value.code == "value-not-encodable"
    assert isinstance(caught.value, KitaruUsageError)


def test_a_class_inside_a_function_is_refused() -> None:
    @dataclass
    class Local:
        x: int

    with pytest.raises(ValueNotEncodable, match="top level"):
        encode([Local(1)])


def test_a_zone_read_from_a_file_is_refused() -> None:
    path = Path("/usr/share/zoneinfo/Europe/Berlin")
    if not path.exists():
        pytest.skip("no zone files on this machine")
    with path.open("rb") as file:
        zone = ZoneInfo.from_file(file)
    with pytest.raises(ValueNotEncodable, match="no key"):
        encode(datetime(2024, 1, 1, tzinfo=zone))


def test_state_that_only_c_code_sees_is_refused_before_anything_is_written() -> None:
    with pytest.raises(ValueNotEncodable, match="no exact form"):
        encode(Hidden.__new__(Hidden, len))


def test_a_subclass_of_a_library_type_is_refused() -> None:
    class Stamp(datetime):
        pass

    Stamp.__qualname__ = "Stamp"
    sys.modules[__name__].Stamp = Stamp  # type: ignore[attr-defined]
    with pytest.raises(ValueNotEncodable):
        encode(Stamp(2024, 1, 1))


def test_what_does_not_come_back_is_refused_by_the_proof() -> None:
    value = Restless(1)
    value.missing = 1  # type: ignore[attr-defined]
    assert encode_exact({value})  # its state comes first, then the set
    changed = dataclasses.make_dataclass("Gone", [("x", int)], namespace={"__module__": __name__})
    with pytest.raises(ValueNotEncodable):
        encode_exact(changed(1))


# --- depth and cycles ------------------------------------------------------------------------------------------------


def nested(levels: int, wrap: Any) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = wrap(value)
    return value


WRAPS = [
    lambda inner: [inner], lambda inner: {"k": inner}, lambda inner: (inner,), lambda inner: {1: inner},
    lambda inner: Holder(inner), lambda inner: ValueError(inner), lambda inner: frozenset({inner}),
]  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS, ids=["list", "dict", "tuple", "pairs", "dataclass", "exception", "set"])
def test_nesting_beyond_the_limit_is_refused(wrap: Any) -> None:
    with pytest.raises(ValueNotEncodable, match="nested deeper"):
        encode(nested(MAX_DEPTH + 1, wrap))
    with pytest.raises(ValueNotEncodable, match="nested deeper"):
        encode_exact(nested(800, wrap))


def test_nesting_at_the_limit_is_accepted() -> None:
    assert encode_exact(nested(MAX_DEPTH, WRAPS[0]))[1] == nested(MAX_DEPTH, WRAPS[0])
    assert encode_exact(nested(MAX_DEPTH, WRAPS[2]))[1] == nested(MAX_DEPTH, WRAPS[2])
    assert encode_exact(nested(MAX_DEPTH, WRAPS[4]))[1] == nested(MAX_DEPTH, WRAPS[4])


def cycles() -> list[Any]:
    plain: list[Any] = []
    plain.append(plain)
    keyed: dict[Any, Any] = {}
    keyed["self"] = keyed
    held = Holder()
    held.client = (held,)
    error = ValueError()
    error.args = (error,)
    return [plain, keyed, held, error]


@pytest.mark.parametrize("value", cycles(), ids=["list", "dict", "dataclass", "exception"])
def test_a_cycle_is_refused_and_no_recursion_error(value: object) -> None:
    for encoder in (encode, encode_exact):
        with pytest.raises(ValueNotEncodable, match="contains itself") as caught:
            encoder(value)
        assert len(str(caught.value)) < 1_000


def test_a_full_stack_is_a_refusal_not_a_recursion_error() -> None:
    def deeper(frames: int) -> None:
        if frames:
            deeper(frames - 1)
        else:
            encode(nested(MAX_DEPTH, WRAPS[4]))

    depth = len(list(sys._current_frames())) + 100
    with pytest.raises(ValueNotEncodable, match="stack"):
        deeper(sys.getrecursionlimit() - depth - 150)


# --- bytes that are not the codec's ----------------------------------------------------------------------------------

MALFORMED = [
    b"", b"{", b"nul", b"\xff", b"[1,]", b"NaN", b'{"$":"unknown"}', b'{"$":1}', b'{"$":null}', b'{"$":[]}',
    b'{"$":"tuple"}', b'{"$":"tuple","v":1}', b'{"$":"tuple","v":"ab"}', b'{"$":"dict","v":[1]}',
    b'{"$":"dict","v":[[],1]}', b'{"$":"set","v":[[]]}', b'{"$":"set","v":{}}', b'{"$":"int","v":"x"}',
    b'{"$":"int","v":5}', b'{"$":"float","v":"1.5"}', b'{"$":"bytes","v":"*"}', b'{"$":"bytes","v":5}',
    b'{"$":"str","v":"////"}', b'{"$":"defaultdict","f":"eval","v":[]}', b'{"$":"deque","v":[],"m":"x"}',
    b'{"$":"Decimal","v":"x"}', b'{"$":"Decimal","v":1.5}', b'{"$":"Fraction","v":[1,0]}',
    b'{"$":"datetime","v":"x"}', b'{"$":"datetime","v":["2024-01-01T00:00:00",5,0]}',
    b'{"$":"ZoneInfo","v":"No/Zone"}', b'{"$":"ZoneInfo","v":"../../etc/passwd"}', b'{"$":"timezone","v":[1e99]}',
    b'{"$":"UUID","v":"x"}', b'{"$":"Pattern","v":["(",0]}', b'{"$":"range","v":[1,2,0]}',
    b'{"$":"IPv4Address","v":5}', b'{"$":"exception","c":"x:y","a":[]}',
    b'{"$":"exception","c":"builtins:ExceptionGroup","a":{"$":"tuple","v":[1]}}', b'{"$":"data","c":"x:y","v":[]}',
    b'{"$":"model","c":"x:y","v":{},"x":[]}', b'{"$":"data","v":{}}', b'{"$":"tuple","v":[' * 300 + b"]}" * 300,
    b"[" * 100_000, b'[{"$":"int","v":"0x1"},' + b"[" * 900 + b"]" * 900 + b"]",
]  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_bytes_are_one_error(data: bytes) -> None:
    with pytest.raises(KitaruBackendError) as caught:
        decode(data)
    assert caught.value.code == "payload-undecodable"


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_bytes_read_plainly_or_are_the_same_error(data: bytes) -> None:
    codes = ["payload-undecodable"]
    try:
        to_plain(data)
    except KitaruBackendError as error:
        codes.append(error.code)
    assert set(codes) == {"payload-undecodable"}


def test_an_unusual_class_name_is_no_error() -> None:
    for name in (b'"x"', b'""', b"5", b"null", b"[]", b"{}", b'["a"]', b'["|"]', b"[[[]]]", b'[":",null]'):
        assert decode(b'{"$":"data","c":' + name + b',"v":{"a":1}}') == {"a": 1}
