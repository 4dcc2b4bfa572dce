"""The instrument of the soul injection: where it is, whether it goes well, how long still."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import cast

from PySide6.QtCore import QEvent, QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from aegis_core.events import (
    Event,
    Metric,
    Paused,
    PhaseChanged,
    Progress,
    Sample,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepStarted,
    Telemetry,
)
from aegis_core.plan import Plan
from aegis_core.soul import schedule

from . import text
from .figures import Figure
from .i18n import filled, tr
from .live_plot import link
from .panels import card
from .plot_parts import phase_word
from .plots import MAX_DRAWN_SCHEDULE, AlphaPlot, LossPlot, MemoryPlot, RotationPlot
from .samples import Samples
from .theme import Theme

# However fast the events come, everything is drawn at most 20 times a second: one part every 10 ms, in turn, so that
# no single stretch of drawing holds the window up.
TURN_MS = 10
FIGURE_WIDTHS = {"step": 3, "loss": 3, "held_out": 5, "alpha": 3, "gate": 5, "speed": 3, "time": 5}
PACE_STEPS = 60


class Cockpit(QWidget):
    """Give it every event of the training step; it draws at its own pace, and only while it can be seen."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme = theme
        self.loss, self.alpha = LossPlot(theme), AlphaPlot(theme)
        self.memory, self.rotation = MemoryPlot(theme), RotationPlot(theme)
        self.plots = [self.loss, self.alpha, self.memory, self.rotation]
        link(self.plots)
        self.figures = {name: Figure() for name in FIGURE_WIDTHS}
        self.samples = Samples()
        self._handlers: dict[type[Event], Callable[[Event], None]] = {
            StepStarted: self._started,
            Progress: self._progressed,
            Metric: self._measured,
            PhaseChanged: self._phase_changed,
            Telemetry: self._read,
            Sample: self._said,
            Paused: self._paused_or_not,
            StepFinished: self._ended,
            StepFailed: self._ended,
            StepCancelled: self._ended,
        }
        self._curves: dict[str, Callable[[int, float | None], object]] = {
            "loss": self.loss.add_loss,
            "lora_loss": partial(self.loss.add_control, "lora"),
            "fixed_loss": partial(self.loss.add_control, "fixed"),
            "held_out_loss": self.loss.add_held_out,
            "lora_held_out_loss": partial(self.loss.add_control_held_out, "lora"),
            "fixed_held_out_loss": partial(self.loss.add_control_held_out, "fixed"),
            "alpha": self.alpha.add_alpha,
            "gate": self.alpha.add_gate,
            "rotation_angle": self.rotation.add_angle,
        }
        self._parts = [self._draw_words, *(plot.refresh for plot in self.plots)]
        self._part = self._turns_left = 0
        self._plan = Plan()
        self._paced, self._goal = "", 0.0  # what the pace is of, and where it leads
        self._forget()
        self._timer = QTimer(self, singleShot=True, interval=TURN_MS)
        self._timer.timeout.connect(self._draw_next)
        self._lay_out()
        self.set_theme(theme)
        self.retranslate()

    def set_plan(self, plan: Plan) -> None:
        """Draw the way that alpha is going to take and the phases it will pass; there is none where it is learned."""
        self._plan = plan
        self._set_span(plan.train.steps)
        self.alpha.set_schedule(plan.train.steps, plan.soul)
        self.loss.set_bands(planned_phases(plan))
        self._changed()

    def clear(self) -> None:
        """Nothing is known about any training; the plan stays."""
        self._forget()
        for plot in self.plots:
            plot.forget()
        self.set_plan(self._plan)
        self.samples.clear()

    def on_event(self, event: Event) -> None:
        """Take note of an event; cheap, so that thousands may come at once."""
        handler = self._handlers.get(type(event))
        if handler:
            handler(event)
            self._changed()

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme
        for plot in self.plots:
            plot.set_theme(theme)
        self.figures["alpha"].value.setStyleSheet(f"color: {theme.alpha}")
        self.samples.set_theme(theme)

    def retranslate(self) -> None:
        self.samples.retranslate()
        for plot in self.plots:
            plot.retranslate()
        self._show_figures()

    # ---- events

    def _started(self, event: Event) -> None:
        if not cast(StepStarted, event).resumed:
            self.clear()
        self._pace.clear()
        self._running, self._paused = True, False
        self._started_at = self._now = event.at

    def _progressed(self, event: Event) -> None:
        """A phase names a control run: its steps are not the training's, but the time left is its."""
        progress = cast(Progress, event)
        if progress.unit != "steps":
            return
        if not progress.phase:
            self._step = int(progress.done)
            if progress.total != self._total:
                self._set_span(int(progress.total))
        if progress.at:
            self._now = progress.at
            if progress.phase != self._paced or (self._pace and progress.done < self._pace[-1][1]):
                self._pace.clear()
            self._paced, self._goal = progress.phase, progress.total
            self._pace.append((progress.at, progress.done))

    def _measured(self, event: Event) -> None:
        metric = cast(Metric, event)
        add = self._curves.get(metric.name)
        if add:
            add(metric.step, metric.value)
        self._latest[metric.name] = metric.value
        if metric.name == "loss":
            self._step = max(self._step, metric.step)
            self._now = metric.at or self._now
            self.memory.add_step_time(metric.step, metric.at)
        elif metric.name == "base_loss":
            self.loss.set_base(metric.value)
        elif metric.name == "chance_loss":
            self.loss.set_chance(metric.value)
        elif metric.name == "orthogonality_error":
            self.rotation.set_orthogonality_error(metric.value)

    def _phase_changed(self, event: Event) -> None:
        self._phase = cast(PhaseChanged, event).phase

    def _read(self, event: Event) -> None:
        self.memory.add_reading(cast(Telemetry, event))
        self._now = max(self._now, event.at)

    def _said(self, event: Event) -> None:
        self.samples.add(cast(Sample, event))

    def _paused_or_not(self, event: Event) -> None:
        self._paused = cast(Paused, event).paused
        self._pace.clear()

    def _ended(self, event: Event) -> None:
        self._running = self._paused = False
        self._now = event.at or self._now

    # ---- drawing

    def _changed(self) -> None:
        self._turns_left = len(self._parts)
        if not self._timer.isActive():
            self._timer.start()

    def _draw_next(self) -> None:
        if not self.isVisible():
            return  # showEvent makes up for it
        self._part = (self._part + 1) % len(self._parts)
        self._parts[self._part]()
        self._turns_left -= 1
        if self._turns_left:
            self._timer.start()

    def _draw_words(self) -> None:
        self._show_figures()
        self.samples.refresh()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._changed()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def _show_figures(self) -> None:
        known = self._latest
        base, held_out = known.get("base_loss"), known.get("held_out_loss")
        figures = self.figures
        figures["step"].show_value(
            tr("Step"), f"{self._step:,}" if self._step else "", filled("of {total}", total=f"{self._total:,}")
        )
        figures["loss"].show_value(tr("Loss"), _fixed(self.loss.smoothed), tr("smoothed"))
        figures["held_out"].show_value(tr("Held-out loss"), _fixed(held_out), _against(held_out, base))
        soul = self._plan.soul
        where_to = filled("to {alpha}", alpha=_fixed(soul.alpha_target)) if soul.alpha == "scheduled" else tr("learned")
        figures["alpha"].show_value(tr("Alpha"), _fixed(known.get("alpha")), where_to)
        figures["gate"].show_value(tr("Gate"), _percent(known.get("gate")), phase_word(self._phase))
        figures["speed"].show_value(tr("Speed"), text.number(known.get("tokens_per_second"), 3), tr("tokens/s"))
        figures["time"].show_value(tr("Time"), self._elapsed(), self._time_left())

    def _elapsed(self) -> str:
        return text.duration(self._now - self._started_at) if self._started_at and self._now else ""

    def _time_left(self) -> str:
        if self._paused:
            return tr("paused")
        if not self._running or len(self._pace) < 3:
            return ""
        (began, first), (now, last) = self._pace[0], self._pace[-1]
        if now - began < 0.5 or last <= first:
            return ""
        return text.remaining((self._goal - last) * (now - began) / (last - first))

    def _set_span(self, n_steps: int) -> None:
        self._total = n_steps
        for plot in self.plots:
            plot.set_span(n_steps)

    def _forget(self) -> None:
        self._latest: dict[str, float | None] = {}
        self._pace: deque[tuple[float, float]] = deque(maxlen=PACE_STEPS)
        self._step, self._total, self._phase = 0, self._plan.train.steps, ""
        self._running = self._paused = False
        self._started_at = self._now = 0.0

    def _lay_out(self) -> None:
        numbers = card()
        row = QHBoxLayout(numbers)
        row.setContentsMargins(16, 8, 16, 8)
        row.setSpacing(12)
        for name, figure in self.figures.items():
            row.addWidget(figure, FIGURE_WIDTHS[name])
        grid = QGridLayout()
        grid.setSpacing(12)
        grid.addWidget(_framed(self.loss), 0, 0, 1, 7)
        grid.addWidget(_framed(self.alpha), 0, 7, 1, 5)
        grid.addWidget(_framed(self.memory), 1, 0, 1, 4)
        grid.addWidget(_framed(self.rotation), 1, 4, 1, 4)
        grid.addWidget(self.samples, 1, 8, 1, 4)
        grid.setRowStretch(0, 3)
        grid.setRowStretch(1, 2)
        for column_index in range(12):
            grid.setColumnStretch(column_index, 1)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(12)
        page.addWidget(numbers)
        page.addLayout(grid, 1)


