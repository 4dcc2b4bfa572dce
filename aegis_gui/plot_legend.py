"""The legend inside a plot: its title, what each curve reads, and reference lines that lie out of view."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel

from . import theme as themes
from .plot_labels import is_in_view
from .plot_look import AXIS_WIDTH, MARGIN_PX
from .plot_parts import legend_entry, unbroken

if TYPE_CHECKING:
    from .live_plot import LivePlot

LEFT = AXIS_WIDTH + MARGIN_PX
MOST_OF_PLOT = 0.42  # of its height: what would take more is left out
LEAST_PX = 20  # one line is always there
BETWEEN = "&nbsp; "


class Legend(QLabel):
    """Rich text over the plot that lets the mouse through. A card may keep room in its first line: for the title,
    which then stands there as a button, and for tools at the right."""

    def __init__(self, plot: "LivePlot") -> None:
        super().__init__(plot)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setWordWrap(True)
        self.setFont(themes.tabular(themes.SMALL))
        self.setProperty("role", "legend")
        self.title_px = self.tools_px = 0
        self.entries = ""

    def write(self, plot: "LivePlot") -> None:
        """Say what the plot's curves are now, or at its crosshair."""
        entries = list(_entries(plot))
        self.entries = BETWEEN.join(entries)
        room = self._room(plot)
        self._say(plot, entries)
        while len(entries) > 1 and self.heightForWidth(room) > max(plot.height() * MOST_OF_PLOT, LEAST_PX):
            entries.pop()  # the crosshair's place and what matters most stand first
            self._say(plot, entries)

    def lay(self, plot: "LivePlot") -> bool:
        """Take place in the plot; whether the height has changed."""
        before, room = self.height(), self._room(plot)
        self.setGeometry(LEFT, 4, room, max(self.heightForWidth(room), self.fontMetrics().height()))
        return self.height() != before

    def _room(self, plot: "LivePlot") -> int:
        return max(plot.width() - LEFT - 12 - self.tools_px, 60)

    def _say(self, plot: "LivePlot", entries: list[str]) -> None:
        if self.title_px:
            # an invisible blank first: what does not fit beside the title goes below it instead of being cut
            self.setText(f'<p style="margin:0; text-indent:{self.title_px}px">\u200b{BETWEEN.join(entries)}</p>')
        else:
            self.setText(BETWEEN.join([title_of(plot), *entries]))


def title_of(plot: "LivePlot") -> str:
    return f'<span style="color:{plot.theme.text}; font-weight:600">{plot.title()}</span>'


def _entries(plot: "LivePlot") -> Iterator[str]:
    theme, names, cursor = plot.theme, plot.curve_names(), plot.cursor
    muted = f'<span style="color:{theme.secondary}">'
    if cursor is not None:
        where = [plot.crosshair_text(cursor), *plot.moments_near(cursor)]
        yield f"{muted}{' · '.join(map(unbroken, where))}</span>"
    for name, shown in names.items():
        curve = plot.curves.get(name)
        value = plot.reading(curve, cursor) if curve is not None and len(curve.series) else None
        if curve is not None and value is not None:
            yield legend_entry(curve, shown, value, theme)
    for level in plot.levels:
        if level.value is not None and plot.y_range.known and not is_in_view(plot.view, level.value):
            arrow = "↑" if level.value > plot.y_range.high else "↓"
            yield f"{muted}{unbroken(f'┅ {level.text(level.value)} {arrow}')}</span>"
    if note := plot.note():
        yield f"{muted}{unbroken(note)}</span>"
    if not any(math.isfinite(curve.series.high) for curve in plot.curves.values()) and (reason := plot.absent()):
        yield f"{muted}{reason}</span>"
