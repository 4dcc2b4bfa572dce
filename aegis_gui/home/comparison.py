"""Up to four runs held against each other: curves over each other, numbers side by side, settings that differ."""

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from aegis_core.run_card import RunCard
from aegis_core.side_by_side import SideBySide, side_by_side

from .. import text
from .. import theme as themes
from ..controls import plain
from ..elided import Elided
from ..i18n import filled, mark, tr
from ..panels import Section, label, scrolled
from ..plan_fields import OPTIONS, UNITS, plan_field
from ..quality_chain import STAGES
from ..theme import Theme
from .curves import COLOURS, STYLES, RunsCurves
from .words import standing_words

ROWS = {
    "train.steps": mark("Training steps"),
    "train.tokens": mark("Tokens trained on"),
    "train.seconds": mark("Training took"),
    "train.alpha": mark("Alpha at the end"),
    "chat.meaningful": mark("Meaningful answers"),
    "chat.answers": mark("Questions asked"),
    "chat.tokens_per_second": mark("Tokens per second in the chat"),
    "indicators.passed": mark("Indicators passed"),
}
NAME_WIDTH = 240  # px of the column of names


class Comparison(QWidget):
    """`closed` when the person goes back to the list. Made anew for every comparison."""

    closed = Signal()

    def __init__(self, runs: Sequence[RunCard], theme: Theme) -> None:
        super().__init__()
        self.found = side_by_side(runs)
        self.title, self.lead = label(role="title"), label(role="secondary", wraps=True)
        self.back = QPushButton()
        self.back.clicked.connect(self.closed)
        self.curves = RunsCurves(theme, [run.path for run in runs])
        self.no_curves = label(role="secondary", wraps=True)
        self.numbers, self.settings = Section(mark("Numbers")), Section(mark("Settings that differ"))
        self.numbers_table, self.settings_table = Table(theme), Table(theme)
        self.warning = label(role="warn", wraps=True)
        self.same = label(role="secondary", wraps=True)
        self.numbers.body.addWidget(self.numbers_table)
        self.numbers.body.addWidget(self.warning)
        self.settings.body.addWidget(self.settings_table)
        self.settings.body.addWidget(self.same)
        self._lay_out()
        self.retranslate()
        self.setFocusProxy(self.back)

    def set_theme(self, theme: Theme) -> None:
        self.curves.set_theme(theme)
        for table in (self.numbers_table, self.settings_table):
            table.set_theme(theme)

    def retranslate(self) -> None:
        found = self.found
        self.title.setText(filled("{n} runs side by side", n=len(found.runs)))
        self.lead.setText(tr("One axis of steps for all: point at a step to read every run there."))
        self.back.setText(tr("Back to the runs"))
        self.curves.setVisible(self.curves.has_any)
        self.no_curves.setVisible(not self.curves.has_any)
        self.no_curves.setText(tr("None of these runs has trained yet, so there are no curves."))
        self.numbers.retranslate()
        self.settings.retranslate()
        self.curves.retranslate()
        names = [run.name for run in found.runs]
        self.numbers_table.show_rows(names, _number_rows(found))
        self.settings_table.show_rows(names, _setting_rows(found))
        self.settings_table.setVisible(bool(found.settings))
        self.same.setVisible(not found.settings)
        self.same.setText(tr("All settings are the same."))
        self.warning.setText(_warning(found))
        self.warning.setVisible(bool(self.warning.text()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.closed.emit()
        else:
            super().keyPressEvent(event)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        words = QVBoxLayout()
        words.setSpacing(8)
        words.addWidget(self.title)
        words.addWidget(self.lead)
        head.addLayout(words, 1)
        head.addWidget(self.back, 0, Qt.AlignmentFlag.AlignTop)
        inner = QVBoxLayout()
        inner.setSpacing(12)
        for part in (self.curves, self.no_curves, self.numbers, self.settings):
            inner.addWidget(part)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(12)
        page.addLayout(head)
        page.addWidget(scrolled(inner), 1)


class Table(QWidget):
    """Names on the left, one column for each run, headed by its stroke; what stands out is in the strong weight."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._strokes: list[Stroke] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(20)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnMinimumWidth(0, NAME_WIDTH)

    def show_rows(self, names: Sequence[str], rows: Sequence[tuple[str, list[tuple[str, bool]]]]) -> None:
        """Replace everything: each row has a name and, for each run, (what it says, whether that stands out)."""
        while item := self._grid.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        self._strokes = [Stroke(place, self._theme) for place in range(len(names))]
        for column, (name, stroke) in enumerate(zip(names, self._strokes, strict=True), start=1):
            self._grid.addWidget(_headed(name, stroke), 0, column)
            self._grid.setColumnStretch(column, 1)
        rule = QFrame()
        rule.setProperty("role", "rule")
        self._grid.addWidget(rule, 1, 0, 1, len(names) + 1)
        for line, (name, cells) in enumerate(rows, start=2):
            self._grid.addWidget(label(name, role="secondary", wraps=True), line, 0, Qt.AlignmentFlag.AlignTop)
            for column, (words, stands_out) in enumerate(cells, start=1):
                made = label(words, role="strong" if stands_out else "", wraps=True)
                made.setFont(themes.tabular())
                made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
                made.setAccessibleName(f"{names[column - 1]}, {name}: {words}")
                self._grid.addWidget(made, line, column, Qt.AlignmentFlag.AlignTop)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        for stroke in self._strokes:
            stroke.set_theme(theme)


class Stroke(QWidget):
    """The line by which a run is known in the plots."""

    def __init__(self, place: int, theme: Theme) -> None:
        super().__init__()
        self._place, self._theme = place, theme
        self.setFixedSize(28, 12)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(QPen(QColor(COLOURS[self._place](self._theme)), 2, STYLES[self._place]))
        painter.drawLine(0, 6, 28, 6)


def _headed(name: str, stroke: Stroke) -> QWidget:
    made = QWidget()
    shown = Elided("strong")
    shown.show_text(name)
    shown.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    column = QVBoxLayout(made)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(2)
    column.addWidget(stroke)
    column.addWidget(shown)
    return made


def _number_rows(found: SideBySide) -> list[tuple[str, list[tuple[str, bool]]]]:
    rows = [(tr("State"), [(standing_words(run), False) for run in found.runs])]
    for name, values in found.numbers.items():
        best = found.best(name)
        cells = [_cell(found, name, place, value, place == best) for place, value in enumerate(values)]
        rows.append((_number_name(name), cells))
    return rows


def _cell(found: SideBySide, name: str, place: int, value: float | None, is_best: bool) -> tuple[str, bool]:
    if value is None:
        return "–", False
    kind, _, what = name.partition(".")
    if kind == "loss":
        error = found.runs[place].numbers.errors.get(what)
        shown = text.fixed(value, 4) + (f" ± {text.fixed(error, 4)}" if error is not None else "")
        return (filled("{loss}  lowest", loss=shown) if is_best else shown), is_best
    if kind == "bytes":
        return text.size(value), False
    if name == "train.seconds":
        return text.duration(value), False
    return text.number(value), False


def _number_name(name: str) -> str:
    kind, _, what = name.partition(".")
    if kind == "loss":
        return filled("Held-out loss: {stage}", stage=tr(STAGES.get(what, what)))
    if kind == "bytes":
        return filled("Size of {kind}", kind=what.upper())
    return tr(ROWS[name])


def _setting_rows(found: SideBySide) -> list[tuple[str, list[tuple[str, bool]]]]:
    """What differs from the first run stands out."""
    rows = []
    for name, values in found.settings.items():
        unit = tr(UNITS[plan_field(name).unit])
        cells = [(f"{_setting(name, value)} {unit}".strip(), value != values[0]) for value in values]
        rows.append((tr(plan_field(name).label), cells))
    return rows


def _setting(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return tr("On") if value else tr("Off")
    if isinstance(value, list):
        return ", ".join(_setting(name, item) for item in value) or "–"
    if isinstance(value, int | float):
        return plain(value)
    return tr(OPTIONS.get(value, value)) if value in plan_field(name).options else value or "–"


def _warning(found: SideBySide) -> str:
    with_losses = [run for run in found.runs if run.numbers.losses]
    if found.same_text is False:
        return tr(
            "The held-out losses were measured on different texts, so they cannot be compared. "
            "Choose the same dataset, split and model for that."
        )
    if found.same_text is None and len(with_losses) > 1:
        return tr("Not every run says on which text it was measured: compare the losses with care.")
    return ""
