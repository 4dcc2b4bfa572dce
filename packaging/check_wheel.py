"""Installs AEGIS's wheel into an empty environment, far from this project, and tries its two commands there.

    python packaging/check_wheel.py [--torch REQUIREMENT] [--find-links FOLDER] [--borrow PYTHON]

The environment lies in a temporary folder with a space and Japanese in its name. `--torch` installs that requirement
first, for a machine whose index has another build of torch; `--borrow` takes the dependencies from an environment that
has them: quick, and then the installation of the dependencies is not what was tested, which is said.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from project import PACKAGING, ROOT, version
from tools import Stopped, python_of, run, told, uv

MAY_END_WITH = {"aegis check --json": (0, 1)}  # 1: something is missing on this machine, which is its to say
# A real look at what a resource is needed for: translations, questions, physics, icons, sound, the engine's lock.
_RESOURCES = """
import aegis_core, aegis_gui, json, sys
from pathlib import Path
from aegis_core.resources import RESOURCES
wanted = ["translations/ja.json", "report/page.css", "report/ja.json", "physics/ja.jsonl", "questions/en.jsonl",
          "icons/play.svg", "sounds/done.wav", "aegis.svg", "engine/requirements.lock"]
lacking = [name for name in wanted if not (RESOURCES / name).is_file()]
places = {"place": str(Path(aegis_core.__file__)), "window": str(Path(aegis_gui.__file__))}
print(json.dumps({**places, "lacking": lacking}))
"""


@dataclass(frozen=True)
class Check:
    """One thing that was tried; `problem` is empty if it went well."""

    name: str
    seconds: float
    problem: str


def installed(scratch: Path, borrow: Path | None, torch: str, find_links: Sequence[str]) -> Path:
    """The Python of a new environment with the wheel in it. Stopped if it cannot be installed."""
    environment = scratch / "empty 空 environment"
    run([uv(), "venv", "--quiet", "--python", borrow or sys.executable, environment])
    python = python_of(environment)
    run([uv(), "build", "--quiet", "--wheel", "--out-dir", scratch / "wheel", ROOT])
    wheel = next((scratch / "wheel").glob("aegis-*.whl"))
    install = [uv(), "pip", "install", "--quiet", "--python", python]
    links = [word for place in find_links for word in ("--find-links", place)]
    if borrow:
        run([*install, "--no-deps", "--offline", wheel])
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own, others = Path(told([python, "-c", ask]).strip()), told([borrow, "-c", ask])
        (own / "borrowed.pth").write_text(others, encoding="utf-8")
        return python
    constraints: list[str | Path] = []
    if torch:
        run([*install, *links, torch])
        (scratch / "torch.txt").write_text(torch + "\n", encoding="utf-8")
        constraints = ["--constraint", scratch / "torch.txt"]
    run([*install, *links, *constraints, wheel])
    return python


def checks(python: Path, scratch: Path) -> list[Check]:
    """Everything that is tried, from a folder that has nothing of the project."""
    aegis, window = (_command(python, name) for name in ("aegis", "aegis-gui"))
    demo, pico, account = scratch / "run 実行", scratch / "runs" / "pico 儀式", scratch / "account.json"
    pico.parent.mkdir()
    return [
        _tried("the resources came along", [python, "-I", "-c", _RESOURCES], scratch, _all_there),
        _tried("aegis --help", [aegis, "--help"], scratch, lambda text: _says(text, "nine steps")),
        _tried("aegis check --json", [aegis, "check", "--json"], scratch, lambda text: _says(text, "torch")),
        _tried("aegis new --demo", [aegis, "new", demo, "--demo"], scratch, lambda _: _exists(demo / "plan.json")),
        _tried("aegis status", [aegis, "status", demo, "--json"], scratch, lambda text: _says(text, "prepare")),
        _tried("aegis-gui --version", [window, "--version"], scratch, lambda text: _says(text, version())),
        _tried("a tiny model", [python, PACKAGING / "pico_run.py", pico], scratch, lambda _: _exists(pico)),
        _tried("aegis-gui, a ritual", [window, pico, "--rehearse", account], scratch, lambda _: _ended(account)),
        _tried("aegis verify", [aegis, "verify", pico], scratch, lambda _: ""),
    ]


def _command(python: Path, name: str) -> Path:
    return python.with_name(name + (".exe" if sys.platform == "win32" else ""))


def _tried(name: str, command: Sequence[str | Path], scratch: Path, judge: Callable[[str], str]) -> Check:
    own = {"AEGIS_PREFERENCES": "window.ini", "AEGIS_RUNS": "runs", "AEGIS_CACHE": "cache", "AEGIS_DATA": "data"}
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        **{key: str(scratch / place) for key, place in own.items()},
        "QT_QPA_PLATFORM": "offscreen",
        "CUDA_VISIBLE_DEVICES": "",
    }
    began = time.monotonic()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=scratch,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    said = f"exit code {done.returncode}: {done.stderr.strip()[-600:]}"
    problem = said if done.returncode not in MAY_END_WITH.get(name, (0,)) else judge(done.stdout)
    return Check(name, time.monotonic() - began, problem)


def _all_there(text: str) -> str:
    found = json.loads(text)
    if str(ROOT) in found["place"] or str(ROOT) in found["window"]:
        return f"it was this project's own copy: {found['place']}"
    return f"lacking: {', '.join(found['lacking'])}" if found["lacking"] else ""


def _says(text: str, words: str) -> str:
    return "" if words in text else f"it said: {text[:300]}"


def _exists(path: Path) -> str:
    return "" if path.exists() else f"{path} was not made"


def _ended(account: Path) -> str:
    if not account.is_file():
        return "the window left no account of what happened"
    found = json.loads(account.read_text(encoding="utf-8"))
    return found["failure"] or _says(" ".join(row["step"] for row in found["steps"]), "report")


def main() -> int:
    options = _parsed()
    with tempfile.TemporaryDirectory(prefix="aegis wheel 車輪 ", ignore_cleanup_errors=True) as temporary:
        scratch = Path(temporary).resolve()
        began = time.monotonic()
        try:
            python = installed(scratch, options.borrow, options.torch, options.find_links)
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            return 1
        how = "its dependencies borrowed, NOT installed" if options.borrow else "with all its dependencies"
        print(f"installed, {how}, in {time.monotonic() - began:.0f} s")
        found = checks(python, scratch)
    for check in found:
        print(f"{'FAILED' if check.problem else 'ok':<8}{check.seconds:>6.1f} s  {check.name}  {check.problem}")
    return 1 if any(check.problem for check in found) else 0


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tries AEGIS's wheel in an empty environment.")
    parser.add_argument("--torch", default="", metavar="REQUIREMENT", help="a build of torch, installed first")
    parser.add_argument("--find-links", action="append", default=[], metavar="FOLDER", help="a folder with wheels")
    parser.add_argument("--borrow", type=Path, metavar="PYTHON", help="a Python whose packages are lent")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
