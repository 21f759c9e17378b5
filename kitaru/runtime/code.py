"""From a target (file and qualified name) to the flow, and only from where the user has run flows before."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import threading
from contextlib import suppress
from hashlib import blake2b
from stat import S_ISREG
from types import ModuleType
from typing import TYPE_CHECKING

from kitaru.domain.errors import KitaruRuntimeError, KitaruUsageError
from kitaru.domain.events import Target
from kitaru.runtime.registry import flows
from kitaru.runtime.source import Stamp, stamp_of
from kitaru.runtime.trust import is_trusted

if TYPE_CHECKING:
    from kitaru.runtime.flow import Flow

logger = logging.getLogger("kitaru")
_warned: dict[str, Stamp] = {}
_loading = threading.local()
_load_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _load_lock
    _load_lock = threading.RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork_in_child)
_digests: dict[str, tuple[int, int, str]] = {}
_targets: dict[tuple[str, str], tuple[tuple[int, int, int, int], Target]] = {}


def is_loading() -> bool:
    """Whether this thread is executing a target's module."""
    return getattr(_loading, "active", False)


def target_of(file: str, qualname: str) -> Target:
    """Where a function is, as it is recorded: the real path, None for a shell or exec, and the file's digest."""
    try:
        stat = os.stat(file)
    except (OSError, ValueError):
        return Target(file=None, qualname=qualname)
    if file.startswith("<") or not S_ISREG(stat.st_mode):
        return Target(file=None, qualname=qualname)
    seen = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    known = _targets.get((file, qualname))
    if known is None or known[0] != seen:
        real = os.path.realpath(file)
        known = _targets[file, qualname] = (seen, Target(file=real, qualname=qualname, digest=file_digest(real)))
    return known[1]


def target_of_flow(flow: Flow[..., object]) -> Target:
    """Where a flow is. Without a digest when the file was edited since it was loaded: what runs is not in it any more."""
    target = target_of(flow.source.__code__.co_filename, flow.source.__qualname__)
    if target.file is None or stamp_of(target.file) == flow.stamp:
        return target
    return target.model_copy(update={"digest": None})


def file_digest(path: str) -> str:
    """BLAKE2b-128 of the file, hexadecimal; read again only when its size or time changed."""
    stat = os.stat(path)
    known = _digests.get(path)
    if known is not None and known[:2] == (stat.st_mtime_ns, stat.st_size):
        return known[2]
    with open(path, "rb") as file:
        digest = blake2b(file.read(), digest_size=16).hexdigest()
    _digests[path] = (stat.st_mtime_ns, stat.st_size, digest)
    return digest


def digest_if_changed(target: Target) -> str | None:
    """The digest of the target's file when it is another one than recorded, else None."""
    if target.file is None or not os.path.isfile(target.file):
        return None
    digest = file_digest(target.file)
    return digest if digest != target.digest else None


def load_flow(target: str) -> Flow[..., object]:
    """The flow that a user typed as FILE.py:name or module:name. Raises KitaruUsageError."""
    where, colon, qualname = target.rpartition(":")
    if not colon or not where or not qualname:
        raise KitaruUsageError(f"{target!r} is no target; type FILE.py:flow or module:flow")
    if where.endswith(".py") or os.sep in where:
        if not os.path.isfile(where):
            raise KitaruUsageError(f"there is no file {where}; type FILE.py:flow")
        return _named_flow(load_file(os.path.realpath(where)), qualname, target)
    if not all(part.isidentifier() for part in where.split(".")):
        raise KitaruUsageError(f"{target!r} is no target; type FILE.py:flow or module:flow")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        return _named_flow(_executing(lambda: _import(where), where), qualname, target)
    finally:
        with suppress(ValueError):
            sys.path.remove(here)


def _import(name: str) -> ModuleType:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise KitaruUsageError(f"there is no module {name!r} here; type FILE.py:flow or module:flow")
    return importlib.import_module(name)


def load_recorded(target: Target, flow_name: str, store_id: str) -> Flow[..., object]:
    """The flow of a recorded execution. Raises KitaruRuntimeError when it is not from a trusted folder, or gone."""
    if target.file is None:
        found = _find(target.qualname, flow_name, lambda file: not os.path.isfile(file))
        if found is not None:
            return found
        raise KitaruRuntimeError(
            f"the flow {target.qualname} was defined in a shell or by exec; it can only go on in that process",
            code="not-loadable",
        )
    if "\0" in target.file or not os.path.isabs(target.file):
        raise KitaruRuntimeError(f"the store names the file {target.file!r}, which is no absolute path", code="not-loadable")
    file = os.path.realpath(target.file)
    here = _find(target.qualname, flow_name, lambda known: os.path.realpath(known) == file)
    if here is not None:
        _warn_if_edited(file, here)
        return here
    if not os.path.isfile(file):
        raise KitaruRuntimeError(
            f"the flow's file {file} is gone; put it back, or name its new place: "
            f"kitaru recover EXECUTION --target FILE.py:{target.qualname}",
            code="not-loadable",
        )
    _check_trusted(file, store_id)
    module = load_file(file)
    found = _flow_in(module, target.qualname, flow_name)
    if found is None:
        raise KitaruRuntimeError(
            f"{file}:{target.qualname} is no flow any more; {_flows_there(module)}. Put it back, or name its new place: "
            "kitaru recover EXECUTION --target FILE.py:flow",
            code="not-loadable",
        )
    return found


