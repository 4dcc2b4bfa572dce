"""Step 3 on screen: the search space, and every trial as it ends."""

from PySide6.QtWidgets import QWidget

from aegis_core.events import Event, TrialFinished

from .. import text
from ..form import Form
from ..i18n import mark, tr
from ..panels import Section, label
from ..run_view import RunView
from ..state import AppState
from ..trials import TrialsTable
from .step_page import StepPage

SETTINGS = (
    "search.enabled",
    "search.n_trials",
    "search.tokens_per_trial",
    "search.apply",
    "search.learning_rate_low",
    "search.learning_rate_high",
    "search.batch_sizes",
    "search.warmup_steps_low",
    "search.warmup_steps_high",
    "search.alpha_warmup_high",
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
        self.best = label(wraps=True)
        self.table = TrialsTable(mark("Held-out loss"), lower_is_better=True)
        self.trials.body.addWidget(self.best)
        self.trials.body.addWidget(self.table)
        self.body.addWidget(settings)
        self.body.addWidget(self.trials)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, TrialFinished):
            self._draw(self.state.view)

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._draw(view)

    def retranslate(self) -> None:
        super().retranslate()
        self.table.retranslate()
        self._draw(self.state.view)

    def _draw(self, view: RunView) -> None:
        trials = view.step(self.step).trials.values()
        self.trials.setVisible(bool(trials))
        self.table.show_trials(trials)
        best = self.table.trials.best()
        self.best.setVisible(best is not None)
        if best:
            sentence = tr("Best so far: trial {number} with a held-out loss of {loss}.")
            self.best.setText(sentence.format(number=best.number + 1, loss=text.number(best.value)))
