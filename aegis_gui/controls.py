"""The widgets a form is made of. Each holds one value and says when it was edited and when the edit is over."""

from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from . import text
from . import theme as themes
from .i18n import filled, tr
from .plan_fields import FILES, FOLDERS, OPTIONS, SUGGESTIONS, PlanField
from .theme import Theme

WIDTH, UNIT_WIDTH, GAP = 232, 100, 12
WIDE = WIDTH + GAP + UNIT_WIDTH
ABREAST = 3  # boxes side by side; more stand below each other


class Control(QWidget):
    """`edited` comes with every key, `settled` when the edit is over (focus left, Enter, a choice made)."""

    edited = Signal()
    settled = Signal()

    def __init__(self, field: PlanField) -> None:
        super().__init__()
        self.field = field
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(0, 0, 0, 0)
        self.row.setSpacing(8)

    def value(self) -> Any:
        """What is entered; ValueError with a sentence for the user if it cannot be read."""
        raise NotImplementedError

    def set_value(self, value: Any) -> None:
        raise NotImplementedError

    def set_invalid(self, invalid: bool) -> None:
        """Mark the widget; colour never stands alone, the form writes the sentence beside it."""

    def retranslate(self) -> None:
        """Texts of options and buttons."""

    def set_theme(self, theme: Theme) -> None:
        """Icons in the theme's colours."""

    def set_name(self, name: str, description: str) -> None:
        """What a screen reader says."""
        proxy = self.focusProxy()
        for child in self.findChildren(QWidget):
            if child.focusPolicy() != Qt.FocusPolicy.NoFocus and (child is proxy or not child.accessibleName()):
                child.setAccessibleDescription(description)
        if proxy:
            proxy.setAccessibleName(name)

    def _finish(self) -> None:
        """A choice was made: that is an edit and its end at once."""
        self.edited.emit()
        self.settled.emit()

    def _add(self, widget: QWidget, stretch: int = 0) -> None:
        self.row.addWidget(widget, stretch)
        if self.focusProxy() is None:
            self.setFocusProxy(widget)


class Switch(Control):
    def __init__(self, field: PlanField) -> None:
        super().__init__(field)
        self.box = QCheckBox()
        self.box.clicked.connect(self._finish)
        self._add(self.box)
        self.row.addStretch(1)
        self.box.toggled.connect(self.retranslate)

    def value(self) -> bool:
        return self.box.isChecked()

    def set_value(self, value: Any) -> None:
        self.box.setChecked(value)
        self.retranslate()

    def retranslate(self) -> None:
        self.box.setText(tr("On") if self.box.isChecked() else tr("Off"))


class Choice(Control):
    def __init__(self, field: PlanField) -> None:
        super().__init__(field)
        self.box = _Box()
        for option in field.options:
            self.box.addItem(option, option)
        self.box.activated.connect(self._finish)
        self._add(self.box, 1)

    def value(self) -> str:
        return str(self.box.currentData())

    def set_value(self, value: Any) -> None:
        self.box.setCurrentIndex(self.box.findData(value))

    def retranslate(self) -> None:
        for index, option in enumerate(self.field.options):
            self.box.setItemText(index, tr(OPTIONS.get(option, option)))


class Choices(Control):
    """Several of a few: one box each."""

    def __init__(self, field: PlanField) -> None:
        super().__init__(field)
        self.boxes = {option: QCheckBox(option) for option in field.options}
        column = QVBoxLayout() if len(self.boxes) > ABREAST else QHBoxLayout()
        for box in self.boxes.values():
            box.clicked.connect(self._finish)
            column.addWidget(box)
        column.setSpacing(0 if len(self.boxes) > ABREAST else GAP)
        self.setFocusProxy(next(iter(self.boxes.values())))
        self.row.addLayout(column)
        self.row.addStretch(1)

    def value(self) -> list[str]:
        chosen = [option for option, box in self.boxes.items() if box.isChecked()]
        if not chosen:
            raise ValueError(tr("Choose at least one."))
        return chosen

    def set_value(self, value: Any) -> None:
        for option, box in self.boxes.items():
            box.setChecked(option in value)

    def retranslate(self) -> None:
        for option, box in self.boxes.items():
            box.setText(tr(OPTIONS.get(option, option)))


class Line(Control):
    """One line of text; subclasses read numbers from it."""

    def __init__(self, field: PlanField) -> None:
        super().__init__(field)
        self.line = self._line()
        self.line.textEdited.connect(self.edited)
        self.line.editingFinished.connect(self.settled)

    def value(self) -> Any:
        return self.line.text().strip()

    def set_value(self, value: Any) -> None:
        if self.line.text() != str(value):
            self.line.setText(str(value))
            self.line.setCursorPosition(0)

    def set_invalid(self, invalid: bool) -> None:
        self.line.setProperty("invalid", invalid)
        self.line.style().unpolish(self.line)
        self.line.style().polish(self.line)

    def _line(self) -> QLineEdit:
        """The line itself, put into the row."""
        line = QLineEdit()
        self._add(line, 1)
        return line


