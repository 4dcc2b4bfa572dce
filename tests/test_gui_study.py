"""A study on screen: its figures, its plots with none, one and two hundred trials, and a trial's way into the plan."""

import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gui_parts import japanese, open_window, recorded_run, stamped
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from aegis_core import events
from aegis_core import plan as plans
from aegis_core.events import TrialFinished, TrialRunning
from aegis_core.plan import Plan, demo_plan
from aegis_gui.flow import Action, Do, Status
from aegis_gui.i18n import Language
from aegis_gui.run_view import RunView
from aegis_gui.study_data import Axis, axes_of, best_of, best_so_far
from aegis_gui.study_panel import StudyPanel
from aegis_gui.theme import DARK, LIGHT
from aegis_gui.window import Window

POINT = {"learning_rate": 1e-4, "batch_size": 2, "warmup_steps": 4, "alpha_warmup": 0.1}


def trial(
    number: int, value: float | None = None, state: str = "COMPLETE", reason: str = "", **params: object
) -> TrialFinished:
    curve = (4.0, 3.9, 3.8, 3.7) if state == "COMPLETE" else (4.2,)
    return TrialFinished(number, state, value, POINT | params, None, reason, curve)


def many(n: int) -> list[TrialFinished]:
    draw = random.Random(1)
    return [
        trial(i, 3 + draw.random(), learning_rate=10 ** draw.uniform(-6, -3), batch_size=draw.choice([1, 2, 4]))
        for i in range(n)
    ]


@pytest.fixture
def panel(qtbot: QtBot) -> StudyPanel:
    panel = StudyPanel("search", "Held-out loss", True, LIGHT)
    panel.resize(900, 900)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def show(panel: StudyPanel, trials: list[TrialFinished], **more: object) -> None:
    settings = {"plan": Plan(), "busy": False, "n_planned": 12} | more
    panel.show_study(trials, **settings)  # type: ignore[arg-type]


def n_coloured(image: QImage, colour: str) -> int:
    wanted = int(colour[1:], 16)
    return sum(
        image.pixel(x, y) & 0xFFFFFF == wanted for x in range(0, image.width()) for y in range(0, image.height())
    )


def test_a_study_without_trials_says_so_and_shows_no_empty_axes(panel: StudyPanel) -> None:
    show(panel, [])
    assert panel.nothing.isVisible() and not panel.history.isVisible() and not panel.table.isVisible()


@pytest.mark.parametrize("n", [1, 200])
@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_one_and_two_hundred_trials_are_drawn(panel: StudyPanel, qtbot: QtBot, n: int, theme: object) -> None:
    panel.set_theme(theme)  # type: ignore[arg-type]
    show(panel, many(n))
    qtbot.wait(30)
    assert not panel.nothing.isVisible()
    assert len(panel.history.curves["value"].series) == n
    assert n_coloured(panel.parallel.grab().toImage(), panel.parallel.theme.accent) > 50
    x, y = panel.curves.items_["others"].getData()
    assert (0 if x is None else int(np.isnan(y).sum())) == n - 1, "every curve ends in a gap"


def test_the_best_and_what_it_gains_are_said(panel: StudyPanel) -> None:
    show(panel, [trial(0, 3.5), trial(1, 3.25), trial(2, math.nan), trial(3, None, "FAIL")], present=3.5)
    assert "trial 2" in panel.best.text() and "3.250" in panel.best.text()
    assert "0.2500 nats below the present settings" in panel.best.text()
    show(panel, [trial(0, 3.6)], present=3.5)
    assert "still better" in panel.best.text()
    show(panel, [trial(0, None, "FAIL")])
    assert "No trial has come to a result" in panel.best.text()


def test_the_curve_of_the_best_falls_and_never_rises() -> None:
    trials = [trial(0, None, "FAIL"), trial(1, 3.5), trial(2, None, "PRUNED"), trial(3, 3.7), trial(4, 3.1)]
    assert best_so_far(trials, True) == [(2, 3.5), (3, 3.5), (4, 3.5), (5, 3.1)]
    assert best_so_far(trials, False) == [(2, 3.5), (3, 3.5), (4, 3.7), (5, 3.7)]
    assert best_of(trials, True) is trials[4] and best_of([], True) is None


