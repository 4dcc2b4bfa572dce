"""The four curves of the soul injection: loss, alpha and gate, memory, rotation."""

import math
from collections.abc import Callable

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from aegis_core.events import Telemetry
from aegis_core.plan import GOLDEN_RATIO, SoulPlan
from aegis_core.soul import schedule

from .i18n import filled, mark, tr
from .live_plot import LivePlot
from .series import Series, Smoother
from .text import fixed
from .theme import Theme, tabular

GB = 1e9  # bytes

PlanMark = tuple[Callable[[], str], float, float]  # name, step, alpha

MAX_DRAWN_SCHEDULE = 2000  # points: a schedule of a million steps has no more shape than that


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
        if self._cursor is None:  # the legend has to leave room for the curves
            compared = any(name in self.curves and len(self.curves[name].series) for name in ("lora", "fixed"))
            return names if compared else {"raw": tr("each step")} | names
        names |= {"raw": tr("each step")}
        return names | {"lora held-out": tr("without gate, held-out"), "fixed held-out": tr("gate open, held-out")}

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


class AlphaPlot(LivePlot):
    """Alpha's past solid, its scheduled future dotted; the gate's openness as a level rising behind it."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._openness = pg.ViewBox(enableMenu=False)
        self._openness.setMouseEnabled(x=False, y=False)
        self.scene().addItem(self._openness)
        self._openness.setZValue(-10)
        self._openness.setXLink(self.view)
        self._openness.setYRange(0, 1.2, padding=0)
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
        return names if self._cursor is None else names | {"planned": tr("planned")}

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


class MemoryPlot(LivePlot):
    """Memory in GB: of the card where there is one, of the machine otherwise; this run's part and everything in use."""

    _of_card = False
    _replayed_until = 0

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._used = self.add_curve("used", lambda t: t.reference, width=1, fill=True, read=lambda v: fixed(v, 1))
        self._own = self.add_curve("own", lambda t: t.memory, width=2, fill=True, read=lambda v: fixed(v, 1))
        self._total = self.add_level(
            lambda t: t.reference, lambda total: filled("total {memory} GB", memory=fixed(total, 1))
        )
        self._forget()

    def title(self) -> str:
        return tr("GPU memory (GB)") if self._of_card else tr("Memory (GB)")

    def curve_names(self) -> dict[str, str]:
        return {"used": tr("in use"), "own": tr("this run")}

    def add_step_time(self, step: int, at: float) -> None:
        """When a step ended, so that readings taken between two steps find their place on the axis of steps.

        at = 0 (a replay that no longer knows) spreads the readings evenly up to that step.
        """
        if at:
            self._step_times.append(at, step)
        else:
            self._replayed_until = max(self._replayed_until, step)

    def add_reading(self, reading: Telemetry) -> None:
        self._of_card = reading.vram_total_bytes is not None
        used, own, total = (
            (reading.vram_used_bytes, reading.vram_own_bytes, reading.vram_total_bytes)
            if self._of_card
            else (reading.ram_used_bytes, reading.ram_own_bytes, reading.ram_total_bytes)
        )
        self._used_readings.append(reading.at, _in_gb(used))
        self._own_readings.append(reading.at, _in_gb(own))
        if total is not None and self._total.value != total / GB:
            self.set_level(self._total, total / GB)

    def extent(self) -> tuple[float, float]:
        high = max(self._used.series.high, self._own.series.high)
        total = self._total.value
        if not math.isfinite(high):
            return (0.0, total) if total is not None else (math.inf, -math.inf)
        # The whole card is shown once a good part of it is in use; a big machine's RAM would flatten the curve.
        return 0.0, total * 1.02 if total is not None and high > total / 4 else high * 1.1

    def refresh(self) -> None:
        for readings, curve in ((self._used_readings, self._used), (self._own_readings, self._own)):
            if len(readings):
                x = self._steps_at(readings.x)
                last_of_its_place = np.append(np.diff(x) > 0, True)
                curve.series.extend(x[last_of_its_place], readings.y[last_of_its_place])
        super().refresh()

    def forget(self) -> None:
        self._forget()
        super().forget()

    def _forget(self) -> None:
        self._used_readings, self._own_readings, self._step_times = Series(), Series(), Series()
        self._replayed_until = 0

    def _steps_at(self, at: np.ndarray) -> np.ndarray:
        """(n,) moments -> (n,) places on the axis of steps."""
        if len(self._step_times) < 2:
            return np.linspace(0, self._replayed_until, len(at) + 1)[1:]
        return np.interp(at, self._step_times.x, self._step_times.y, left=0)


class RotationPlot(LivePlot):
    """How far the rotation has turned away from the identity."""

    _error: float | None = None

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._angle = self.add_curve("angle", lambda t: t.text, width=1.5)

    def title(self) -> str:
        return tr("Rotation (rad)")

    def curve_names(self) -> dict[str, str]:
        return {"angle": tr("rms angle")}

    def note(self) -> str:
        return "" if self._error is None else f"|RᵀR−I| {self._error:.0e}"

    def set_orthogonality_error(self, error: float | None) -> None:
        self._error = error

    def forget(self) -> None:
        self._error = None
        super().forget()

    def add_angle(self, step: int, radians: float | None) -> None:
        self._angle.series.append(step, radians)

    def extent(self) -> tuple[float, float]:
        low, high = super().extent()
        return min(low, 0.0), max(high, 1e-4) if math.isfinite(high) else high


def _target_text(alpha: float) -> str:
    golden = abs(alpha - GOLDEN_RATIO) < 1e-6
    return filled(mark("golden ratio {alpha}") if golden else mark("target {alpha}"), alpha=fixed(alpha, 3))


def _in_gb(n_bytes: int | None) -> float | None:
    return None if n_bytes is None else n_bytes / GB
