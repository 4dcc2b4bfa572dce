"""The plots of a study: how the best was found, how each trial went, and where in the space the good ones lie."""

import math
from collections.abc import Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from aegis_core.events import TrialFinished

from . import theme as themes
from .i18n import filled, tr
from .live_plot import LivePlot
from .plan_fields import OPTIONS
from .study_data import Axis, axes_of, best_of, best_so_far
from .text import fixed, number
from .theme import Theme
from .trials import PARAMETERS

TICK_SIZE = 11  # px


class HistoryPlot(LivePlot):
    """Every trial's value and the best so far; what was cut short keeps its last reading, pale."""

    _lower_is_better = True

    def __init__(self, theme: Theme, lower_is_better: bool, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._lower_is_better = lower_is_better
        self.hovered.connect(self.show_crosshair)
        self._best = self.add_curve("best", lambda t: t.accent, width=2)
        self._pruned = self.add_curve("pruned", lambda t: t.reference, dots=True, symbol="t1")
        self._values = self.add_curve("value", lambda t: t.text, dots=True)
        self._present = self.add_level(
            lambda t: t.held_out, lambda loss: filled("present settings {loss}", loss=fixed(loss, 3))
        )

    def title(self) -> str:
        return tr("Held-out loss (nats)") if self._lower_is_better else tr("Score")

    def curve_names(self) -> dict[str, str]:
        return {"best": tr("best so far"), "value": tr("trial"), "pruned": tr("cut short")}

    def crosshair_text(self, x: float) -> str:
        return filled("trial {number}", number=f"{round(x):,}")

    def set_present(self, value: float | None) -> None:
        """What the settings before the search came to."""
        self.set_level(self._present, value)

    def extent(self) -> tuple[float, float]:
        """The complete trials and the present settings; a diverged trial that was cut short must not flatten them."""
        known = [*self._values.series.y, *([self._present.value] if self._present.value is not None else [])]
        return (float(min(known)), float(max(known))) if known else (math.inf, -math.inf)

    def show_trials(self, trials: Sequence[TrialFinished], n_planned: int) -> None:
        whole = [(t.number + 1, t.value) for t in trials if t.state == "COMPLETE" and t.value is not None]
        self._fill("value", whole)
        # One that was cut short high above the others stands at the upper edge, not in the legend.
        edge = self.extent()[1] if whole else math.inf
        short = [(t.number + 1, min(t.curve[-1], edge)) for t in trials if t.state == "PRUNED" and t.curve]
        self._fill("pruned", short)
        self._fill("best", best_so_far(trials, self._lower_is_better))
        self.set_span(max(n_planned, max((t.number + 1 for t in trials), default=0), 2) + 0.5)
        self.reset_view()
        self.refresh()

    def _fill(self, name: str, points: Sequence[tuple[int, float | None]]) -> None:
        finite = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
        x, y = (np.array(column, float) for column in zip(*finite, strict=True)) if finite else (np.empty(0),) * 2
        series = self.curves[name].series
        series.extend(x, y)
        series.version += 1


class CurvesPlot(pg.PlotWidget):
    """Every trial's own curve over the part of the trial that was done: the best one strong, those cut short grey."""

    def __init__(self, theme: Theme, lower_is_better: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=theme.surface)
        self._lower_is_better = lower_is_better
        self.items_ = {name: pg.PlotDataItem(connect="finite") for name in ("pruned", "others", "best")}
        for item in self.items_.values():
            self.addItem(item)
        plot = self.getPlotItem()
        plot.hideButtons()
        plot.setMenuEnabled(False)
        plot.showGrid(y=True, alpha=0.10)
        plot.setContentsMargins(0, 4, 8, 2)
        for name in ("left", "bottom"):
            self.getAxis(name).enableAutoSIPrefix(False)
            self.getAxis(name).setStyle(tickLength=0, tickFont=themes.tabular(TICK_SIZE), maxTickLevel=0)
        self.getAxis("left").setWidth(46)
        plot.getViewBox().setMouseEnabled(x=False, y=False)
        self.critical = pg.InfiniteLine(angle=90)
        self.addItem(self.critical, ignoreBounds=True)
        self.critical.hide()
        self.setMinimumSize(180, 120)
        self.set_theme(theme)

    def show_trials(self, trials: Sequence[TrialFinished], span: float = 100.0) -> None:
        """`span` is what the whole curve stands for: 100 percent of a trial, or N steps."""
        best = best_of(trials, self._lower_is_better)
        groups: dict[str, list[TrialFinished]] = {"pruned": [], "others": [], "best": [best] if best else []}
        for trial in trials:
            if trial.curve and trial is not best and trial.state != "FAIL":
                groups["pruned" if trial.state == "PRUNED" else "others"].append(trial)
        for name, members in groups.items():
            x, y = _joined([self._points(trial, span) for trial in members])
            self.items_[name].setData(x, y)
        self.getPlotItem().getViewBox().setXRange(0, span, padding=0.02)
        self.getPlotItem().getViewBox().enableAutoRange(axis="y")

    def set_critical(self, step: float | None) -> None:
        """Where the best schedule crosses; None hides it."""
        self.critical.setVisible(step is not None)
        if step is not None:
            self.critical.setValue(step)

    def set_theme(self, theme: Theme) -> None:
        self.setBackground(theme.surface)
        for name in ("left", "bottom"):
            self.getAxis(name).setPen(pg.mkPen(theme.hairline))
            self.getAxis(name).setTextPen(pg.mkPen(theme.secondary))
        pale = QColor(theme.loss)
        pale.setAlphaF(0.45)
        grey = QColor(theme.reference)
        grey.setAlphaF(0.5)
        self.items_["pruned"].setPen(pg.mkPen(grey, width=1, style=Qt.PenStyle.DotLine))
        self.items_["pruned"].setSymbol("o")  # a single reading is no line
        self.items_["pruned"].setSymbolSize(3)
        self.items_["pruned"].setSymbolPen(None)
        self.items_["pruned"].setSymbolBrush(pg.mkBrush(grey))
        self.items_["others"].setPen(pg.mkPen(pale, width=1))
        self.items_["best"].setPen(pg.mkPen(theme.accent, width=2.5))
        self.critical.setPen(pg.mkPen(theme.secondary, width=1, style=Qt.PenStyle.DashLine))

    def _points(self, trial: TrialFinished, span: float) -> tuple[list[float], list[float]]:
        """A schedule's curve covers the span; readings of a training come at every quarter, its value at the end."""
        if not self._lower_is_better:
            n = max(len(trial.curve) - 1, 1)
            return [span * i / n for i in range(len(trial.curve))], list(trial.curve)
        ends = [trial.value] if trial.state == "COMPLETE" and trial.value is not None else []
        readings = [*trial.curve, *ends]
        return [span * (i + 1) / 4 for i in range(len(readings))], readings


class _Painted(QWidget):
    """A small picture drawn by hand in the theme's colours."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self.theme = themes.LIGHT
        self.setMinimumSize(QSize(180, height))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme
        self.update()


class ImportanceBars(_Painted):
    """How much of the spread of the values each parameter explains; empty until that can be told."""

    ROW = 26

    def __init__(self) -> None:
        super().__init__(self.ROW)
        self._parts: list[tuple[str, float]] = []

    def show_parts(self, parts: dict[str, float]) -> None:
        self._parts = sorted(parts.items(), key=lambda part: -part[1])
        self.setFixedHeight(self.ROW * max(len(self._parts), 1) + 4)
        names = ", ".join(f"{tr(PARAMETERS.get(name, name))} {part:.0%}" for name, part in self._parts)
        self.setAccessibleDescription(names)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setFont(themes.tabular(themes.SMALL))
        metrics = QFontMetrics(painter.font())
        names = [tr(PARAMETERS.get(name, name)) for name, _ in self._parts]
        side = max((metrics.horizontalAdvance(name) for name in names), default=0) + 12
        figures = metrics.horizontalAdvance("100 %") + 8
        room = max(self.width() - side - figures, 40)
        for row, (name, (_, part)) in enumerate(zip(names, self._parts, strict=True)):
            top = row * self.ROW
            painter.setPen(QColor(self.theme.text))
            painter.drawText(QRectF(0, top, side - 8, self.ROW), Qt.AlignmentFlag.AlignVCenter, name)
            bar = QRectF(side, top + 7, max(room * part, 2), self.ROW - 14)
            painter.fillRect(bar, QColor(self.theme.accent))
            painter.setPen(QColor(self.theme.secondary))
            spot = QRectF(bar.right() + 6, top, figures, self.ROW)
            painter.drawText(spot, Qt.AlignmentFlag.AlignVCenter, f"{part:.0%}")
        painter.end()


class ParallelPlot(_Painted):
    """One line for each complete trial through all its parameters to its value; the best third in colour."""

    def __init__(self, lower_is_better: bool) -> None:
        super().__init__(230)
        self.setFixedHeight(230)
        self._lower_is_better = lower_is_better
        self._axes: list[Axis] = []
        self._trials: list[TrialFinished] = []

    def show_trials(self, trials: Sequence[TrialFinished]) -> None:
        """Complete trials with a finite value; the worst first, so that the best lies on top."""
        sign = -1 if self._lower_is_better else 1
        whole = [t for t in trials if t.state == "COMPLETE" and t.value is not None and math.isfinite(t.value)]
        self._trials = sorted(whole, key=lambda trial: sign * (trial.value or 0.0))
        values = [trial.value or 0.0 for trial in self._trials]
        self._axes = [*axes_of(self._trials), Axis("", min(values), max(values))] if values else []
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._axes:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(themes.tabular(TICK_SIZE))
        line = QFontMetrics(painter.font()).height()
        top, bottom = line * 2.0 + 8, self.height() - line - 6.0
        gap = self.width() / len(self._axes)
        spots = [gap * (i + 0.5) for i in range(len(self._axes))]
        for rank, trial in enumerate(self._trials):
            painter.setPen(self._pen(rank))
            painter.drawPolyline(self._way(trial, spots, top, bottom))
        for axis, x in zip(self._axes, spots, strict=True):
            painter.setPen(QPen(QColor(self.theme.control), 1))
            painter.drawLine(QPointF(x, top), QPointF(x, bottom))
            column = QRectF(x - gap / 2 + 4, 0, gap - 8, line)
            middle = Qt.AlignmentFlag.AlignHCenter
            painter.setPen(QColor(self.theme.text))
            painter.drawText(column, middle, self._fitting(painter, self._name(axis), column.width()))
            painter.setPen(QColor(self.theme.secondary))
            painter.drawText(column.translated(0, line), middle, _end(axis, 1.0))
            painter.drawText(column.translated(0, bottom + 2), middle, _end(axis, 0.0))
        painter.end()

    def _name(self, axis: Axis) -> str:
        if axis.name:
            return tr(PARAMETERS.get(axis.name, axis.name))
        return tr("Held-out loss") if self._lower_is_better else tr("Score")

    def _fitting(self, painter: QPainter, name: str, width: float) -> str:
        return QFontMetrics(painter.font()).elidedText(name, Qt.TextElideMode.ElideRight, int(width))

    def _pen(self, rank: int) -> QPen:
        n = len(self._trials)
        if rank == n - 1:
            return QPen(QColor(self.theme.accent), 2.5)
        colour = QColor(self.theme.loss if 3 * rank >= 2 * n else self.theme.reference)
        colour.setAlphaF(0.75 if 3 * rank >= 2 * n else 0.35)
        return QPen(colour, 1)

    def _way(self, trial: TrialFinished, spots: list[float], top: float, bottom: float) -> QPolygonF:
        points = []
        for axis, x in zip(self._axes, spots, strict=True):
            place = axis.place(trial.params.get(axis.name) if axis.name else trial.value)
            if place is not None:  # a parameter that this trial does not have is passed by
                points.append(QPointF(x, bottom - place * (bottom - top)))
        return QPolygonF(points)


def _end(axis: Axis, place: float) -> str:
    """What stands at the top (1) or bottom (0) of an axis."""
    if axis.choices:
        value = axis.choices[-1 if place else 0]
        return number(value) if isinstance(value, int | float) else tr(OPTIONS.get(value, str(value)))
    return number(axis.high if place else axis.low, 3)


def _joined(curves: list[tuple[list[float], list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """All curves as one, with gaps between them: one item draws a thousand of them as fast as one."""
    gap = np.array([np.nan])
    parts = [(np.concatenate([x, gap]), np.concatenate([y, gap])) for x, y in curves]
    if not parts:
        return np.empty(0), np.empty(0)
    xs, ys = zip(*parts, strict=True)
    return np.concatenate(xs), np.concatenate(ys)