def test_a_trial_cut_short_high_above_does_not_flatten_the_others(panel: StudyPanel) -> None:
    diverged = TrialFinished(1, "PRUNED", None, trial(1).params, None, "", (900.0,))
    show(panel, [trial(0, 3.5), diverged, trial(2, 3.4)])
    assert panel.history.extent() == (3.4, 3.5)
    assert panel.history.curves["poor"].series.y[0] == 3.5


def test_axes_are_logarithmic_for_rates_and_words_for_choices() -> None:
    trials = [trial(0, 1.0, learning_rate=1e-6), trial(1, 1.0, learning_rate=1e-4, batch_size=4, kind="linear")]
    axes = {axis.name: axis for axis in axes_of(trials)}
    assert axes["learning_rate"].place(1e-5) == pytest.approx(0.5)
    assert axes["batch_size"].choices == (2, 4) and axes["batch_size"].place(4) == 1
    assert axes["kind"].place("linear") == 0.5 and axes["kind"].place(None) is None
    assert Axis("x", 2.0, 2.0).place(2.0) == 0.5 and Axis("x").place(math.nan) is None


def test_importance_is_shown_once_it_is_known(panel: StudyPanel) -> None:
    show(panel, [trial(0, 3.5)])
    assert panel.unclear.isVisible() and not panel.importance.isVisible()
    weights = {"batch_size": 0.2, "learning_rate": 0.8}
    show(panel, [trial(0, 3.5), TrialFinished(1, "COMPLETE", 3.4, trial(1).params, importances=weights)])
    assert panel.importance.isVisible() and not panel.unclear.isVisible()
    assert panel.importance.accessibleDescription().startswith("Learning rate 80%")


def test_choosing_a_trial_shows_what_changes_and_offers_it(panel: StudyPanel, qtbot: QtBot) -> None:
    show(panel, [trial(0, 3.5, learning_rate=5e-4, batch_size=4), trial(1, None, "FAIL", "The memory was not enough.")])
    panel.table.selectRow(0)
    assert "Learning rate 2.7e-4 → 5e-4" in panel.choice.text() and "Batch size 2 → 4" in panel.choice.text()
    with qtbot.waitSignal(panel.chosen) as told:
        panel.use.click()
    assert told.args[0]["train.learning_rate"] == 5e-4
    panel.table.selectRow(1)
    assert not panel.use.isEnabled() and "no result" in panel.choice.text()
    assert "memory was not enough" in panel.choice.text(), "and why"
    show(panel, [trial(0, 3.5, learning_rate=5e-4)], busy=True)
    panel.table.selectRow(0)
    assert not panel.use.isEnabled(), "not while a step is running"


def test_a_new_trial_keeps_the_choice_and_sorting_does_not_move_it(panel: StudyPanel) -> None:
    show(panel, [trial(0, 3.5), trial(1, 3.1)])
    panel.table.sortByColumn(2, panel.table.horizontalHeader().sortIndicatorOrder())
    panel.table.selectRow(0)
    chosen = panel.table.trial_at(panel.table.selectionModel().selectedRows()[0])
    assert chosen.number == 1
    show(panel, [trial(0, 3.5), trial(1, 3.1), trial(2, 2.9)])
    assert panel.table.trial_at(panel.table.selectionModel().selectedRows()[0]).number == 1


def test_the_trial_at_work_is_drawn_live_and_named(panel: StudyPanel) -> None:
    show(panel, [trial(0, 3.5)], running=TrialRunning(1, POINT | {"batch_size": 4}, (4.1, 3.9)), busy=True)
    x, y = panel.curves.items_["running"].getData()
    assert list(x[:-1]) == [25, 50] and list(y[:-1]) == [4.1, 3.9]
    assert panel.now.isVisible() and "Trial 2" in panel.now.text() and "Batch size 4" in panel.now.text()
    show(panel, [trial(0, 3.5), trial(1, 3.4)])
    assert panel.curves.items_["running"].getData()[0] is None and not panel.now.isVisible()


