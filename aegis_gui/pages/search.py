"""Step 3 on screen: the search space, and every trial as it ends."""

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QWidget

from aegis_core.events import Event, Metric, PlanChanged, StepStarted, TrialFinished, TrialRunning

from ..form import Form
from ..i18n import mark
from ..panels import Section
from ..run_view import RunView
from ..state import AppState
from ..study_panel import REDRAW_MS, StudyPanel
from ..theme import Theme
from .step_page import StepPage

SETTINGS = (
    "search.enabled",
    "search.n_trials",
    "search.minutes",
    "search.tokens_per_trial",
    "search.apply",
    "search.compare",
    "search.repeats",
    "search.learning_rate_low",
    "search.learning_rate_high",
    "search.learning_rate_log",
    "search.batch_sizes",
    "search.warmup_steps_low",
    "search.warmup_steps_high",
    "search.alpha_warmup_low",
    "search.alpha_warmup_high",
    "search.ranks",
    "search.dropout_low",
    "search.dropout_high",
    "search.rotation_low",
    "search.rotation_high",
    "search.pruner",
    "search.storage",
    "search.seed",
)


class SearchPage(StepPage):
    step = "search"
    sentence = mark(
        "Short real training runs look for the learning rate, batch size and warm-up that lower the held-out loss "
        "most. The defaults are good; this step may be skipped."
    )

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, parent)
        settings = Section(mark("Search"))
        settings.body.addWidget(Form(state, SETTINGS))
        self.trials = Section(mark("Trials"))
        self.study = StudyPanel(self.step, mark("Held-out loss"), True, self.theme)
        self.study.chosen.connect(self._choose)
        self.trials.body.addWidget(self.study)
        self.body.addWidget(settings)
        self.body.addWidget(self.trials)
        self._soon = QTimer(self, singleShot=True, interval=REDRAW_MS)
        self._soon.timeout.connect(self._draw)
        self._to_show = False
        state.flow_changed.connect(self._draw)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, StepStarted):
            self._to_show = True
        if isinstance(event, Metric | PlanChanged | TrialFinished | TrialRunning) and not self._soon.isActive():
            self._soon.start()

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._draw()

    def plan_changed(self) -> None:
        super().plan_changed()
        self._draw()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.study.set_theme(theme)

    def retranslate(self) -> None:
        super().retranslate()
        self.study.retranslate()
        self._draw()

    def _choose(self, changes: Mapping[str, Any]) -> None:
        self.state.change(changes)

    def _draw(self) -> None:
        step = self.state.view.step(self.step)
        present = step.series.get("present_loss")
        self.study.show_study(
            list(step.trials.values()),
            self.state.plan,
            busy=self.state.busy,
            n_planned=self.state.plan.search.n_trials,
            present=present.values[-1] if present and present.values else None,
            running=step.trial if self.state.busy else None,
            written=step.written,
        )
        if self._to_show and (step.trials or (step.trial and step.trial.curve)):
            self._to_show = False
            QTimer.singleShot(0, self, lambda: self.look_at(self.trials))  # once there is something to look at
