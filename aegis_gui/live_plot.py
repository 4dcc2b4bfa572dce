"""A plot that is looked at for hours: legend inside, a crosshair that reads every curve, an axis that holds still."""

import math
from collections.abc import Callable

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QGraphicsItem, QGraphicsLineItem, QGraphicsSimpleTextItem, QLabel, QWidget

from .i18n import filled
from .plot_labels import is_in_view, place_bands, place_levels, place_marks
from .plot_parts import Colour, Curve, Level, Mark, band_colour, legend_entry, phase_word, unbroken
from .series import nice_ceiling
from .theme import SMALL, Theme, tabular

AXIS_WIDTH = 46
FOOT_PX = 20  # room under the data for the names of the phases
MARGIN_PX = 6
LABEL_PX = 14  # room above the highest reference line for its name


class LivePlot(pg.PlotWidget):
    """Curves over optimiser steps. Points are appended at any rate; `refresh()` draws them and is called rarely."""

    hovered = Signal(object)  # x under the mouse, or None when it has left
    view_reset = Signal()  # the whole run was asked for

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=theme.surface)
        self.theme = theme
        self.curves: dict[str, Curve] = {}
        self.levels: list[Level] = []
        self.marks: list[Mark] = []
        self._bands: list[tuple[pg.LinearRegionItem, QGraphicsSimpleTextItem, str]] = []
        self._low, self._high = math.inf, -math.inf
        self._known: bool | None = None
        self._span = 0.0
        self._cursor: float | None = None
        self._zoomed = False
        self._legend = QLabel(self)
        self._legend.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        self._legend.setWordWrap(True)
        self._crosshair = pg.InfiniteLine(angle=90)
        self._crosshair.setZValue(50)
        self._crosshair.hide()
        self._prepare_axes()
        self.addItem(self._crosshair, ignoreBounds=True)
        self.setMinimumSize(180, 120)
        self.scene().sigMouseMoved.connect(self._mouse_moved)
        self.view.sigRangeChanged.connect(self._place_labels)
        self.view.sigRangeChangedManually.connect(self._keep_zoom)
        self.set_span(10)
        self.set_theme(theme)

    # -- what a subclass says about itself ---------------------------------------------------------------------

    def title(self) -> str:
        raise NotImplementedError

    def curve_names(self) -> dict[str, str]:
        """How each curve is called in the user's language."""
        raise NotImplementedError

    def note(self) -> str:
        """A last word in the legend."""
        return ""

    def crosshair_text(self, x: float) -> str:
        """What the crosshair stands at."""
        return filled("step {step}", step=f"{round(x):,}")

    def extent(self) -> tuple[float, float]:
        """(lowest, highest) value that must be in view; (inf, -inf) while there is nothing."""
        lows = [curve.series.low for curve in self.curves.values()]
        highs = [curve.series.high for curve in self.curves.values()]
        return min(lows, default=math.inf), max(highs, default=-math.inf)

    # -- building ----------------------------------------------------------------------------------------------

    @property
    def view(self) -> pg.ViewBox:
        return self.getPlotItem().getViewBox()

    def add_curve(self, name: str, colour: Colour, view: pg.ViewBox | None = None, **look: object) -> Curve:
        item = pg.PlotDataItem(skipFiniteCheck=True, autoDownsample=True, clipToView=True, connect="all")
        curve = Curve(name, colour, item, **look)  # type: ignore[arg-type]
        # Drawing, not arithmetic, is what costs time: a smooth curve needs one point per two pixels, a noisy one its
        # lowest and highest value per pixel, and only the former is worth soft edges.
        item.opts["autoDownsampleFactor"] = 1.0 if curve.noisy else 0.5
        item.opts["downsampleMethod"] = "peak" if curve.noisy else "subsample"
        item.opts["antialias"] = not curve.noisy
        item.curve.setSegmentedLineMode("off")
        item.setZValue(len(self.curves))
        self.curves[name] = curve
        # not through the plot item, which would put its own idea of downsampling in place
        (view or self.view).addItem(item, ignoreBounds=True)
        self._paint_curve(curve)
        return curve

    def add_level(self, colour: Colour, text: Callable[[float], str]) -> Level:
        line = QGraphicsLineItem(self.view)
        line.setZValue(1)
        level = Level(colour, line, self._label(), text)
        self.levels.append(level)
        self._paint_level(level)
        return level

    def set_level(self, level: Level, value: float | None) -> None:
        level.value = value
        self.fit()
        self._place_labels()

    def set_marks(self, marks: list[tuple[Callable[[], str], float, float]]) -> None:
        """Named points (text, x, y), replacing earlier ones."""
        for mark in self.marks:
            self.scene().removeItem(mark.label)
        self.marks = [Mark(text, self._label(), x, y) for text, x, y in marks]
        self._paint_texts()
        self._place_labels()

    def set_bands(self, bands: list[tuple[float, float, str]]) -> None:
        """Phases behind the curves: (first x, last x, latent | critical | settled), replacing earlier ones."""
        for region, label, _ in self._bands:
            self.removeItem(region)
            self.scene().removeItem(label)
        self._bands = []
        for first, last, phase in bands:
            region = pg.LinearRegionItem((first, last), movable=False, pen=pg.mkPen(None))
            region.setZValue(-20)
            self.addItem(region, ignoreBounds=True)
            self._bands.append((region, self._label(), phase))
        self._paint_bands()
        self._place_labels()

    # -- living ------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Draw what was appended since the last time."""
        for curve in self.curves.values():
            if curve.drawn_version != curve.series.version:
                curve.drawn_version = curve.series.version
                curve.item.setData(curve.series.x, curve.series.y)
        self.fit()
        self._write_legend()

    def forget(self) -> None:
        """Forget every point; the axes start afresh. (`clear` is pyqtgraph's and would take the items themselves.)"""
        for curve in self.curves.values():
            curve.series.clear()
        for level in self.levels:
            self.set_level(level, None)
        self._low, self._high = math.inf, -math.inf
        self._zoomed = False
        self.refresh()

    def set_span(self, last: float) -> None:
        """The x axis runs from 0 to `last`."""
        self._span = last
        if not self._zoomed:
            self.view.setXRange(0, last, padding=0.01)

    def fit(self) -> None:
        """Widen the y axis in generous strides where the data ask for it; never narrow it, never move while zoomed."""
        low, high = self.extent()
        known = math.isfinite(low) and math.isfinite(high)
        if known is not self._known:
            self._known = known
            self.getAxis("left").setStyle(showValues=known)
        if not known:
            return
        if low < self._low or high > self._high:
            self._low, self._high = self._widened(min(low, self._low), max(high, self._high))
        self._apply_range()

    def follow(self, limits: tuple[float, float]) -> None:
        """Show this part of the x axis, as a linked plot does."""
        self.view.setXRange(*limits, padding=0)

    def reset_view(self) -> None:
        """Back to the whole run, fitted closely."""
        self._zoomed = False
        self._low, self._high = math.inf, -math.inf
        self.set_span(self._span)
        self.fit()

    def show_crosshair(self, x: float | None) -> None:
        """Read every curve at x instead of at its end; None takes the crosshair away."""
        self._cursor = x
        self._crosshair.setVisible(x is not None)
        if x is not None:
            self._crosshair.setValue(x)
        self._write_legend()

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme
        self.setBackground(theme.surface)
        for axis in ("left", "bottom", "right"):
            self.getAxis(axis).setPen(pg.mkPen(theme.hairline))
            self.getAxis(axis).setTextPen(pg.mkPen(theme.secondary))
        self._crosshair.setPen(pg.mkPen(theme.secondary, width=1, style=Qt.PenStyle.DashLine))
        for curve in self.curves.values():
            self._paint_curve(curve)
        for level in self.levels:
            self._paint_level(level)
        self._paint_bands()
        self._paint_texts()
        self._write_legend()

    def retranslate(self) -> None:
        self._paint_bands()
        self._paint_texts()
        self._write_legend()
        self._place_labels()

    # -- details -----------------------------------------------------------------------------------------------

    def _prepare_axes(self) -> None:
        item = self.getPlotItem()
        item.hideButtons()
        item.setMenuEnabled(False)
        item.setContentsMargins(0, 4, 8, 2)
        item.showGrid(y=True, alpha=0.10)
        for name in ("left", "bottom"):
            self.getAxis(name).enableAutoSIPrefix(False)
            self.getAxis(name).setStyle(tickLength=0, tickFont=tabular(11), maxTickLevel=0)
            self.getAxis(name).setTickDensity(1.6)
            # figures and grid change rarely, but would be drawn anew with every point
            self.getAxis(name).setCacheMode(QGraphicsItem.CacheMode.DeviceCoordinateCache)
        self.getAxis("left").setWidth(AXIS_WIDTH)
        self.getAxis("bottom").setHeight(20)
        self.view.disableAutoRange()
        self.view.setMouseEnabled(x=True, y=False)

    def _label(self) -> QGraphicsSimpleTextItem:
        """A text inside the plot whose place is kept in pixels."""
        label = QGraphicsSimpleTextItem(self.view)
        label.setFont(tabular(11))
        label.setZValue(40)
        label.hide()
        return label

    def _widened(self, low: float, high: float) -> tuple[float, float]:
        height = max(high - low, abs(high) * 1e-3, 1e-9)
        stride = nice_ceiling(height) / 10
        return math.floor(low / stride) * stride, math.ceil(high / stride) * stride

    def _apply_range(self) -> None:
        """Leave room above the data for the legend and below it for the phases."""
        height = max(self.view.height(), 60.0)
        head = self._legend.height() + MARGIN_PX
        if any(level.value is not None for level in self.levels):
            head += LABEL_PX
        head = min(head, height * 0.45)
        foot = FOOT_PX if self._bands else 4
        per_pixel = (self._high - self._low) / max(height - head - foot, 20.0)
        self.view.setYRange(self._low - foot * per_pixel, self._high + head * per_pixel, padding=0)

    def _paint_curve(self, curve: Curve) -> None:
        colour = QColor(curve.colour(self.theme))
        if curve.dots:
            curve.item.setPen(None)
            curve.item.setSymbol(curve.symbol)
            curve.item.setSymbolSize(6)
            curve.item.setSymbolBrush(pg.mkBrush(colour))
            curve.item.setSymbolPen(pg.mkPen(self.theme.surface, width=1))
            return
        curve.item.setPen(pg.mkPen(colour, width=curve.width, style=curve.style))
        if curve.fill:
            colour.setAlphaF(0.14)
            curve.item.setFillLevel(0)
            curve.item.setFillBrush(pg.mkBrush(colour))

    def _paint_level(self, level: Level) -> None:
        level.line.setPen(pg.mkPen(level.colour(self.theme), width=1, style=Qt.PenStyle.DashLine))
        level.label.setBrush(pg.mkBrush(self.theme.secondary))

    def _paint_bands(self) -> None:
        for region, label, phase in self._bands:
            region.setBrush(pg.mkBrush(band_colour(self.theme, phase)))
            label.setText(phase_word(phase))
            label.setBrush(pg.mkBrush(self.theme.secondary))

    def _paint_texts(self) -> None:
        for mark in self.marks:
            mark.label.setText(mark.text())
            mark.label.setBrush(pg.mkBrush(self.theme.secondary))

    def _place_labels(self) -> None:
        place_bands(self.view, [(region, label) for region, label, _ in self._bands])
        place_levels(self.view, self.levels)
        place_marks(self.view, self.marks)

    def _write_legend(self) -> None:
        names = self.curve_names()
        muted = self.theme.secondary
        parts = [f'<span style="color:{self.theme.text}; font-weight:600">{self.title()}</span>']
        if self._cursor is not None:
            parts.append(f'<span style="color:{muted}">{self.crosshair_text(self._cursor)}</span>')
        for curve in self.curves.values():
            if curve.name not in names or not len(curve.series):
                continue
            value = curve.series.last if self._cursor is None else curve.series.at(self._cursor)
            if value is None:
                continue
            parts.append(legend_entry(curve, names[curve.name], value, self.theme))
        for level in self.levels:
            if level.value is not None and math.isfinite(self._low) and not is_in_view(self.view, level.value):
                arrow = "↑" if level.value > self._high else "↓"
                parts.append(f'<span style="color:{muted}">{unbroken(f"┅ {level.text(level.value)} {arrow}")}</span>')
        if note := self.note():
            parts.append(f'<span style="color:{muted}">{unbroken(note)}</span>')
        self._legend.setText("&nbsp; ".join(parts))
        self._lay_legend()

    def _lay_legend(self) -> None:
        left = AXIS_WIDTH + MARGIN_PX
        width = max(self.width() - left - 12, 60)
        self._legend.setFont(tabular(SMALL))
        before = self._legend.height()
        self._legend.setGeometry(left, 4, width, self._legend.heightForWidth(width))
        if self._legend.height() != before and math.isfinite(self._low):
            self._apply_range()

    def _mouse_moved(self, spot: QPointF) -> None:
        inside = self.view.sceneBoundingRect().contains(spot)
        self.hovered.emit(self.view.mapSceneToView(spot).x() if inside else None)

    def _keep_zoom(self) -> None:
        self._zoomed = True

    def leaveEvent(self, event: QEvent) -> None:
        self.hovered.emit(None)
        super().leaveEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.view_reset.emit()
        self.reset_view()
        event.accept()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if event is None or self.plotItem is None:  # pyqtgraph: while the widget is being built, and once it is closed
            return
        self._lay_legend()
        self.fit()
        self._place_labels()


def link(plots: list[LivePlot]) -> None:
    """One x axis and one crosshair for all of them.

    pyqtgraph's own link matches places on the screen rather than ranges when two plots lie below each other.
    """

    def follow(source: pg.ViewBox, limits: tuple[float, float]) -> None:
        for plot in plots:
            if plot.view is not source and plot.view.viewRange()[0] != list(limits):
                plot.follow(limits)

    for plot in plots:
        plot.view.sigXRangeChanged.connect(follow)
        for other in plots:
            plot.hovered.connect(other.show_crosshair)
            plot.view_reset.connect(other.reset_view)
