"""A study on screen: the best so far, its plots, every trial in a table, and any of them into the plan."""

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from aegis_core import plan as plans
from aegis_core.events import TrialFinished
from aegis_core.freshness import BY_ID
from aegis_core.plan import Plan
from aegis_core.search.applying import allowed, changes_of

from . import text
from .i18n import filled, tr
from .panels import label
from .plan_fields import plan_field
from .study_data import best_of
from .study_plots import CurvesPlot, HistoryPlot, ImportanceBars, ParallelPlot
from .theme import Theme
from .trials import TrialsTable

PLOT_HEIGHT = 230


class StudyPanel(QWidget):
    """Of one search step; `value_name` is marked English. `chosen` carries the changes a trial stands for."""

    chosen = Signal(object)

    def __init__(self, step: str, value_name: str, lower_is_better: bool, theme: Theme) -> None:
        super().__init__()
        self._step, self._lower_is_better = step, lower_is_better
        self._trials: list[TrialFinished] = []
        self._plan, self._busy = Plan(), False
        self.nothing = label(role="secondary", wraps=True)
        self.best = label(role="strong", wraps=True)
        self.history = HistoryPlot(theme, lower_is_better)
        self.curves = CurvesPlot(theme, lower_is_better)
        self.importance, self.parallel = ImportanceBars(), ParallelPlot(lower_is_better)
        self.captions = [label(role="heading") for _ in range(4)]
        self.unclear = label(role="secondary", wraps=True)
        self.table = TrialsTable(value_name, lower_is_better)
        self.table.selectionModel().selectionChanged.connect(lambda *_: self._show_choice())
        self.choice = label(role="secondary", wraps=True)
        self.use = QPushButton()
        self.use.clicked.connect(self._use)
        self._lay_out()
        self.set_theme(theme)
        self.retranslate()

    def show_study(
        self, trials: Sequence[TrialFinished], plan: Plan, *, busy: bool, n_planned: int, present: float | None = None,
        span: float = 100.0, critical: Callable[[TrialFinished], float | None] = lambda trial: None,
    ) -> None:  # fmt: skip
        """`present` is what the settings before came to; `span` and `critical` go to the curves."""
        self._trials = sorted(trials, key=lambda trial: trial.number)
        self._plan, self._busy = plan, busy
        some = bool(self._trials)
        for part in self._parts:
            part.setVisible(some)
        self.nothing.setVisible(not some)
        self.history.set_present(present)
        self.history.show_trials(self._trials, n_planned)
        self.curves.show_trials(self._trials, span)
        best = best_of(self._trials, self._lower_is_better)
        self.curves.set_critical(critical(best) if best else None)
        parts = next((t.importances for t in reversed(self._trials) if t.importances), {})
        self.importance.show_parts(parts)
        self.importance.setVisible(some and bool(parts))
        self.unclear.setVisible(some and not parts)
        self.parallel.show_trials(self._trials)
        self.table.show_trials(self._trials)
        self._show_best(best, present)
        self._show_choice()

    def set_theme(self, theme: Theme) -> None:
        for part in (self.history, self.curves, self.importance, self.parallel):
            part.set_theme(theme)

    def retranslate(self) -> None:
        curves = tr("Held-out loss during each trial") if self._lower_is_better else tr("The schedules tried")
        for caption, words in zip(
            self.captions,
            (curves, tr("What matters"), tr("All parameters of every trial"), tr("Values of the trials")),
            strict=True,
        ):
            caption.setText(words)
        self.nothing.setText(tr("No trial has ended yet."))
        self.unclear.setText(tr("After six complete trials this shows which settings make the difference."))
        self.use.setText(tr("Use these settings"))
        for widget, name in (
            (self.history, tr("Values of the trials and the best so far")),
            (self.curves, curves),
            (self.importance, tr("What matters")),
            (self.parallel, tr("All parameters of every trial")),
        ):
            widget.setAccessibleName(name)
        self.history.retranslate()
        self.table.retranslate()
        self.importance.update()
        self.parallel.update()
        self._show_choice()

    # ---- details

    def _lay_out(self) -> None:
        for plot in (self.history, self.curves):
            plot.setFixedHeight(PLOT_HEIGHT)
        grid = QGridLayout()
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(8)
        for column in range(2):
            grid.setColumnStretch(column, 1)
        side = QVBoxLayout()
        side.setSpacing(8)
        side.addWidget(self.captions[1])
        side.addWidget(self.importance)
        side.addWidget(self.unclear)
        side.addStretch(1)
        grid.addWidget(self.captions[3], 0, 0)
        grid.addWidget(self.history, 1, 0)
        grid.addWidget(self.captions[0], 0, 1)
        grid.addWidget(self.curves, 1, 1)
        below = QHBoxLayout()
        below.setSpacing(24)
        parallel = QVBoxLayout()
        parallel.setSpacing(8)
        parallel.addWidget(self.captions[2])
        parallel.addWidget(self.parallel)
        below.addLayout(parallel, 2)
        below.addLayout(side, 1)
        choice = QHBoxLayout()
        choice.addWidget(self.choice, 1)
        choice.addWidget(self.use)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(16)
        whole.addWidget(self.nothing)
        whole.addWidget(self.best)
        whole.addLayout(grid)
        whole.addLayout(below)
        whole.addWidget(self.table)
        whole.addLayout(choice)
        self._parts: tuple[QWidget, ...] = (
            self.history, self.curves, *self.captions, self.parallel, self.table, self.choice, self.use
        )  # fmt: skip

    def _show_best(self, best: TrialFinished | None, present: float | None) -> None:
        self.best.setVisible(bool(self._trials))
        if best is None:
            self.best.setText(tr("No trial has come to a result yet."))
            return
        if self._lower_is_better:
            said = [filled("Best so far: trial {number} with a held-out loss of {loss}.", number=best.number + 1,
                           loss=text.number(best.value))]  # fmt: skip
            if present is not None and best.value is not None:
                gain = text.fixed(present - best.value, 4)
                said.append(
                    filled("{gain} nats below the present settings.", gain=gain)
                    if best.value < present
                    else tr("The present settings are still better.")
                )
        else:
            said = [filled("Best so far: trial {number} with a score of {score}.", number=best.number + 1,
                           score=text.number(best.value))]  # fmt: skip
        self.best.setText(" ".join(said))

    def _selected(self) -> TrialFinished | None:
        rows = self.table.selectionModel().selectedRows()
        return self.table.trial_at(rows[0]) if rows else None

    def _changes(self, trial: TrialFinished) -> dict[str, Any]:
        return allowed(self._plan, BY_ID[self._step], changes_of(self._step, trial.params))

    def _show_choice(self) -> None:
        """What the selected trial would change, or why it cannot be used."""
        trial = self._selected()
        self.use.setEnabled(False)
        if trial is None:
            self.choice.setText(tr("Choose a trial to see what it would change."))
            return
        if not self._is_usable(trial):
            self.choice.setText(filled("Trial {number} came to no result that could be used.", number=trial.number + 1))
            return
        changed = [
            f"{tr(plan_field(name).label)} {_shown(plans.get(self._plan, name))} → {_shown(value)}"
            for name, value in self._changes(trial).items()
            if plans.get(self._plan, name) != value
        ]
        self.choice.setText(" · ".join(changed) or tr("These are the settings of the plan already."))
        self.use.setEnabled(bool(changed) and not self._busy)

    def _is_usable(self, trial: TrialFinished) -> bool:
        """A schedule that does not converge scores nothing above zero."""
        return trial.state == "COMPLETE" and (self._lower_is_better or (trial.value or 0.0) > 0)

    def _use(self) -> None:
        if trial := self._selected():
            self.chosen.emit(self._changes(trial))


def _shown(value: Any) -> str:
    return text.number(value) if isinstance(value, int | float) else tr(str(value))
