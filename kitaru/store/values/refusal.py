"""How the codec says no: a value that cannot be recorded, bytes that cannot be read."""

from __future__ import annotations

from kitaru.domain.errors import KitaruBackendError, KitaruUsageError

_SHOWN_PATH = 120
"""Characters of a path that a message shows; a cycle's path is longer."""

ADVICE = (
    "Return plain data, a dataclass or a pydantic model that is defined at the top level of its module, "
    "or keep such objects out of checkpoints."
)


class ValueNotEncodable(KitaruUsageError):  # noqa: N818 - the name is public
    """A value cannot be recorded exactly. `type_name` is its type, `path` its place, such as `$.items[3].client`."""

    code = "value-not-encodable"

    def __init__(self, type_name: str, path: str, reason: str) -> None:
        shown = path if len(path) <= _SHOWN_PATH else f"{path[: _SHOWN_PATH // 2]}...{path[-_SHOWN_PATH // 2 :]}"
        super().__init__(f"A value of type {type_name} at {shown} cannot be recorded: {reason}. {ADVICE}")
        self.type_name = type_name
        self.path = path


class ValueTooLarge(ValueNotEncodable):
    """A value that takes more bytes than one value may have. `what` is its role, such as "the inputs together"."""

    code = "value-too-large"

    def __init__(self, type_name: str, what: str, size: int, limit: int) -> None:
        super(ValueNotEncodable, self).__init__(
            f"{what}, of type {type_name}, takes {size:,} bytes; one value may have {limit:,}. Write it to a file or an "
            "object store, and record where it is."
        )
        self.type_name = type_name
        self.path = "$"


class Refused(Exception):  # noqa: N818 - it is caught inside the codec and never seen outside
    """Internal: travels up through the containers, each adding its segment: accepted values pay for no paths."""

    def __init__(self, cls: type, reason: str) -> None:
        super().__init__(reason)
        self.type_name = type_name(cls)
        self.reason = reason
        self.segments: list[str] = []

    def at(self, segment: str) -> None:
        """One step further out: `segment` leads from the container to the refused value."""
        self.segments.append(segment)

    def public(self) -> ValueNotEncodable:
        """The error that the caller sees."""
        return ValueNotEncodable(self.type_name, "$" + "".join(reversed(self.segments)), self.reason)


def type_name(cls: type) -> str:
    """`module.qualname`, or the bare name of a builtin."""
    module = type.__getattribute__(cls, "__module__")
    qualname = type.__getattribute__(cls, "__qualname__")
    return qualname if module == "builtins" else f"{module}.{qualname}"


def step(key: object) -> str:
    """The path segment of a dict's key or an attribute's name."""
    if type(key) is str:
        return f".{key}" if key.isidentifier() else f"[{key!r}]"
    if type(key) in (float, bool, bytes, type(None)) or (type(key) is int and key.bit_length() <= 64):
        return f"[{key!r}]"  # the text of a huge int is refused by Python itself
    return f"[<{type_name(type(key))}>]"  # a user's __repr__ is not run


def undecodable(reason: str) -> KitaruBackendError:
    """The one error of reading: malformed bytes, or a value that cannot exist on this machine."""
    return KitaruBackendError(
        f"A recorded value cannot be read: {reason}. The store is damaged, or a newer version of Kitaru wrote it.",
        code="payload-undecodable",
    )
