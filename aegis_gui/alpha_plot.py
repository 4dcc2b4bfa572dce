"""Alpha's way and the gate it opens."""

import math
from collections.abc import Callable

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from aegis_core.plan import GOLDEN_RATIO, SoulPlan
from aegis_core.soul import schedule

from .i18n import filled, mark, tr
from .live_plot import LivePlot
from .series import Series
from .text import fixed
from .theme import Theme, tabular

PlanMark = tuple[Callable[[], str], float, float]  # name, step, alpha

MAX_DRAWN_SCHEDULE = 2000  # points: a schedule of a million steps has no more shape than that


class AlphaPlot(LivePlot):
    """Alpha's past solid, its scheduled future dotted; the gate's openness as a level rising behind it."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._openness = pg.ViewBox(enableMenu=False)
        self._openness.setMouseEnabled(x=False, y=False)
        self.scene().addItem(self._openness)
        self._openness.setZValue(-10)
        self._openness.setXLink(self.view)
        self._openness.setYRange(0, 1.35, padding=0)
        right = self.getAxis("right")
        right.linkToView(self._openness)
        right.setTicks([[(0, "0"), (0.5, "½"), (1, "1")]])
        right.setStyle(tickLength=0, tickFont=tabular(11))
        right.setWidth(20)
        self.showAxis("right")
        self.view.sigResized.connect(self._align)
        self._alpha = self.add_curve("alpha", lambda t: t.alpha, width=2, read=lambda value: fixed(value, 3))
        self._gate = self.add_curve(
            "gate", lambda t: t.gate, self._openness, width=1, fill=True, read=lambda value: fixed(value, 3)
        )
        self._planned = self.add_curve(
            "planned", lambda t: t.alpha, width=1.5, style=Qt.PenStyle.DotLine, read=lambda value: fixed(value, 3)
        )
        self._special = self.add_curve("special", lambda t: t.alpha, dots=True)
        self._target = self.add_level(lambda t: t.alpha, _target_text)
        self._schedule: tuple[np.ndarray, np.ndarray] = (np.empty(0), np.empty(0))

    def title(self) -> str:
        return tr("Alpha and gate")

    def curve_names(self) -> dict[str, str]:
        names = {"alpha": "α", "gate": tr("gate σ(α)")}
        return names if self.cursor is None else names | {"planned": tr("planned")}

    def all_names(self) -> dict[str, str]:
        return {"alpha": "α", "gate": tr("gate σ(α)"), "planned": tr("planned"), "special": tr("marked points")}

    def add_alpha(self, step: int, alpha: float | None) -> None:
        self._alpha.series.append(step, alpha)

    def add_gate(self, step: int, openness: float | None) -> None:
        self._gate.series.append(step, openness)

    def set_schedule(self, n_steps: int, soul: SoulPlan) -> None:
        """Draw where alpha is going: the curve to come, its steepest point, the half-open gate, the target.

        Nobody knows where a learned alpha is going: nothing is drawn for it.
        """
        if soul.alpha == "learned":
            self._draw_plan((np.empty(0), np.empty(0)), [], None)
            return
        n = min(n_steps, MAX_DRAWN_SCHEDULE)
        stretch = (n_steps - 1) / (n - 1)
        alphas = schedule.curve(n, soul)
        critical, half_open = schedule.critical_step(n, soul), schedule.half_open_step(n, soul)
        marks: list[PlanMark] = [(lambda: tr("critical point"), critical * stretch + 1, alphas[critical])]
        if half_open is not None:
            marks.append((lambda: tr("gate half open"), half_open * stretch + 1, alphas[half_open]))
        self._draw_plan((np.arange(n) * stretch + 1, np.array(alphas)), marks, soul.alpha_target)

    def refresh(self) -> None:
        self._show_future()
        super().refresh()

    def forget(self) -> None:
        self._schedule = (np.empty(0), np.empty(0))
        self.set_marks([])
        super().forget()

    def extent(self) -> tuple[float, float]:
        known = [self._target.value] if self._target.value is not None else []
        y = self._schedule[1]
        if len(y):
            known += [float(y.min()), float(y.max())]
        alpha = self._alpha.series
        lows, highs = [*known, alpha.low], [*known, alpha.high]
        return (min(lows), max(highs)) if known or len(alpha) else (math.inf, -math.inf)

    def extent_between(self, first: float, last: float) -> tuple[float, float]:
        """The whole way: half a way is not a schedule."""
        return self.extent()

    @property
    def alpha_series(self) -> Series:
        return self._alpha.series

    def _draw_plan(self, way: tuple[np.ndarray, np.ndarray], marks: list[PlanMark], target: float | None) -> None:
        self._schedule = way
        self._special.series.extend(np.array([m[1] for m in marks]), np.array([m[2] for m in marks]))
        self.set_marks(marks)
        self._show_future()
        self.set_level(self._target, target)

    def _show_future(self) -> None:
        x, y = self._schedule
        alpha = self._alpha.series
        begin = int(np.searchsorted(x, alpha.x[-1], side="right")) if len(alpha) else 0
        if len(self._planned.series) != len(x) - begin:
            self._planned.series.extend(x[begin:], y[begin:])

    def _align(self) -> None:
        self._openness.setGeometry(self.view.sceneBoundingRect())


def _target_text(alpha: float) -> str:
    golden = abs(alpha - GOLDEN_RATIO) < 1e-6
    return filled(mark("golden ratio {alpha}") if golden else mark("target {alpha}"), alpha=fixed(alpha, 3))
