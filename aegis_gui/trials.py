"""A study's trials as a sortable table; the best one is marked by a word, not by colour alone."""

from collections.abc import Iterable
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from aegis_core.events import TrialFinished

from . import text
from . import theme as themes
from .i18n import filled, mark, said, tr
from .plan_fields import OPTIONS
from .study_data import best_of

STATES = {"COMPLETE": mark("complete"), "PRUNED": mark("cut short"), "FAIL": mark("failed")}
PARAMETERS = {
    "learning_rate": mark("Learning rate"),
    "batch_size": mark("Batch size"),
    "warmup_steps": mark("Warm-up steps"),
    "alpha_warmup": mark("Alpha warm-up"),
    "rank": mark("LoRA rank"),
    "dropout": mark("LoRA dropout"),
    "rotation_learning_rate": mark("Rotation learning rate"),
    "kind": mark("Shape of the curve"),
    "steepness": mark("Steepness"),
    "warmup_fraction": mark("Alpha warm-up"),
    "end_fraction": mark("Arrival"),
    "hold_fraction": mark("Rest"),
}
_Index = QModelIndex | QPersistentModelIndex


class TrialsModel(QAbstractTableModel):
    """Columns: number, state, value, every parameter seen, and why a trial failed."""

    def __init__(self, value_name: str, lower_is_better: bool) -> None:
        super().__init__()
        self._value_name = value_name
        self._sign = 1 if lower_is_better else -1
        self._trials: list[TrialFinished] = []
        self._parameters: list[str] = []

    def show(self, trials: Iterable[TrialFinished]) -> None:
        self.beginResetModel()
        self._trials = sorted(trials, key=lambda trial: trial.number)
        names = [name for trial in self._trials for name in trial.params]
        self._parameters = list(dict.fromkeys(names))
        self.endResetModel()

    def trial(self, row: int) -> TrialFinished:
        return self._trials[row]

    def best(self) -> TrialFinished | None:
        """The complete trial with the best value."""
        return best_of(self._trials, self._sign > 0)

    def rowCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._trials)

    def columnCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else 4 + len(self._parameters)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role != Qt.ItemDataRole.DisplayRole or orientation is not Qt.Orientation.Horizontal:
            return None
        names = [tr("Trial"), tr("State"), tr(self._value_name)]
        return [*names, *(tr(PARAMETERS.get(name, name)) for name in self._parameters), tr("Reason")][section]

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        trial = self._trials[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._shown(trial, index.column())
        if role == Qt.ItemDataRole.UserRole:
            return self._sorted_by(trial, index.column())
        if role == Qt.ItemDataRole.ToolTipRole and trial.reason:
            return said(trial.reason)
        if role == Qt.ItemDataRole.FontRole:
            return themes.tabular(weight=themes.STRONG if trial is self.best() else QFont.Weight.Normal)
        return None

    def _shown(self, trial: TrialFinished, column: int) -> str:
        if column == 0:
            return str(trial.number + 1)
        if column == 1:
            state = tr(STATES.get(trial.state, trial.state))
            return filled("{state}, best", state=state) if trial is self.best() else state
        if column == self.columnCount() - 1:
            return said(trial.reason)
        value = trial.value if column == 2 else trial.params.get(self._parameters[column - 3])
        if isinstance(value, int | float):
            return text.number(value, 4 if column == 2 else 3)
        return "–" if value is None else tr(OPTIONS.get(value, str(value)))

    def _sorted_by(self, trial: TrialFinished, column: int) -> Any:
        if column == 0:
            return trial.number
        if column == 1:
            return trial.state
        if column == self.columnCount() - 1:
            return trial.reason
        value = trial.value if column == 2 else trial.params.get(self._parameters[column - 3])
        return value if value is not None else float("inf")


class TrialsTable(QTableView):
    def __init__(self, value_name: str, lower_is_better: bool, parent: QWidget | None = None) -> None:
        """`value_name` is marked English."""
        super().__init__(parent)
        self.trials = TrialsModel(value_name, lower_is_better)
        proxy = QSortFilterProxyModel(self)
        proxy.setSourceModel(self.trials)
        proxy.setSortRole(Qt.ItemDataRole.UserRole)
        self.setModel(proxy)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(28)
        self.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setMinimumHeight(220)

    def show_trials(self, trials: Iterable[TrialFinished]) -> None:
        """The same rows again keep the selection."""
        kept = {self.trial_at(index).number for index in self.selectionModel().selectedRows()}
        self.trials.show(trials)
        header = self.horizontalHeader()
        for column in range(header.count()):  # a long reason is cut with an ellipsis and whole in its tooltip
            last = column == header.count() - 1
            mode = QHeaderView.ResizeMode.Stretch if last else QHeaderView.ResizeMode.ResizeToContents
            header.setSectionResizeMode(column, mode)
        for row in range(self.model().rowCount()):
            if self.trial_at(self.model().index(row, 0)).number in kept:
                self.selectRow(row)

    def trial_at(self, index: _Index) -> TrialFinished:
        """The trial in a row as it is sorted now."""
        proxy = self.model()
        assert isinstance(proxy, QSortFilterProxyModel)
        return self.trials.trial(proxy.mapToSource(index).row())

    def retranslate(self) -> None:
        self.setAccessibleName(tr("Trials"))
        self.trials.headerDataChanged.emit(Qt.Orientation.Horizontal, 0, max(self.trials.columnCount() - 1, 0))
        self.viewport().update()
