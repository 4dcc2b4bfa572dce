"""Step 4 on screen: the way of alpha, drawn as it is being chosen, and the search for a better one."""

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QWidget

from aegis_core import plan as plans
from aegis_core.events import Event, Metric, PlanChanged, StepStarted, TrialFinished
from aegis_core.failures import UserError
from aegis_core.plan import Plan
from aegis_core.search.applying import changes_of
from aegis_core.soul import schedule

from .. import text
from ..form import Form
from ..i18n import filled, mark, tr
from ..panels import Section, label
from ..plots import AlphaPlot
from ..run_view import RunView
from ..state import AppState
from ..study_panel import REDRAW_MS, StudyPanel
from ..theme import Theme
from .step_page import StepPage

CURVE = (
    "soul.schedule.kind",
    "soul.schedule.steepness",
    "soul.schedule.warmup_fraction",
    "soul.schedule.end_fraction",
    "soul.schedule.hold_fraction",
    "soul.alpha_start",
    "soul.alpha_target",
)
SEARCH = (
    "schedule.enabled",
    "schedule.n_trials",
    "schedule.smoothness_weight",
    "schedule.apply",
    "schedule.try_best",
    "schedule.tokens_per_trial",
    "schedule.storage",
    "schedule.seed",
)


class SchedulePage(StepPage):
    step = "schedule"
    sentence = mark(
        "Alpha opens the gate: it travels from −5 through the critical point to the golden ratio. "
        "Choose its way here, or let a search find the smoothest and fastest one."
    )

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, parent)
        way = Section(mark("The way of alpha"))
        self.plot = AlphaPlot(self.theme)
        self.plot.setFixedHeight(260)
        self.landmarks = label(role="secondary", wraps=True)
        way.body.addWidget(self.plot)
        way.body.addWidget(self.landmarks)
        way.body.addWidget(Form(state, CURVE))
        search = Section(mark("Search"))
        search.body.addWidget(Form(state, SEARCH))
        self.trials = Section(mark("Trials"))
        self.study = StudyPanel(self.step, mark("Score"), False, self.theme)
        self.study.chosen.connect(self._choose)
        self.trials.body.addWidget(self.study)
        for section in (way, search, self.trials):
            self.body.addWidget(section)
        self._soon = QTimer(self, singleShot=True, interval=REDRAW_MS)
        self._soon.timeout.connect(self._draw_trials)
        self._to_show = False
        state.flow_changed.connect(self._draw_trials)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, StepStarted):
            self._to_show = True
        if isinstance(event, Metric | PlanChanged | TrialFinished) and not self._soon.isActive():
            self._soon.start()

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._draw_curve()
        self._draw_trials()

    def plan_changed(self) -> None:
        super().plan_changed()
        self._draw_curve()
        self._draw_trials()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.plot.set_theme(theme)
        self.study.set_theme(theme)

    def retranslate(self) -> None:
        super().retranslate()
        self.plot.retranslate()
        self.study.retranslate()
        self._draw_curve()
        self._draw_trials()

    def _draw_curve(self) -> None:
        n_steps, soul = self.state.plan.train.steps, self.state.plan.soul
        self.plot.set_span(n_steps)
        self.plot.set_schedule(n_steps, soul)
        self.plot.refresh()
        if soul.alpha == "learned":
            self.landmarks.setText(tr("Alpha is learned from the loss in this run, so no schedule is followed."))
            return
        critical, half_open = schedule.critical_step(n_steps, soul), schedule.half_open_step(n_steps, soul)
        said = [filled("Critical point at step {step} of {total}.", step=critical + 1, total=n_steps)]
        if half_open is None:
            said.append(tr("The gate never opens halfway."))
        else:
            said.append(filled("The gate is half open at step {step}.", step=half_open + 1))
        openness = text.number(schedule.gate(soul.alpha_target))
        said.append(filled("In the end it is open to {gate}.", gate=openness))
        self.landmarks.setText(" ".join(said))

    def _choose(self, changes: Mapping[str, Any]) -> None:
        self.state.change(changes)

    def _draw_trials(self) -> None:
        plan, step = self.state.plan, self.state.view.step(self.step)
        present = step.series.get("present_score")
        self.study.show_study(
            list(step.trials.values()),
            plan,
            busy=self.state.busy,
            n_planned=plan.schedule.n_trials,
            span=plan.train.steps,
            critical=lambda trial: _critical(plan, trial),
            present=present.values[-1] if present and present.values else None,
            written=step.written,
        )
        if self._to_show and step.trials:
            self._to_show = False
            QTimer.singleShot(0, self, lambda: self.look_at(self.trials))  # once there is something to look at


def _critical(plan: Plan, trial: TrialFinished) -> float | None:
    """The critical step of the schedule that a trial stands for, counted from 1."""
    try:
        tried = plans.changed(plan, changes_of("schedule", trial.params))
    except UserError:  # a study from before the settings were what they are now
        return None
    return schedule.critical_step(tried.train.steps, tried.soul) + 1.0
