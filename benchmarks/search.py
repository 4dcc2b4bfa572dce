"""One search three times: in the terminal, in the window, and killed in its fourth trial and started again.

    python benchmarks/search.py FOLDER [--trials 6] [--tokens 2048]

Each is a run of the demo plan with the same seed on one thread; the trials must come out alike, to the last bit of
their values. What is done already in FOLDER is not done again.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

KILLED_IN = 3  # the fourth trial, counted from 0


def terminal(run: Path) -> None:
    subprocess.run(_engine(run), check=True)


def window(run: Path) -> None:
    """Opened offscreen, the page's own button clicked; the last look at the page is kept as window.png."""
    from PySide6.QtCore import QEventLoop
    from PySide6.QtWidgets import QApplication

    from aegis_gui.app import build

    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"AEGIS_PREFERENCES": str(Path(scratch) / "window.ini"), "AEGIS_RUNS": scratch}
        app = QApplication.instance() or QApplication(sys.argv[:1])
        assert isinstance(app, QApplication)
        opened = build(app)
        opened.resize(1280, 1000)
        opened.show()
        try:
            opened.state.open(run)
            opened.show_page("search")
            waits = QEventLoop()
            opened.runner.ended.connect(waits.quit)
            opened.footer.primary.click()
            waits.exec()
            app.processEvents()
            opened.grab().save(str(run.parent / "window.png"))
        finally:
            opened.shut_down()


def killed(run: Path) -> None:
    """SIGKILL (on Windows: TerminateProcess) once the fourth trial has read something, then run it again."""
    child = subprocess.Popen(_engine(run))
    while not _reads_fourth(run):
        if child.poll() is not None:
            raise SystemExit("the search ended before it could be killed")
        time.sleep(0.5)
    child.kill()
    child.wait()
    if os.name == "posix":
        assert child.returncode == -signal.SIGKILL
    terminal(run)


WAYS = {"terminal": terminal, "window": window, "killed": killed}


def trials(run: Path) -> list[dict[str, Any]]:
    rows = json.loads((run / "search" / "trials.json").read_text(encoding="utf-8"))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def _engine(run: Path) -> list[str]:
    return [sys.executable, "-m", "aegis_core", "run", str(run), "--only", "search"]


def _reads_fourth(run: Path) -> bool:
    rows = (run / "events.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    running = [json.loads(row) for row in rows if '"TrialRunning"' in row]
    return any(row["number"] == KILLED_IN and row["curve"] for row in running)


def _prepared(folder: Path, n_trials: int, n_tokens: int) -> Path:
    run = folder / "prepared"
    if not (run / "prepare" / "done.json").is_file():
        settings = [
            "search.enabled=true", f"search.n_trials={n_trials}", f"search.tokens_per_trial={n_tokens}",
            "search.compare=false",
        ]  # fmt: skip
        options = [part for setting in settings for part in ("--set", setting)]
        aegis = [sys.executable, "-m", "aegis_core"]
        subprocess.run([*aegis, "new", str(run), "--demo", *options], check=True)
        subprocess.run([*aegis, "run", str(run), "--to", "prepare"], check=True)
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    prepared = _prepared(folder, options.trials, options.tokens)
    found = {}
    for name in options.ways:
        run = folder / name
        if not (run / "search" / "done.json").is_file():
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(prepared, run)
            WAYS[name](run)
        found[name] = trials(run)
    first = next(iter(found.values()))
    sys.stdout.write("trial  state     held-out loss  settings\n")
    for row in first:
        value = "–" if row["value"] is None else f"{row['value']:.6f}"
        settings = ", ".join(f"{name} {value:.4g}" for name, value in row["params"].items())
        sys.stdout.write(f"{row['number'] + 1:>5}  {row['state']:<8}  {value:>13}  {settings}\n")
    for name, rows in found.items():
        sys.stdout.write(f"{name}: {'the same' if rows == first else 'DIFFERENT'}\n")
    return 0 if all(rows == first for rows in found.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
