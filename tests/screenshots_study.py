"""Both search pages with 0, 1 and 200 trials and while a trial runs, whole; part of tests.screenshots.

`python -m tests.screenshots_study OUT` takes them alone. The trials are invented, the schedules' scores are real.
"""

import argparse
import math
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

from gui_parts import open_window, stamped
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication

from aegis_core import events
from aegis_core import plan as plans
from aegis_core.events import TrialFinished
from aegis_core.freshness import BY_ID
from aegis_core.plan import Plan, demo_plan
from aegis_core.search.applying import allowed, changes_of
from aegis_core.search.score import score
from aegis_core.soul import schedule
from aegis_gui.pages.schedule import SchedulePage
from aegis_gui.pages.search import SearchPage
from aegis_gui.study_data import best_of
from aegis_gui.window import Window

COUNTS = (0, 1, 200)
SIZE = QSize(1280, 1180)
PRESENT_LOSS = 3.5511
IMPORTANCES = {"learning_rate": 0.71, "alpha_warmup": 0.16, "batch_size": 0.09, "warmup_steps": 0.04}

Picture = Callable[[Window, Path, str, str, str, str], Path]


def study_pictures(window: Window, runs: Path, out: Path, looks: list[tuple[str, str]], take: Picture) -> list[Path]:
    """Every picture of both pages; the window keeps its size. `take` is screenshots._picture."""
    before, found = window.size(), []
    window.resize(SIZE)
    for step, trials in (("search", searched(COUNTS[-1])), ("schedule", scheduled(COUNTS[-1]))):
        for n in COUNTS:
            show_study(window, runs / f"{step} {n}", step, trials[:n])
            found += [take(window, out, step, f"trials{n:03d}", *look) for look in looks]
    _show_running(window, runs / "search running")
    found += [take(window, out, "search", "at-work", *look) for look in looks]
    window.state.end()
    window.resize(before)
    return found


def show_study(window: Window, path: Path, step: str, trials: list[TrialFinished]) -> None:
    """A new run whose study came to these trials, scrolled to where its plots begin."""
    plan = plans.changed(demo_plan(), {f"{step}.enabled": True, f"{step}.n_trials": max(len(trials), 12)})
    window.state.create(path, plan)
    window.show_page(step)
    window.state.receive(stamped(events.StepStarted(), step))
    if trials:
        name, value = ("present_loss", PRESENT_LOSS) if step == "search" else ("present_score", present_score(plan))
        window.state.receive(stamped(events.Metric(name, 0, value), step))
    for trial in trials:
        window.state.receive(stamped(trial, step))
    if len(trials) > 1:
        best = best_of(trials, step == "search")
        assert best is not None
        new = allowed(plan, BY_ID[step], changes_of(step, best.params))
        old = {name: plans.get(plan, name) for name in new}
        assert window.state.run is not None
        window.state.run.write_plan(plans.changed(plan, new))
        window.state.receive(stamped(events.PlanChanged(old, new, step), step))
    if trials:
        window.state.receive(stamped(events.StepFinished(1.0), step))
    window.state.end()
    page = window.step_page(step)
    assert isinstance(page, SearchPage | SchedulePage)
    QApplication.processEvents()
    page.look_at(page.trials)


def _show_running(window: Window, path: Path) -> None:
    """A search in its eighth trial, half of which is done."""
    trials = searched(8)
    window.state.create(path, plans.changed(demo_plan(), {"search.enabled": True}))
    window.show_page("search")
    window.state.begin()
    told = [
        events.StepStarted(),
        events.Metric("present_loss", 0, PRESENT_LOSS),
        *trials[:7],
        events.Progress(7.5, 12, "trials"),
        events.TrialRunning(7, trials[7].params, (3.83, 3.69)),
    ]
    for event in told:
        window.state.receive(stamped(event, "search"))


def searched(n: int) -> list[TrialFinished]:
    """Invented short runs: a valley in the learning rate, some cut short, some failed."""
    draw, found = random.Random(3), []
    best: float | None = None
    for number in range(n):
        spread = 1.0 if number < 10 else 0.5
        rate = 10 ** min(max(draw.gauss(-4.0 + (1 - spread), spread), -6), -3)
        point = {
            "learning_rate": rate,
            "batch_size": draw.choice([1, 2, 4]),
            "warmup_steps": draw.randint(2, 10),
            "alpha_warmup": draw.uniform(0, 0.4),
        }
        end = 3.42 + 0.12 * (math.log10(rate) + 3.4) ** 2 + 0.1 * point["alpha_warmup"] + draw.gauss(0, 0.012)
        curve = tuple(end + (4.05 - end) * math.exp(-3 * part) for part in (0.25, 0.5, 0.75, 1.0))
        if draw.random() < 0.04:
            reason = "The memory was not enough for this trial."
            found.append(TrialFinished(number, "FAIL", None, point, best, reason))
        elif number >= 5 and end > 3.66:
            found.append(TrialFinished(number, "PRUNED", None, point, best, "", curve[: draw.randint(1, 2)]))
        else:
            best = end if best is None else min(best, end)
            weights = IMPORTANCES if number > 8 else {}
            found.append(TrialFinished(number, "COMPLETE", end, point, best, "", curve, weights))
    return found


def scheduled(n: int, plan: Plan | None = None) -> list[TrialFinished]:
    """Random schedules with their real scores."""
    plan, draw, found = plan or demo_plan(), random.Random(5), []
    kinds = ("linear", "sigmoid", "cosine", "exponential", "two_phase")
    for number in range(n):
        point = {
            "kind": draw.choice(kinds),
            "warmup_fraction": draw.uniform(0, 0.4),
            "end_fraction": draw.uniform(0.5, 1),
            "hold_fraction": draw.uniform(0, 0.3),
        }
        if point["kind"] in ("sigmoid", "exponential"):
            point["steepness"] = draw.uniform(2, 40)
        alphas = schedule.curve(plan.train.steps, plans.changed(plan, changes_of("schedule", point)).soul)
        value = score(alphas, plan.soul.alpha_target, plan.schedule.smoothness_weight).value
        weights = {"kind": 0.44, "steepness": 0.31, "end_fraction": 0.2, "warmup_fraction": 0.05} if number > 8 else {}
        found.append(TrialFinished(number, "COMPLETE", value, point, None, "", tuple(alphas), weights))
    return found


def present_score(plan: Plan) -> float:
    alphas = schedule.curve(plan.train.steps, plan.soul)
    return score(alphas, plan.soul.alpha_target, plan.schedule.smoothness_weight).value


def main() -> None:
    from screenshots import _looks, _picture

    parser = argparse.ArgumentParser(prog="python -m tests.screenshots_study", description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["AEGIS_PREFERENCES"] = str(Path(scratch) / "window.ini")
        os.environ["AEGIS_RUNS"] = str(Path(scratch) / "AEGIS")
        with open_window(app) as window:
            window.machine.shut_down()
            found = study_pictures(window, Path(scratch) / "AEGIS", out, _looks(window), _picture)
    sys.stdout.write(f"{len(found)} pictures in {out}\n")


if __name__ == "__main__":
    main()
