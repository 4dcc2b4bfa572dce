"""Runs the tools of packaging: uv, found or refused in one sentence, and commands whose failure ends the work."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class Stopped(Exception):
    """Why the work cannot go on, in one sentence for whoever called it."""


def uv() -> Path:
    """The uv of this Python, or else the one on the PATH; its binary is also what is shipped beside the window."""
    try:
        from uv import find_uv_bin
    except ImportError:
        found = shutil.which("uv")
        if found is None:
            raise Stopped("uv is missing: install the project's extra `package` into this Python.") from None
        return Path(found)
    return Path(find_uv_bin())


def run(
    command: Sequence[str | Path], *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command in this terminal; Stopped if it fails."""
    sys.stdout.flush()
    code = subprocess.run([str(part) for part in command], cwd=folder, env=environment, check=False).returncode
    if code:
        raise Stopped(f"{Path(str(command[0])).name} failed with exit code {code}: {' '.join(map(str, command))[:300]}")


def told(command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> str:
    """What a command writes to its standard output; Stopped, with its last words, if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise Stopped(f"{Path(str(command[0])).name} failed with exit code {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