def planned_phases(plan: Plan) -> list[tuple[float, float, str]]:
    """(first step, last step, phase), one after the other without gaps; none where alpha is learned."""
    if plan.soul.alpha == "learned":
        return []
    n = min(plan.train.steps, MAX_DRAWN_SCHEDULE)
    stretch = (plan.train.steps - 1) / (n - 1)
    bands: list[tuple[float, float, str]] = []
    for index, phase in enumerate(schedule.phases(n, plan.soul)):
        begin, end = index * stretch + 0.5, (index + 1) * stretch + 0.5
        if bands and bands[-1][2] == phase:
            begin = bands.pop()[0]
        bands.append((begin, end, phase))
    return bands


def _framed(plot: QWidget) -> QWidget:
    frame = card()
    column = QVBoxLayout(frame)
    column.setContentsMargins(4, 4, 4, 4)
    column.addWidget(plot)
    return frame


def _fixed(value: float | None) -> str:
    return "" if value is None else text.fixed(value, 3)


def _percent(part: float | None) -> str:
    return "" if part is None else f"{text.fixed(part * 100, 1)} %"


def _against(held_out: float | None, base: float | None) -> str:
    if base is None:
        return ""
    if held_out is None:
        return filled("base {loss}", loss=_fixed(base))
    change = held_out - base
    return filled("base {loss} ({change})", loss=_fixed(base), change=f"{'+' if change > 0 else '−'}{abs(change):.3f}")
