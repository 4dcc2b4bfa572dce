"""`python -m benchmarks.window`: the window's own speed, as a table. No GPU and no screen are needed.

- first window: a new Python until the window has been painted, with its files in the system's cache; with --cold once
  more after the cache was dropped, which slows everything else on the machine too. torch must not be imported.
- 20,000 events in one second into the training page: how long the event loop was blocked, by the clock and by its own
  processor time. Others on this machine only lengthen the former.
- curves of 100,000 points in four plots: what it costs to draw them once more after a new point.
- Stop, with --stop: from asking a training of the embedded model to stop until its process is gone.
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["AEGIS_PREFERENCES"] = str(Path(tempfile.gettempdir()) / "aegis-benchmark.ini")

import numpy as np
from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QApplication
from rich.console import Console
from rich.table import Table

from aegis_core import plan as plans
from aegis_gui.cockpit import Cockpit
from aegis_gui.inbox import Inbox
from aegis_gui.theme import LIGHT, Appearance
from benchmarks.invented import training

FIRST_WINDOW = """
import sys, time
from PySide6.QtWidgets import QApplication
from aegis_gui.app import build
app = QApplication([])
window = build(app)
window.show()
app.processEvents()
window.grab()
print("painted", "torch" in sys.modules, time.process_time(), flush=True)
window.shut_down()
"""
N_FLOOD, N_LONG, N_FRAMES = 20_000, 100_000, 60
Row = tuple[str, str, str]


def first_window(drop_cache: bool) -> Row:
    """(what, figure, goal) of a new process until its window has been painted."""
    if drop_cache and not _dropped():
        return ("first window, cold", "not measured: the system's cache cannot be dropped here", "")
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", FIRST_WINDOW], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = child.stdout.readline().split()
        took = time.perf_counter() - began
    torch = "torch imported!" if said[1] == "True" else "torch not imported"
    figure = f"{took:.2f} s by the clock, {float(said[2]):.2f} s of work, {torch}"
    return (f"first window, {'cold' if drop_cache else 'warm'}", figure, "< 1.0 s warm")


def flood(cockpit: Cockpit) -> Row:
    """20,000 events within one second; how long the event loop did not come round."""
    plan = plans.changed(plans.demo_plan(), {"train.steps": 4000})
    cockpit.clear()
    cockpit.set_plan(plan)
    events = list(training(plan, 2000))[:N_FLOOD]
    inbox = Inbox(cockpit.on_event)
    beats: list[tuple[float, float]] = []
    heart = QTimer(interval=1)
    heart.timeout.connect(lambda: beats.append((time.thread_time(), time.perf_counter())))
    gc.collect()
    gc.freeze()
    heart.start()
    inbox.start()
    began = time.perf_counter()
    for part in range(20):
        for event in events[part * 1000 : (part + 1) * 1000]:
            inbox.put(event)
        _wait(0.05)
    while inbox._waiting:
        _wait(0.01)
    took = time.perf_counter() - began
    heart.stop()
    inbox.stop()
    gc.unfreeze()
    worked, passed = np.diff(np.array(beats), axis=0).T * 1000
    figure = (
        f"longest block {passed.max():.0f} ms by the clock ({worked.max():.0f} ms of work), "
        f"p99 {np.percentile(passed, 99):.1f} ms ({np.percentile(worked, 99):.1f} ms); all taken in after {took:.2f} s"
    )
    return (f"{len(events):,} events in a second", figure, "≤ 50 ms, p99 < 20 ms")


def long_curves(cockpit: Cockpit, shown: tuple[str, ...]) -> Row:
    """What one more point costs when there are 100,000 in every curve of four plots."""
    for name, card in zip(shown, cockpit.board.cards, strict=True):
        cockpit.board.put(name, card)
    QApplication.processEvents()

    def frame() -> None:
        nonlocal step
        step += 1
        for event in tail[step]:
            cockpit.on_event(event)
        for plot in cockpit.board.on_screen():
            plot.refresh()
            plot.viewport().repaint()

    plan = plans.changed(plans.demo_plan(), {"train.steps": N_LONG + 2 * N_FRAMES})
    tail = _by_step(plan, N_LONG, N_LONG + N_FRAMES)
    step = N_LONG
    costs = [_cost(frame) for _ in range(N_FRAMES)]
    middle, worst = statistics.median(costs) * 1000, max(costs) * 1000
    figure = f"{middle:.1f} ms of work a frame ({1000 / middle:.0f} frames/s), the slowest {worst:.1f} ms"
    return (f"{N_LONG:,} points: {', '.join(shown)}", figure, "> 30 frames/s")


def filled_cockpit() -> Cockpit:
    """On screen, with 100,000 steps in every plot."""
    cockpit = Cockpit(LIGHT)
    plan = plans.changed(plans.demo_plan(), {"train.steps": N_LONG + 2 * N_FRAMES})
    cockpit.set_plan(plan)
    cockpit.resize(1000, 620)
    cockpit.show()
    for event in training(plan, N_LONG):
        cockpit.on_event(event)
    return cockpit


def stop() -> Row:
    """From asking a training to stop until its process is gone."""
    from aegis_core.child import Child
    from aegis_core.engine.command import engine_command
    from aegis_core.events import Progress
    from aegis_core.run_directory import RunDirectory

    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(Path(folder) / "run", plans.changed(plans.demo_plan(), {"train.steps": 500}))
        child = Child(engine_command("run", run.path, "--to", "train", "--events"), run.stderr_path)
        asked, n_steps = 0.0, 0
        for event in child.events():
            n_steps += isinstance(event, Progress) and event.stage == "train" and event.unit == "steps"
            if n_steps >= 3 and not asked:
                asked = time.perf_counter()
                child.cancel()
        took = time.perf_counter() - asked
    return ("Stop until the process is gone", f"{took:.2f} s, in the middle of a step of the demo", "< 2 s")


def _by_step(plan: plans.Plan, first: int, last: int) -> dict[int, list]:  # type: ignore[type-arg]
    found: dict[int, list] = {step: [] for step in range(first, last + 2)}  # type: ignore[type-arg]
    step = 0
    for event in training(plan, last + 1):
        step = max(step, getattr(event, "step", 0)) if type(event).__name__ == "Metric" else step
        if step in found:
            found[step].append(event)
    return found


def _cost(work: Callable[[], None]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _wait(seconds: float) -> None:
    loop = QEventLoop()
    QTimer.singleShot(round(seconds * 1000), loop.quit)
    loop.exec()


def _dropped() -> bool:
    """Whether the system forgot every file it had in memory; only its administrator may ask for that."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="utf-8")
    except (OSError, AttributeError):
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.window", description=__doc__)
    parser.add_argument("--cold", action="store_true", help="drop the system's cache first; only root may")
    parser.add_argument("--stop", action="store_true", help="also start a training of the embedded model and stop it")
    options = parser.parse_args()
    rows = [first_window(drop_cache=True)] if options.cold else []
    first_window(drop_cache=False)
    rows += [first_window(drop_cache=False) for _ in range(3)]
    app = QApplication(sys.argv[:1])
    Appearance(app).use("light")
    cockpit = filled_cockpit()
    for shown in (("loss", "alpha", "memory", "rotation"), ("portrait", "gradient", "load", "power")):
        rows.append(long_curves(cockpit, shown))
    rows.append(flood(cockpit))
    cockpit.close()
    if options.stop:
        rows.append(stop())
    table = Table("what", "measured", "to reach")
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
