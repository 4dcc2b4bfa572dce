"""A plot that is looked at for hours: legend inside, a crosshair that reads every curve, an axis that holds still."""

import math
from collections.abc import Callable, Sequence

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QGraphicsLineItem, QGraphicsSimpleTextItem, QWidget

from . import plot_keys
from .i18n import filled
from .plot_labels import place_bands, place_levels, place_marks
from .plot_legend import Legend
from .plot_look import paint_band, paint_curve, paint_level, prepare_axes, room_for_words
from .plot_moments import Moment, MomentRow
from .plot_parts import Colour, Curve, Level, Mark
from .plot_table import table_of_steps
from .steady_range import SteadyRange
from .theme import Theme, tabular


class LivePlot(pg.PlotWidget):
    """Curves over optimiser steps. Points are appended at any rate; `refresh()` draws them and is called rarely."""

    hovered = Signal(object)  # x under the mouse, or None when it has left
    view_reset = Signal()  # the whole run was asked for
    zoomed = Signal()  # the person chose a part of the x axis
    zoom_changed = Signal()  # `is_zoomed` is another, for whatever reason
    focused = Signal(bool)

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=theme.surface)
        self.theme = theme
        self.curves: dict[str, Curve] = {}
        self.levels: list[Level] = []
        self.marks: list[Mark] = []
        self.y_range = SteadyRange()
        self.cursor: float | None = None
        self.is_zoomed = False
        self._bands: list[tuple[pg.LinearRegionItem, QGraphicsSimpleTextItem, str]] = []
        self._known: bool | None = None
        self._span = 0.0
        self._legend = Legend(self)
        self._moments = MomentRow(self.view, theme)
        self._crosshair = pg.InfiniteLine(angle=90)
        self._crosshair.setZValue(50)
        self._crosshair.hide()
        prepare_axes(self)
        self.addItem(self._crosshair, ignoreBounds=True)
        self.setMinimumSize(180, 88)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.scene().sigMouseMoved.connect(self._mouse_moved)
        self.view.sigRangeChanged.connect(self._place_labels)
        self.view.sigRangeChangedManually.connect(self._keep_zoom)
        self.set_span(10)
        self.set_theme(theme)

    # -- what a subclass says about itself ---------------------------------------------------------------------

    def title(self) -> str:
        raise NotImplementedError

    def curve_names(self) -> dict[str, str]:
        """How each curve in the legend is called in the user's language."""
        raise NotImplementedError

    def all_names(self) -> dict[str, str]:
        """The same of every curve that is drawn, for a table of them."""
        return self.curve_names()

    def note(self) -> str:
        """A last word in the legend."""
        return ""

    def absent(self) -> str:
        """Why there is nothing to see, while there is nothing."""
        return ""

    def reading(self, curve: Curve, x: float | None) -> float | None:
        """What the legend says of a curve: its value at x, or its last one."""
        return curve.series.last if x is None else curve.series.at(x)

    def crosshair_text(self, x: float) -> str:
        """What the crosshair stands at."""
        return filled("step {step}", step=f"{round(x):,}")

    def cursor_range(self) -> tuple[float, float]:
        """How far the crosshair can go."""
        low, high = self.view.viewRange()[0]
        return low, high

    def extent(self) -> tuple[float, float]:
        """(lowest, highest) value that must be in view; (inf, -inf) while there is nothing."""
        lows = [curve.series.low for curve in self.curves.values()]
        highs = [curve.series.high for curve in self.curves.values()]
        return min(lows, default=math.inf), max(highs, default=-math.inf)

    def extent_between(self, first: float, last: float) -> tuple[float, float]:
        """The same of a part of the x axis that the person has chosen to look at."""
        parts = [curve.series.extent_between(first, last) for curve in self.curves.values()]
        return min((low for low, _ in parts), default=math.inf), max((high for _, high in parts), default=-math.inf)

    def table(self) -> list[list[str]]:
        """What is drawn in the part of the x axis in view: a header, and rows of numbers that read back exactly."""
        return table_of_steps(self)

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
        paint_curve(curve, self.theme)
        return curve

    def add_level(self, colour: Colour, text: Callable[[float], str]) -> Level:
        line = QGraphicsLineItem(self.view)
        line.setZValue(1)
        level = Level(colour, line, self._label(), text)
        self.levels.append(level)
        paint_level(level, self.theme)
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
        self._paint_texts()
        self._place_labels()

    def set_moments(self, moments: Sequence[Moment]) -> None:
        """What happened on the way, in order of x; the sequence is kept, not copied."""
        self._moments.show_moments(moments)

    def moments_near(self, x: float) -> list[str]:
        return self._moments.near(x)

    @property
    def moments(self) -> Sequence[Moment]:
        return self._moments.moments

    @property
    def has_bands(self) -> bool:
        return bool(self._bands)

    @property
    def legend(self) -> Legend:
        return self._legend

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
        self.y_range.reset()
        self._note_zoom(False)
        self.refresh()

    def set_span(self, last: float) -> None:
        """The x axis runs from 0 to `last`."""
        self._span = last
        self.view.setLimits(xMin=-0.01 * last, xMax=1.01 * last, minXRange=min(4.0, last))
        if not self.is_zoomed:
            self.view.setXRange(0, last, padding=0.01)

    def fit(self) -> None:
        """Widen the y axis in generous strides where the data ask for it; never narrow it, never move while zoomed."""
        low, high = self.extent()
        known = math.isfinite(low) and math.isfinite(high)
        if known is not self._known:
            self._known = known
            self.getAxis("left").setStyle(showValues=known)
        if known and not self.is_zoomed:
            self.y_range.include(low, high)
            self._apply_range()

    def follow(self, limits: tuple[float, float]) -> None:
        """Show this part of the x axis, as a linked plot does."""
        self.view.setXRange(*limits, padding=0)

    def show_part(self, first: float, last: float) -> None:
        """The person wants to see this part of the x axis."""
        self.view.setXRange(first, last, padding=0)
        self._keep_zoom()

    def zoom_along(self) -> None:
        """Another plot was zoomed: hold still like it, and show the chosen part at a height that fits it."""
        self._note_zoom(True)
        low, high = self.extent_between(*self.view.viewRange()[0])
        if math.isfinite(low) and math.isfinite(high):
            self.y_range.reset()
            self.y_range.include(low, high)
            self._apply_range()

    def reset_view(self) -> None:
        """Back to the whole run, fitted closely."""
        self._note_zoom(False)
        self.y_range.reset()
        self.set_span(self._span)
        self.fit()

    def ask_for_everything(self) -> None:
        self.reset_view()
        self.view_reset.emit()

    def show_crosshair(self, x: float | None) -> None:
        """Read every curve at x instead of at its end; None takes the crosshair away.

        The mouse calls this a hundred times a second: a plot that is not on screen writes its legend when it is drawn.
        """
        self.cursor = x
        self._crosshair.setVisible(x is not None)
        if x is not None:
            self._crosshair.setValue(x)
        if self.isVisible():
            self._write_legend()

    def set_theme(self, theme: Theme) -> None:
        self.theme = self._moments.theme = theme
        self.setBackground(theme.surface)
        for axis in ("left", "bottom", "right"):
            self.getAxis(axis).setPen(pg.mkPen(theme.hairline))
            self.getAxis(axis).setTextPen(pg.mkPen(theme.secondary))
        self._crosshair.setPen(pg.mkPen(theme.secondary, width=1, style=Qt.PenStyle.DashLine))
        for curve in self.curves.values():
            paint_curve(curve, theme)
        for level in self.levels:
            paint_level(level, theme)
        self._paint_texts()
        self._write_legend()

    def retranslate(self) -> None:
        self.setAccessibleName(self.title())
        self._paint_texts()
        self._write_legend()
        self._place_labels()

    # -- details -----------------------------------------------------------------------------------------------

    def _label(self) -> QGraphicsSimpleTextItem:
        """A text inside the plot whose place is kept in pixels."""
        label = QGraphicsSimpleTextItem(self.view)
        label.setFont(tabular(11))
        label.setZValue(40)
        label.hide()
        return label

    def _apply_range(self) -> None:
        head, foot = room_for_words(self)
        per_pixel = (self.y_range.high - self.y_range.low) / max(max(self.view.height(), 60.0) - head - foot, 20.0)
        self.view.setYRange(self.y_range.low - foot * per_pixel, self.y_range.high + head * per_pixel, padding=0)

    def _paint_texts(self) -> None:
        for region, label, phase in self._bands:
            paint_band(region, label, phase, self.theme)
        for mark in self.marks:
            mark.label.setText(mark.text())
            mark.label.setBrush(pg.mkBrush(self.theme.secondary))

    def _place_labels(self) -> None:
        place_bands(self.view, [(region, label) for region, label, _ in self._bands])
        place_levels(self.view, self.levels)
        place_marks(self.view, self.marks)
        self._moments.prepareGeometryChange()

    def _write_legend(self) -> None:
        self._legend.write(self)
        if self._legend.lay(self) and self.y_range.known:
            self._apply_range()

    def _mouse_moved(self, spot: QPointF) -> None:
        inside = self.view.sceneBoundingRect().contains(spot)
        self.hovered.emit(self.view.mapSceneToView(spot).x() if inside else None)

    def _note_zoom(self, zoomed: bool) -> None:
        if zoomed is not self.is_zoomed:
            self.is_zoomed = zoomed
            self.zoom_changed.emit()

    def _keep_zoom(self) -> None:
        self.zoom_along()
        self.zoomed.emit()

    # -- what Qt tells -----------------------------------------------------------------------------------------

    def leaveEvent(self, event: QEvent) -> None:
        self.hovered.emit(None)
        super().leaveEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.ask_for_everything()
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not plot_keys.handle(self, event):
            super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            self.focused.emit(event.type() == QEvent.Type.FocusIn)
        return bool(super().event(event))

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if event is None or self.plotItem is None:  # pyqtgraph: while the widget is being built, and once it is closed
            return
        self._write_legend()
        self.fit()
        self._place_labels()
