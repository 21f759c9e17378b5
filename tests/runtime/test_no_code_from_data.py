"""R27: nothing that a store, a value or a setting says is imported, evaluated or run.

A store is poisoned wherever it holds text: targets, names, values, types of events. A process then does everything with it
that Kitaru does, while the interpreter reports what could run code. Recorded targets, one by one: test_trust.py.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru.compose import close_logs, open_log
from kitaru.domain import commands as c
from kitaru.domain import events as e
from kitaru.domain.errors import FailureOrigin, KitaruError
from kitaru.domain.payload import Payload
from kitaru.runtime import recovery, trust
from kitaru.settings import StoreChoice, resolve_store
from kitaru.store.log import EventLog
from kitaru.store.values import CODEC
from kitaru.testing.events import append, new_id
from tests.runtime.records import events_of
from tests.runtime.targets import SIMPLE, recorded, source

CANARY = "canary_module"
"""A module that can be imported, and sings when it is."""

VALUES = [
    b'{"$":"data","c":"canary_module:Thing","v":{"x":1}}', b'{"$":"model","c":"canary_module:Thing","v":{"x":1}}',
    b'{"$":"enum","c":"canary_module:Thing","n":"A","v":1}', b'{"$":"subclass","c":"canary_module:Thing","v":1}',
    b'{"$":"exception","c":"canary_module:Thing","a":{"$":"tuple","v":["x"]}}',
    b'{"$":"data","c":["canary_module:Thing","canary_module:Other"],"v":{}}',
    b'{"$":"exception","c":"subprocess:Popen","a":{"$":"tuple","v":[["touch","sang"]]}}',
    b'{"$":"exception","c":"os:system","a":{"$":"tuple","v":["touch sang"]}}',
    b'{"$":"data","c":"builtins:eval","v":{"source":"open(\'sang\',\'w\')"}}',
    b'{"$":"data","c":"antigravity:x","v":{}}', b'{"$":"canary_module:Thing","v":1}', b'{"$":"import","v":"canary_module"}',
    b'{"py/object":"canary_module.Thing"}', b'{"__reduce__":["canary_module:Thing",[]]}', b'"__import__(\'canary_module\')"',
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0atouch sang\x85R.",
]  # fmt: skip
"""Values as a forger writes them, down to a pickle."""

CLEAN = [b"1", b'"x"', b'{"a":[1]}', b'{"$":"tuple","v":[1]}', b'{"$":"data","c":"no.such:Thing","v":{"x":1}}', b"no json"]


def fill(location: str, values: list[bytes], target: e.Target, word: str) -> None:
    """Executions in every state that hold `values` wherever a value may stand, and `word` wherever a name may."""
    log = open_log(StoreChoice(location, "of the test"))
    for number, value in enumerate(values):
        payload = Payload.of(value, CODEC)
        read = value if value[:1] in (b"{", b"[", b'"', b"1") else b"1"  # what the read models and lists have to read
        shown = Payload.of(read, CODEC)
        metadata = Payload.of(b'{"k":' + read + b"}", CODEC)
        failed: dict[str, Any] = {
            "at": 1, "origin": FailureOrigin.USER_CODE, "exception_type": f"{word}.Thing", "message": shown,
            "traceback": shown, "exception": payload,
        }  # fmt: skip
        endings: list[e.Event | None] = [
            e.ExecutionFailed(**failed),
            e.ExecutionCompleted(at=1, output=payload),
            e.WaitOpened(
                at=1, wait=1, kind="input", invocation_id=word, name=word, question=shown, json_schema=shown,
                metadata=metadata,
            ),
            None,
        ]  # fmt: skip
        for ending in endings:
            started = e.ExecutionStarted(
                at=1, flow_id=word, flow_name=f"{word}{number}", project="default", stack=word, target=target,
                inputs=payload, options=e.FlowOptions(image=json.dumps({"base_image": word}), default_cache=word),
                tags=(word,), metadata=metadata,
            )  # fmt: skip
            head, _ = log.execute(new_id(), c.Start(started, "gone"), 1)
            opened = [
                e.AttemptStarted(at=1, call=n, attempt=1, invocation_id=f"{word}.{n}", name=word, input_digest="0" * 64)
                for n in (1, 2)
            ]
            done = e.CheckpointCompleted(at=1, call=1, attempt=1, output=payload)
            broke = [e.AttemptFailed(call=2, attempt=1, **failed), e.CheckpointFailed(at=1, call=2, attempt=1)]
            saved = e.ArtifactSaved(at=1, key=word, name=word, kind="blob", value=payload)
            logged = e.MetadataLogged(at=1, key=f"{word}2", values=metadata)
            more: list[e.EventBase] = [*opened, done, *broke, saved, logged, *([ending] if ending is not None else [])]
            append(log, head, *more)
    close_logs()


PROGRAM = '''
"""Does all that can be done with a clean store, then with the others; says what was executed with these alone."""
import contextlib, io, json, os, sys, warnings

sys.path.insert(0, os.getcwd())  # the canary can be imported
heard = set()
LOUD = ("import", "exec", "compile", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
        "subprocess.Popen", "marshal.loads", "code.__new__", "pickle.find_class", "function.__new__", "socket.connect",
        "urllib.Request", "webbrowser.open", "builtins.breakpoint")

def hear(event, args):
    if event in LOUD or event.startswith("ctypes.") or (event == "open" and "canary" in str(args[0])):
        code = args[0] if event == "exec" else None
        what = (code.co_filename, code.co_names, code.co_consts) if event == "exec" else args[:2]
        heard.add((event, repr(what)[:300]))

sys.addaudithook(hear)

import kitaru
from kitaru import KitaruClient
from kitaru.cli import main
from kitaru import compose
from kitaru.runtime.handle import FlowHandle
from kitaru.settings import StoreChoice

tried = {}

@kitaru.flow
def nothing() -> object:
    return None

def attempt(name, do):
    try:
        result = do()
        tried[name] = tried.get(name, 0) + 1
        return result
    except Exception as error:
        tried.setdefault(f"{name}: {type(error).__name__}", str(error)[:300])
        return None

def everything(location, copy):
    choice = StoreChoice(location, "of the test")
    kitaru.configure(store=location)
    client = KitaruClient(location)
    log = compose.open_log(choice)
    reader = compose.open_reader(choice)
    ids = reader.find_ids("", 1000)
    for number in range(20):
        for word in ("word", "canary_module"):
            attempt("list", lambda: client.executions.list(f"{word}{number}"))
    for exec_id in ids:
        whole = attempt("get", lambda: client.executions.get(exec_id))
        attempt("model", lambda: whole.model_dump_json())
        attempt("events", lambda: client.executions.events(exec_id))
        for artifact in (whole.artifacts or () if whole is not None else ()):
            attempt("artifact", lambda: client.artifacts.load(artifact.artifact_id))
            attempt("shown", lambda: client.artifacts.show(artifact.artifact_id))
            attempt("load", lambda: kitaru.load(exec_id, artifact.name))
        attempt("value", lambda: FlowHandle(log, exec_id, nothing, None).get())
        attempt("recover", lambda: client.executions.recover(exec_id))
    attempt("recover all", client.executions.recover)
    attempt("verify", lambda: compose.verify_store(choice))
    attempt("rebuild", lambda: compose.rebuild_store(choice))
    attempt("measure", lambda: compose.measure_store(choice))
    attempt("backup", lambda: compose.backup_store(choice, copy))
    reader.close()
    some = ids[0]
    for command in (["executions", "list"], ["executions", "get", some], ["executions", "events", some], ["recover"],
                    ["artifacts", "list", some], ["status"], ["store", "info"]):
        for form in ([], ["-o", "json"]):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                attempt(" ".join(command[:2]), lambda: main([*command, *form, "--store", location]))
    compose.close_logs()

everything(sys.argv[1], sys.argv[1] + ".copy")
tried.clear()
usual, heard = heard, set()
for location in sys.argv[2:]:
    everything(location, location + ".copy")
reports = sorted(heard - usual)
print(json.dumps({"reports": reports, "tried": tried, "there": "canary_module" in sys.modules}))
'''


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process reports that used a poisoned store, one whose files were edited too, in a folder with a canary."""
    folder = tmp_path_factory.mktemp("poisoned")
    canary = source(folder / f"{CANARY}.py", f"open({str(folder / 'sang')!r}, 'w')\n{SIMPLE}\nclass Thing:\n    pass\n")
    fill(str(folder / "clean"), CLEAN, e.Target(file=str(folder / "no such file.py"), qualname="work"), "word")
    fill(str(folder / "store"), VALUES, e.Target(file=str(canary), qualname="doubled"), CANARY)
    shutil.copytree(folder / "store", folder / "edited")
    with closing(sqlite3.connect(folder / "edited" / "kitaru.db")) as connection, connection:
        numbers = [number for (number,) in connection.execute("SELECT number FROM streams ORDER BY number LIMIT 6")]
        for number, word in zip(
            numbers, (CANARY, f"{CANARY}:Thing", "os:system", "builtins:eval", "__import__", ""), strict=True
        ):
            connection.execute("UPDATE events SET type = ? WHERE number = ? AND version = 3", (word, number))
    (folder / "program.py").write_text(PROGRAM)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KITARU_", "PYTHON", "COV"))}
    ran = subprocess.run(
        [sys.executable, "program.py", *(str(folder / name) for name in ("clean", "store", "edited"))],
        cwd=folder,
        env={
            **kept, "PYTHONPATH": str(Path(kitaru.__file__).parents[1]), "KITARU_CONFIG_DIR": str(folder / "config"),
            "KITARU_STORE": str(folder / "store"), "KITARU_DURABILITY": "os",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return {**json.loads(ran.stdout.splitlines()[-1]), "sang": (folder / "sang").exists()}


def test_a_poisoned_store_is_used_in_every_way(done: dict[str, Any]) -> None:
    """Else the tests below say nothing."""
    tried = set(done["tried"])
    assert {
        "list",
        "get",
        "model",
        "events",
        "artifact",
        "shown",
        "load",
        "value",
        "verify",
        "rebuild",
        "measure",
        "backup",
    } <= tried, done
    assert any(name.startswith("recover: Kitaru") for name in done["tried"]), done["tried"]


def test_a_poisoned_store_runs_no_canary(done: dict[str, Any]) -> None:
    assert not done["sang"]
    assert not done["there"]


def test_a_poisoned_store_imports_and_executes_nothing(done: dict[str, Any]) -> None:
    assert done["reports"] == []


# --- configuration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        "\0", ".", "..", "~", "$HOME", "*", "/*", "**", "relative", "file:///", "{folder}/..hidden", "{folder}\0",
        "{folder}-beside",
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["folders", "trees"])
def test_an_entry_of_the_trusted_folders_that_is_no_real_folder_trusts_nothing(
    tmp_path: Path, log: EventLog, kind: str, entry: str
) -> None:
    (tmp_path / "code").mkdir()
    file = source(tmp_path / "code" / "agent7.py", f"open({str(tmp_path / 'sang')!r}, 'w')\n{SIMPLE}")
    listed: dict[str, list[str]] = {"folders": [], "trees": [], kind: [entry.replace("{folder}", str(file.parent))]}
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "trust.json").write_text(json.dumps({log.store_id: listed, CANARY: listed}))
    exec_id = recorded(log, e.Target(file=str(file), qualname="doubled"))
    with pytest.raises(KitaruError):
        recovery.take_over(log, exec_id)
    assert not (tmp_path / "sang").exists()
    assert not trust.is_trusted(log.store_id, str(file))