def test_the_first_trial_is_seen_while_it_runs(panel: StudyPanel) -> None:
    show(panel, [], running=TrialRunning(0, POINT, (4.1,)), busy=True)
    assert panel.curves.isVisible() and not panel.table.isVisible()


def test_what_was_cut_short_or_does_not_converge_is_grey(panel: StudyPanel, qtbot: QtBot) -> None:
    show(panel, [trial(0, 3.5), trial(1, 3.6), trial(2, None, "PRUNED"), trial(3, None, "FAIL")])
    n_points = {name: int(np.isfinite(item.getData()[1]).sum()) for name, item in panel.curves.items_.items()
                if item.getData()[1] is not None}  # fmt: skip
    assert n_points == {"best": 4, "others": 4, "poor": 1}
    schedules = StudyPanel("schedule", "Score", False, LIGHT)
    qtbot.addWidget(schedules)
    curves = [TrialFinished(i, "COMPLETE", v, {"kind": "linear"}, curve=(-5.0, 1.6)) for i, v in enumerate((1.5, -0.1))]
    show(schedules, curves)
    assert list(schedules.curves.items_["poor"].getData()[1][:-1]) == [-5.0, 1.6]
    assert schedules.history.extent() == (1.5, 1.5), "how far one misses does not flatten the others"
    assert list(schedules.history.curves["poor"].series.y) == [1.5], "it stands at the lower edge"


def test_a_view_somebody_looks_at_stays_when_a_trial_ends(panel: StudyPanel) -> None:
    show(panel, [trial(0, 3.5), trial(1, 3.4)])
    panel.history.view.setXRange(0, 4.5, padding=0)
    panel.history.view.sigRangeChangedManually.emit([True, False])
    show(panel, [trial(0, 3.5), trial(1, 3.4), trial(2, 3.3)])
    assert panel.history.view.viewRange()[0] == [0, 4.5]


def test_without_a_choice_the_best_is_offered(panel: StudyPanel, qtbot: QtBot) -> None:
    show(panel, [trial(0, 3.5), trial(1, 3.1, learning_rate=5e-4)])
    assert panel.use.text() == "Use the best settings" and "Trial 2: Learning rate 2.7e-4 → 5e-4" in panel.choice.text()
    with qtbot.waitSignal(panel.chosen) as told:
        panel.use.click()
    assert told.args[0]["train.learning_rate"] == 5e-4
    panel.table.selectRow(0)
    assert panel.use.text() == "Use these settings"


def test_what_was_written_into_the_plan_is_told(panel: StudyPanel) -> None:
    old, new = {"train.batch_size": 2, "train.warmup_steps": 6}, {"train.batch_size": 4, "train.warmup_steps": 6}
    show(panel, [trial(0, 3.5)], written=events.PlanChanged(old, new, "search"))
    assert panel.written.isVisible() and panel.written.text() == "Written into the plan: Batch size 2 → 4"


def test_a_step_knows_its_trial_at_work_until_it_ends() -> None:
    view = RunView()
    told: list[events.Event] = [events.StepStarted(), TrialRunning(0, POINT), TrialRunning(0, POINT, (4.0,))]
    for event in told:
        view.apply(stamped(event, "search"))
    assert view.step("search").trial == stamped(TrialRunning(0, POINT, (4.0,)), "search")
    view.apply(stamped(trial(1, 3.5), "search"))
    assert view.step("search").trial, "another worker's trial ended, not this one"
    view.apply(stamped(trial(0, 3.5), "search"))
    assert view.step("search").trial is None
    for end in (events.StepCancelled(), events.StepStarted(resumed=True)):  # stopped; killed, and gone on with
        view.apply(stamped(TrialRunning(1, POINT), "search"))
        view.apply(stamped(end, "search"))
        assert view.step("search").trial is None


