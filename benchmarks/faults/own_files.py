"""What the user made and no step vouches for, damaged: conversations, own verdicts, presets, measured times, the
window's settings."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .damage import CUT, FLIPPED, spoiled
from .dose import Dose
from .engine import ROOT, Attempt, forked, in_fork
from .judge import Trial, refused_clearly
from .ritual import Reference

FAULT = "a damaged file of the user's"
HOW = (
    "A conversation, the file of own verdicts, a preset, the times measured on this machine or the window's settings "
    "is cut or gets bits flipped; then what reads it is run (the list of conversations, the run log, `aegis preset "
    "list` and `aegis new --preset`, `aegis status`, a window offscreen). It must work without it or name the file in "
    "one sentence, and leave the file as it is."
)
_ID = "20260102-000000-cafe"
_WINDOW = """
from PySide6.QtWidgets import QApplication
from aegis_gui.app import build
app = QApplication([])
window = build(app)
window.show()
app.processEvents()
window.shut_down()
window.close()
"""


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    for place in dose.some(list(PLACES), FAULT):
        for number in range(dose.of(0.2)):
            seed, way = dose.seed + number, (CUT, FLIPPED)[number % 2]
            problems = PLACES[place](reference, random.Random(f"{place} {seed}"), way, log)
            yield Trial(FAULT, place, seed, "; ".join(problems), way)


def _conversation(reference: Reference, chance: random.Random, way: str, log: Path) -> list[str]:
    from aegis_core.chat import history

    run = reference.set_out("report")
    for role, text in (("user", "氷は何故浮く?"), ("assistant", "軽いから。"), ("user", "and then?")):
        history.add(run, _ID, role, text)
    path = run.path / "conversations" / f"{_ID}.jsonl"
    after = _damage(path, chance, way)
    listed = in_fork(lambda: [found.id for found in history.conversations(run)], log)
    missing = [] if any("kept" in name for name in listed) else ["the other conversation is not listed"]
    return [*missing, *_as_it_was(path, after)]


def _verdicts(reference: Reference, chance: random.Random, way: str, log: Path) -> list[str]:
    from aegis_core.chat.overruling import overrule, overrules_path
    from aegis_core.chat.transcript import read_rows

    run = reference.set_out("report")
    for row in read_rows(run.step_folder("chat") / "transcript.jsonl"):
        overrule(run, row["id"], False, "私はそう思わない")
    path = overrules_path(run)
    after = _damage(path, chance, way)
    return [*_fine_or_named(forked(["run", str(run.path), "--only", "report"], log), path), *_as_it_was(path, after)]


def _preset(reference: Reference, chance: random.Random, way: str, log: Path) -> list[str]:
    data = _data_folder(reference)
    run = reference.set_out("report")
    forked(["preset", "save", str(run.path), "名"], log, environment=data).wait()
    path = next((Path(data["AEGIS_DATA"]) / "presets").glob("*.json"))
    after = _damage(path, chance, way)
    log.unlink(missing_ok=True)
    problems = [] if forked(["preset", "list"], log, environment=data).wait() == 0 else [log.read_text("utf-8")[-300:]]
    log.unlink(missing_ok=True)
    begun = forked(["new", str(reference.folder / "new"), "--preset", path.stem], log, environment=data)
    problems += _fine_or_named(begun, path)
    shutil.rmtree(reference.folder / "new", ignore_errors=True)
    return [*problems, *_as_it_was(path, after)]


def _times(reference: Reference, chance: random.Random, way: str, log: Path) -> list[str]:
    data = _data_folder(reference)
    run = reference.set_out("prepare")
    forked(["run", str(run.path), "--only", "prepare"], log, environment=data).wait()
    path = Path(data["AEGIS_DATA"]) / "pace.json"
    _damage(path, chance, way)
    log.unlink(missing_ok=True)
    return _fine_or_named(forked(["status", str(run.path)], log, environment=data), path)


def _window(reference: Reference, chance: random.Random, way: str, log: Path) -> list[str]:
    path = log.with_suffix(".ini")
    told = {"AEGIS_PREFERENCES": str(path), "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _WINDOW]
    path.write_text(_SETTINGS, encoding="utf-8")
    _damage(path, chance, way)
    done = subprocess.run(command, env={**os.environ, **told, **_data_folder(reference)}, capture_output=True,
                          encoding="utf-8", timeout=120, check=False)  # fmt: skip
    return [] if done.returncode == 0 and "Traceback" not in done.stderr else [f"the window: {done.stderr[-300:]}"]


_SETTINGS = (
    "[General]\nlanguage=ja\ntheme=dark\nwelcomed=true\nnotify=true\nsound=false\nat_close=tray\nruns=/runs\n"
    "recent=/runs/a, /runs/b\nplots=loss, alpha\n"
    "geometry=@ByteArray(\\x1\\xd9\\xd0\\xcb\\0\\x3\\0\\0\\0\\0\\0\\x64\\0\\0\\0\\x64)\n"
)
Made = Callable[[Reference, random.Random, str, Path], list[str]]
PLACES: dict[str, Made] = {
    "conversation": _conversation,
    "own verdicts": _verdicts,
    "preset": _preset,
    "times measured here": _times,
    "window's settings": _window,
}


def _data_folder(reference: Reference) -> dict[str, str]:
    folder = reference.folder / "user data"
    shutil.rmtree(folder, ignore_errors=True)
    return {"AEGIS_DATA": str(folder), "AEGIS_RUNS": str(reference.folder / "runs")}


def _damage(path: Path, chance: random.Random, way: str) -> bytes:
    after = spoiled(path.read_bytes(), way, chance)
    path.write_bytes(after)
    return after


def _as_it_was(path: Path, after: bytes) -> Sequence[str]:
    return () if path.is_file() and path.read_bytes() == after else (f"{path.name} was changed",)


def _fine_or_named(attempt: Attempt, path: Path) -> list[str]:
    return [] if attempt.wait() == 0 else refused_clearly(attempt, path.stem)
