"""The best numbers of a run on one line: held-out loss from base to file, and the run log's indicators as shapes."""

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget

from aegis_core.run_card import RunCard
from aegis_core.run_numbers import MAIN_STAGES

from .. import text
from .. import theme as themes
from ..i18n import filled, tr
from ..panels import label
from ..theme import Theme
from .words import stage_words

SHAPES = {"pass": "check", "fail": "cross", "skipped": "dash"}


class CardFigures(QWidget):
    """Hidden while the run has measured nothing that still holds."""

    def __init__(self) -> None:
        super().__init__()
        self._run: RunCard | None = None
        self._theme = themes.LIGHT
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(6)

    def show_run(self, run: RunCard) -> None:
        self._run = run
        self._draw()

    def set_theme(self, theme: Theme) -> None:
        if theme is not self._theme:
            self._theme = theme
            self._draw()

    def spoken(self) -> str:
        """The same for a screen reader."""
        if self._run is None:
            return ""
        losses = [f"{stage_words(stage)} {text.fixed(loss, 3)}" for stage, loss in self._losses()]
        said = [f"{tr('Held-out loss (nats)')}: {', '.join(losses)}"] if losses else []
        return "; ".join([*said, self._indicator_words()]).strip("; ")

    def _losses(self) -> list[tuple[str, float]]:
        found = self._run.numbers.losses if self._run else {}
        return [(stage, found[stage]) for stage in MAIN_STAGES if stage in found]

    def _indicator_words(self) -> str:
        if self._run is None or not self._run.verdicts:
            return ""
        return filled("{passed} of {total} indicators passed", passed=self._run.n_passed, total=len(self._run.verdicts))

    def _draw(self) -> None:
        while item := self._row.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        losses = self._losses()
        verdicts = dict(self._run.verdicts) if self._run else {}
        self.setVisible(bool(losses or verdicts))
        if losses:
            self._put(tr("Held-out loss"), "small")
        for place, (stage, loss) in enumerate(losses):
            if place:
                self._put("→", "small")
            self._put(stage_words(stage), "small")
            self._put(text.fixed(loss, 3), "strong")
        if losses:
            self._put(tr("nats"), "small")
            self._row.addSpacing(16)
        for status in verdicts.values():
            self._row.addWidget(self._shape(status))
        if verdicts:
            self._put(self._indicator_words(), "small")
        self._row.addStretch(1)

    def _put(self, words: str, role: str) -> None:
        made = label(words, role=role)
        made.setFont(themes.tabular(themes.SMALL if role == "small" else themes.BODY))
        self._row.addWidget(made)

    def _shape(self, status: str) -> QLabel:
        colours = {"pass": self._theme.success, "fail": self._theme.danger}
        made = QLabel()
        colour = colours.get(status, self._theme.secondary)
        made.setPixmap(themes.icon(SHAPES.get(status, "dash"), colour, 12).pixmap(QSize(12, 12)))
        return made
