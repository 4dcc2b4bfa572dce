"""Every step's page in each state that something must have happened for: half done, failed, stopped, outdated.

`python -m tests.screenshots_states OUT [--small]` takes these alone. The recorded ritual is told to the window up to
where it breaks off; the failures are sentences that the engine really says.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

from album import verdict
from gui_parts import mark_done, open_window, recorded_events, recorded_run, stamped
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication
from screenshots_study import scheduled, searched

from aegis_core import events, freshness
from aegis_core import plan as plans
from aegis_core.plan import demo_plan
from aegis_core.run_directory import RunDirectory
from aegis_gui.window import SMALLEST, Window

Picture = Callable[[Window, Path, str, str, str, str], Path]
TERMINAL = (events.StepFinished, events.StepFailed, events.StepCancelled)
ADVICE = "Free some space or choose another drive, then run this step again; earlier results are untouched."
NO_ROOM = ("The disk is full: {path} could not be written.", ADVICE)
FAILURES: dict[str, tuple[str, str, dict[str, str]]] = {
    "check": (*NO_ROOM, {"path": "D:\\AEGIS\\ritual 儀式\\check"}),
    "prepare": ("The dataset {source} is empty.", "Choose one that holds at least a few samples.", {"source": "x"}),
    "search": (*NO_ROOM, {"path": "D:\\AEGIS\\ritual 儀式\\search\\study.db"}),
    "schedule": (*NO_ROOM, {"path": "D:\\AEGIS\\ritual 儀式\\schedule\\study.db"}),
    "train": (*NO_ROOM, {"path": "D:\\AEGIS\\ritual 儀式\\train\\checkpoint-000080"}),
    "fuse": (*NO_ROOM, {"path": "D:\\AEGIS\\ritual 儀式\\fuse\\model"}),
    "export": (*NO_ROOM, {"path": "D:\\AEGIS\\ritual 儀式\\export\\aegis-demo-Q4_K_M.gguf"}),
    "chat": (*NO_ROOM, {"path": "D:\\AEGIS\\ritual 儀式\\chat\\transcript.jsonl"}),
    "report": (*NO_ROOM, {"path": "D:\\AEGIS\\ritual 儀式\\report.html"}),
}  # fmt: skip
SEARCHED = {"search.enabled": True, "schedule.enabled": True}
OUTDATING = {
    "prepare": {"data.sequence_length": 96},
    "search": {"search.pruner": "off"},
    "schedule": {"schedule.smoothness_weight": 0.2},
    "train": {"train.seed": 7},
    "fuse": {"fuse.base": "dequantised_4bit"},
    "export": {"chat.model_name": "another"},
    "chat": {"chat.temperature": 0.9},
    "report": {"report.language": "en"},
}


def state_pictures(window: Window, runs: Path, out: Path, looks: list[tuple[str, str]], take: Picture) -> list[Path]:
    """Every picture; `take` is screenshots._picture."""
    found: list[Path] = []
    for step in freshness.BY_ID:
        window.state.open(_up_to(step, runs / f"{step} 途中").path)
        window.state.begin()
        told = halfway(step)
        for event in told:
            window.state.receive(stamped(event, step))
        found += [take(window, out, step, "halfway", *look) for look in looks]
        window.state.receive(stamped(_failure(step), step))
        window.state.end()
        found += [take(window, out, step, "failed", *look) for look in looks]
        window.state.begin()
        for event in (*told, events.StepCancelled()):
            window.state.receive(stamped(event, step))
        window.state.end()
        found += [take(window, out, step, "stopped", *look) for look in looks]
    for step, changes in OUTDATING.items():
        plan = plans.changed(demo_plan(), SEARCHED)
        run = recorded_run(runs / f"{step} 古い", plan)
        for optional in ("search", "schedule"):
            mark_done(run, plan, optional)
        window.state.open(run.path)
        window.state.change(changes)
        found += [take(window, out, step, "stale", *look) for look in looks]
    return found


def halfway(step: str) -> list[events.Event]:
    """What a step tells up to its middle."""
    if step == "search":
        return [events.StepStarted(), *searched(5), events.Progress(5.4, 12, "trials")]
    if step == "schedule":
        return [events.StepStarted(), *scheduled(30), events.Progress(30, 100, "trials")]
    told = [event for event in recorded_events(step) if not isinstance(event, TERMINAL)]
    return told[: max(len(told) // 2, 2)]


def _up_to(step: str, path: Path) -> RunDirectory:
    """A run in which everything before this step is done."""
    plan, steps = plans.changed(demo_plan(), SEARCHED), list(freshness.BY_ID)
    if step == steps[0]:
        return RunDirectory.create(path, plan)
    run = recorded_run(path, plan, last=steps[steps.index(step) - 1])
    for optional in ("search", "schedule"):
        if steps.index(optional) < steps.index(step):
            mark_done(run, plan, optional)
    return run


def _failure(step: str) -> events.StepFailed:
    reason, advice, values = FAILURES[step]
    return events.StepFailed(reason.format(**values), advice, "", reason, advice, values)


def main() -> None:
    from screenshots import SIZE, _looks, _picture

    parser = argparse.ArgumentParser(prog="python -m tests.screenshots_states", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true", help="the smallest window")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    with tempfile.TemporaryDirectory() as scratch:
        for variable, name in (("AEGIS_PREFERENCES", "window.ini"), ("AEGIS_RUNS", "AEGIS"), ("AEGIS_DATA", "data")):
            os.environ[variable] = str(Path(scratch) / name)
        with open_window(app) as window:
            window.machine.shut_down()
            window.resize(QSize(*SMALLEST) if options.small else SIZE)
            found = state_pictures(window, Path(scratch) / "AEGIS", options.out, _looks(window), _picture)
    sys.stdout.write(f"{len(found)} pictures in {options.out}\n")
    sys.exit(verdict(options.out))


if __name__ == "__main__":
    main()
