"""Four places for plots beside what the model says; which plot stands where is the person's choice."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QGridLayout, QWidget

from .i18n import filled, tr
from .live_plot import LivePlot
from .plot_card import PlotCard
from .plot_export import export, file_name
from .plots import FIRST_CHOICE
from .samples import Samples
from .theme import Theme

# row, column, columns of twelve
PLACES = ((0, 0, 7), (0, 7, 5), (1, 0, 4), (1, 4, 4))
SAMPLES_PLACE = (1, 8, 4)
FILTERS = {"png": "PNG (*.png)", "svg": "SVG (*.svg)", "csv": "CSV (*.csv)"}


class PlotBoard(QWidget):
    """`chosen` comes with the names in the four places when the person has exchanged one; `rearranged` always."""

    rearranged = Signal()
    chosen = Signal(object)
    saved = Signal(str)  # a sentence: where a file went, or why it did not

    def __init__(
        self, theme: Theme, plots: Mapping[str, LivePlot], samples: Samples, shown: Sequence[str] = FIRST_CHOICE
    ) -> None:
        super().__init__()
        self._plots = plots
        self.run_name, self.folder = "", Path.home()
        self.cards = [PlotCard(theme) for _ in PLACES]
        for plot in plots.values():
            plot.setParent(self)
            plot.hide()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(12)
        for card, (row, column, width) in zip(self.cards, PLACES, strict=True):
            grid.addWidget(card, row, column, 1, width)
            card.offer(self._offered)
            card.chosen.connect(lambda name, card=card: self.put(name, card))
            card.export_asked.connect(lambda kind, card=card: self._ask_where(kind, card))
        row, column, width = SAMPLES_PLACE
        grid.addWidget(samples, row, column, 1, width)
        grid.setRowStretch(0, 5)
        grid.setRowStretch(1, 4)
        for number in range(12):
            grid.setColumnStretch(number, 1)
        for name, card in zip(_whole(shown, plots), self.cards, strict=True):
            card.show_plot(name, plots[name])

    @property
    def names(self) -> list[str]:
        return [card.name for card in self.cards]

    def on_screen(self) -> list[LivePlot]:
        return [self._plots[name] for name in self.names]

    def put(self, name: str, card: PlotCard) -> None:
        """Show the plot in this place; where it stood before, stands then what was here."""
        other = next((c for c in self.cards if c.name == name), None)
        if other is card:
            return
        before = card.name
        card.show_plot(name, self._plots[name])
        if other:
            other.show_plot(before, self._plots[before])
        self.rearranged.emit()
        self.chosen.emit(self.names)

    def follow_titles(self) -> None:
        for card in self.cards:
            card.follow_title()

    def set_theme(self, theme: Theme) -> None:
        for card in self.cards:
            card.set_theme(theme)

    def retranslate(self) -> None:
        for card in self.cards:
            card.retranslate()

    def save(self, name: str, path: Path) -> None:
        """Write a plot as its file's ending says, and tell what came of it."""
        try:
            export(self._plots[name], path)
        except OSError as error:
            self.saved.emit(filled("{path} could not be written: {problem}.", path=path, problem=error))
        else:
            self.saved.emit(filled("Saved as {path}.", path=path))

    def _offered(self) -> list[tuple[str, str, bool]]:
        return [(name, plot.title(), name in self.names) for name, plot in self._plots.items()]

    def _ask_where(self, kind: str, card: PlotCard) -> None:
        suggested = self.folder / file_name(self.run_name, card.name, kind)
        chosen, _ = QFileDialog.getSaveFileName(self, tr("Save this plot"), str(suggested), FILTERS[kind])
        if chosen:
            path = Path(chosen)
            self.folder = path.parent
            self.save(card.name, path if path.suffix.lower() == f".{kind}" else path.with_name(f"{path.name}.{kind}"))


def _whole(wanted: Sequence[str], plots: Mapping[str, LivePlot]) -> list[str]:
    """Four different names that exist: what was wanted as far as it goes, then the first choice."""
    names = list(dict.fromkeys(name for name in (*wanted, *FIRST_CHOICE) if name in plots))
    return names[: len(PLACES)]
