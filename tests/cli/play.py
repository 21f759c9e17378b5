"""One play of every command, off a terminal: what each prints as JSON and as text, and its exit code, made repeatable.

`python -m tests.cli.play --write` writes what the commands print now into tests/cli/golden; read the difference.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple

from kitaru.cli import main
from kitaru.compose import close_logs
from kitaru.runtime import process
from kitaru.settings import Configuration, configured
from tests.cli import commands

GOLDEN = Path(__file__).parent / "golden"
SAID = "a flow said so"
FLOWS = """
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow, wait
from kitaru.runtime.usage import record_usage

@checkpoint
def double(x: int) -> int:
    return 2 * x

@checkpoint(retries=1)
def fails(x: int) -> int:
    if not Path("mended").read_text():
        raise ValueError("not yet")
    return x

@flow(tags=["golden"])
def good(x: int = 1) -> int:
    kitaru.log(customer_tier="enterprise", score=3)
    print("a flow said so")
    kitaru.save("note", {"x": x}, type="context", tags=["kept"])
    return double(double(x))

@flow
def bad(x: int = 1) -> int:
    return fails(double(x))

@checkpoint(type="llm_call")
def spends(model: str) -> None:
    tokens = {"input_tokens": 100, "output_tokens": 20}
    cost = {"actual_cost_usd": 0.25, "source": "provider_reported"}
    record_usage({
        "adapter": "kitaru.llm", "surface": "direct_llm", "status": "completed", "billing_effect": "incurred",
        "cache_status": "executed", "provider": "openai", "model": model, "usage": tokens, "cost": cost,
    })

@flow
def pays() -> None:
    for model in ("big", "small", "big"):
        spends(model)

@flow
def asks() -> int:
    return double(wait(schema=int, name="amount", question="How many?", metadata={"why": "golden"}, timeout=0))
"""


class Ran(NamedTuple):
    """A command that was run."""

    code: int
    out: str
    err: str
    exec_id: str


def _run(words: list[str], form: str) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    more = ["-o", "json"] if form == "json" else []
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*words, *more])
    ids = re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", out.getvalue() + err.getvalue())
    return Ran(code, out.getvalue(), err.getvalue(), ids[0] if words[0] == "run" and ids else "")


def _work(words: list[str], form: str) -> Ran:
    """A worker in a process of its own, told to end once it has run what another process left to it."""
    project = words[words.index("--project") + 1]
    left = commands.run("run", "flows.py:pays", "--detach", "--project", project, cwd=Path.cwd())
    assert left.returncode == 0, left.stderr
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        more = ["-o", "json"] if form == "json" else []
        line = [sys.executable, "-m", "kitaru.cli", *words, *more]
        worker = subprocess.Popen(line, env=commands.environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=err)

        def said(stream: IO[str]) -> str:
            return os.pread(stream.fileno(), 100_000, 0).decode()

        try:
            commands.await_true(lambda: re.search(r"left [0-9a-f-]{36}", said(out) + said(err)) is not None)
            worker.terminate()
            code = worker.wait(commands.PATIENCE)
        finally:
            worker.kill()
            worker.wait()
        return Ran(code, said(out), said(err), "")


_ASKED = (
    {"id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "golden", "version": "1"},
    }},
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/call", "params": {"name": "kitaru_stacks_list", "arguments": {}}},
    {"id": 3, "method": "tools/call", "params": {"name": "kitaru_executions_get", "arguments": {"exec_id": "ffff"}}},
)  # fmt: skip


def _serve(words: list[str], form: str) -> Ran:
    """A server in a process of its own, and an assistant that asks it, waits for each answer, and leaves."""
    line = [sys.executable, "-m", "kitaru.cli", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, env=commands.environment(), text=True, **pipes) as server:  # type: ignore[call-overload]
        said = ""
        for asked in _ASKED:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **asked}) + "\n")
            server.stdin.flush()
            said += server.stdout.readline() if "id" in asked else ""
        out, err = server.communicate(timeout=commands.PATIENCE)
    return Ran(server.returncode, said + out, err, "")


class Scene(NamedTuple):
    """A command: `name` is its golden file's, `words` are typed, a word {SCENE} is the execution of an earlier one."""

    name: str
    words: str
    code: int = 0
    before: Callable[[], object] = lambda: None
    run: Callable[[list[str], str], Ran] = _run


def _mend() -> None:
    Path("mended").write_text("now")


