"""The row of large numbers: step, loss, alpha, speed, and how long still."""

from collections import deque

from PySide6.QtWidgets import QFrame, QHBoxLayout, QWidget

from aegis_core.events import TERMINAL as ENDS
from aegis_core.events import Event, Metric, Paused, PhaseChanged, Progress, StepStarted, Telemetry
from aegis_core.plan import Plan

from . import text
from .figures import Figure
from .i18n import filled, tr
from .plot_parts import phase_word
from .theme import Theme

WIDTHS = {"step": 3, "loss": 3, "held_out": 5, "alpha": 3, "gate": 5, "speed": 3, "time": 5}
PACE_STEPS = 60


class TrainingNumbers(QFrame):
    """Give it every event of the training step and let it `refresh` when there is time."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "card")
        self.figures = {name: Figure() for name in WIDTHS}
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 8, 16, 8)
        row.setSpacing(12)
        for name, figure in self.figures.items():
            row.addWidget(figure, WIDTHS[name])
        self._plan = Plan()
        self.forget()

    def set_plan(self, plan: Plan) -> None:
        self._plan = plan
        self.total = plan.train.steps

    def forget(self) -> None:
        self._latest: dict[str, float | None] = {}
        self._pace: deque[tuple[float, float]] = deque(maxlen=PACE_STEPS)
        self._paced, self._goal = "", 0.0  # what the pace is of, and where it leads
        self.step, self.total, self._phase = 0, self._plan.train.steps, ""
        self._running = self._paused = False
        self._worked_before = self._started_at = self._now = 0.0

    def on_event(self, event: Event) -> None:
        match event:
            case StepStarted():
                if not event.resumed:
                    self.forget()
                self._worked_before += self._attempt_seconds()  # what lies between two attempts is no work
                self._pace.clear()
                self._running, self._paused = True, False
                self._started_at = self._now = event.at
            case Progress(unit="steps"):
                self._progressed(event)
            case Metric():
                self._latest[event.name] = event.value
                if event.name == "loss":
                    self.step = max(self.step, event.step)
                    self._now = event.at or self._now
            case PhaseChanged():
                self._phase = event.phase
            case Telemetry():
                self._now = max(self._now, event.at)
            case Paused():
                self._paused = event.paused
                self._pace.clear()
            case _ if isinstance(event, ENDS):
                self._running = self._paused = False
                self._now = event.at or self._now

    def refresh(self, smoothed: float | None) -> None:
        """Show what is known; `smoothed` is the loss as its plot smooths it."""
        known, figures = self._latest, self.figures
        base, held_out = known.get("base_loss"), known.get("held_out_loss")
        total = filled("of {total}", total=f"{self.total:,}")
        figures["step"].show_value(tr("Step"), f"{self.step:,}" if self.step else "", total)
        figures["loss"].show_value(tr("Loss"), _fixed(smoothed), tr("smoothed"))
        figures["held_out"].show_value(tr("Held-out loss"), _fixed(held_out), _against(held_out, base))
        soul = self._plan.soul
        where_to = filled("to {alpha}", alpha=_fixed(soul.alpha_target)) if soul.alpha == "scheduled" else tr("learned")
        figures["alpha"].show_value(tr("Alpha"), _fixed(known.get("alpha")), where_to)
        figures["gate"].show_value(tr("Gate"), _percent(known.get("gate")), phase_word(self._phase))
        figures["speed"].show_value(tr("Speed"), text.number(known.get("tokens_per_second"), 3), tr("tokens/s"))
        figures["time"].show_value(tr("Time"), self._elapsed(), self._time_left())

    def set_theme(self, theme: Theme) -> None:
        self.figures["alpha"].value.setStyleSheet(f"color: {theme.alpha}")

    def _progressed(self, progress: Progress) -> None:
        """A phase names a control run: its steps are not the training's, but the time left is its."""
        if not progress.phase:
            self.step, self.total = int(progress.done), int(progress.total)
        if not progress.at:
            return
        self._now = progress.at
        if progress.phase != self._paced or (self._pace and progress.done < self._pace[-1][1]):
            self._pace.clear()
        self._paced, self._goal = progress.phase, progress.total
        self._pace.append((progress.at, progress.done))

    def _elapsed(self) -> str:
        known = self._started_at and self._now
        return text.duration(self._worked_before + self._attempt_seconds()) if known else ""

    def _attempt_seconds(self) -> float:
        return max(self._now - self._started_at, 0.0)  # a clock that was set back takes nothing away

    def _time_left(self) -> str:
        if self._paused:
            return tr("paused")
        if not self._running or len(self._pace) < 3:
            return ""
        (began, first), (now, last) = self._pace[0], self._pace[-1]
        if now - began < 0.5 or last <= first:
            return ""
        return text.remaining((self._goal - last) * (now - began) / (last - first))


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
