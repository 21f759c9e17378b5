"""The closed table of builtin and standard library types that are values: one row each, with its three verbs.

`write` takes a value apart into a simpler one that is encoded in its place, `read` builds it again, and `show` says it
to a reader in plain JSON. A module is imported only to read, and only from this table.
"""

# What a codec handles has no type known here: values are Any, and builtin methods are called past their generics.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache
from importlib import import_module
from math import isfinite
from typing import Any, NamedTuple
from uuid import SafeUUID

from kitaru.store.values.refusal import Refused

_MICROSECOND = timedelta(microseconds=1)
_ZONES = ("builtins:NoneType", "datetime:timezone", "zoneinfo:ZoneInfo")


class Leaf(NamedTuple):
    """One row. `cls` gives the class itself, importing its module; the tag is the key in LEAVES."""

    module: str
    write: Callable[[Any], object]
    read: Callable[[Any, Any], object]
    show: Callable[[Any], object] = lambda plain: plain


def leaf_class(tag: str) -> Any:
    """The class of a row, imported when it is read for the first time."""
    return _class_of_row(tag)


def tag_of(cls: type) -> str | None:
    """The tag of a class that is in the table: the very class, not one that carries its name."""
    tag = type.__getattribute__(cls, "__name__")
    row = LEAVES.get(tag)
    if row is None:
        return None
    module = sys.modules.get(row.module)
    return tag if module is not None and module.__dict__.get(tag) is cls else None


@cache
def _class_of_row(tag: str) -> Any:
    return import_module(LEAVES[tag].module).__dict__[tag]


def _write_datetime(value: datetime) -> object:
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return naive if value.tzinfo is None and not value.fold else [naive, _zone(value.tzinfo), value.fold]


def _read_datetime(cls: Any, body: Any) -> object:
    if type(body) is str:
        return cls.fromisoformat(body)
    text, zone, fold = body
    if not (zone is None or isinstance(zone, tzinfo)):
        raise TypeError("a time zone that is none")
    return cls.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def _show_datetime(plain: Any) -> object:
    if type(plain) is str:
        return plain
    text, zone, _ = plain
    if zone is None:
        return text
    return f"{text}{zone}" if zone[:1] in "+-" else f"{text}[{zone}]"


def _zone(zone: tzinfo | None) -> tzinfo | None:
    """Only zones of the table: another one could come back as a mere offset, and == would not notice."""
    if zone is not None and tag_of(type(zone)) not in ("timezone", "ZoneInfo"):
        raise Refused(type(zone), "it is a time zone other than timezone or ZoneInfo")
    return zone


