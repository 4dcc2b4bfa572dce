"""How a run stands, as told outside the window: what works, how far it is, how it ended."""

from dataclasses import dataclass
from enum import StrEnum

from aegis_core.events import TERMINAL, Event, StepFailed, StepFinished

from . import text
from .desktop import Bar
from .failure_box import failure_reason
from .flow import Flow
from .i18n import filled, mark, tr
from .run_view import RunView


class Kind(StrEnum):
    IDLE = "idle"
    WORKING = "working"
    PAUSED = "paused"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Standing:
    """`fraction` (0 to 1) is how far the step is, None where nobody knows; `step` is what runs or ran last."""

    kind: Kind = Kind.IDLE
    step: str = ""
    fraction: float | None = None

    @property
    def bar(self) -> Bar:
        """What the taskbar shows of it; a success needs no bar any more."""
        match self.kind:
            case Kind.FAILED:
                return Bar.FAILED
            case Kind.PAUSED:
                return Bar.PAUSED
            case Kind.WORKING | Kind.STOPPING:
                return Bar.UNKNOWN if self.fraction is None else Bar.NORMAL
        return Bar.NONE

    def sentence(self) -> str:
        """One line for a tooltip: "Soul injection: 46 %"."""
        if not self.step:
            return tr(_WITHOUT_STEP[self.kind])
        values = {"step": tr(text.STEP_TITLES[self.step])}
        if self.fraction is not None and self.kind in _WITH_FRACTION:
            return filled(_WITH_FRACTION[self.kind], values, percent=int(100 * self.fraction))
        return filled(_WITHOUT_FRACTION[self.kind], values)


_WITHOUT_STEP = {
    Kind.IDLE: mark("Nothing is running."),
    Kind.WORKING: mark("The engine is starting."),
    Kind.PAUSED: mark("Paused."),
    Kind.STOPPING: mark("Stopping; what there is is being saved."),
    Kind.DONE: mark("Everything was done already."),
    Kind.FAILED: mark("The engine could not start."),
}
_WITH_FRACTION = {
    Kind.WORKING: mark("“{step}” is at {percent} %."),
    Kind.PAUSED: mark("“{step}” is paused at {percent} %."),
}
_WITHOUT_FRACTION = {
    Kind.IDLE: mark("“{step}” was stopped."),
    Kind.WORKING: mark("“{step}” is running."),
    Kind.PAUSED: mark("“{step}” is paused."),
    Kind.STOPPING: mark("“{step}” is saving and stops."),
    Kind.DONE: mark("“{step}” is done."),
    Kind.FAILED: mark("“{step}” failed."),
}


def at_work(flow: Flow, view: RunView, stopping: bool) -> Standing:
    """How a run stands whose engine works."""
    kind = Kind.STOPPING if stopping else Kind.PAUSED if flow.paused else Kind.WORKING
    progress = view.step(flow.running).progress if flow.running else None
    known = progress is not None and progress.total > 0
    return Standing(kind, flow.running, min(progress.done / progress.total, 1.0) if progress and known else None)


class Ended:
    """Listens to one start of the engine and says afterwards how it went."""

    def __init__(self) -> None:
        self._last: Event | None = None
        self._n_done, self._seconds = 0, 0.0

    def hear(self, event: Event) -> None:
        if isinstance(event, TERMINAL):
            self._last = event
        if isinstance(event, StepFinished):
            self._n_done += 1
            self._seconds += event.seconds

    def standing(self, fraction: float | None) -> Standing:
        """`fraction` is how far the last step had come."""
        match self._last:
            case StepFailed(stage=step):
                return Standing(Kind.FAILED, step, fraction)
            case StepFinished(stage=step):
                return Standing(Kind.DONE, step)
            case None:
                return Standing(Kind.DONE)
        return Standing(Kind.IDLE, self._last.stage, fraction)

    def sentence(self) -> str:
        """What a notification says."""
        if isinstance(self._last, StepFailed):
            if not self._last.stage:
                return failure_reason(self._last)
            title = tr(text.STEP_TITLES[self._last.stage])
            return filled("“{step}” failed: {reason}", step=title, reason=failure_reason(self._last))
        took = text.duration(self._seconds)
        if self._n_done > 1:
            return filled("{n} steps are done, in {duration} altogether.", n=self._n_done, duration=took)
        if self._n_done == 1 and self._last is not None:
            title = tr(text.STEP_TITLES[self._last.stage])
            return filled("“{step}” is done, in {duration}.", step=title, duration=took)
        return self.standing(None).sentence()