@pytest.fixture
def window(qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("AEGIS_PREFERENCES", str(tmp_path / "window.ini"))
    monkeypatch.setenv("AEGIS_RUNS", str(tmp_path / "runs"))
    with open_window(qapp) as window:
        plan = plans.changed(demo_plan(), {"search.enabled": True, "schedule.enabled": True})
        window.state.create(tmp_path / "runs" / "探索 run", plan)
        yield window


def test_the_search_page_draws_live_and_writes_the_chosen_trial_into_the_plan(window: Window) -> None:
    window.show_page("search")
    page = window.pages["search"]
    window.state.receive(stamped(events.StepStarted(), "search"))
    window.state.receive(stamped(events.Metric("present_loss", 0, 3.9), "search"))
    window.state.receive(stamped(trial(0, 3.5, batch_size=4), "search"))
    window.state.receive(stamped(events.StepFinished(1.0), "search"))
    assert "0.4000 nats below" in page.study.best.text()
    page.study.table.selectRow(0)
    assert "Alpha warm-up" not in page.study.choice.text(), "that one is the schedule search's to find"
    page.study.use.click()
    assert window.state.plan.train.batch_size == 4 and window.state.run is not None
    assert window.state.run.plan().train.batch_size == 4
    assert "settings of the plan already" in page.study.choice.text()


def test_trials_that_end_together_are_drawn_together(
    window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.show_page("schedule")
    page = window.pages["schedule"]
    window.state.receive(stamped(events.StepStarted(), "schedule"))
    drawn: list[int] = []
    draw = page.study.show_study
    monkeypatch.setattr(page.study, "show_study", lambda trials, *more, **named: (drawn.append(len(trials)),
                        draw(trials, *more, **named)))  # fmt: skip
    for number in range(50):
        window.state.receive(stamped(TrialFinished(number, "COMPLETE", 1.5, {"kind": "linear"}), "schedule"))
    qtbot.waitUntil(lambda: bool(drawn))
    assert set(drawn) == {50}, "not one by one"


def test_the_schedule_page_draws_every_curve_and_the_best_ones_critical_point(window: Window, qtbot: QtBot) -> None:
    window.show_page("schedule")
    page = window.pages["schedule"]
    window.state.receive(stamped(events.StepStarted(), "schedule"))
    straight = {"kind": "linear", "warmup_fraction": 0.0, "end_fraction": 0.5}
    curve = tuple(-5 + 6.618 * min(i / 40, 1) for i in range(80))
    window.state.receive(stamped(TrialFinished(0, "COMPLETE", 1.6, straight, 1.6, "", curve), "schedule"))
    jump = straight | {"kind": "sigmoid", "steepness": 40.0}
    window.state.receive(stamped(TrialFinished(1, "COMPLETE", -2.0, jump, 1.6, "", curve), "schedule"))
    qtbot.waitUntil(page.study.curves.critical.isVisible)
    assert page.study.curves.critical.value() == pytest.approx(20, abs=2)
    page.study.table.selectRow(1)
    assert "no result" in page.study.choice.text(), "a schedule that does not converge cannot be chosen"


def test_a_finished_study_goes_on_where_more_trials_are_asked_for(window: Window, tmp_path: Path) -> None:
    plan = plans.changed(demo_plan(), {"search.enabled": True})
    window.state.open(recorded_run(tmp_path / "runs" / "done", plan, last="search").path)
    window.show_page("search")
    assert window.state.status("search") is Status.DONE
    window.state.change({"search.n_trials": 20})
    page = window.pages["search"]
    assert page.notice.text() == "The settings ask for more: Trials. The next run adds it to what is there."
    assert window.state.flow.primary("search") == Action(Do.RUN_AGAIN, "search")


@pytest.mark.parametrize(
    "reason", ["The memory was not enough for this trial.", "The held-out loss is not a finite number."]
)
def test_why_a_trial_failed_is_said_in_the_language_of_the_window(
    panel: StudyPanel, qapp: QApplication, reason: str
) -> None:
    language = Language(qapp)
    language.use("ja")
    show(panel, [trial(0, 3.5), trial(1, None, "FAIL", reason)])
    model = panel.table.model()
    shown = [str(model.index(row, model.columnCount() - 1).data()) for row in range(2)]
    language.use("en")
    assert japanese()[reason] in shown
