"""The phase portrait: the loss against alpha, the way the training took through both."""

import math

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt
from PySide6.QtWidgets import QWidget

from aegis_core.plan import SoulPlan
from aegis_core.soul import schedule

from .alpha_plot import MAX_DRAWN_SCHEDULE
from .i18n import filled, tr
from .live_plot import LivePlot
from .plot_table import written
from .series import Series
from .text import fixed
from .theme import Theme, tabular

MAX_DRAWN = 1000  # points: more has no more shape in a plot this wide


class PortraitPlot(LivePlot):
    """Alpha to the right, the smoothed loss upwards; the round point is now, or where the crosshair of the others
    stands. It reads what the plots of alpha and loss have drawn: `alpha` and `loss` are their series over the steps.
    """

    _ends = (-5.0, 2.0)  # of alpha's way
    _critical: float | None = None

    def __init__(self, theme: Theme, alpha: Series, loss: Series, parent: QWidget | None = None) -> None:
        self._alpha, self._loss = alpha, loss
        self._drawn = (-1, -1)
        self._way = pg.PlotDataItem(skipFiniteCheck=True, connect="all", antialias=True)
        self._here = pg.PlotDataItem(symbol="o", symbolSize=8, pen=None)
        self._line = pg.InfiniteLine(angle=90, label="", labelOpts={"position": 0.06, "anchors": [(1, 1), (1, 1)]})
        super().__init__(theme, parent)
        for item in (self._way, self._here, self._line):
            self.addItem(item, ignoreBounds=True)
        self._base = self.add_level(lambda t: t.held_out, lambda loss: filled("base model {loss}", loss=fixed(loss, 3)))
        self.retranslate()

    def title(self) -> str:
        return tr("Loss against alpha")

    def curve_names(self) -> dict[str, str]:
        return {}

    def note(self) -> str:
        found = self._place(self.cursor)
        if found is None:
            return ""
        step, alpha, loss = found
        return filled(
            "step {step}: α {alpha}, loss {loss}", step=f"{step:,}", alpha=fixed(alpha, 3), loss=fixed(loss, 3)
        )

    def absent(self) -> str:
        return "" if len(self._loss) else tr("It is drawn from the first step on.")

    def points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(steps, alphas, smoothed losses) of the way drawn, each (n,), n at most MAX_DRAWN."""
        n = len(self._loss)
        if not n or not len(self._alpha):
            return np.empty(0), np.empty(0), np.empty(0)
        chosen = np.unique(np.linspace(0, n - 1, min(n, MAX_DRAWN)).round().astype(int))
        steps = self._loss.x[chosen]
        return steps, np.interp(steps, self._alpha.x, self._alpha.y), self._loss.y[chosen]

    def set_base(self, loss: float | None) -> None:
        self.set_level(self._base, loss)

    def set_schedule(self, n_steps: int, soul: SoulPlan) -> None:
        """Show alpha's whole way and where it is steepest; a learned alpha shows where it has been."""
        if soul.alpha == "learned":
            self._critical = None
        else:
            n = min(n_steps, MAX_DRAWN_SCHEDULE)
            self._critical = schedule.curve(n, soul)[schedule.critical_step(n, soul)]
            self._line.setValue(self._critical)
        self._line.setVisible(self._critical is not None)
        low, high = sorted((soul.alpha_start, soul.alpha_target))
        self._ends = (low, high)
        self.set_span(high)

    def set_span(self, last: float) -> None:
        """The x axis is alpha's: it does not follow the number of steps."""
        low, high = self._ends
        room = (high - low) * 0.03
        self.view.setLimits(xMin=low - room, xMax=high + room, minXRange=(high - low) / 100)
        if not self.is_zoomed:
            self.view.setXRange(low, high, padding=0.03)

    def extent(self) -> tuple[float, float]:
        low, high = self._loss.low, self._loss.high
        if self._base.value is None or not math.isfinite(low):
            return low, high
        return min(low, self._base.value), max(high, self._base.value)

    def extent_between(self, first: float, last: float) -> tuple[float, float]:
        _, alphas, losses = self.points()
        part = losses[(alphas >= first) & (alphas <= last)]
        return (float(part.min()), float(part.max())) if len(part) else (math.inf, -math.inf)

    def table(self) -> list[list[str]]:
        low, high = self.view.viewRange()[0]
        base = self._base.value
        header = ["step", "alpha", tr("smoothed"), *([self._base.text(base)] if base is not None else [])]
        rows = [
            [written(step), written(alpha), written(loss), *([written(base)] if base is not None else [])]
            for step, alpha, loss in zip(*(column.tolist() for column in self.points()), strict=True)
            if low <= alpha <= high
        ]
        return [header, *rows]

    def refresh(self) -> None:
        now = (self._alpha.version, self._loss.version)
        if now != self._drawn:
            self._drawn = now
            _, alphas, losses = self.points()
            self._way.setData(alphas, losses)
            self._show_here()
        super().refresh()

    def forget(self) -> None:
        self._drawn = (-1, -1)
        super().forget()

    def show_crosshair(self, x: float | None) -> None:
        """Where the training stood at step x."""
        self.cursor = x
        self._show_here()
        if self.isVisible():
            self._write_legend()

    def cursor_range(self) -> tuple[float, float]:
        steps = self._loss.x
        return (float(steps[0]), float(steps[-1])) if len(steps) else (0.0, 0.0)

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self._way.setPen(pg.mkPen(theme.loss, width=2))
        self._here.setSymbolBrush(pg.mkBrush(theme.alpha))
        self._here.setSymbolPen(pg.mkPen(theme.surface, width=1))
        self._line.setPen(pg.mkPen(theme.alpha, width=1, style=Qt.PenStyle.DotLine))
        self._line.label.setColor(theme.secondary)

    def retranslate(self) -> None:
        super().retranslate()
        self._line.label.setFormat(tr("critical point"))
        self._line.label.setFont(tabular(11))

    def _place(self, step: float | None) -> tuple[int, float, float] | None:
        """(step, alpha, smoothed loss) at a step, or at the last one."""
        if not len(self._loss) or not len(self._alpha):
            return None
        index = len(self._loss) - 1
        if step is not None:
            index = min(int(np.searchsorted(self._loss.x, step - 0.5)), index)
        at = float(self._loss.x[index])
        return round(at), float(np.interp(at, self._alpha.x, self._alpha.y)), float(self._loss.y[index])

    def _show_here(self) -> None:
        found = self._place(self.cursor)
        self._here.setData([found[1]] if found else [], [found[2]] if found else [])

    def _mouse_moved(self, spot: QPointF) -> None:
        """The step whose point lies nearest to the mouse is the one that all plots read."""
        steps, alphas, losses = self.points()
        if not len(steps) or not self.view.sceneBoundingRect().contains(spot):
            self.hovered.emit(None)
            return
        here, (wide, high) = self.view.mapSceneToView(spot), self.view.viewPixelSize()
        nearest = np.argmin(((alphas - here.x()) / wide) ** 2 + ((losses - here.y()) / high) ** 2)
        self.hovered.emit(float(steps[nearest]))
