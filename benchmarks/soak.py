"""`python -m benchmarks.soak [--minutes 10] [EVENTS]`: a recording is played again and again at full speed into the
real training page, and memory, objects, threads and timers are counted every half minute.

EVENTS is the events.jsonl of any run; without it an invented training of 2,000 steps is written and played. Languages
and themes are switched, plots exchanged, the crosshair moved and places sought on the way, as a person would.
"""

import argparse
import gc
import itertools
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import psutil
from PySide6.QtCore import QCoreApplication, QEvent, QObject, QTimer
from PySide6.QtWidgets import QApplication

from aegis_core import plan as plans
from aegis_core.events import encode
from aegis_core.run_directory import RunDirectory
from aegis_gui.app import build
from aegis_gui.pages.train import TrainPage
from aegis_gui.replay import AS_FAST_AS_POSSIBLE
from aegis_gui.window import Window
from benchmarks.invented import training

EVERY_SECONDS, MOUSE_SECONDS = 30.0, 0.2
N_STEPS = 2000


def soak(window: Window, page: TrainPage, minutes: float) -> None:
    """Play until the time is over; prints a line every half minute, the first one after the first round."""
    began = told = moved = time.monotonic()
    n_rounds = n_events = 0
    turns = itertools.cycle((_other_language, _other_theme, _other_plots, _back_and_forth))
    print(
        f"{'min':>5} {'rounds':>7} {'events':>11} {'RSS MB':>8} {'QObjects':>9} {'timers':>7} {'threads':>8} {'py':>9}"
    )
    page.begin_replay()
    while time.monotonic() - began < minutes * 60:
        replay = page.replay
        assert replay is not None
        replay.set_speed(AS_FAST_AS_POSSIBLE)
        replay.play()
        while replay.playing:
            QApplication.processEvents()
            if time.monotonic() - moved > MOUSE_SECONDS:
                moved = time.monotonic()
                page.cockpit.loss.hovered.emit(moved * 40 % N_STEPS)
        n_rounds, n_events = n_rounds + 1, n_events + len(replay.recording)
        next(turns)(window, page)
        if n_rounds == 1 or time.monotonic() - told >= EVERY_SECONDS:
            told = time.monotonic()
            print(f"{(told - began) / 60:5.1f} {n_rounds:7} {n_events:11,} {_counted(window)}", flush=True)
    page.end_replay()


def _other_language(window: Window, page: TrainPage) -> None:
    window._use_language("ja" if window.language.current == "en" else "en")


def _other_theme(window: Window, page: TrainPage) -> None:
    window._use_theme("dark" if window.appearance.theme.name == "light" else "light")


def _other_plots(window: Window, page: TrainPage) -> None:
    names = list(page.cockpit.plots)
    for card in page.cockpit.board.cards:
        page.cockpit.board.put(names[(names.index(card.name) + 3) % len(names)], card)


def _back_and_forth(window: Window, page: TrainPage) -> None:
    """A replay ended and begun again, as its button does."""
    page.end_replay()
    page.begin_replay()


def _counted(window: Window) -> str:
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    rss = psutil.Process().memory_info().rss / 1e6
    objects, timers = len(window.findChildren(QObject)), len(window.findChildren(QTimer))
    return f"{rss:8.1f} {objects:9,} {timers:7} {threading.active_count():8} {len(gc.get_objects()):9,}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("events", type=Path, nargs="?", metavar="EVENTS")
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AEGIS_PREFERENCES"] = str(Path(folder) / "window.ini")
        os.environ["AEGIS_RUNS"] = folder
        plan = plans.changed(plans.demo_plan(), {"train.steps": N_STEPS})
        run = RunDirectory.create(Path(folder) / "run", plan)
        if options.events:
            run.events_path.write_bytes(options.events.read_bytes())
        else:
            lines = "".join(encode(event) + "\n" for event in training(plan, N_STEPS))
            run.events_path.write_text(lines, encoding="utf-8")
        app = QApplication(sys.argv[:1])
        window = build(app)
        window.machine.shut_down()
        window.resize(1280, 800)
        window.show()
        window.state.open(run.path)
        window.show_page("train")
        page = window.step_page("train")
        assert isinstance(page, TrainPage)
        soak(window, page, options.minutes)
        window.shut_down()
        window.close()


if __name__ == "__main__":
    main()
