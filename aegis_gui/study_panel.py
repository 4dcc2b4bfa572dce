"""A study on screen: the best so far, its plots, every trial in a table, and any of them into the plan."""

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from aegis_core import plan as plans
from aegis_core.events import PlanChanged, TrialFinished, TrialRunning
from aegis_core.freshness import BY_ID
from aegis_core.plan import Plan
from aegis_core.search.applying import allowed, changes_of

from . import text
from .i18n import filled, said, tr
from .panels import label
from .plan_fields import OPTIONS, plan_field
from .study_data import best_of, is_poor
from .study_pictures import ImportanceBars, ParallelPlot
from .study_plots import CurvesPlot, HistoryPlot
from .theme import Theme
from .trials import PARAMETERS, TrialsTable

PLOT_HEIGHT = 230
REDRAW_MS = 150  # trials that end faster are drawn together


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
        self.now = label(role="secondary", wraps=True)
        self.written = label(role="secondary", wraps=True)
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
        running: TrialRunning | None = None, written: PlanChanged | None = None,
    ) -> None:  # fmt: skip
        """`present` is what the settings before came to; `span` and `critical` go to the curves; `running` is the trial
        at work, `written` what the pipeline took over into the plan."""
        self._trials = sorted(trials, key=lambda trial: trial.number)
        self._plan, self._busy = plan, busy
        some = bool(self._trials)
        for part in self._parts:
            part.setVisible(some)
        drawable = some or (running is not None and bool(running.curve))
        for part in (self.history, self.captions[3], self.curves, self.captions[0]):
            part.setVisible(drawable)
        self.nothing.setVisible(not some)
        self.history.set_present(present)
        self.history.show_trials(self._trials, n_planned)
        self.curves.show_trials(self._trials, span, running)
        best = best_of(self._trials, self._lower_is_better)
        self.curves.set_critical(critical(best) if best else None)
        parts = next((t.importances for t in reversed(self._trials) if t.importances), {})
        self.importance.show_parts(parts)
        self.importance.setVisible(some and bool(parts))
        self.unclear.setVisible(some and not parts)
        self.parallel.show_trials(self._trials)
        self.table.show_trials(self._trials)
        self._show_best(best, present)
        self._show_now(running)
        self._show_written(written)
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
        for widget, name in (
            (self.history, tr("Values of the trials and the best so far")),
            (self.curves, curves),
            (self.importance, tr("What matters")),
            (self.parallel, tr("All parameters of every trial")),
        ):
            widget.setAccessibleName(name)
        self.history.retranslate()
        self.curves.retranslate()
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
        said = QVBoxLayout()
        said.setSpacing(4)
        for line in (self.nothing, self.best, self.now, self.written):
            said.addWidget(line)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(16)
        whole.addLayout(said)
        whole.addLayout(grid)
        whole.addLayout(below)
        whole.addWidget(self.table)
        whole.addLayout(choice)
        self._parts: tuple[QWidget, ...] = (
            *self.captions[1:3], self.parallel, self.table, self.choice, self.use
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
            if present is not None:
                said.append(filled("The schedule before the search scores {score}.", score=text.number(present)))
        self.best.setText(" ".join(said))

    def _show_now(self, running: TrialRunning | None) -> None:
        self.now.setVisible(running is not None)
        if running is not None:
            point = " · ".join(f"{tr(PARAMETERS.get(n, n))} {_shown(value, 3)}" for n, value in running.params.items())
            self.now.setText(filled("Trial {number} is at work: {settings}", number=running.number + 1, settings=point))

    def _show_written(self, written: PlanChanged | None) -> None:
        self.written.setVisible(written is not None)
        if written is not None:
            changes = _changes(written.old, written.new)
            self.written.setText(filled("Written into the plan: {changes}", changes=changes))

    def _selected(self) -> TrialFinished | None:
        """The trial of the chosen row; as long as none is, the best one."""
        rows = self.table.selectionModel().selectedRows()
        return self.table.trial_at(rows[0]) if rows else best_of(self._trials, self._lower_is_better)

    def _changes(self, trial: TrialFinished) -> dict[str, Any]:
        return allowed(self._plan, BY_ID[self._step], changes_of(self._step, trial.params))

    def _show_choice(self) -> None:
        """What the trial would change, or why it cannot be used."""
        trial = self._selected()
        self.use.setEnabled(False)
        is_best = trial is not None and trial is best_of(self._trials, self._lower_is_better)
        self.use.setText(tr("Use the best settings") if is_best else tr("Use these settings"))
        if trial is None:
            self.choice.setText(tr("Choose a trial to see what it would change."))
            return
        if not self._is_usable(trial):
            sentence = filled("Trial {number} came to no result that could be used.", number=trial.number + 1)
            self.choice.setText(" ".join([sentence, said(trial.reason)] if trial.reason else [sentence]))
            return
        new = self._changes(trial)
        old = {name: plans.get(self._plan, name) for name in new}
        if old == new:
            sentence = filled("Trial {number}: these are the settings of the plan already.", number=trial.number + 1)
        else:
            sentence = filled("Trial {number}: {changes}", number=trial.number + 1, changes=_changes(old, new))
        self.choice.setText(sentence)
        self.use.setEnabled(old != new and not self._busy)

    def _is_usable(self, trial: TrialFinished) -> bool:
        return trial.state == "COMPLETE" and not is_poor(trial, self._lower_is_better)

    def _use(self) -> None:
        if trial := self._selected():
            self.chosen.emit(self._changes(trial))


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Each setting that becomes another, in the words of the forms: before → after."""
    return " · ".join(
        f"{tr(plan_field(name).label)} {_shown(old.get(name))} → {_shown(value)}"
        for name, value in new.items()
        if old.get(name) != value
    )


def _shown(value: Any, digits: int = 4) -> str:
    return text.number(value, digits) if isinstance(value, int | float) else tr(OPTIONS.get(value, str(value)))
