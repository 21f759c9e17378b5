"""The value codec and user-defined classes: exact to come back, found by name only, built without their code."""

from __future__ import annotations

import dataclasses
import enum
import http
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, Optional, TypedDict, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, model_validator

from kitaru.store.values import ValueNotEncodable, canonical_module, decode, encode, encode_exact, find_class, to_plain

T = TypeVar("T")
ran: list[str] = []


class Colour(enum.Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 - an alias
    PAIR = (1, 2)


class Size(enum.IntEnum):
    SMALL = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Text(str):
    pass


class SlottedText(str):
    __slots__ = ()


class Number(int):
    pass


class Rows(list[Any]):
    pass


class Lookup(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise AssertionError("an override was asked")


class Ordered(OrderedDict[str, int]):
    pass


class Point(NamedTuple):
    x: int
    y: float = 0.5


@dataclass
class Plain:
    name: str
    count: int = 0
    made: str = field(default="class", init=False)
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        ran.append("__post_init__")


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    inner: Plain | None = None


@dataclass
class Child(Plain):
    extra: tuple[int, ...] = ()


@dataclass
class Box(Generic[T]):
    value: T


@dataclass
class Renamed:
    _value: int = 0

    @property
    def value(self) -> int:
        raise AssertionError("a property ran")


class Item(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str
    price: float = 1.0
    tags: tuple[str, ...] = ()
    _seen: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def check(self) -> Item:
        ran.append("validator")
        return self

    @cached_property
    def upper(self) -> str:
        return self.name.upper()


class SpecialItem(Item):
    special: int = 0


class Order(BaseModel):
    items: list[Item]
    when: datetime | None = None


class Page(BaseModel, Generic[T]):
    rows: list[T]


class Numbers(RootModel[list[int]]):
    pass


class AppError(Exception):
    def __init__(self, code: int, detail: str) -> None:
        ran.append("__init__")
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass
class DataError(Exception):
    reason: str


class Shape(TypedDict):
    a: Plain


class Outer:
    @dataclass
    class Inner:
        value: int

    class Deep(enum.Enum):
        A = 1


Old = Plain  # an alias under which records may have been made


def extended(value: Any, **attributes: Any) -> Any:
    for name, item in attributes.items():
        setattr(value, name, item)
    return value


def parts(value: Any) -> Any:
    """Exact types and contents of an object, told without the codec."""
    kind = type(value)
    if issubclass(kind, enum.Enum) or value is None:
        return (kind, value)
    slots = [name for name in getattr(kind, "__slots__", ()) if not name.startswith("__")]  # pydantic's stand below
    contents: list[Any] = [getattr(value, name) for name in slots]
    if hasattr(value, "__dict__"):
        # A field on the class ("made") is the object's own once it was recorded.
        held = {name: parts(item) for name, item in vars(value).items()}
        contents.append({name: item for name, item in held.items() if name not in ("__orig_class__", "made")})
    names = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
    given, *rest = (getattr(value, name, None) for name in names)
    contents.extend([sorted(given) if given else given, *(parts(each) for each in rest)])
    if isinstance(value, BaseException):
        contents.append(value.args)
    contents.extend(base(value) for base in (str, int, float, bytes) if isinstance(value, base))
    if isinstance(value, (list, tuple, deque)):
        contents.extend(parts(item) for item in kind.__iter__(value))
    if isinstance(value, (set, frozenset)):
        contents.append(sorted(repr(parts(item)) for item in value))  # equal sets may differ in order
    if isinstance(value, dict):
        contents.extend((parts(key), parts(item)) for key, item in value.items())
    return (kind, contents)


VALUES = [
    Colour.RED, Colour.CRIMSON, Colour.PAIR, Size.SMALL, Mode.READ, Mode.READ | Mode.WRITE, Mode(0),
    http.HTTPStatus.OK, Outer.Deep.A, Text("a"), extended(Text("a"), note=(1,)), SlottedText("b"), Number(2**70),
    Rows([1, (2,)]), extended(Rows(), note="n"), Lookup(a=1), Ordered(b=1, a=2), Point(1), Point(1, (2,)),
    Counter("aab"), extended(Counter("a"), note=1), Plain("a", 1), Frozen("a", Plain("b")), Child("a", extra=(1, 2)),
    Renamed(3), extended(Plain("a"), surplus=b"1"), Outer.Inner(1), Item(name="a"), Item(name="a", price=1.0),
    Item(name="a", more=(1,)), extended(Item(name="a"), _seen=(1,)), SpecialItem(name="a", special=3),
    Order(items=[SpecialItem(name="b")]), Item.model_construct(price="not a float"), Page[int](rows=[1]),
    Page[Item](rows=[Item(name="a")]), Page[list[int] | None](rows=[None, [1]]), Page[Page[int]](rows=[]),
    Page[datetime](rows=[datetime(2024, 1, 1)]), Page(rows=[1, "a"]), Numbers([1, 2]),
    [Item(name="a"), {"k": Plain("z")}], {Point(1): Colour.RED}, {Frozen("a"): 1},
    defaultdict(list, {Colour.RED: [Item(name="x")]}),
]  # fmt: skip

ERRORS = [
    ValueError("a", 1), AppError(3, "x"), DataError("why"), KeyError((1,)),
    FileNotFoundError(2, "no", "file", None, "other"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    SystemExit(3), StopIteration((1,)), ImportError("m", name="n", path="p"),
    SyntaxError("bad", ("f.py", 1, 2, "text", 1, 3)), ExceptionGroup("many", [ValueError("a"), AppError(1, "b")]),
    extended(ValueError("x"), __notes__=["a note"]), ValueNotEncodable("T", "$", "why"),
]  # fmt: skip


@pytest.mark.parametrize("value", [*VALUES, *ERRORS], ids=lambda value: type(value).__name__)
def test_an_object_comes_back_with_its_class_and_all_it_holds(value: object) -> None:
    data, decoded = encode_exact(value)
    assert type(decoded) is type(value)
    assert repr(parts(decoded)) == repr(parts(value))
    assert encode(decoded) == data
    to_plain(data)


@pytest.mark.parametrize("value", [*VALUES, *ERRORS], ids=lambda value: type(value).__name__)
def test_no_code_of_a_class_runs_when_its_object_is_read(value: object) -> None:
    data = encode(value)
    ran.clear()
    decode(data)
    assert ran == []


def test_an_enum_member_is_the_very_member() -> None:
    assert decode(encode([Colour.CRIMSON, Size.SMALL, Mode.WRITE, Mode.READ | Mode.WRITE])) == [
        Colour.RED, Size.SMALL, Mode.WRITE, Mode.READ | Mode.WRITE,
    ]  # fmt: skip
    assert decode(encode(Size.SMALL)) is Size.SMALL  # a plain 1 would be equal, too


def test_a_subclass_keeps_its_own_fields() -> None:
    _, decoded = encode_exact(Order(items=[SpecialItem(name="a", special=7)]))
    assert isinstance(decoded, Order)
    assert type(decoded.items[0]) is SpecialItem
    assert decoded.items[0].special == 7


def test_fields_that_were_never_given_stay_so() -> None:
    assert decode(encode(Item(name="a"))).model_fields_set == {"name"}  # type: ignore[attr-defined]
    assert decode(encode(Item(name="a", price=1.0))).model_fields_set == {"name", "price"}  # type: ignore[attr-defined]


def test_an_invalid_model_comes_back_invalid() -> None:
    decoded = decode(encode(Item.model_construct(name=5)))
    assert isinstance(decoded, Item)
    assert decoded.name == 5  # type: ignore[comparison-overlap]


def test_what_c_keeps_in_an_exception_comes_back() -> None:
    decoded = decode(encode(FileNotFoundError(2, "no", "file", None, "other")))
    assert isinstance(decoded, FileNotFoundError)
    assert (decoded.errno, decoded.filename, decoded.filename2) == (2, "file", "other")
    broken = decode(encode(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")))
    assert str(broken) == "'utf-8' codec can't decode byte 0xff in position 0: bad"


def test_a_generic_dataclass_loses_only_its_typing_mark() -> None:
    decoded = decode(encode(Box[int](1)))
    assert vars(decoded) == {"value": 1}  # type: ignore[call-overload]


def test_a_field_on_the_class_is_recorded_with_the_object() -> None:
    assert to_plain(encode(Plain("a"))) == {"name": "a", "count": 0, "made": "class", "tags": []}


def test_a_field_that_the_class_gained_gets_its_plain_default() -> None:
    data = encode(Plain("a", 5)).replace(b',"tags":[]', b"").replace(b',"count":5', b"")
    decoded = decode(data)
    assert isinstance(decoded, Plain)
    assert (decoded.count, decoded.tags) == (0, [])
    model = decode(encode(Item(name="a")).replace(b',"price":1.0', b""))
    assert model.price == 1.0  # type: ignore[attr-defined]


# --- classes that are not here ---------------------------------------------------------------------------------------

ABSENT: list[tuple[object, object]] = [
    (Plain("a", tags=["x"]), {"name": "a", "count": 0, "made": "class", "tags": ["x"]}),
    (Item(name="a", more=1), {"name": "a", "price": 1.0, "tags": (), "more": 1}),
    (Point(1, 2.5), (1, 2.5)),
    (Text("a"), "a"),
    (Size.SMALL, 1),
    (Colour.RED, "red"),
    (Colour.PAIR, "PAIR"),
    (Mode.READ | Mode.WRITE, 3),
    (DataError("r"), {"type": "gone:DataError", "args": ["r"], "attributes": {"reason": "r"}}),
    (Page[int](rows=[1]), {"rows": [1]}),
]


def gone(data: bytes) -> bytes:
    """The bytes with every class of this module in one that nobody has."""
    return data.replace(canonical_module(__name__).encode() + b":", b"gone:")


@pytest.mark.parametrize(("value", "plain"), ABSENT, ids=lambda value: type(value).__name__)
def test_without_its_class_an_object_is_plain_data(value: object, plain: object) -> None:
    decoded = decode(gone(encode(value)))
    assert decoded == plain
    assert type(decoded) is type(plain)


def test_the_plain_form_needs_no_class() -> None:
    value = [Order(items=[Item(name="a", more=(1,))]), Point(1), DataError("r"), Colour.RED]
    assert to_plain(gone(encode(value))) == [
        {"items": [{"name": "a", "price": 1.0, "tags": [], "more": [1]}], "when": None},
        [1, 0.5],
        {"type": "gone:DataError", "args": ["r"], "attributes": {"reason": "r"}},
        "red",
    ]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Plain, Plain("a")),
        (list[Plain], [Plain("a")]),
        (Optional[Item], Item(name="a")),  # noqa: UP045 - the older spelling is an annotation, too
        (dict[str, Item | None], {"a": Item(name="a")}),
        (Annotated[Item, Field(description="x")], Item(name="a")),
        (Page[Item], Page[Item](rows=[Item(name="a")])),
        (Order, Order(items=[Item(name="a")])),
        (tuple[Colour, ...], (Colour.RED,)),
    ],
    ids=repr,
)
def test_a_class_that_the_annotation_names_is_used(hint: object, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(value)
    monkeypatch.delitem(sys.modules, __name__)
    assert repr(parts(decode(data))) != repr(parts(value))
    assert repr(parts(decode(data, hint))) == repr(parts(value))


def test_the_annotation_wins_over_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Plain("a"))
    newer = dataclasses.make_dataclass("Plain", [("name", str)], namespace={"__module__": __name__})
    assert type(decode(data, newer)) is newer
    assert type(decode(data, list[int])) is Plain


def test_an_annotation_of_strings_is_not_evaluated() -> None:
    holder = dataclasses.make_dataclass("Holder", [("x", "ran.append('evaluated')")])
    decode(encode(Plain("a")), holder)
    assert "evaluated" not in ran


@pytest.mark.parametrize("hint", [5, "Plain", Shape, T, ..., [Plain], {"a": 1}, Any, type(None)])
def test_any_object_may_stand_as_a_hint(hint: object) -> None:
    assert decode(encode(Plain("a")), hint) == Plain("a")


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_class_is_found_by_module_and_qualified_name() -> None:
    assert find_class(__name__, "Plain") is Plain
    assert find_class(__name__, "Outer.Inner") is Outer.Inner
    assert find_class("builtins", "ValueError") is ValueError


def test_an_old_name_that_is_an_alias_still_finds_the_class() -> None:
    assert type(decode(encode(Plain("a")).replace(b":Plain", b":Old"))) is Plain


@pytest.mark.parametrize(
    ("module", "qualname"),
    [(__name__, name) for name in ("ran", "extended", "Item.check", "Nothing", "", ".")] + [("", "x")],
)
def test_what_is_no_class_is_not_found(module: str, qualname: str) -> None:
    assert find_class(module, qualname) is None


def test_looking_for_a_class_never_imports() -> None:
    assert "this" not in sys.modules
    assert find_class("this", "d") is None
    decode(b'{"$":"data","c":"this:d","v":{}}')
    assert "this" not in sys.modules


def test_looking_for_a_class_runs_no_module_getattr(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lazy_module")
    module.__getattr__ = lambda name: ran.append(name)  # type: ignore[method-assign, assignment]
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    ran.clear()
    assert find_class("lazy_module", "Anything") is None
    assert ran == []


def test_looking_for_a_class_runs_no_metaclass(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            ran.append(name)
            return super().__getattribute__(name)

    holder = Meta("Holder", (), {"Inner": Plain})
    module = types.ModuleType("meta_module")
    module.Holder = holder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "meta_module", module)
    ran.clear()
    assert find_class("meta_module", "Holder.Inner") is Plain
    assert ran == []


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A script agent.py that runs as __main__."""
    module = types.ModuleType("__main__")
    module.__file__ = "/somewhere/agent.py"
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


def test_a_script_that_runs_directly_has_its_files_name(main: types.ModuleType) -> None:
    assert canonical_module("__main__") == "agent"
    assert canonical_module("pkg.mod") == "pkg.mod"


def test_a_module_run_with_m_has_its_imported_name(main: types.ModuleType) -> None:
    main.__spec__ = types.SimpleNamespace(name="pkg.agent")  # type: ignore[assignment]
    assert canonical_module("__main__") == "pkg.agent"


def test_a_session_without_a_file_stays_main(main: types.ModuleType) -> None:
    main.__file__ = None
    assert canonical_module("__main__") == "__main__"


def test_a_class_of_the_running_script_is_found_by_its_files_name(main: types.ModuleType) -> None:
    made = dataclasses.make_dataclass("Report", [("text", str)], namespace={"__module__": "__main__"})
    main.Report = made  # type: ignore[attr-defined]
    data, decoded = encode_exact(made("x"))
    assert b'"agent:Report"' in data
    assert type(decoded) is made
    assert find_class("agent", "Report") is made


def test_another_process_that_imports_the_script_finds_the_class(
    main: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dataclasses.make_dataclass("Report", [("text", str)], namespace={"__module__": "__main__"})
    main.Report = made  # type: ignore[attr-defined]
    data = encode(made("x"))
    main.__file__ = "/somewhere/worker.py"
    imported = types.ModuleType("agent")
    imported.Report = dataclasses.make_dataclass("Report", [("text", str)], namespace={"__module__": "agent"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agent", imported)
    assert type(decode(data)) is imported.Report


# --- data never chooses code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forged", "plain"),
    [
        (b'{"$":"data","c":"subprocess:Popen","v":{"args":"x"}}', {"args": "x"}),
        (b'{"$":"data","c":"builtins:object","v":{}}', {}),
        (b'{"$":"model","c":"%s:Plain","v":{"name":"a"}}', {"name": "a"}),
        (b'{"$":"data","c":"%s:Item","v":{"name":"a"}}', {"name": "a"}),
        (b'{"$":"enum","c":"%s:Plain","n":"name","v":1}', 1),
        (b'{"$":"enum","c":"%s:Colour","n":"__class__","v":1}', 1),
        (b'{"$":"enum","c":"%s:Mode","v":64}', 64),
        (b'{"$":"subclass","c":"%s:Plain","v":1}', 1),
        (b'{"$":"subclass","c":"%s:Number","v":"text"}', "text"),
        (b'{"$":"subclass","c":"builtins:bool","v":3}', 3),
        (b'{"$":"subclass","c":"time:struct_time","v":{"$":"tuple","v":[1]}}', (1,)),
        (b'{"$":"data","c":["%s:Page","builtins:int"],"v":{}}', {}),
        (b'{"$":"model","c":["%s:Page","subprocess:Popen"],"v":{}}', {}),
        (b'{"$":"model","c":["%s:Item","builtins:int"],"v":{}}', {}),
    ],
)
def test_a_class_of_another_kind_is_not_built(forged: bytes, plain: object) -> None:
    decoded = decode(forged.replace(b"%s", canonical_module(__name__).encode()))
    assert decoded == plain
    assert type(decoded) is type(plain)


def test_an_exception_tag_builds_only_exceptions() -> None:
    decoded = decode(b'{"$":"exception","c":"subprocess:Popen","a":{"$":"tuple","v":["x"]}}')
    assert decoded == {"type": "subprocess:Popen", "args": ["x"], "attributes": {}}


def test_attributes_are_set_past_setattr_and_properties() -> None:
    data = encode(Renamed(1)).replace(b'"_value"', b'"value"')
    assert vars(decode(data))["value"] == 1  # type: ignore[call-overload]


def test_a_dataclass_on_an_attrs_like_protocol_keeps_its_slots() -> None:
    attr = pytest.importorskip("attr")
    made = attr.make_class("Made", {"x": attr.ib(), "y": attr.ib(default=1)}, slots=True)
    made.__module__ = __name__
    sys.modules[__name__].Made = made  # type: ignore[attr-defined]
    _, decoded = encode_exact(made((1,), y=2))
    assert type(decoded) is made
    assert (decoded.x, decoded.y) == ((1,), 2)  # type: ignore[attr-defined]


def test_a_path_of_this_machine_keeps_its_class() -> None:
    assert type(decode(encode(Path("x")))) is type(Path("x"))
