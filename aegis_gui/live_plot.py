"""A plot that is looked at for hours: legend inside, a crosshair that reads every curve, an axis that holds still."""

import math

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QWidget

from . import plot_keys
from .i18n import filled
from .plot_canvas import PlotCanvas
from .plot_legend import Legend
from .plot_look import room_for_words
from .plot_parts import Curve, Level
from .plot_table import table_of_steps
from .steady_range import SteadyRange
from .theme import Theme


class LivePlot(PlotCanvas):
    """Curves over optimiser steps. Points are appended at any rate; `refresh()` draws them and is called rarely."""

    hovered = Signal(object)  # x under the mouse, or None when it has left
    view_reset = Signal()  # the whole run was asked for
    zoomed = Signal()  # the person chose a part of the x axis
    zoom_changed = Signal()  # `is_zoomed` is another, for whatever reason
    focused = Signal(bool)

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self.y_range = SteadyRange()
        self.cursor: float | None = None
        self.is_zoomed = False
        self._known: bool | None = None
        self._span = 0.0
        self._legend = Legend(self)
        self._crosshair = pg.InfiniteLine(angle=90)
        self._crosshair.setZValue(50)
        self._crosshair.hide()
        self.addItem(self._crosshair, ignoreBounds=True)
        self.setMinimumSize(180, 88)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.scene().sigMouseMoved.connect(self._mouse_moved)
        self.view.sigRangeChanged.connect(self.place_labels)
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

    def set_level(self, level: Level, value: float | None) -> None:
        super().set_level(level, value)
        self.fit()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self._crosshair.setPen(pg.mkPen(theme.secondary, width=1, style=Qt.PenStyle.DashLine))
        self._write_legend()

    def retranslate(self) -> None:
        self.setAccessibleName(self.title())
        super().retranslate()
        self._write_legend()

    # -- details -----------------------------------------------------------------------------------------------

    def _apply_range(self) -> None:
        head, foot = room_for_words(self)
        per_pixel = (self.y_range.high - self.y_range.low) / max(max(self.view.height(), 60.0) - head - foot, 20.0)
        self.view.setYRange(self.y_range.low - foot * per_pixel, self.y_range.high + head * per_pixel, padding=0)

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
        self.place_labels()
