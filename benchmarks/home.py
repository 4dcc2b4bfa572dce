"""`python benchmarks/home.py [N_RUNS]`: how long the window keeps a person waiting who has many runs.

Makes copies of the tests' recorded run in a temporary folder, opens the window on them without a screen, and prints
when it was there, when its first page of cards was complete, and for how long the event loop was blocked at most.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from gui_parts import open_window
from home_runs import finished
from PySide6.QtWidgets import QApplication

from aegis_gui.preferences import Preferences

REFERENCE_SECONDS = 1.0  # until the first window


def main() -> None:
    n_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch) / "runs"
        os.environ |= {"AEGIS_RUNS": str(runs), "AEGIS_PREFERENCES": str(Path(scratch) / "window.ini")}
        source = finished(runs / "run-000")
        for n in range(1, n_runs):
            shutil.copytree(source.path, runs / f"run-{n:03}")
        app = QApplication([])
        Preferences().welcomed = True
        measure(app, n_runs)


def measure(app: QApplication, n_runs: int) -> None:
    began = time.perf_counter()
    with open_window(app) as window:
        app.processEvents()
        there = time.perf_counter() - began
        longest = 0.0
        while window.home.shelf.list.reading:
            turn = time.perf_counter()
            app.processEvents()
            longest = max(longest, time.perf_counter() - turn)
        complete = time.perf_counter() - began
        rows = [
            (f"window on {n_runs} runs", there, f"{REFERENCE_SECONDS:.1f} s"),
            (f"its {len(window.home.shelf.list.rows)} cards complete", complete, ""),
            ("event loop blocked at most", longest, ""),
        ]
    for name, seconds, reference in rows:
        sys.stdout.write(f"{name:<32}{seconds:>8.3f} s   {reference}\n")


if __name__ == "__main__":
    main()
