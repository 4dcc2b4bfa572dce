"""How the optimiser walks: its learning rate, and how steep the ground is."""

import math

from PySide6.QtWidgets import QWidget

from .i18n import filled, tr
from .live_plot import LivePlot
from .text import number
from .theme import Theme


class LearningRatePlot(LivePlot):
    """The adapter's learning rate: warm-up, then whatever its schedule says."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._rate = self.add_curve("rate", lambda t: t.loss, width=1.5)

    def title(self) -> str:
        return tr("Learning rate")

    def curve_names(self) -> dict[str, str]:
        return {"rate": tr("adapter")}

    def absent(self) -> str:
        return tr("It is drawn from the first step on.")

    def add_rate(self, step: int, rate: float | None) -> None:
        self._rate.series.append(step, rate)

    def extent(self) -> tuple[float, float]:
        low, high = super().extent()
        return min(low, 0.0), high


class GradientPlot(LivePlot):
    """The norms of both gradients before they are shortened, and the length above which they are."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._gate = self.add_curve("gate", lambda t: t.gate, width=1, noisy=True)
        self._adapter = self.add_curve("adapter", lambda t: t.loss, width=1, noisy=True)
        self._limit = self.add_level(
            lambda t: t.reference, lambda limit: filled("clipped above {limit}", limit=number(limit))
        )

    def title(self) -> str:
        return tr("Gradient norm")

    def curve_names(self) -> dict[str, str]:
        return {"adapter": tr("adapter"), "gate": tr("gate and rotation")}

    def absent(self) -> str:
        return tr("It is drawn from the first step on.")

    def add_adapter(self, step: int, norm: float | None) -> None:
        self._adapter.series.append(step, norm)

    def add_gate(self, step: int, norm: float | None) -> None:
        self._gate.series.append(step, norm)

    def set_limit(self, limit: float | None) -> None:
        self.set_level(self._limit, limit)

    def extent(self) -> tuple[float, float]:
        low, high = super().extent()
        return (min(low, 0.0), high) if math.isfinite(high) else (low, high)