PLAY = (
    Scene("init", "init"),
    Scene("status-empty", "status"),
    Scene("executions-list-empty", "executions list"),
    Scene("executions-latest-none", "executions latest", 3),
    Scene("store-info-none", "store info", 3),
    Scene("trust", "trust ."),
    Scene("run", "run flows.py:good -i {\"x\":2} --tag nightly"),
    Scene("run-failed", "run flows.py:bad", 1, lambda: Path("mended").write_text("")),
    Scene("run-left-waiting", "run flows.py:asks", 6),
    Scene("run-detached", "run flows.py:asks --detach"),
    Scene("run-no-target", "run flows.py:none", 2),
    Scene("run-no-file", "run none.py:good", 2),
    Scene("status", "status"),
    Scene("executions-list", "executions list"),
    Scene("executions-list-filtered", "executions list --flow good --where score>=3 --tag golden --status completed"),
    Scene("executions-list-bad", "executions list --since soon", 2),
    Scene("executions-get", "executions get {run}"),
    Scene("executions-get-failed", "executions get {run-failed}"),
    Scene("executions-get-at", "executions get {run} --at 2"),
    Scene("executions-get-none", "executions get ffff", 3),
    Scene("executions-latest", "executions latest --flow bad"),
    Scene("executions-events", "executions events {run-failed}"),
    Scene("executions-logs", "executions logs {run}"),
    Scene("executions-logs-verbose", "executions logs {run} -v"),
    Scene("executions-logs-bad", "executions logs {run} --source all", 2),
    Scene("executions-statistics", "executions statistics --group-by status --metric steps:step_count:sum"),
    Scene("executions-statistics-bad", "executions statistics --group-by colour", 2),
    Scene("checkpoints-statistics", "checkpoints statistics --group-by checkpoint --metric tries:attempt_count:sum"),
    Scene("checkpoints-statistics-bad", "checkpoints statistics --group-by model", 2),
    Scene("executions-watch", "executions watch {run}"),
    Scene("executions-watch-failed", "executions watch {run-failed}", 1),
    Scene("executions-waits", "executions waits"),
    Scene("executions-input-bad", "executions input {run-left-waiting} --value many", 2),
    Scene("executions-resume-undue", "executions resume {run-left-waiting}", 4),
    Scene("executions-input", "executions input {run-left-waiting} --value 4 --by ada"),
    Scene("executions-input-again", "executions input {run-left-waiting} --value 4", 4),
    Scene("executions-resume", "executions resume {run-left-waiting}"),
    Scene("executions-resume-done", "executions resume {run-left-waiting}", 4),
    Scene("executions-retry-dry", "executions retry --flow bad --dry-run"),
    Scene("executions-retry", "executions retry {run-failed}", 0, _mend),
    Scene("executions-retry-done", "executions retry {run-failed}", 4),
    Scene("executions-replay", "executions replay {run} --from double_2 --overrides {\"checkpoint.{run}.c1\":100}"),
    Scene("executions-replay-none", "executions replay {run} --from none", 4),
    Scene("executions-tag", "executions tag {run} --add kept --remove nightly"),
    Scene("executions-cancel", "executions cancel {run-detached}"),
    Scene("executions-cancel-done", "executions cancel {run-detached}", 4),
    Scene("executions-input-abort", "executions input {asked} --abort", 0, lambda: None),
    Scene("recover", "recover"),
    Scene("artifacts-list", "artifacts list {run}"),
    Scene("artifacts-get", "artifacts get {run}.a4"),
    Scene("artifacts-get-none", "artifacts get {run}.a1", 3),
    Scene("artifacts-get-bad", "artifacts get note", 2),
    Scene("executions-delete-unsure", "executions delete {run-detached}", 2),
    Scene("executions-delete", "executions delete {run-detached} --yes"),
    Scene("executions-delete-again", "executions delete {run-detached} --yes", 3),
    Scene("stack-list", "stack list"),
    Scene("stack-current", "stack current"),
    Scene("stack-show", "stack show worker"),
    Scene("stack-show-none", "stack show cloud", 2),
    Scene("stack-use", "stack use local"),
    Scene("model-register", "model register fast --model openai/gpt-5-mini --secret openai"),
    Scene("model-list", "model list"),
    Scene("model-remove", "model remove fast"),
    Scene("model-remove-none", "model remove fast", 3),
    Scene("secrets-set", "secrets set openai --OPENAI_API_KEY=canary"),
    Scene("secrets-list", "secrets list"),
    Scene("secrets-show", "secrets show openai"),
    Scene("secrets-show-none", "secrets show other", 3),
    Scene("secrets-delete", "secrets delete openai"),
    Scene("store-info", "store info"),
    Scene("store-verify", "store verify"),
    Scene("store-rebuild", "store rebuild"),
    Scene("store-backup", "store backup copy"),
    Scene("store-backup-again", "store backup copy", 2),
    Scene("store-gc-dry", "store gc --older-than 1d --dry-run"),
    Scene("store-gc", "store gc --yes"),
    Scene("store-gc-bad", "store gc --older-than soon", 2),
    Scene("export", "export parquet --table executions"),
    Scene("export-bad", "export parquet --table nothing", 2),
    Scene("llm-usage-statistics-none", "llm-usage statistics --group-by model"),
    Scene("run-pays", "run flows.py:pays"),
    Scene("llm-usage-statistics", "llm-usage statistics --group-by model --metric tokens:tokens:sum --metric cost:cost:sum"),
    Scene("llm-usage-statistics-bad", "llm-usage statistics --metric n:price:sum", 2),
    Scene("worker", "worker --project crew", run=_work),
    Scene("worker-none", "worker --stack local", 2),
    Scene("mcp", "mcp", run=_serve),
    Scene("mcp-bad", "mcp --write", 2),
    Scene("completion", "completion bash"),
    Scene("completion-none", "completion tcsh", 2),
    Scene("no-command", "nothing", 2),
    Scene("no-option", "executions list --nothing", 2),
    Scene("server", "status --store https://example.com", 1),
)  # fmt: skip