def test_an_empty_entry_of_the_trusted_trees_trusts_nothing(tmp_path: Path, log: EventLog) -> None:
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "trust.json").write_text(json.dumps({log.store_id: {"folders": [], "trees": [""]}}))
    assert not trust.is_trusted(log.store_id, str(tmp_path / "agent9.py"))


@pytest.mark.parametrize(
    "table",
    [
        'store = {import = "canary_module"}', 'store = ["canary_module:Thing"]', 'target = "canary_module:work"',
        'store = "canary_module:Thing"', 'store = "`touch sang`"', 'plugins = ["canary_module"]', "store = 5",
    ],
)  # fmt: skip
def test_a_projects_settings_choose_a_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    source(tmp_path / "here" / f"{CANARY}.py", "open('sang', 'w')")
    (tmp_path / "here" / "pyproject.toml").write_text(f"[tool.kitaru]\n{table}\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    kitaru.configure(store=None)
    with suppress(KitaruError):
        assert os.path.isabs(resolve_store().location)
    assert CANARY not in sys.modules
    assert not (tmp_path / "here" / "sang").exists()


# --- a copied store ----------------------------------------------------------------------------------------------------


def test_a_copied_store_is_not_run_on_a_machine_that_never_ran_it(tmp_path: Path, log: EventLog) -> None:
    """The same store id, the same file at the same place, and no list of trusted folders: nothing runs."""
    file = source(tmp_path / "theirs" / "agent8.py", f"open({str(tmp_path / 'sang')!r}, 'w')\n{SIMPLE}")
    exec_id = recorded(log, e.Target(file=str(file), qualname="doubled"), x=4)
    close_logs()
    shutil.copytree(tmp_path / "store", tmp_path / "copied")
    assert not (tmp_path / "config" / "trust.json").exists()
    with kitaru.KitaruClient(str(tmp_path / "copied")) as client, pytest.raises(KitaruError, match="trust"):
        client.executions.recover(exec_id)
    with kitaru.KitaruClient(str(tmp_path / "copied")) as client, pytest.raises(KitaruError, match="trust"):
        client.executions.recover()
    copied = open_log(StoreChoice(str(tmp_path / "copied"), "of the test"))
    assert len(events_of(copied, exec_id)) == 1
    assert not (tmp_path / "sang").exists()
    assert not (tmp_path / "config" / "trust.json").exists()