def _write_timezone(value: timezone) -> object:
    if value is UTC:
        return "UTC"
    offset, *name = timezone.__getinitargs__(value)  # pyright: ignore[reportAttributeAccessIssue]
    return [offset // _MICROSECOND, *name]


def _read_timezone(cls: Any, body: Any) -> object:
    return UTC if body == "UTC" else cls(timedelta(microseconds=body[0]), *body[1:])


def _show_timezone(plain: Any) -> object:
    if plain == "UTC":
        return "+00:00"
    return datetime(2000, 1, 1, tzinfo=timezone(timedelta(microseconds=plain[0]))).isoformat()[19:]


def _write_zoneinfo(value: Any) -> object:
    if value.key is None:
        raise Refused(type(value), "it was read from a file and has no key")
    return value.key


def _write_decimal(value: object) -> object:
    return str(value).replace("e", "E")  # the current context may ask for a small e


def _write_uuid(value: Any) -> object:
    safety = value.is_safe.value
    return str(value) if safety is SafeUUID.unknown.value else [str(value), safety]


def _read_uuid(cls: Any, body: Any) -> object:
    return cls(body) if type(body) is str else cls(body[0], is_safe=SafeUUID(body[1]))


def _read_pattern(_: Any, body: Any) -> object:
    return re.compile(body[0], body[1] & ~re.DEBUG.value)  # DEBUG prints


def _show_complex(plain: Any) -> object:
    real, imaginary = (part if type(part) is str else repr(part) for part in plain)
    return f"{real}{'' if imaginary[:1] in '+-' else '+'}{imaginary}j"


def _show_call(name: str) -> Callable[[Any], object]:
    return lambda plain: f"{name}({', '.join(str(part) for part in plain)})"


def _read_float(_: Any, body: Any) -> object:
    number = float(body)
    if isfinite(number) or type(body) is not str:
        raise ValueError("a finite float needs no tag")
    return number


def _read_int(_: Any, body: Any) -> object:
    return int(body, 16)


def _show_int(plain: Any) -> object:
    number = int(plain, 16)
    return str(number) if number.bit_length() <= 10_000 else plain  # int-to-text is quadratic and limited


def _text(module: str) -> Leaf:
    return Leaf(module, str, lambda cls, body: cls(_checked(body)))


def _checked(body: object) -> str:
    if type(body) is not str:
        raise TypeError("text expected")
    return body


LEAVES: dict[str, Leaf] = {
    "int": Leaf("builtins", hex, _read_int, _show_int),
    "float": Leaf("builtins", repr, _read_float, {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.__getitem__),
    "str": Leaf(
        "builtins",
        lambda value: b64encode(value.encode("utf-8", "surrogatepass")).decode(),
        lambda cls, body: b64decode(body, validate=True).decode("utf-8", "surrogatepass"),
        lambda plain: b64decode(plain).decode("utf-8", "replace"),
    ),
    "bytes": Leaf(
        "builtins",
        lambda value: b64encode(value).decode(),
        lambda cls, body: b64decode(body, validate=True),
        lambda plain: {"$bytes": plain},
    ),
    "bytearray": Leaf(
        "builtins",
        lambda value: b64encode(value).decode(),
        lambda cls, body: cls(b64decode(body, validate=True)),
        lambda plain: {"$bytes": plain},
    ),
    "complex": Leaf("builtins", lambda value: [value.real, value.imag], lambda cls, body: cls(*body), _show_complex),
    "range": Leaf(
        "builtins",
        lambda value: [value.start, value.stop, value.step],
        lambda cls, body: cls(*body),
        _show_call("range"),
    ),
    "slice": Leaf(
        "builtins",
        lambda value: [value.start, value.stop, value.step],
        lambda cls, body: cls(*body),
        _show_call("slice"),
    ),
    "Decimal": Leaf("decimal", _write_decimal, lambda cls, body: cls(_checked(body))),
    "Fraction": Leaf(
        "fractions",
        lambda value: [value.numerator, value.denominator],
        lambda cls, body: cls(*body),
        lambda plain: f"{plain[0]}/{plain[1]}",
    ),
    "datetime": Leaf("datetime", _write_datetime, _read_datetime, _show_datetime),
    "date": Leaf("datetime", date.isoformat, lambda cls, body: cls.fromisoformat(body)),
    "time": Leaf("datetime", _write_datetime, _read_datetime, _show_datetime),
    "timedelta": Leaf(
        "datetime",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda cls, body: cls(*body),
        lambda plain: timedelta(*plain).total_seconds(),
    ),
    "timezone": Leaf("datetime", _write_timezone, _read_timezone, _show_timezone),
    "ZoneInfo": Leaf("zoneinfo", _write_zoneinfo, lambda cls, body: cls(_checked(body))),
    "UUID": Leaf("uuid", _write_uuid, _read_uuid, lambda plain: plain if type(plain) is str else plain[0]),
    "Pattern": Leaf("re", lambda value: [value.pattern, value.flags], _read_pattern, lambda plain: plain[0]),
    **{name: _text("pathlib") for name in ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")},
    **{f"IPv{v}{kind}": _text("ipaddress") for v in (4, 6) for kind in ("Address", "Network", "Interface")},
}