class Played(NamedTuple):
    """What came of a scene."""

    code: int
    shown: str


def play(folder: Path, form: str) -> Iterator[tuple[Scene, Played]]:
    """Play every scene in a folder; `form` is text or json."""
    (folder / "flows.py").write_text(FLOWS)
    known: dict[str, str] = {}
    names = Names(folder)
    for scene in PLAY:
        if scene.name == "executions-input-abort":
            known["asked"] = _run(["run", "flows.py:asks"], "json").exec_id
        scene.before()
        words = [re.sub(r"\{([a-z-]+)\}", lambda found: known[found[1]], word) for word in scene.words.split()]
        ran = scene.run(words, form)
        if ran.exec_id:
            known.setdefault(scene.name, ran.exec_id)
        shown = names.plain(f"$ kitaru {scene.words}\n{ran.out}--- stderr\n{ran.err}")
        if "logs" not in scene.words:
            shown = shown.replace(f"{SAID}\n", "")  # a flow's thread prints it when it gets there
        yield scene, Played(ran.code, shown)


class Names:
    """Gives what differs from run to run a name that does not."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._ids: dict[str, str] = {}

    def plain(self, text: str) -> str:
        """A text in which ids, times, durations, sizes and places are the same each time."""
        text = text.replace(self._folder, "<folder>").replace(str(Path(self._folder).parent), "<place>")
        text = re.sub(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", lambda found: self._id(found[0]), text)
        text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z", "<time>", text)
        text = re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{32}\b", "<digest>", text)
        text = re.sub(r'"(duration|seconds|bytes|bytes_before|bytes_after)": [\d.e+-]+', r'"\1": 0', text)
        text = re.sub(r"(Bytes +)\d+\n|((?:executions +)(?:\d+ +){3})\d+\n", r"\1\2<bytes>\n", text)
        text = re.sub(r"[\d,]+ bytes before, [\d,]+ after", "<bytes> before, <bytes> after", text)
        text = re.sub(r'"size": \d{4,}', '"size": "<bytes>"', text)
        text = re.sub(r"\b[\d.]+(e-\d+)? ?m?s\b", "<took>", text)
        text = re.sub(r'"(by|runner_id|host)": "[^"]*"', r'"\1": "<who>"', text)
        text = re.sub(r'"traceback": "Trace(?:[^"\\]|\\.)*"', '"traceback": "<traceback>"', text)
        text = re.sub(r"traceback=Traceback.*?(  \w+=|\n)", r"traceback=<traceback>\1", text)
        text = re.sub(r"  Traceback .*\n(?:   .*\n)+  .*\n", "  <traceback>\n", text)
        text = re.sub(r"(?m)(<id-\d+>|<time>|<took>) +", r"\1   ", text)
        return re.sub(r" +\n", "\n", text)

    def _id(self, found: str) -> str:
        return self._ids.setdefault(found, f"<id-{len(self._ids) + 1}>")


@contextlib.contextmanager
def stage() -> Iterator[Path]:
    """A folder with nothing configured, in which this process stands."""
    kept, before = dict(os.environ), os.getcwd()
    with TemporaryDirectory() as place:
        folder = Path(place).resolve() / "project"
        folder.mkdir()
        for name in [name for name in os.environ if name.startswith("KITARU_")]:
            del os.environ[name]
        os.environ |= {"KITARU_CONFIG_DIR": str(folder.parent / "config"), "KITARU_DURABILITY": "os", "NO_COLOR": "1"}
        os.chdir(folder)
        try:
            yield folder
        finally:
            process.join_all()
            close_logs()
            os.chdir(before)
            os.environ.clear()
            os.environ.update(kept)
            fresh = Configuration()
            for name in Configuration.__slots__:
                setattr(configured, name, getattr(fresh, name))


def golden(scene: Scene, form: str) -> Path:
    """The file of a scene."""
    return GOLDEN / f"{scene.name}.{'json' if form == 'json' else 'txt'}"


def _write() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for form in ("text", "json"):
        with stage() as folder:
            for scene, played in play(folder, form):
                golden(scene, form).write_text(played.shown)
                if played.code != scene.code:
                    sys.stderr.write(f"{scene.name} ({form}): exit code {played.code}, not {scene.code}\n{played.shown}\n")


def parsed(shown: str) -> list[object]:
    """The JSON documents on stdout."""
    found: list[object] = []
    text, decoder = shown.partition("\n")[2].partition("--- stderr\n")[0].strip(), json.JSONDecoder()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].strip()
    return found


if __name__ == "__main__":
    _write()
