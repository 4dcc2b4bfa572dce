"""The loss: each step, smoothed, held out, beside the base model, chance and the controls."""

import math

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from .i18n import filled, tr
from .live_plot import LivePlot
from .series import Series, Smoother
from .text import fixed
from .theme import Theme


class LossPlot(LivePlot):
    """Loss in nats: raw pale, smoothed strong, held-out as points, base model and chance level as dashed lines.

    The controls are smoothed alike and drawn in strokes of their own, above the solid line, which shows through where
    they are the same; their held-out losses are points of their own.
    """

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._raw = self.add_curve("raw", lambda t: t.loss_raw, width=1, noisy=True)
        self._smooth = self.add_curve("smooth", lambda t: t.loss, width=2)
        self._held_out = self.add_curve("held_out", lambda t: t.held_out, dots=True)
        self._controls = {
            "lora": self.add_curve("lora", lambda t: t.control_run, width=1.75, style=Qt.PenStyle.DashLine),
            "fixed": self.add_curve("fixed", lambda t: t.fixed_run, width=1.75, style=Qt.PenStyle.DashDotLine),
        }
        self._controls_held_out = {
            "lora": self.add_curve("lora held-out", lambda t: t.control_run, dots=True, symbol="t1"),
            "fixed": self.add_curve("fixed held-out", lambda t: t.fixed_run, dots=True, symbol="s"),
        }
        self._base = self.add_level(lambda t: t.held_out, lambda loss: filled("base model {loss}", loss=fixed(loss, 3)))
        self._chance = self.add_level(
            lambda t: t.reference, lambda loss: filled("chance ln V {loss}", loss=fixed(loss, 3))
        )
        self._smoother = Smoother(10)
        self._control_smoothers = {name: Smoother(10) for name in self._controls}

    def title(self) -> str:
        return tr("Loss (nats)")

    def curve_names(self) -> dict[str, str]:
        names = {
            "smooth": tr("smoothed"),
            "held_out": tr("held-out"),
            "lora": tr("without gate"),
            "fixed": tr("gate open from the start"),
        }
        if self.cursor is None:  # the legend has to leave room for the curves
            compared = any(name in self.curves and len(self.curves[name].series) for name in ("lora", "fixed"))
            return names if compared else {"raw": tr("each step")} | names
        return self.all_names()

    def all_names(self) -> dict[str, str]:
        return {
            "raw": tr("each step"),
            "smooth": tr("smoothed"),
            "held_out": tr("held-out"),
            "lora": tr("without gate"),
            "fixed": tr("gate open from the start"),
            "lora held-out": tr("without gate, held-out"),
            "fixed held-out": tr("gate open, held-out"),
        }

    def absent(self) -> str:
        return tr("It is drawn from the first step on.")

    def set_span(self, last: float) -> None:
        super().set_span(last)
        if "raw" in self.curves:
            for smoother in (self._smoother, *self._control_smoothers.values()):
                smoother.window = min(max(last / 40, 4), 400)

    def add_loss(self, step: int, loss: float | None) -> None:
        if self._raw.series.append(step, loss) and loss is not None:
            self._smooth.series.append(step, self._smoother(loss))

    def add_control(self, name: str, step: int, loss: float | None) -> None:
        """A training step of the control "lora" (without gate) or "fixed" (gate open from the start)."""
        if step == 1:
            self._control_smoothers[name].reset()
        if loss is not None and math.isfinite(loss):
            self._controls[name].series.append(step, self._control_smoothers[name](loss))

    def add_control_held_out(self, name: str, step: int, loss: float | None) -> None:
        self._controls_held_out[name].series.append(step, loss)

    def add_held_out(self, step: int, loss: float | None) -> None:
        self._held_out.series.append(step, loss)

    def set_base(self, loss: float | None) -> None:
        """The base model's held-out loss."""
        self.set_level(self._base, loss)

    def set_chance(self, loss: float | None) -> None:
        """ln V: what a model that knows nothing reaches."""
        self.set_level(self._chance, loss)

    @property
    def smoothed(self) -> float | None:
        return self._smooth.series.last

    @property
    def smoothed_series(self) -> Series:
        return self._smooth.series

    def extent(self) -> tuple[float, float]:
        """Chance level lies far above a working model's loss; it comes into view when the loss goes there."""
        low, high = super().extent()
        if self._base.value is None:
            return low, high
        room = max(abs(self._base.value) * 0.02, 0.02)
        return min(low, self._base.value - room), max(high, self._base.value + room)

    def forget(self) -> None:
        for smoother in (self._smoother, *self._control_smoothers.values()):
            smoother.reset()
        super().forget()
