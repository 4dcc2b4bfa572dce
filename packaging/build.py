"""Freezes the window and puts beside it what makes the engine: one command, on Windows and on Linux.

    python packaging/build.py [--out dist] [--report FILE]

Wants the project's extra `package`. The window is frozen from an environment of its own (build/window-environment),
made of packaging/window.lock by uv. Fails where a package of the engine got in, where something needed is missing and
where the folder is larger than its budget. Ends with a table of sizes.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import bill_of_materials
import contents
import notices
from project import EXECUTABLE, PACKAGING, ROOT, TERMINAL, WINDOW_LOCK, package_pin, project, version
from tools import Stopped, python_of, run, uv
from windows_version import version_resource

# Linux: 269 MB measured. Windows: not measured yet; less, for Qt brings no ICU there and no libraries of the system.
BUDGET_BYTES = {"linux": 285 * contents.MEGABYTE, "win32": 240 * contents.MEGABYTE}
ENGINE_FOLDER = Path("_internal") / "engine"  # where aegis_core.engine.parts looks for uv and the wheel


def build(out: Path, made: Path) -> Path:
    """The finished folder AEGIS in `out`; `made` keeps what can serve the next build. Stopped if it cannot be."""
    made.mkdir(parents=True, exist_ok=True)
    bill = made / bill_of_materials.WINDOW
    python = window_python(made / "window-environment", bill=bill)
    run([python, PACKAGING / "pictures.py", made])
    for program in (EXECUTABLE, TERMINAL):
        text = version_resource(version(), project()["description"], program)
        (made / f"{program.removesuffix('.exe')}.version.txt").write_text(text, encoding="utf-8")
    folder = freeze(python, made, out)
    ship_engine_maker(folder / ENGINE_FOLDER, made)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE.txt")
    shutil.copy(bill, folder)
    notices.write(python, folder)
    return folder


def window_python(environment: Path, bill: Path | None = None) -> Path:
    """The Python of an environment that holds the window's packages, exactly as locked, and the freezer.

    `bill` gets the bill of materials, written before the freezer comes in.
    """
    if not python_of(environment).exists():
        run([uv(), "venv", "--quiet", "--python", sys.executable, environment])
    python = python_of(environment)
    freezer = environment / "freezer.in"
    freezer.write_text(package_pin("pyinstaller") + "\n", encoding="utf-8")
    run([uv(), "pip", "sync", "--quiet", "--python", python, "--require-hashes", WINDOW_LOCK])
    if bill:
        bill_of_materials.write_window(python, bill)
    run([uv(), "pip", "install", "--quiet", "--python", python, "--constraint", WINDOW_LOCK, "-r", freezer])
    return python


def freeze(python: Path, made: Path, out: Path) -> Path:
    shutil.rmtree(out / "AEGIS", ignore_errors=True)
    places = ["--distpath", out, "--workpath", made / "freezer", "--noconfirm", "--log-level", "WARN"]
    # PYTHONHASHSEED: the same sources give the same archive
    environment = {**os.environ, "AEGIS_BUILD": str(made), "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
    run([python, "-m", "PyInstaller", *places, PACKAGING / "aegis-window.spec"], folder=ROOT, environment=environment)
    return out / "AEGIS"


def ship_engine_maker(folder: Path, made: Path) -> None:
    """What makes the engine's environment at the first start: uv, and AEGIS itself as a wheel.

    What else it takes, with hashes, is locked in the resources.
    """
    folder.mkdir()
    shutil.copy(uv(), folder)
    shutil.rmtree(made / "wheel", ignore_errors=True)
    run([uv(), "build", "--quiet", "--wheel", "--out-dir", made / "wheel", ROOT])
    for wheel in (made / "wheel").glob("aegis-*.whl"):
        shutil.copy(wheel, folder)


def faults(folder: Path, budget_bytes: int) -> list[str]:
    """Why the folder must not be shipped, one sentence each; empty if it may."""
    files = contents.files_of(folder)
    modules = [name for program in (EXECUTABLE, TERMINAL) for name in frozen_modules(folder / program)]
    found = [f"A package of the engine got in: {name}." for name in contents.forbidden_in([*files, *modules])]
    found += [f"Something needed is missing: {name}." for name in contents.missing_in(files)]
    total = contents.total_bytes(folder)
    if total > budget_bytes:
        found.append(f"{total / 1e6:.1f} MB are more than the budget of {budget_bytes / 1e6:.0f} MB.")
    return found


def frozen_modules(executable: Path) -> list[str]:
    """The dotted names of every Python module of others inside the executable."""
    from PyInstaller.archive.readers import CArchiveReader

    names = CArchiveReader(str(executable)).open_embedded_archive("PYZ.pyz").toc
    return sorted(name for name in names if not name.startswith("aegis_"))


def main() -> int:
    options = _parsed()
    started = time.monotonic()
    try:
        folder = build(options.out.resolve(), ROOT / "build")
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 1
    budget_bytes = BUDGET_BYTES[sys.platform]
    table = contents.size_table(folder, budget_bytes)
    print(f"\n{folder}, in {time.monotonic() - started:.0f} s\n\n{table}")
    if options.report:
        options.report.write_text(table + "\n", encoding="utf-8")
    found = faults(folder, budget_bytes)
    print(*found, sep="\n", file=sys.stderr)
    return 1 if found else 0


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Freezes the window of AEGIS.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the folder AEGIS is put")
    parser.add_argument("--report", type=Path, help="the table of sizes as Markdown, written there too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
