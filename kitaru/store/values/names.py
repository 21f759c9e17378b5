"""Names of classes, and the classes that carry them: found in modules that are already imported, never by an import.

Lookups read plain module and class dictionaries: no `__getattr__`, no descriptor and no metaclass runs.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from os.path import basename, splitext
from types import ModuleType
from typing import Any, cast

_MAIN_NAMES = ("__main__", "__mp_main__")
_class_dict = type.__dict__["__dict__"].__get__


def canonical_module(name: str) -> str:
    """The name by which another process imports the module: a script agent.py that runs as `__main__` is `agent`.

    `python -m pkg.agent` is `pkg.agent`. A session without a file (REPL, `python -c`) stays `__main__`.
    """
    return _main_name() if name in _MAIN_NAMES else name


def find_class(module: str, qualname: str) -> type | None:
    """The class of that name in an imported module, or None. Never imports; an alias of a class finds the class.

    The running `__main__` is asked first when its canonical name is `module`: a script may also have been imported.
    """
    if module == _main_name():
        found = _class_in(sys.modules.get("__main__"), qualname)
        if found is not None:
            return found
    return _class_in(sys.modules.get(module), qualname)


def class_name(cls: type) -> str:
    """The recorded name of a class: `module:qualname`, with the canonical module."""
    return f"{canonical_module(class_attribute(cls, '__module__'))}:{class_attribute(cls, '__qualname__')}"


def find_named(name: str) -> type | None:
    """The class of a recorded `module:qualname`, or None."""
    module, _, qualname = name.partition(":")
    return find_class(module, qualname)


def class_attribute(cls: type, name: str) -> str:
    """`cls.__module__` or `cls.__qualname__` without asking its metaclass; empty when it is no text."""
    value = type.__getattribute__(cls, name)
    return value if type(value) is str else ""


def is_class(thing: object) -> bool:
    """Whether `thing` is a class by its type; `isinstance` would ask the object."""
    return issubclass(type(thing), type)


def class_dict(cls: type) -> dict[str, Any]:
    """The class's own attributes (a read-only view)."""
    return _class_dict(cls)


def _class_in(module: object, qualname: str) -> type | None:
    if not issubclass(type(module), ModuleType):
        return None
    names = object.__getattribute__(module, "__dict__")
    found: object = None
    for part in qualname.split("."):
        found = names.get(part)
        if not is_class(found):
            return None
        names = class_dict(cast("type", found))
    return cast("type | None", found)


def _main_name() -> str:
    main = sys.modules.get("__main__")
    if main is None:
        return "__main__"
    names = main.__dict__
    spec = names.get("__spec__")
    if spec is not None and type(spec.name) is str:
        return spec.name
    file = names.get("__file__")
    return _stem(file) if type(file) is str else "__main__"


@lru_cache(maxsize=8)
def _stem(file: str) -> str:
    return splitext(basename(file))[0] or "__main__"
