"""Memory as it was: what this run holds, part by part, and everything else, against the whole and the forecast."""

import math

from PySide6.QtWidgets import QWidget

from aegis_core.events import Telemetry

from .i18n import filled, tr
from .live_plot import LivePlot
from .plot_parts import Curve
from .text import fixed
from .theme import Theme

GB = 1e9  # bytes
# Each contains the ones before it, so that the strips between their curves are the parts.
ALLOCATED = {"vram_resting_bytes": "resting", "vram_peak_bytes": "peak", "vram_reserved_bytes": "reserved"}
LOW_PX = 150  # in a plot lower than this the legend of all parts would cover them
STACK = (*ALLOCATED.values(), "own", "used")


class MemoryPlot(LivePlot):
    """GB of the card where there is one, of the machine otherwise. The legend reads the parts, the curves their sum."""

    _of_card = False

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        colours = {  # as the forecast's parts are coloured beside the settings; the last drawn stands in front
            "used": lambda t: t.control,
            "own": lambda t: t.control_run,
            "reserved": lambda t: t.loss_raw,
            "peak": lambda t: t.loss,
            "resting": lambda t: t.memory,
        }
        for name, colour in colours.items():
            self.add_curve(name, colour, width=1, fill=True, fill_strength=0.35, read=lambda v: fixed(v, 1))
        self._total = self.add_level(
            lambda t: t.reference, lambda total: filled("total {memory} GB", memory=fixed(total, 1))
        )
        self._forecast = self.add_level(
            lambda t: t.text, lambda need: filled("forecast {memory} GB", memory=fixed(need, 1))
        )

    def title(self) -> str:
        return tr("GPU memory (GB)") if self._of_card else tr("Memory (GB)")

    def absent(self) -> str:
        return tr("Nothing has been read yet.")

    def curve_names(self) -> dict[str, str]:
        """Short, for five of them have to fit, from the top of the stack down; in a low plot two have to do."""
        if self._is_low:
            return {"used": tr("others") if self._has("own") else tr("in use"), "own": tr("this run")}
        divided = self._has("reserved")
        own = tr("libraries") if divided else tr("this run")
        rest = tr("others") if self._has("own") or divided else tr("in use")
        return {"used": rest, "own": own, "reserved": tr("reserve"), "peak": tr("step"), "resting": tr("model")}

    def all_names(self) -> dict[str, str]:
        """The curves themselves: everything below each of them."""
        return {
            "used": tr("in use"),
            "own": tr("this run"),
            "reserved": tr("held by the allocator"),
            "peak": tr("most in use at once"),
            "resting": tr("model, adapter and optimiser"),
        }

    def reading(self, curve: Curve, x: float | None) -> float | None:
        """The part that lies between this curve and the next one below it."""
        value = super().reading(curve, x)
        if value is None or (self._is_low and curve.name == "own"):
            return value
        below = (super(MemoryPlot, self).reading(self.curves[name], x) for name in STACK[: STACK.index(curve.name)])
        return max(value - max((part for part in below if part is not None), default=0.0), 0.0)

    def add_allocated(self, name: str, step: int, n_bytes: float | None) -> None:
        """What torch's allocator counts: one of ALLOCATED, after a step."""
        self.curves[ALLOCATED[name]].series.append(step, _in_gb(n_bytes))

    def add_reading(self, x: float, reading: Telemetry) -> None:
        self._of_card = reading.vram_total_bytes is not None
        used, own, total = (
            (reading.vram_used_bytes, reading.vram_own_bytes, reading.vram_total_bytes)
            if self._of_card
            else (reading.ram_used_bytes, reading.ram_own_bytes, reading.ram_total_bytes)
        )
        self.curves["used"].series.append(x, _in_gb(used))
        self.curves["own"].series.append(x, _in_gb(own))
        if total is not None and self._total.value != total / GB:
            self.set_level(self._total, total / GB)

    def set_forecast(self, n_bytes: float | None) -> None:
        """What the training should take in all, other programs included."""
        self.set_level(self._forecast, _in_gb(n_bytes))

    def extent(self) -> tuple[float, float]:
        high = max(curve.series.high for curve in self.curves.values())
        total, need = self._total.value, self._forecast.value or 0.0
        if not math.isfinite(high):
            return (0.0, total) if total is not None else (math.inf, -math.inf)
        high = max(high, need)
        # The whole card is shown once a good part of it is in use; a big machine's RAM would flatten the curve.
        return 0.0, max(total * 1.02, high) if total is not None and high > total / 4 else high * 1.1

    def extent_between(self, first: float, last: float) -> tuple[float, float]:
        """Parts of a whole are read against the whole."""
        return self.extent()

    @property
    def _is_low(self) -> bool:
        return self.cursor is None and self.height() < LOW_PX

    def _has(self, name: str) -> bool:
        return bool(len(self.curves[name].series)) if name in self.curves else False


def _in_gb(n_bytes: float | None) -> float | None:
    return None if n_bytes is None else n_bytes / GB
