"""The instrument of the soul injection: where it is, whether it goes well, how long still."""

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import QEvent, QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from aegis_core.events import (
    CheckpointSaved,
    Event,
    Log,
    Metric,
    Paused,
    Progress,
    Sample,
    StepStarted,
    Telemetry,
)
from aegis_core.plan import Plan
from aegis_core.soul import schedule

from .plot_board import PlotBoard
from .plot_link import link
from .plot_moments import Moment
from .plots import ALLOCATED, FIRST_CHOICE, MAX_DRAWN_SCHEDULE, Plots
from .samples import Samples
from .step_clock import StepClock
from .theme import Theme
from .training_numbers import TrainingNumbers

# However fast the events come, everything is drawn at most 20 times a second: one part every 10 ms, in turn, so that
# no single stretch of drawing holds the window up.
TURN_MS = 10


class Cockpit(QWidget):
    """Give it every event of the training step; it draws at its own pace, and only while it can be seen."""

    def __init__(self, theme: Theme, parent: QWidget | None = None, shown: tuple[str, ...] = FIRST_CHOICE) -> None:
        """`shown` are the names of the plots in its four places."""
        super().__init__(parent)
        self.theme = theme
        plots = self._plots = Plots(theme)
        self.loss, self.alpha, self.memory, self.rotation = plots.loss, plots.alpha, plots.memory, plots.rotation
        self.plots = plots.named
        link(plots.of_steps)
        for plot in plots.of_steps:
            plot.hovered.connect(plots.portrait.show_crosshair)
            plots.portrait.hovered.connect(plot.show_crosshair)
        plots.portrait.hovered.connect(plots.portrait.show_crosshair)
        self.numbers = TrainingNumbers()
        self.figures = self.numbers.figures
        self.samples = Samples()
        self.board = PlotBoard(theme, plots.named, self.samples, shown)
        self.board.rearranged.connect(self._rearranged)
        self._curves = _curves(plots)
        self._levels: dict[str, list[Callable[[float | None], None]]] = {
            "base_loss": [plots.loss.set_base, plots.portrait.set_base],
            "chance_loss": [plots.loss.set_chance],
            "forecast_bytes": [plots.memory.set_forecast],
            "orthogonality_error": [plots.rotation.set_orthogonality_error],
        }
        self._clock = StepClock()
        self._moments: list[Moment] = []
        for plot in plots.of_steps:
            plot.set_moments(self._moments)
        self._parts: list[Callable[[], None]] = []
        self._part = self._turns_left = 0
        self._plan = Plan()
        self._timer = QTimer(self, singleShot=True, interval=TURN_MS)
        self._timer.timeout.connect(self._draw_next)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(12)
        page.addWidget(self.numbers)
        page.addWidget(self.board, 1)
        self._rearranged()
        self.set_theme(theme)
        self.retranslate()

    def set_plan(self, plan: Plan) -> None:
        """Draw the way that alpha is going to take and the phases it will pass; there is none where it is learned."""
        self._plan = plan
        self.numbers.set_plan(plan)
        self._set_span(plan.train.steps)
        self.alpha.set_schedule(plan.train.steps, plan.soul)
        self._plots.portrait.set_schedule(plan.train.steps, plan.soul)
        self._plots.gradient.set_limit(plan.train.max_grad_norm)
        self.loss.set_bands(planned_phases(plan))
        self._changed()

    def clear(self) -> None:
        """Nothing is known about any training; the plan stays."""
        self.numbers.forget()
        self._clock.forget()
        self._moments.clear()
        for plot in self.plots.values():
            plot.forget()
        self.set_plan(self._plan)
        self.samples.clear()

    def on_event(self, event: Event) -> None:
        """Take note of an event; cheap, so that thousands may come at once."""
        if isinstance(event, StepStarted):
            self._started(event)
        self.numbers.on_event(event)
        match event:
            case Metric():
                self._measured(event)
            case Telemetry():
                place = self._clock.place(event.at)
                for plot in (self._plots.memory, self._plots.load, self._plots.power):
                    plot.add_reading(place, event)
            case Progress(unit="steps", phase="") if event.total != self._span:
                self._set_span(int(event.total))
            case Sample():
                self.samples.add(event)
            case CheckpointSaved():
                self._note("checkpoint", event.step)
            case Log(level="warning"):
                self._note("warning", self._clock.place(event.at))
            case Paused():
                self._note("paused" if event.paused else "resumed", self._clock.place(event.at))
        self._changed()

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme
        for plot in self.plots.values():
            plot.set_theme(theme)
        self.numbers.set_theme(theme)
        self.board.set_theme(theme)
        self.samples.set_theme(theme)

    def retranslate(self) -> None:
        self.samples.retranslate()
        for plot in self.plots.values():
            plot.retranslate()
        self.board.retranslate()
        self.numbers.refresh(self.loss.smoothed)

    # ---- events

    def _started(self, event: StepStarted) -> None:
        if not event.resumed:
            self.clear()
        self._clock.start(event.at)
        if event.resumed and self.numbers.step:
            self._note("continued", self.numbers.step)

    def _measured(self, metric: Metric) -> None:
        if metric.name == "loss":
            self._clock.step_ended(metric.step, metric.at)
        if add := self._curves.get(metric.name):
            add(metric.step, metric.value)
        for set_level in self._levels.get(metric.name, ()):
            set_level(metric.value)

    def _note(self, kind: str, x: float) -> None:
        """Mark it; what a resumed run will go through again is forgotten."""
        while self._moments and self._moments[-1].x > x:
            self._moments.pop()
        self._moments.append(Moment(x, kind))

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
        if self._turns_left > 0:
            self._timer.start()

    def _draw_words(self) -> None:
        self.numbers.refresh(self.loss.smoothed)
        self.samples.refresh()
        self.board.follow_titles()

    def _rearranged(self) -> None:
        """Only what is on screen is drawn; what comes on screen catches up."""
        self._parts = [self._draw_words, *(plot.refresh for plot in self.board.on_screen())]
        self._changed()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._changed()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def _set_span(self, n_steps: int) -> None:
        self._span = n_steps
        for plot in self._plots.of_steps:
            plot.set_span(n_steps)


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


def _curves(plots: Plots) -> dict[str, Callable[[int, float | None], object]]:
    """Which plot takes which metric."""
    return {
        "loss": plots.loss.add_loss,
        "lora_loss": partial(plots.loss.add_control, "lora"),
        "fixed_loss": partial(plots.loss.add_control, "fixed"),
        "held_out_loss": plots.loss.add_held_out,
        "lora_held_out_loss": partial(plots.loss.add_control_held_out, "lora"),
        "fixed_held_out_loss": partial(plots.loss.add_control_held_out, "fixed"),
        "alpha": plots.alpha.add_alpha,
        "gate": plots.alpha.add_gate,
        "rotation_angle": plots.rotation.add_angle,
        "rotation_angle_largest": plots.rotation.add_largest,
        "orthogonality_error": plots.orthogonality.add_error,
        "learning_rate": plots.rate.add_rate,
        "grad_norm": plots.gradient.add_adapter,
        "rotation_grad_norm": plots.gradient.add_gate,
        "tokens_per_second": plots.speed.add_speed,
        **{name: partial(plots.memory.add_allocated, name) for name in ALLOCATED},
    }
