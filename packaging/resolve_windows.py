"""Asks the package index whether everything AEGIS needs can be installed on 64-bit Windows. Resolves only.

    python packaging/resolve_windows.py

For every Python that pyproject.toml accepts, with the extra for CUDA and without: each requirement, and all that those
require, must have a wheel for Windows; nothing is built, nothing installed. Exit code 0 if all of it resolves.
"""

import re
import subprocess
import sys
from dataclasses import dataclass

from project import ROOT, pins
from tools import Stopped, uv

PLATFORM = "x86_64-pc-windows-msvc"
PYTHONS = ("3.11", "3.12", "3.13")
KINDS: dict[str, tuple[str, ...]] = {"window and engine": (), "with CUDA": ("cuda",)}


@dataclass(frozen=True)
class Resolution:
    """`packages` as name==version; `problem` in the resolver's own words where it found none."""

    python: str
    kind: str
    packages: tuple[str, ...]
    problem: str = ""


def resolution(python: str, kind: str) -> Resolution:
    """What would be installed there."""
    command = [str(uv()), "pip", "compile", "--python-platform", PLATFORM, "--python-version", python]
    command += ["--only-binary", ":all:", "--no-header", "--no-annotate", "--quiet", str(ROOT / "pyproject.toml")]
    command += [word for extra in KINDS[kind] for word in ("--extra", extra)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        return Resolution(python, kind, (), done.stderr.strip())
    found = tuple(re.findall(r"^[\w.-]+==[^\s;]+", done.stdout, re.MULTILINE))
    return Resolution(python, kind, found, lost(found, pins(*KINDS[kind])))


def lost(found: tuple[str, ...], wanted: list[str]) -> str:
    """Which of the project's own pins the resolution did not keep, empty if none."""
    kept = {pin.lower().replace("_", "-") for pin in found}
    missing = [pin for pin in wanted if pin.lower().replace("_", "-") not in kept]
    return f"Not resolved as pinned: {', '.join(missing)}" if missing else ""


def main() -> int:
    try:
        resolutions = [resolution(python, kind) for kind in KINDS for python in PYTHONS]
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 1
    print(f"{'Python':<8}{'what':<20}{'packages':>9}  all with a wheel for {PLATFORM}")
    for row in resolutions:
        print(f"{row.python:<8}{row.kind:<20}{len(row.packages):>9}  {'NO' if row.problem else 'yes'}")
    for row in resolutions:
        if row.problem:
            print(f"\nPython {row.python}, {row.kind}:\n{row.problem}", file=sys.stderr)
    return 1 if any(row.problem for row in resolutions) else 0


if __name__ == "__main__":
    sys.exit(main())
