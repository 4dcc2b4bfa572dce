"""Forms made from the plan's fields: label, control, unit, help, reset; the rest under "Advanced"."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from aegis_core.failures import UserError
from aegis_core.plan import changed, get

from . import controls
from . import theme as themes
from .i18n import filled, tr
from .plan_fields import UNITS, PlanField, default, plan_field
from .state import AppState
from .theme import Theme

LABEL_WIDTH = 160


class Form(QWidget):
    """Edits the named settings of the open run's plan. Every edit is checked at once and written when it is over;
    while a step runs everything is read-only. `settle()` finishes pending edits."""

    applied = Signal(str)  # the name of a setting that was just written

    def __init__(self, state: AppState, names: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.rows: dict[str, Row] = {}
        self._grid = _grid()
        self._advanced = QWidget()
        advanced = _grid()
        self._advanced.setLayout(advanced)
        self._advanced.hide()
        self.fold = QToolButton()
        self.fold.setProperty("role", "fold")
        self.fold.setCheckable(True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.toggled.connect(self._unfold)
        for name in names:
            field = plan_field(name)
            row = Row(field)
            row.add_to(advanced if field.advanced else self._grid)
            row.control.edited.connect(partial(self._check, row))
            row.control.settled.connect(partial(self._apply, row))
            row.reset.clicked.connect(partial(self._reset, row))
            self.rows[name] = row
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(self._grid)
        column.addWidget(self.fold, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self._advanced)
        self.fold.setVisible(any(row.field.advanced for row in self.rows.values()))
        state.plan_changed.connect(self.refresh)
        state.run_opened.connect(self.refresh)
        state.flow_changed.connect(self._lock)
        self.retranslate()
        self.refresh()

    def refresh(self) -> None:
        """Show the plan's values; an edit that is not allowed yet stays as it is."""
        for row in self.rows.values():
            value = get(self.state.plan, row.field.name)
            if not (row.problem and row.control.isAncestorOf(self.focusWidget() or self)):
                row.control.set_value(value)
                row.show_problem("")
            row.show_reset(value != default(self.state.plan, row.field.name))
        self._lock()

    def settle(self) -> bool:
        """Write what is still being typed; False, with the cursor there, if something is not allowed."""
        for row in self.rows.values():
            self._apply(row)
        wrong = next((row for row in self.rows.values() if row.problem), None)
        if wrong:
            self.show_field(wrong.field.name)
        return wrong is None

    def show_field(self, name: str) -> None:
        """Unfold if needed and put the cursor into the setting."""
        row = self.rows[name]
        if row.field.advanced:
            self.fold.setChecked(True)
        row.control.setFocus(Qt.FocusReason.OtherFocusReason)

    def set_theme(self, theme: Theme) -> None:
        for row in self.rows.values():
            row.reset.setIcon(themes.icon("reset", theme.secondary))
            row.control.set_theme(theme)
        self._show_fold(theme)

    def retranslate(self) -> None:
        self.fold.setText(tr("Advanced"))
        for row in self.rows.values():
            row.retranslate()
            if row.problem:
                self._check(row)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def _check(self, row: "Row") -> Any:
        """The entered value if it is allowed, else None with the reason shown."""
        try:
            value = row.control.value()
            changed(self.state.plan, {row.field.name: value})
        except UserError:
            row.show_problem(_not_allowed(row.field, row.control.value()))
            return None
        except ValueError as error:
            row.show_problem(str(error))
            return None
        row.show_problem("")
        return value

    def _apply(self, row: "Row") -> None:
        value = self._check(row)
        if value is None or self.state.busy or _same(value, get(self.state.plan, row.field.name)):
            return
        try:
            self.state.change({row.field.name: value})
        except (UserError, OSError) as error:
            reason, values = (error.reason_template, error.values) if isinstance(error, UserError) else (str(error), {})
            row.show_problem(filled(reason, values))
            return
        self.applied.emit(row.field.name)

    def _reset(self, row: "Row") -> None:
        row.control.set_value(default(self.state.plan, row.field.name))
        self._apply(row)

    def _lock(self) -> None:
        for row in self.rows.values():
            row.control.setEnabled(not self.state.busy)
            row.reset.setEnabled(not self.state.busy)

    def _unfold(self, open_: bool) -> None:
        self._advanced.setVisible(open_)
        self._show_fold(self._theme)

    _theme = themes.LIGHT

    def _show_fold(self, theme: Theme) -> None:
        self._theme = theme
        name = "chevron-down" if self.fold.isChecked() else "chevron-right"
        self.fold.setIcon(themes.icon(name, theme.secondary))


