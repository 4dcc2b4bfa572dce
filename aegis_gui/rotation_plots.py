"""The rotation: how far it has turned, and how well it stayed one."""

import math

from PySide6.QtWidgets import QWidget

from .i18n import tr
from .live_plot import LivePlot
from .theme import Theme


class RotationPlot(LivePlot):
    """How far the rotation has turned away from the identity: in the mean, and its block that turned furthest."""

    _error: float | None = None

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._largest = self.add_curve("largest", lambda t: t.reference, width=1)
        self._angle = self.add_curve("angle", lambda t: t.text, width=1.5)

    def title(self) -> str:
        return tr("Rotation (rad)")

    def curve_names(self) -> dict[str, str]:
        return {"angle": tr("rms angle"), "largest": tr("largest block")}

    def note(self) -> str:
        return "" if self._error is None else f"|RᵀR−I| {self._error:.0e}"

    def absent(self) -> str:
        return tr("It is drawn from the first step on.")

    def set_orthogonality_error(self, error: float | None) -> None:
        self._error = error

    def forget(self) -> None:
        self._error = None
        super().forget()

    def add_angle(self, step: int, radians: float | None) -> None:
        self._angle.series.append(step, radians)

    def add_largest(self, step: int, radians: float | None) -> None:
        self._largest.series.append(step, radians)

    def extent(self) -> tuple[float, float]:
        low, high = super().extent()
        return min(low, 0.0), max(high, 1e-4) if math.isfinite(high) else high


class OrthogonalityPlot(LivePlot):
    """The largest entry of |RᵀR − I|: rounding and nothing else, or the rotation is none."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._error = self.add_curve("error", lambda t: t.text, width=1, noisy=True, read=lambda v: f"{v:.1e}")

    def title(self) -> str:
        return tr("Orthogonality error |RᵀR−I|")

    def curve_names(self) -> dict[str, str]:
        return {"error": tr("largest entry")}

    def absent(self) -> str:
        return tr("It is drawn from the first step on.")

    def add_error(self, step: int, error: float | None) -> None:
        self._error.series.append(step, error)

    def extent(self) -> tuple[float, float]:
        low, high = super().extent()
        return min(low, 0.0), max(high, 1e-15) if math.isfinite(high) else high