def load_trusted(target: str, store_id: str) -> Flow[..., object]:
    """The flow that a program names as FILE.py:name: as `load_flow`, but only of a folder that is trusted for the store.

    A module's name is no such target: to find one runs the packages above it. Raises KitaruUsageError, KitaruRuntimeError.
    """
    where, _, qualname = target.rpartition(":")
    if not where.endswith(".py") or not qualname or "\0" in where:
        raise KitaruUsageError(f"{target!r} is no target; give FILE.py:flow")
    if not os.path.isfile(where):
        raise KitaruUsageError(f"there is no file {where}; give FILE.py:flow")
    file = os.path.realpath(where)
    _check_trusted(file, store_id)
    found = _named_flow(load_file(file), qualname, target)
    defined = target_of_flow(found).file
    if defined is not None and defined != file:
        _check_trusted(defined, store_id)  # it was imported there: to run it would trust its folder, too
    return found


def _check_trusted(file: str, store_id: str) -> None:
    if not is_trusted(store_id, file):
        raise KitaruRuntimeError(
            f"{file} is not in a folder from which you have run flows of this store; look at it, then type "
            f"`kitaru trust {os.path.dirname(file)}`",
            code="not-trusted",
        )


def _warn_if_edited(file: str, flow: Flow[..., object]) -> None:
    now = stamp_of(file)
    if now != flow.stamp and _warned.get(file) != now:
        _warned[file] = now
        logger.warning("%s was edited since this process loaded it; what was loaded runs: restart to run the new code", file)


def _named_flow(module: ModuleType, qualname: str, target: str) -> Flow[..., object]:
    found = _flow_in(module, qualname, None)
    if found is None:
        raise KitaruUsageError(f"{target} is not a flow; {_flows_there(module)}. Decorate a function with @flow")
    return found


def _file_of(module: ModuleType) -> str:
    """Its real path; of a built-in module, which has none, what no flow's file is."""
    return os.path.realpath(getattr(module, "__file__", None) or os.devnull)


def _flows_there(module: ModuleType) -> str:
    file = _file_of(module)
    there = sorted(name for (known, name, _) in flows if os.path.realpath(known) == file)
    return f"flows there: {', '.join(there) or 'none'}"


def _find(qualname: str, flow_name: str | None, is_there: Callable[[str], bool]) -> Flow[..., object] | None:
    """The flow decorated last under that name. A function at the top of its file may have been given another name since;
    among those made in a loop or by lambdas nothing but the name tells which it is.
    """
    fits = [flow for (file, known, _), flow in flows.items() if known == qualname and is_there(file)]
    named = [flow for flow in fits if flow_name in (None, flow.name)]
    if named:
        return named[-1]
    return fits[0] if len(fits) == 1 and "<" not in qualname else None


def _flow_in(module: ModuleType, qualname: str, flow_name: str | None) -> Flow[..., object] | None:
    from kitaru.runtime.flow import Flow

    file = _file_of(module)
    here = _find(qualname, flow_name, lambda known: os.path.realpath(known) == file)
    if here is not None:
        return here
    found: object = module
    for part in qualname.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found if isinstance(found, Flow) else None  # pyright: ignore[reportUnknownVariableType]


def load_file(path: str) -> ModuleType:
    """Execute a file (a real path) as the module that its place makes it: its stem, or its dotted name inside packages.

    A file that raises leaves neither a module nor flows behind.
    """
    with _load_lock:
        before = set(flows)
        try:
            return _load_file(path)
        except BaseException:
            for key in set(flows) - before:
                if os.path.realpath(key[0]) == path:
                    del flows[key]
            raise


def _load_file(path: str) -> ModuleType:
    main = sys.modules.get("__main__")
    if main is not None and os.path.realpath(getattr(main, "__file__", None) or "") == path:
        return main
    root, name = os.path.dirname(path), os.path.splitext(os.path.basename(path))[0]
    while os.path.isfile(os.path.join(root, "__init__.py")):
        name = f"{os.path.basename(root)}.{name}"
        root = os.path.dirname(root)
    loaded = sys.modules.get(name)
    if loaded is not None and os.path.realpath(getattr(loaded, "__file__", None) or "") == path:
        return loaded
    if root not in sys.path:
        sys.path.insert(0, root)
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.append(folder)  # `python FILE` has it there: a script inside a package may import what lies beside it
    if "." in name:
        return _executing(lambda: importlib.import_module(name), path)
    if loaded is not None:
        name = f"{name}__{blake2b(path.encode(), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise KitaruUsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader

    def execute() -> ModuleType:
        loader.exec_module(module)
        return module

    try:
        return _executing(execute, path)
    except BaseException:
        sys.modules.pop(name, None)
        raise


def _executing(load: _Load, what: str) -> ModuleType:
    outer, _loading.active = is_loading(), True
    try:
        return load()
    except (KitaruUsageError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a module may raise anything: it is one file that cannot be loaded
        raise KitaruRuntimeError(f"loading {what} failed: {type(error).__name__}: {error}", code="not-loadable") from error
    finally:
        _loading.active = outer


if TYPE_CHECKING:
    from collections.abc import Callable

    _Load = Callable[[], ModuleType]