class Row:
    """The widgets of one setting."""

    def __init__(self, field: PlanField) -> None:
        self.field = field
        self.problem = ""
        self.label = QLabel(wordWrap=True)
        self.label.setFixedWidth(LABEL_WIDTH)
        self.control = controls.control(field)
        self.control.setFixedWidth(controls.WIDE if controls.is_wide(field) else controls.WIDTH)
        self.unit = QLabel()
        self.unit.setProperty("role", "secondary")
        self.reset = QToolButton()
        self.reset.setIconSize(QSize(16, 16))
        kept = self.reset.sizePolicy()
        kept.setRetainSizeWhenHidden(True)
        self.reset.setSizePolicy(kept)
        self.help = QLabel(wordWrap=True)
        self.help.setProperty("role", "small")
        self.label.setBuddy(self.control)

    def add_to(self, grid: QGridLayout) -> None:
        line = grid.rowCount()
        top = Qt.AlignmentFlag.AlignVCenter
        grid.addWidget(self.label, line, 0, top)
        if controls.is_wide(self.field):
            grid.addWidget(self.control, line, 1, 1, 2, top)
        else:
            grid.addWidget(self.control, line, 1, top)
            grid.addWidget(self.unit, line, 2, top)
        grid.addWidget(self.reset, line, 3, top)
        grid.addWidget(self.help, line, 4, top)

    def show_problem(self, sentence: str) -> None:
        """The help gives way to the sentence until the value is allowed."""
        if sentence == self.problem and sentence == "":
            return
        self.problem = sentence
        self.help.setText(sentence or tr(self.field.help))
        self.help.setProperty("role", "error" if sentence else "small")
        self.help.style().unpolish(self.help)
        self.help.style().polish(self.help)
        self.control.set_invalid(bool(sentence))

    def show_reset(self, differs: bool) -> None:
        self.reset.setVisible(differs)

    def retranslate(self) -> None:
        name = tr(self.field.label)
        self.label.setText(name)
        self.unit.setText(tr(UNITS.get(self.field.unit, self.field.unit)))
        self.help.setText(tr(self.field.help))
        self.reset.setToolTip(tr("Back to the default"))
        self.reset.setAccessibleName(filled("Set “{setting}” back to its default", setting=name))
        self.control.retranslate()
        self.control.set_name(name, tr(self.field.help))


def _grid() -> QGridLayout:
    made = QGridLayout()
    made.setContentsMargins(0, 0, 0, 0)
    made.setHorizontalSpacing(controls.GAP)
    made.setVerticalSpacing(8)
    made.setColumnMinimumWidth(0, LABEL_WIDTH)
    made.setColumnMinimumWidth(2, controls.UNIT_WIDTH)
    made.setColumnStretch(4, 1)
    return made


def _same(entered: Any, value: Any) -> bool:
    return tuple(entered) == value if isinstance(entered, list) else entered == value


def _not_allowed(field: PlanField, entered: Any) -> str:
    if entered == "":
        return tr("Must not be empty.")
    if field.name == "chat.model_name":
        return tr("Letters, digits and . _ / : - only, beginning with a letter or digit.")
    return filled("{value} is not allowed here.", value=entered)
