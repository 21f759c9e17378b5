"""R29, first half: a credential of calls that fail in every way is in no file of the store, no output, no log, no error."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import kitaru
from kitaru.aliases import register_model
from kitaru.client import KitaruClient
from kitaru.runtime.llm.redaction import Redactor
from tests.llm.asking import start
from tests.llm.conftest import KEY
from tests.llm.servers import (
    Server,
    Step,
    answers,
    answers_with_credentials,
    breaks,
    completes,
    echoes_credentials,
    refuses,
    replies,
    running,
    says,
    slowly,
)

ROOT = Path(kitaru.__file__).parents[1]
CANARY = "sk-canary-7f3a\"91/c2+'d\\e"
ASKING = """
import asyncio, logging, sys
logging.basicConfig(level=logging.DEBUG)
import kitaru
from kitaru import checkpoint, flow

model, times = sys.argv[1], int(sys.argv[2])

@checkpoint(retries=1)
def inside():
    return kitaru.llm("in a checkpoint", model=model, retries=0, timeout=0.5)

@checkpoint(runtime="isolated")
def apart(model):
    return kitaru.llm("in a process of its own", model=model, retries=0, timeout=0.5)

@flow
def asking(times):
    for place in range(times):
        for ask in (lambda: kitaru.llm(f"{place}", model=model, retries=0, timeout=0.5), inside):
            try:
                print(ask())
            except kitaru.KitaruError as error:
                print(type(error).__name__, error.code, error, repr(error), error.__cause__, error.__context__)
    print(apart(model))

@flow
async def asking_together(times):
    options = {"model": model, "retries": 0, "timeout": 0.5, "output_type": list[int]}
    calls = [kitaru.llm_async(f"{place}", **options) for place in range(times)]
    print(await asyncio.gather(*calls, return_exceptions=True))

if __name__ == "__main__":
    for ask in (asking_together, asking):
        try:
            print(ask.run(times).wait())
        except kitaru.KitaruError as error:
            import traceback
            traceback.print_exc()
"""


def forms_of(secret: str) -> set[bytes]:
    raw = secret.encode()
    return {raw, raw[:14], repr(secret)[1:-1].encode(), base64.b64encode(raw).rstrip(b"="), base64.b64encode(raw[:12])}


def leaks(place: Path) -> list[str]:
    """The files below a folder that hold it in any form."""
    found = forms_of(CANARY)
    return [str(path) for path in place.rglob("*") if path.is_file() and any(form in path.read_bytes() for form in found)]


def misbehaving() -> list[Step]:
    """Everything that can go wrong, and one that goes right."""
    return [
        *map(echoes_credentials, (400, 401, 403, 404, 429, 500, 529)), echoes_credentials(200), refuses(500), says("<html>"),
        says("{}"), says(b"\xff\xfe"), breaks(answers()), slowly(answers(), 1), answers(), answers("[]"),
        answers_with_credentials(),
    ]  # fmt: skip


@pytest.mark.parametrize("kept", ["environment", "secret"])
@pytest.mark.parametrize("spoken", ["openai", "anthropic"])
def test_a_credential_is_nowhere(spoken: str, kept: str, tmp_path: Path) -> None:
    script = tmp_path / "asking.py"
    script.write_text(ASKING)
    home = tmp_path / "home"
    home.mkdir()
    with running(completes() if spoken == "openai" else replies()) as server:
        url = f"{server.url}/v1" if spoken == "openai" else server.url
        model = "openai/gpt-4o-mini" if spoken == "openai" else "anthropic/claude-haiku-4-5"
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "KITARU_STORE": str(tmp_path / "store"), "OPENAI_LOG": "debug",
            "ANTHROPIC_LOG": "debug", f"{spoken.upper()}_BASE_URL": url,
        }  # fmt: skip
        if kept == "environment":
            environment[f"{spoken.upper()}_API_KEY"] = CANARY
        else:
            kitaru.create_secret("mine", {"api_key": CANARY})
            register_model("fast", model, secret="mine")
            model = "fast"
        steps = misbehaving()
        server.script = [*steps, *steps, *steps, *steps]
        ran = subprocess.run(
            [sys.executable, str(script), model, str(len(steps))],
            env=environment,
            cwd=home,
            capture_output=True,
            timeout=110,
        )
        sent = [asked.headers.get("x-api-key") or asked.headers.get("authorization", "") for asked in server.asked]
    assert len(sent) > len(steps)
    assert any(CANARY.encode()[:14].decode() in each for each in sent), "it was never sent"
    assert b"llm-credentials" in ran.stdout, ran.stderr[-3000:]
    for form in forms_of(CANARY):
        assert form not in ran.stdout
        assert form not in ran.stderr
    assert leaks(tmp_path) == []


@pytest.mark.parametrize("where", ["body", "async checkpoint"])
def test_a_key_that_comes_back_in_an_answer_or_an_error_is_in_no_value_event_log_or_error(
    server: Server, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = [answers_with_credentials()]
    answered = start(where=where, model=server.model)
    assert answered.wait(60) == "the key is ***"
    server.script = [echoes_credentials(401)]
    refused = start(where=where, model=server.model, retries=0)
    with pytest.raises(kitaru.KitaruExecutionError, match=r"Incorrect API key provided: \*\*\*") as raised:
        refused.wait(60)
    assert any(KEY in each.headers.get("x-api-key", each.headers.get("authorization", "")) for each in server.asked)
    with KitaruClient() as client:
        for handle in (answered, refused):
            whole = client.executions.get(handle.exec_id).model_dump_json(by_alias=True)
            events = [event.model_dump_json() for event in client.executions.events(handle.exec_id)]
            step, runner = (client.executions.logs(handle.exec_id, source=source) for source in ("step", "runner"))
            assert KEY not in "\n".join((whole, *events, *(line.message for line in (*step, *runner))))
            assert any("***" in event for event in events)
    shown = "".join(traceback.format_exception(raised.value))
    assert KEY not in shown + caplog.text


def test_every_way_to_write_it_is_taken_out() -> None:
    redactor = Redactor([CANARY, None, "ab"])
    for form in (CANARY, repr(CANARY), base64.b64encode(CANARY.encode()).decode(), f"Bearer {CANARY}."):
        assert not any(each in redactor.text(f"before {form} after").encode() for each in forms_of(CANARY))
    assert redactor.text("abc ab") == "abc ab"
    assert redactor.value({CANARY: [1, (CANARY, None)], "n": 2.5}) == {"***": [1, ["***", None]], "n": 2.5}


@pytest.mark.parametrize("key", ["test", "none", "ollama", "not-needed", "password"])
def test_a_key_that_is_a_word_is_left_in_answers(key: str) -> None:
    redactor = Redactor([key, CANARY])
    assert redactor.answer(f"the {key} of {CANARY}") == f"the {key} of ***"
    assert redactor.text(f"Incorrect API key provided: {key}") == "Incorrect API key provided: ***"
