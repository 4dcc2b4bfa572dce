"""What the machine does meanwhile: how busy and how warm it is, what it draws, how many tokens it gets through."""

import math

from PySide6.QtWidgets import QWidget

from aegis_core.events import Telemetry

from .i18n import tr
from .live_plot import LivePlot
from .text import fixed
from .theme import Theme


class LoadPlot(LivePlot):
    """Use in % and temperature in °C of the card; without a card the use of the processor."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._cpu = self.add_curve("cpu", lambda t: t.reference, width=1, noisy=True, read=_percent)
        self._use = self.add_curve("use", lambda t: t.memory, width=1, noisy=True, read=_percent)
        self._heat = self.add_curve("heat", lambda t: t.fixed_run, width=1.75, read=lambda v: f"{fixed(v, 0)} °C")

    def title(self) -> str:
        return tr("Use and temperature")

    def curve_names(self) -> dict[str, str]:
        return {"use": tr("GPU"), "heat": tr("GPU temperature"), "cpu": tr("CPU")}

    def absent(self) -> str:
        return tr("Nothing has been read yet.")

    def add_reading(self, x: float, reading: Telemetry) -> None:
        self._use.series.append(x, reading.gpu_percent)
        self._heat.series.append(x, reading.gpu_celsius)
        self._cpu.series.append(x, reading.cpu_percent)

    def extent(self) -> tuple[float, float]:
        _, high = super().extent()
        return (0.0, max(high, 100.0)) if math.isfinite(high) else (math.inf, -math.inf)


class PowerPlot(LivePlot):
    """What the card draws, in W."""

    _has_read = False

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._watts = self.add_curve("watts", lambda t: t.memory, width=1, noisy=True, fill=True, read=_watts)

    def title(self) -> str:
        return tr("Power (W)")

    def curve_names(self) -> dict[str, str]:
        return {"watts": tr("GPU")}

    def absent(self) -> str:
        if self._has_read:
            return tr("The driver does not tell the GPU's power.")
        return tr("Nothing has been read yet.")

    def add_reading(self, x: float, reading: Telemetry) -> None:
        self._has_read = True
        self._watts.series.append(x, reading.gpu_watts)

    def forget(self) -> None:
        self._has_read = False
        super().forget()

    def extent(self) -> tuple[float, float]:
        _, high = super().extent()
        return (0.0, high * 1.1) if math.isfinite(high) else (math.inf, -math.inf)


class SpeedPlot(LivePlot):
    """Tokens a second, of each step."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._speed = self.add_curve("speed", lambda t: t.loss, width=1, noisy=True)

    def title(self) -> str:
        return tr("Speed (tokens/s)")

    def curve_names(self) -> dict[str, str]:
        return {"speed": tr("each step")}

    def absent(self) -> str:
        return tr("It is drawn from the first step on.")

    def add_speed(self, step: int, tokens_per_second: float | None) -> None:
        self._speed.series.append(step, tokens_per_second)

    def extent(self) -> tuple[float, float]:
        _, high = super().extent()
        return (0.0, high * 1.05) if math.isfinite(high) else (math.inf, -math.inf)


def _percent(value: float) -> str:
    return f"{fixed(value, 0)} %"


def _watts(value: float) -> str:
    return f"{fixed(value, 0)} W"
