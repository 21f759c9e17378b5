"""P15: what `pip install` of this checkout brings: size and number of distributions, nothing but the core."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.marks import Row, at_most
from benchmarks.rounds import ROOT
from benchmarks.setting import Setting

IDS = ("P15",)
_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]


def measure(setting: Setting, _wanted: frozenset[str]) -> list[Row]:
    """Build the wheel, install it into an empty environment without pip in it, and count."""
    room = setting.room("p15")
    try:
        wheel = _build_wheel(room)
        site_packages = _install(room, wheel)
    except subprocess.CalledProcessError as error:
        why = (error.stderr or error.stdout or "").strip().splitlines()[-1:]
        return [Row("P15", "install", mark=at_most(90), note=f"pip could not install: {' '.join(why)}")]
    names = sorted(d.metadata["Name"] for d in distributions(path=[str(site_packages)]))
    size = sum(path.stat().st_size for path in site_packages.rglob("*") if path.is_file()) / 1e6
    own = wheel.stat().st_size / 1e3
    return [
        Row("P15", "installed size", f"{size:,.1f} MB; the wheel is {own:,.0f} kB", size, "MB", at_most(90)),
        Row("P15", "distributions", f"{len(names)}", len(names), "with kitaru", at_most(16),
            note=", ".join(names)),
    ]  # fmt: skip


def _build_wheel(room: Path) -> Path:
    try:
        import hatchling  # noqa: F401

        isolation = ["--no-build-isolation"]
    except ImportError:
        isolation = []
    _run([*_PIP, "wheel", "--quiet", "--no-deps", *isolation, "--wheel-dir", str(room), str(ROOT)])
    return next(room.glob("kitaru-*.whl"))


def _install(room: Path, wheel: Path) -> Path:
    environment = room / "environment"
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    python = environment / "bin" / "python"
    # --no-compile: the size of what is shipped; byte code is made, or not, by who installs.
    install = [*_PIP, "--python", str(python), "install", "--quiet", "--no-compile"]
    _run([*install, "--require-hashes", "-r", str(ROOT / "requirements" / "core.txt")])
    _run([*install, "--no-deps", str(wheel)])
    return next((environment / "lib").glob("python*/site-packages"))


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
