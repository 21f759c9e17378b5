"""Secrets are encrypted at rest, whole under two writers, and shown by nothing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import kitaru
from kitaru.domain.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.secrets import MAX_SECRET_BYTES, list_secrets

CANARY = "sk-canary-7f3a"
ROOT = Path(kitaru.__file__).parents[1]


def test_a_secret_comes_back_as_it_was_kept() -> None:
    kitaru.create_secret("openai", {"api_key": CANARY, "org": "é\n"})
    assert kitaru.get_secret("openai").values == {"api_key": CANARY, "org": "é\n"}
    assert kitaru.get_secret("openai")["api_key"] == CANARY
    assert [secret.name for secret in list_secrets()] == ["openai"]


def test_no_file_holds_its_value(config: Path) -> None:
    kitaru.create_secret("openai", {"api_key": CANARY})
    for path in config.iterdir():
        assert CANARY.encode() not in path.read_bytes()


def test_printing_it_shows_keys_only() -> None:
    assert repr(kitaru.create_secret("openai", {"api_key": CANARY})) == "Secret('openai', keys=['api_key'])"


def test_files_and_folder_are_the_users_alone(config: Path) -> None:
    kitaru.create_secret("openai", {"api_key": CANARY})
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in config.iterdir()} == {
        "secrets.json": 0o600, "secrets.key": 0o600, "secrets.lock": 0o600
    }  # fmt: skip


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_read_is_refused(config: Path, mode: int) -> None:
    kitaru.create_secret("openai", {"api_key": CANARY})
    (config / "secrets.key").chmod(mode)
    with pytest.raises(KitaruUsageError, match="chmod 600"):
        kitaru.get_secret("openai")
    with pytest.raises(KitaruUsageError, match="chmod 600"):
        kitaru.create_secret("other", {"api_key": CANARY})


def test_a_folder_that_others_may_write_is_refused(config: Path) -> None:
    kitaru.create_secret("openai", {"api_key": CANARY})
    config.chmod(0o777)
    with pytest.raises(KitaruUsageError, match="chmod 700"):
        kitaru.get_secret("openai")


def test_a_lost_key_is_not_replaced_while_secrets_need_it(config: Path) -> None:
    kitaru.create_secret("openai", {"api_key": CANARY})
    (config / "secrets.key").unlink()
    with pytest.raises(KitaruUsageError, match="is gone"):
        kitaru.create_secret("other", {"api_key": CANARY})
    assert not (config / "secrets.key").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"A" * 44])
def test_another_key_says_what_to_do(config: Path, content: bytes) -> None:
    kitaru.create_secret("openai", {"api_key": CANARY})
    (config / "secrets.key").write_bytes(content)
    with pytest.raises(KitaruUsageError, match="bring"):
        kitaru.get_secret("openai")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"openai": 1}', '{"openai": "gAAAA"}'])
def test_a_damaged_file_is_a_typed_error(config: Path, content: str) -> None:
    kitaru.create_secret("openai", {"api_key": CANARY})
    (config / "secrets.json").write_text(content)
    with pytest.raises(KitaruUsageError, match=r"set (your secrets|it) again"):
        kitaru.get_secret("openai")


def test_a_name_is_taken_once() -> None:
    kitaru.create_secret("openai", {"api_key": "a"})
    with pytest.raises(KitaruStateError, match="already"):
        kitaru.create_secret("openai", {"api_key": "b"})
    kitaru.create_secret("openai", {"api_key": "b"}, replace=True)
    assert kitaru.get_secret("openai")["api_key"] == "b"


def test_a_deleted_secret_is_gone() -> None:
    kitaru.create_secret("openai", {"api_key": "a"})
    kitaru.delete_secret("openai")
    for again in (kitaru.get_secret, kitaru.delete_secret):
        with pytest.raises(KitaruNotFoundError, match="kitaru secrets set"):
            again("openai")


@pytest.mark.parametrize(
    "values", [{}, [], None, "x", {"k": ""}, {"": "v"}, {"k": 1}, {"k": "a\0b"}, {"k": "v" * (MAX_SECRET_BYTES + 1)}]
)
def test_bad_values_are_refused(values: object, config: Path) -> None:
    with pytest.raises(KitaruUsageError):
        kitaru.create_secret("openai", values)  # type: ignore[arg-type]
    assert not config.exists()


def test_a_refusal_does_not_repeat_the_value() -> None:
    with pytest.raises(KitaruUsageError) as refused:
        kitaru.create_secret("openai", {"api_key": CANARY + "\0"})
    assert CANARY not in str(refused.value)


def test_processes_that_write_at_once_lose_nothing(config: Path) -> None:
    code = "import sys, kitaru\nfor i in range(10):\n    kitaru.create_secret(f'{sys.argv[1]}-{i}', {'k': sys.argv[1]})\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([sys.executable, "-c", code, str(n)], env=environment) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert {(secret.name, secret["k"]) for secret in list_secrets()} == {
        (f"{n}-{i}", str(n)) for n in range(4) for i in range(10)
    }
