"""The seven success indicators: each one measured, each one able to show red."""

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QVBoxLayout, QWidget

from . import theme as themes
from .i18n import filled, mark, said, tr
from .panels import label
from .theme import Theme
from .verdicts import ICONS, ROLES, WORDS

INDICATORS = {
    "training_completed": mark("Training completed all its steps"),
    "alpha_reached": mark("Alpha reached 1.618"),
    "soul_saved": mark("Adapter, gate and rotation are saved"),
    "fusion_equal": mark("The fused model equals the gated one"),
    "gguf_verified": mark("GGUF files are written and verified"),
    "ollama_loaded": mark("It loads in Ollama"),
    "answer_meaningful": mark("It answers a physics question meaningfully"),
}


class Indicator(QWidget):
    """Shape, claim and word; below, what was measured and what was expected."""

    def __init__(self, claim: str) -> None:
        super().__init__()
        self.status = "skipped"
        self._claim = claim
        self._row: Mapping[str, Any] = {}
        self._theme = themes.LIGHT
        self.shape = QLabel()
        self.claim = label(role="strong")
        self.word = label()
        self.measured = label(wraps=True)
        self.measured.setFont(themes.tabular())
        self.expected = label(role="small", wraps=True)
        self.problems = label(role="error", wraps=True)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 8, 0, 8)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        grid.addWidget(self.shape, 0, 0)
        grid.addWidget(self.claim, 0, 1)
        grid.addWidget(self.word, 0, 2, Qt.AlignmentFlag.AlignRight)
        for line, below in enumerate((self.measured, self.expected, self.problems), start=1):
            below.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            grid.addWidget(below, line, 1, 1, 2)
        self.show_row({})

    def show_row(self, row: Mapping[str, Any]) -> None:
        """A row of report.json's `indicators`; {} where there is none."""
        self._row = row
        status = str(row.get("status", ""))
        self.status = status if status in WORDS else "skipped"
        self._draw()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self._draw()

    def retranslate(self) -> None:
        self._draw()

    def _draw(self) -> None:
        colours = {"pass": self._theme.success, "fail": self._theme.danger}
        colour = colours.get(self.status, self._theme.secondary)
        self.shape.setPixmap(themes.icon(ICONS[self.status], colour).pixmap(QSize(16, 16)))
        self.claim.setText(tr(self._claim))
        self.word.setText(tr(WORDS[self.status]))
        self.word.setProperty("role", ROLES[self.status])
        self.word.style().unpolish(self.word)
        self.word.style().polish(self.word)
        measured, expected = str(self._row.get("measured", "")), str(self._row.get("expected", ""))
        self.measured.setText(said(measured) if measured else "")
        self.expected.setText(filled("expected: {expected}", expected=said(expected)) if expected else "")
        self.problems.setText("\n".join(said(str(problem)) for problem in self._row.get("problems", [])))
        for line in (self.measured, self.expected, self.problems):
            line.setVisible(bool(line.text()))
        self.setAccessibleName(f"{self.claim.text()}: {self.word.text()}")
        self.setAccessibleDescription(f"{self.measured.text()} {self.expected.text()}".strip())


class Checklist(QWidget):
    """All seven, always in the order of the ritual; what was not measured says so."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.summary = label(role="secondary")
        self.rows = {name: Indicator(claim) for name, claim in INDICATORS.items()}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.summary)
        for row in self.rows.values():
            rule = QFrame()
            rule.setProperty("role", "rule")
            column.addSpacing(8 if row is next(iter(self.rows.values())) else 0)
            column.addWidget(rule)
            column.addWidget(row)
        self.retranslate()

    def show_indicators(self, indicators: Mapping[str, Any]) -> None:
        """report.json's `indicators`; {} before there is a report."""
        for name, row in self.rows.items():
            found = indicators.get(name)
            row.show_row(found if isinstance(found, Mapping) else {})
        self._summarise()

    def set_theme(self, theme: Theme) -> None:
        for row in self.rows.values():
            row.set_theme(theme)

    def retranslate(self) -> None:
        for row in self.rows.values():
            row.retranslate()
        self._summarise()

    def _summarise(self) -> None:
        found = [row.status for row in self.rows.values()]
        self.summary.setText(
            filled(
                "{passed} of {total} passed, {failed} failed, {skipped} not measured",
                passed=found.count("pass"),
                total=len(found),
                failed=found.count("fail"),
                skipped=found.count("skipped"),
            )
        )
