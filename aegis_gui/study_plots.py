"""The plots of a study over time: how the best was found, and how each trial went."""

import math
from collections.abc import Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QResizeEvent
from PySide6.QtWidgets import QLabel, QWidget

from aegis_core.events import TrialFinished, TrialRunning

from . import theme as themes
from .i18n import filled, tr
from .live_plot import LivePlot
from .plot_look import AXIS_WIDTH, MARGIN_PX
from .study_data import best_of, best_so_far, is_poor
from .text import fixed
from .theme import Theme

TICK_SIZE = 11  # px
QUARTERS = 4  # a short run is read at every quarter of its tokens
HEAD = 0.24  # of the plot's height is left to its legend
CROWD = 60  # trials: more are drawn smaller and paler


class HistoryPlot(LivePlot):
    """Every trial's value and the best so far; what was cut short, or does not converge, stands at the edge, pale."""

    _lower_is_better = True

    def __init__(self, theme: Theme, lower_is_better: bool, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._lower_is_better = lower_is_better
        self.hovered.connect(self.show_crosshair)
        self._poor = self.add_curve("poor", lambda t: t.reference, dots=True, symbol="t1")
        self._values = self.add_curve("value", lambda t: t.text, dots=True)
        self._best = self.add_curve("best", lambda t: t.accent, width=2)
        self._present = self.add_level(
            lambda t: t.held_out, lambda value: filled("present settings {loss}", loss=fixed(value, 3))
        )
        self._n = 0

    def title(self) -> str:
        return tr("Held-out loss (nats)") if self._lower_is_better else tr("Score")

    def curve_names(self) -> dict[str, str]:
        poor = tr("cut short") if self._lower_is_better else tr("does not converge")
        return {"poor": poor, "value": tr("trial"), "best": tr("best so far")}

    def crosshair_text(self, x: float) -> str:
        return filled("trial {number}", number=f"{round(x):,}")

    def set_present(self, value: float | None) -> None:
        """What the settings before the search came to."""
        self.set_level(self._present, value)

    def extent(self) -> tuple[float, float]:
        """The good trials and the present settings; a diverged trial that was cut short must not flatten them."""
        present = self._present.value
        seen = present is not None and (self._lower_is_better or present > 0)
        known = [*self._values.series.y, *([present] if seen and present is not None else [])]
        return (float(min(known)), float(max(known))) if known else (math.inf, -math.inf)

    def show_trials(self, trials: Sequence[TrialFinished], n_planned: int) -> None:
        whole = [t for t in trials if t.state == "COMPLETE" and t.value is not None]
        good = [t for t in whole if not is_poor(t, self._lower_is_better)]
        self._fill("value", [(t.number + 1, t.value) for t in good])
        self._fill("poor", self._at_the_edge(trials) if good else [])
        self._fill("best", best_so_far(trials, self._lower_is_better))
        self._resize_dots(len(trials))
        self.set_span(max(n_planned, max((t.number + 1 for t in trials), default=0), 2) + 0.5)
        if len(trials) <= 1 or len(trials) < self._n:  # another study; else whoever looks closer is not disturbed
            self.reset_view()
        self._n = len(trials)
        self.refresh()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        if "value" in self.curves:
            self._resize_dots(self._n)

    def _at_the_edge(self, trials: Sequence[TrialFinished]) -> list[tuple[int, float | None]]:
        """Where the poor ones stand: at their last reading, but no farther out than the others."""
        low, high = self.extent()
        if self._lower_is_better:
            return [(t.number + 1, min(t.curve[-1], high)) for t in trials if t.state == "PRUNED" and t.curve]
        return [(t.number + 1, low) for t in trials if is_poor(t, False)]

    def _resize_dots(self, n: int) -> None:
        for name in ("value", "poor"):
            self.curves[name].item.setSymbolSize(6 if n <= CROWD else 4)
            self.curves[name].item.setSymbolPen(pg.mkPen(self.theme.surface, width=1) if n <= CROWD else None)

    def _fill(self, name: str, points: Sequence[tuple[int, float | None]]) -> None:
        finite = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
        x, y = (np.array(column, float) for column in zip(*finite, strict=True)) if finite else (np.empty(0),) * 2
        series = self.curves[name].series
        series.extend(x, y)
        series.version += 1


class CurvesPlot(pg.PlotWidget):
    """Every trial's own curve over the part of it that was done: the best one strong, the one at work live, the poor
    ones grey. Of a schedule, its critical point."""

    def __init__(self, theme: Theme, lower_is_better: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=theme.surface)
        self._lower_is_better = lower_is_better
        self.theme = theme
        self._counts = dict.fromkeys(("poor", "others", "best", "running"), 0)
        self.items_ = {name: pg.PlotDataItem(connect="finite") for name in self._counts}
        for item in self.items_.values():
            self.addItem(item, ignoreBounds=True)
        plot = self.getPlotItem()
        plot.hideButtons()
        plot.setMenuEnabled(False)
        plot.showGrid(y=True, alpha=0.10)
        plot.setContentsMargins(0, 4, 16, 2)
        for name in ("left", "bottom"):
            self.getAxis(name).enableAutoSIPrefix(False)
            self.getAxis(name).setStyle(tickLength=0, tickFont=themes.tabular(TICK_SIZE), maxTickLevel=0)
        self.getAxis("left").setWidth(AXIS_WIDTH)
        self.getAxis("bottom").setStyle(hideOverlappingLabels=16)  # the margin's width: the last one stands half in it
        if lower_is_better:
            self.getAxis("bottom").setTicks([[(part, f"{part}") for part in (0, 25, 50, 75, 100)]])
        plot.getViewBox().disableAutoRange()
        plot.getViewBox().setMouseEnabled(x=False, y=False)
        self.critical = pg.InfiniteLine(angle=90, label="", labelOpts={"position": 0.12, "movable": False})
        self.addItem(self.critical, ignoreBounds=True)
        self.critical.hide()
        self._legend = QLabel(self)
        self._legend.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        self._legend.setWordWrap(True)
        self.setMinimumSize(180, 120)
        self.set_theme(theme)

    def show_trials(
        self, trials: Sequence[TrialFinished], span: float = 100.0, running: TrialRunning | None = None
    ) -> None:
        """`span` is what the whole curve stands for: 100 percent of a trial, or N steps."""
        best = best_of(trials, self._lower_is_better)
        groups: dict[str, list[tuple[float, ...]]] = {name: [] for name in self.items_}
        for trial in trials:
            if trial.curve and trial is not best and trial.state != "FAIL":
                groups["poor" if is_poor(trial, self._lower_is_better) else "others"].append(trial.curve)
        groups["best"] = [best.curve] if best else []
        groups["running"] = [running.curve] if running and running.curve else []
        for name, curves in groups.items():
            self._counts[name] = len(curves)
            self.items_[name].setData(*_joined([self._points(curve, span) for curve in curves]))
        view = self.getPlotItem().getViewBox()
        view.setXRange(0, span, padding=0.01)
        good = [*groups["best"], *groups["others"], *groups["running"]] or groups["poor"]
        known = [value for curve in good for value in curve if math.isfinite(value)]
        if known:
            low, high = min(known), max(known)
            height = max(high - low, abs(high) * 1e-3, 1e-9)
            view.setYRange(low - 0.04 * height, low + height / (1 - HEAD), padding=0)
        self._paint()

    def set_critical(self, step: float | None) -> None:
        """Where the best schedule crosses; None hides it."""
        self.critical.setVisible(step is not None)
        if step is not None:
            self.critical.setValue(step)

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme
        self.setBackground(theme.surface)
        for name in ("left", "bottom"):
            self.getAxis(name).setPen(pg.mkPen(theme.hairline))
            self.getAxis(name).setTextPen(pg.mkPen(theme.secondary))
        self._paint()

    def retranslate(self) -> None:
        self._write_legend()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        if event is not None and self.plotItem is not None:  # pyqtgraph: while it is being built, and once it is closed
            self._write_legend()

    def _paint(self) -> None:
        theme = self.theme
        crowded = self._counts["others"] + self._counts["poor"] > CROWD
        pale, grey = QColor(theme.loss), QColor(theme.reference)
        pale.setAlphaF(0.22 if crowded else 0.5)
        grey.setAlphaF(0.25 if crowded else 0.6)
        poor = self.items_["poor"]
        stroke = Qt.PenStyle.DotLine if self._lower_is_better else Qt.PenStyle.SolidLine
        poor.setPen(pg.mkPen(grey, width=1, style=stroke))
        if self._lower_is_better:  # a single reading is no line
            poor.setSymbol("o")
            poor.setSymbolSize(3)
            poor.setSymbolPen(None)
            poor.setSymbolBrush(pg.mkBrush(grey))
        self.items_["others"].setPen(pg.mkPen(pale, width=1))
        self.items_["best"].setPen(pg.mkPen(theme.accent, width=2.5))
        running = self.items_["running"]
        running.setPen(pg.mkPen(theme.held_out, width=2, style=Qt.PenStyle.DashLine))
        running.setSymbol("o")
        running.setSymbolSize(6)
        running.setSymbolPen(pg.mkPen(theme.surface, width=1))
        running.setSymbolBrush(pg.mkBrush(theme.held_out))
        self.critical.setPen(pg.mkPen(theme.secondary, width=1, style=Qt.PenStyle.DashLine))
        self.critical.label.setColor(theme.secondary)
        self.critical.label.setFont(themes.tabular(TICK_SIZE))
        self._write_legend()

    def _write_legend(self) -> None:
        self.critical.label.setFormat(tr("critical point"))
        theme, looser = self.theme, self._lower_is_better
        title = tr("Held-out loss over % of the tokens") if looser else tr("Alpha over the steps")
        parts = [f'<span style="color:{theme.text}; font-weight:600">{title}</span>']
        for name, colour, stroke, words in (
            ("best", theme.accent, "━", tr("the best")),
            ("running", theme.held_out, "╍", tr("the one at work")),
            ("others", theme.loss, "─", tr("the others")),
            ("poor", theme.reference, "┄" if looser else "─", tr("cut short") if looser else tr("does not converge")),
        ):
            if self._counts[name]:
                words = words.replace(" ", "&nbsp;")
                parts.append(f'<span style="color:{colour}">{stroke}</span>&nbsp;'
                             f'<span style="color:{theme.secondary}">{words}</span>')  # fmt: skip
        self._legend.setText("&nbsp; ".join(parts))
        self._legend.setFont(themes.tabular(themes.SMALL))
        width = max(self.width() - AXIS_WIDTH - MARGIN_PX - 12, 60)
        self._legend.setGeometry(AXIS_WIDTH + MARGIN_PX, 4, width, self._legend.heightForWidth(width))

    def _points(self, curve: tuple[float, ...], span: float) -> tuple[list[float], list[float]]:
        """A schedule's curve covers the span; readings of a training come at every quarter."""
        if self._lower_is_better:
            return [span * (i + 1) / QUARTERS for i in range(len(curve))], list(curve)
        n = max(len(curve) - 1, 1)
        return [span * i / n for i in range(len(curve))], list(curve)


def _joined(curves: list[tuple[list[float], list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """All curves as one, with gaps between them: one item draws a thousand of them as fast as one."""
    gap = np.array([np.nan])
    parts = [(np.concatenate([x, gap]), np.concatenate([y, gap])) for x, y in curves]
    if not parts:
        return np.empty(0), np.empty(0)
    xs, ys = zip(*parts, strict=True)
    return np.concatenate(xs), np.concatenate(ys)
