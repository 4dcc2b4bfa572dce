"""Lets the frozen window drive the engine through the whole ritual on a tiny model, and judges what is left behind.

    python packaging/smoke.py [--window dist/AEGIS] [--engine FOLDER | --borrow PYTHON] [--keep FOLDER] [--report FILE]

Needs no screen. The engine is the user's own unless another is named; with --borrow an engine is made whose AEGIS is
the wheel shipped with the window and whose other packages are those of PYTHON, which saves the download of torch. The
window runs in a folder with a space and Japanese in its name, without standard streams, and with nothing of this
project on its path.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from contents import FORBIDDEN
from project import EXECUTABLE, PACKAGING, ROOT, version
from tools import Stopped, python_of, run, told, uv

LIMIT_SECONDS = 900
STEPS = ("check", "prepare", "train", "fuse", "export", "chat", "report")
FILES = ("train/soul.safetensors", "train/metrics.jsonl", "fuse/proof.json", "export/files.json", "report.html")
MEASURED = ("training_completed", "alpha_reached", "soul_saved", "fusion_equal", "gguf_verified")


@dataclass(frozen=True)
class Outcome:
    """`account` is the window's own; `faults` are sentences, empty if the ritual went as it must."""

    seconds: float
    exit_code: int
    account: dict
    indicators: dict[str, str]
    faults: list[str]


def smoke(window: Path, engine: Path | None, scratch: Path) -> Outcome:
    """One ritual. `engine` is a folder as `aegis engine install` leaves it, None for the user's own."""
    python = python_of((engine or Path.home()) / "environment") if engine else _users_engine()
    run_dir, account_path = scratch / "ri tual 儀式" / "run 一", scratch / "account.json"
    run_dir.parent.mkdir(parents=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    run([python, PACKAGING / "pico_run.py", run_dir], environment={**clean, "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"})
    began = time.monotonic()
    code = _windowed(window / EXECUTABLE, [run_dir, "--rehearse", account_path], _around(clean, engine, scratch))
    seconds = time.monotonic() - began
    account = json.loads(account_path.read_text(encoding="utf-8")) if account_path.is_file() else {}
    report = run_dir / "report.json"
    found = json.loads(report.read_text(encoding="utf-8"))["indicators"] if report.is_file() else {}
    indicators = {name: row["status"] for name, row in found.items()}
    missing = [name for name in FILES if not (run_dir / name).is_file()]
    return Outcome(seconds, code, account, indicators, faults(code, account, indicators, missing))


def faults(exit_code: int, account: dict, indicators: dict[str, str], missing: list[str]) -> list[str]:
    """Why the ritual did not go as it must, one sentence each."""
    if not account:
        return [f"The window ended with exit code {exit_code} and left no account of what happened."]
    found = [f"The window says: {account['failure']}"] if account["failure"] else []
    if exit_code:
        found.append(f"The window ended with exit code {exit_code}.")
    if not account["frozen"]:
        found.append("It was not a frozen window.")
    if account["version"] != version():
        found.append(f"The window is of version {account['version']}, this project of {version()}.")
    done = tuple(row["step"] for row in account["steps"] if row["status"] == "done")
    if done != STEPS:
        found.append(f"The steps done were {', '.join(done) or 'none'}.")
    found += [f"{name} is missing." for name in missing]
    found += [
        f"{name} was {indicators.get(name, 'not measured')}." for name in MEASURED if indicators.get(name) != "pass"
    ]
    foreign = sorted(set(FORBIDDEN) & set(account["packages"]))
    found += [f"The window has imported {name}." for name in foreign]
    return found


def borrowed_engine(folder: Path, window: Path, lender: Path) -> Path:
    """An engine whose AEGIS is the window's own wheel and whose other packages are those of the Python `lender`."""
    environment = folder / "environment"
    run([uv(), "venv", "--quiet", "--python", lender, environment])
    python = python_of(environment)
    wheel = next((window / "_internal" / "engine").glob("aegis-*.whl"))
    run([uv(), "pip", "install", "--quiet", "--no-deps", "--offline", "--python", python, wheel])
    packages = told([lender, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    own = Path(told([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    (own / "borrowed.pth").write_text(packages + "\n", encoding="utf-8")
    lock = told([python, "-c", "from aegis_core.engine.parts import this_parts; print(this_parts().sha256)"]).strip()
    marker = {"version": version(), "lock_sha256": lock, "torch": "borrowed", "build": "cpu", "python": "3"}
    (folder / "engine.json").write_text(json.dumps({**marker, "format": 1}), encoding="utf-8")
    return folder


def _users_engine() -> Path:
    from aegis_core.engine.place import engine_place

    return engine_place().python


def _around(clean: dict[str, str], engine: Path | None, scratch: Path) -> dict[str, str]:
    """The window's surroundings: nothing of the person's own is touched, no screen, no network."""
    own = {
        "AEGIS_PREFERENCES": str(scratch / "window.ini"),
        "AEGIS_RUNS": str(scratch / "runs"),
        "AEGIS_CACHE": str(scratch / "cache"),
        "HF_HUB_OFFLINE": "1",
        "QT_QPA_PLATFORM": "offscreen",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return {**clean, **own, **({"AEGIS_ENGINE": str(engine)} if engine else {})}


def _windowed(executable: Path, arguments: list[Path | str], environment: dict[str, str]) -> int:
    """Run it as a click on its icon would: Windows gives a windowed program no streams, here they are closed."""
    command = [str(executable), *map(str, arguments)]
    if sys.platform != "win32":
        command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    try:
        done = subprocess.run(command, env=environment, cwd=executable.parent, timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return 124
    return done.returncode


def told_of(outcome: Outcome) -> str:
    rows = [f"| {row['step']} | {row['status']} | {row['seconds']:.1f} |" for row in outcome.account.get("steps", [])]
    lines = ["| step | ended | s |", "|---|---|---:|", *rows, f"| **whole window** | exit code {outcome.exit_code} |"]
    lines[-1] += f" {outcome.seconds:.1f} |"
    lines += ["", *(f"- {name}: {status}" for name, status in outcome.indicators.items())]
    lines += ["", *(outcome.faults or ["Nothing is wrong."])]
    return "\n".join(lines)


def main() -> int:
    options = _parsed()
    with tempfile.TemporaryDirectory(prefix="aegis smoke 煙 ", ignore_cleanup_errors=True) as temporary:
        scratch = (options.keep or Path(temporary)).resolve()
        try:
            engine = options.engine.resolve() if options.engine else None
            if options.borrow:
                engine = borrowed_engine(scratch / "engine", options.window, options.borrow.absolute())
            outcome = smoke(options.window.resolve(), engine, scratch)
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            return 1
    print(told_of(outcome))
    if options.report:
        options.report.write_text(json.dumps(asdict(outcome), indent=1, ensure_ascii=False), encoding="utf-8")
    return 1 if outcome.faults else 0


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Drives the frozen window through a tiny ritual.")
    parser.add_argument("--window", type=Path, default=ROOT / "dist" / "AEGIS", help="the folder that build.py made")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--engine", type=Path, help="the folder of an engine")
    which.add_argument("--borrow", type=Path, metavar="PYTHON", help="a Python that has the engine's packages")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder for all that is made, kept")
    parser.add_argument("--report", type=Path, help="what happened, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
