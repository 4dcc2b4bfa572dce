"""How the parts of a live plot look in a theme, and how much room its words take."""

from typing import TYPE_CHECKING

import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QGraphicsItem, QGraphicsSimpleTextItem

from .plot_moments import MARK_PX
from .plot_parts import Curve, Level, band_colour, phase_word
from .theme import Theme, tabular

if TYPE_CHECKING:
    from .live_plot import LivePlot
    from .plot_canvas import PlotCanvas

AXIS_WIDTH = 46
FOOT_PX = 26  # room under the data for what is marked and the names of the phases above it
MARGIN_PX = 6
LABEL_PX = 14  # room above the highest reference line for its name


def prepare_axes(plot: "PlotCanvas") -> None:
    item = plot.getPlotItem()
    item.hideButtons()
    item.setContentsMargins(0, 4, 8, 2)
    item.showGrid(y=True, alpha=0.10)
    for name in ("left", "bottom"):
        axis = plot.getAxis(name)
        axis.enableAutoSIPrefix(False)
        axis.setStyle(tickLength=0, tickFont=tabular(11), maxTickLevel=0)
        axis.setTickDensity(1.6)
        # figures and grid change rarely, but would be drawn anew with every point
        axis.setCacheMode(QGraphicsItem.CacheMode.DeviceCoordinateCache)
    plot.getAxis("left").setWidth(AXIS_WIDTH)
    plot.getAxis("bottom").setHeight(20)
    plot.view.disableAutoRange()
    plot.view.setMouseEnabled(x=True, y=False)


def room_for_words(plot: "LivePlot") -> tuple[float, float]:
    """(px above the data for legend and names of lines, px below it for phases and moments)."""
    head = plot.legend.height() + MARGIN_PX
    if any(level.value is not None for level in plot.levels):
        head += LABEL_PX
    foot = FOOT_PX if plot.has_bands else MARK_PX + 4 if plot.moments else 4
    return min(head, max(plot.view.height(), 60.0) * 0.6), foot


def paint_curve(curve: Curve, theme: Theme) -> None:
    colour = QColor(curve.colour(theme))
    if curve.dots:
        curve.item.setPen(None)
        curve.item.setSymbol(curve.symbol)
        curve.item.setSymbolSize(6)
        curve.item.setSymbolBrush(pg.mkBrush(colour))
        curve.item.setSymbolPen(pg.mkPen(theme.surface, width=1))
        return
    curve.item.setPen(pg.mkPen(colour, width=curve.width, style=curve.style))
    if curve.fill:
        curve.item.setFillLevel(0)
        curve.item.setFillBrush(pg.mkBrush(_mixed(colour, QColor(theme.surface), curve.fill_strength)))


def paint_level(level: Level, theme: Theme) -> None:
    level.line.setPen(pg.mkPen(level.colour(theme), width=1, style=Qt.PenStyle.DashLine))
    level.label.setBrush(pg.mkBrush(theme.secondary))


def paint_band(region: pg.LinearRegionItem, label: QGraphicsSimpleTextItem, phase: str, theme: Theme) -> None:
    region.setBrush(pg.mkBrush(band_colour(theme, phase)))
    label.setText(phase_word(phase))
    label.setBrush(pg.mkBrush(theme.secondary))


def _mixed(colour: QColor, ground: QColor, strength: float) -> QColor:
    """The colour over its ground as one that lets nothing through, so that parts can be stacked."""

    def part(one: float, other: float) -> float:
        return one * strength + other * (1 - strength)

    return QColor.fromRgbF(
        part(colour.redF(), ground.redF()),
        part(colour.greenF(), ground.greenF()),
        part(colour.blueF(), ground.blueF()),
    )
