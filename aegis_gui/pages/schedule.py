"""Step 4 on screen: the way of alpha, drawn as it is being chosen, and the search for a better one."""

from PySide6.QtWidgets import QWidget

from aegis_core.events import Event, TrialFinished
from aegis_core.soul import schedule

from .. import text
from ..form import Form
from ..i18n import filled, mark, tr
from ..panels import Section, label
from ..plots import AlphaPlot
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme
from ..trials import TrialsTable
from .step_page import StepPage

CURVE = (
    "soul.schedule.kind",
    "soul.schedule.steepness",
    "soul.schedule.warmup_fraction",
    "soul.schedule.end_fraction",
    "soul.alpha_start",
    "soul.alpha_target",
)
SEARCH = ("schedule.enabled", "schedule.n_trials", "schedule.smoothness_weight", "schedule.apply", "schedule.seed")


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
        self.best = label(wraps=True)
        self.table = TrialsTable(mark("Score"), lower_is_better=False)
        search.body.addWidget(Form(state, SEARCH))
        search.body.addWidget(self.best)
        search.body.addWidget(self.table)
        self.body.addWidget(way)
        self.body.addWidget(search)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, TrialFinished):
            self._draw_trials(self.state.view)

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._draw_curve()
        self._draw_trials(view)

    def plan_changed(self) -> None:
        super().plan_changed()
        self._draw_curve()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.plot.set_theme(theme)

    def retranslate(self) -> None:
        super().retranslate()
        self.plot.retranslate()
        self.table.retranslate()
        self._draw_curve()
        self._draw_trials(self.state.view)

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

    def _draw_trials(self, view: RunView) -> None:
        trials = view.step(self.step).trials.values()
        self.table.setVisible(bool(trials))
        self.table.show_trials(trials)
        best = self.table.trials.best()
        self.best.setVisible(best is not None)
        if best:
            sentence = tr("Best so far: trial {number} with a score of {score}.")
            self.best.setText(sentence.format(number=best.number + 1, score=text.number(best.value)))