class Number(Line):
    """An int or float, typed; scientific notation is welcome. Up and Down change whole numbers by one.

    A value with more digits than are shown stays the value it is until another one is typed.
    """

    _shown: tuple[str, Any] = ("", None)

    def __init__(self, field: PlanField) -> None:
        super().__init__(field)
        self.line.setFont(themes.tabular())

    def value(self) -> float | int:
        if self.line.text() == self._shown[0] and self._shown[1] is not None:
            exact: float | int = self._shown[1]
            return exact
        entered = self.line.text().strip().replace(",", "").replace("−", "-")
        try:
            number = int(entered) if self.field.type is int else float(entered)
        except ValueError:
            message = (
                tr("Write a whole number.") if self.field.type is int else tr("Write a number, e.g. 0.0003 or 3e-4.")
            )
            raise ValueError(message) from None
        if sentence := outside(self.field, number):
            raise ValueError(sentence)
        return number

    def set_value(self, value: Any) -> None:
        super().set_value(value if self.field.type is int else plain(value))
        self._shown = (self.line.text(), value)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1}
        step = steps.get(Qt.Key(event.key()))
        if step is None or self.field.type is not int:
            super().keyPressEvent(event)
            return
        try:
            self.line.setText(str(self.value() + step))
        except ValueError:
            return
        self.edited.emit()


class Words(Line):
    """Several names, separated by commas."""

    def value(self) -> list[Any]:
        entered = self.line.text().replace("、", ",").replace("，", ",")
        items = [item.strip() for item in entered.split(",") if item.strip()]
        if not (items or self.field.may_be_empty):
            raise ValueError(tr("Must not be empty."))
        return items

    def set_value(self, value: Any) -> None:
        super().set_value(", ".join(map(str, value)))


class Numbers(Words):
    """Several whole numbers, separated by commas."""

    def value(self) -> list[Any]:
        numbers = []
        for item in super().value():
            if not item.isdecimal():
                raise ValueError(tr("Write whole numbers, separated by commas."))
            if sentence := outside(self.field, int(item)):
                raise ValueError(sentence)
            numbers.append(int(item))
        return numbers


class Place(Line):
    """Text that may name a folder or file: with a button that chooses one, and suggestions where there are some."""

    def __init__(self, field: PlanField) -> None:
        super().__init__(field)
        self.button = QToolButton()
        self.button.clicked.connect(self._choose)
        self.row.addWidget(self.button)
        self.set_theme(themes.LIGHT)

    def set_theme(self, theme: Theme) -> None:
        self.button.setIcon(themes.icon("folder", theme.text))

    def retranslate(self) -> None:
        self.button.setToolTip(tr("Choose…"))
        self.button.setAccessibleName(tr("Choose…"))

    def _line(self) -> QLineEdit:
        if self.field.name not in SUGGESTIONS:
            return super()._line()
        box = _Box(editable=True)
        box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        box.addItems(list(SUGGESTIONS[self.field.name]))
        box.activated.connect(self._finish)
        self._add(box, 1)
        line = box.lineEdit()
        assert line is not None
        return line

    def _choose(self) -> None:
        here = str(Path(self.line.text()).expanduser()) if self.line.text() else ""
        if self.field.name in FILES:
            kinds = tr("Datasets") + " (*.jsonl *.txt *.parquet)"
            chosen, _ = QFileDialog.getOpenFileName(self, tr(self.field.label), here, kinds)
        else:
            chosen = QFileDialog.getExistingDirectory(self, tr(self.field.label), here)
        if chosen:
            self.line.setText(chosen)
            self.edited.emit()
            self.settled.emit()


class _Box(QComboBox):
    """A combo box that leaves the wheel to the page unless it is being used."""

    def __init__(self, editable: bool = False) -> None:
        super().__init__()
        self.setEditable(editable)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumContentsLength(12)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)

    def wheelEvent(self, event: Any) -> None:
        event.ignore()


def control(field: PlanField) -> Control:
    """The widget that suits the field's type."""
    made: Control
    if field.many:
        made = Choices(field) if field.options else Numbers(field) if field.item is int else Words(field)
    elif field.options:
        made = Choice(field)
    elif field.type is bool:
        made = Switch(field)
    elif field.type in (int, float):
        made = Number(field)
    elif field.name in (*FOLDERS, *FILES):
        made = Place(field)
    else:
        made = Line(field)
    return made


def is_wide(field: PlanField) -> bool:
    """Whether the control wants more than a number's width."""
    return field.item is str


def outside(field: PlanField, number: float) -> str:
    """The sentence for a number that the bounds do not allow; "" if they do."""
    low, high = field.low, field.high
    below = low is not None and (number <= low if field.low_open else number < low)
    above = high is not None and (number >= high if field.high_open else number > high)
    if number != number or not (below or above):
        return "" if number == number else tr("Write a number, e.g. 0.0003 or 3e-4.")
    values = {"low": text.number(low), "high": text.number(high)}
    if high is None:
        return filled("Must be above {low}." if field.low_open else "Must be at least {low}.", values)
    if low is None:
        return filled("Must be below {high}." if field.high_open else "Must be at most {high}.", values)
    if field.low_open:
        return filled("Must be above {low} and at most {high}.", values)
    if field.high_open:
        return filled("Must be at least {low} and below {high}.", values)
    return filled("Must be between {low} and {high}.", values)


def plain(value: float) -> str:
    """A float as a person types it: 2.7e-4, 0.05, 12."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    if abs(value) >= 1e-3:
        return repr(value)
    mantissa, exponent = f"{value:e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
