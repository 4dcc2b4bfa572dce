"""What is known about a run so far, built from its events: pages that open late show the past from here. Qt-free."""

import heapq
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat

from aegis_core.events import (
    TERMINAL,
    Artifact,
    CheckpointSaved,
    CheckRow,
    Event,
    Log,
    Metric,
    Paused,
    PhaseChanged,
    PlanChanged,
    Progress,
    Sample,
    StepSkipped,
    StepStarted,
    Telemetry,
    TrialFinished,
    TrialRunning,
    Verdict,
)

KEPT_LOG_LINES = 2000
KEPT_SAMPLES = 2000
KEPT_MOMENTS = 2000
KEPT_TELEMETRY = 3600
LOGGED = (Log, StepStarted, StepSkipped, PlanChanged, *TERMINAL)


@dataclass
class Series:
    """One curve; a value that was not finite is NaN. A step that comes again (after a resume) cuts what followed it."""

    steps: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, step: int, value: float | None) -> None:
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()
        self.steps.append(step)
        self.values.append(float("nan") if value is None else value)


@dataclass
class StepView:
    """The latest attempt of one step."""

    step: str
    began_at: float = 0.0  # the first time; `started_at` is when it last went on
    started_at: float = 0.0
    ended: Event | None = None
    skipped: str = ""
    paused: bool = False
    progress: Progress | None = None
    series: dict[str, Series] = field(default_factory=dict)
    phases: list[PhaseChanged] = field(default_factory=list)
    rows: dict[str, CheckRow] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    trials: dict[int, TrialFinished] = field(default_factory=dict)
    trial: TrialRunning | None = None  # the one at work
    written: PlanChanged | None = None  # what the pipeline took over into the plan
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    ends: Series = field(default_factory=Series)  # when each optimiser step ended, Unix time
    moments: deque[Event] = field(default_factory=lambda: deque(maxlen=KEPT_MOMENTS))
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=KEPT_SAMPLES))
    telemetry: deque[Telemetry] = field(default_factory=lambda: deque(maxlen=KEPT_TELEMETRY))

    @property
    def running(self) -> bool:
        return self.started_at > 0 and self.ended is None

    def apply(self, event: Event) -> None:
        match event:
            case Metric():
                self.series.setdefault(event.name, Series()).add(event.step, event.value)
                if event.name == "loss":
                    self.ends.add(event.step, event.at)
            case Progress():
                self.progress = event
            case PhaseChanged():
                self.phases = [p for p in self.phases if p.step < event.step] + [event]
            case CheckRow():
                self.rows[event.name] = event
            case Verdict():
                self.verdicts[event.name] = event
            case TrialFinished():
                self.trials[event.number] = event
                if self.trial and self.trial.number == event.number:
                    self.trial = None
            case TrialRunning():
                self.trial = event
            case PlanChanged():
                self.written = event
            case Artifact():
                self.artifacts[event.path] = event
            case Log(level="warning") | CheckpointSaved():
                self.moments.append(event)
            case Sample():
                self.samples.append(event)
            case Telemetry():
                self.telemetry.append(event)
            case Paused():
                self.paused = event.paused
                self.moments.append(event)
            case StepSkipped():
                self.skipped = event.reason
            case _ if isinstance(event, TERMINAL):
                self.ended = event
                self.paused = False
                self.trial = None

    def events(self) -> Iterator[Event]:
        """The attempt once more, condensed, in an order in which a page can draw it: steps with what happened between
        them, then what has no place among them."""
        if self.started_at:
            yield StepStarted(at=self.began_at, stage=self.step)
        between: list[Event] = [*self.moments, *self.samples, *self.telemetry]
        yield from heapq.merge(self._metrics(), sorted(between, key=_at), key=_at)
        yield from self.phases
        yield from self.rows.values()
        yield from self.verdicts.values()
        yield from self.trials.values()
        yield from self.artifacts.values()
        if self.progress:
            yield self.progress
        if self.ended:
            yield self.ended

    def _metrics(self) -> Iterator[Metric]:
        """Step by step; those of one step at the moment when it ended, and of steps whose end nobody knows at none."""
        ends, at = dict(zip(self.ends.steps, self.ends.values, strict=True)), 0.0
        curves = [zip(series.steps, repeat(name), series.values) for name, series in self.series.items()]
        for step, name, value in heapq.merge(*curves, key=lambda point: point[0]):
            at = max(at, ends.get(step, 0.0))
            yield Metric(name, step, value if value == value else None, at=at, stage=self.step)


def _at(event: Event) -> float:
    return event.at


@dataclass
class RunView:
    """Every step's latest attempt, the log and the newest reading of the machine."""

    steps: dict[str, StepView] = field(default_factory=dict)
    log: deque[Event] = field(default_factory=lambda: deque(maxlen=KEPT_LOG_LINES))
    telemetry: Telemetry | None = None

    def step(self, name: str) -> StepView:
        return self.steps.setdefault(name, StepView(name))

    def apply(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            self._start(event)
        elif event.stage:
            self.step(event.stage).apply(event)
        if isinstance(event, Telemetry):
            self.telemetry = event
        if isinstance(event, LOGGED):
            self.log.append(event)

    def _start(self, event: StepStarted) -> None:
        """A fresh attempt forgets the last one; a resumed one goes on with its curves."""
        old = self.steps.get(event.stage)
        if not event.resumed or old is None:
            old = StepView(event.stage)
        old.started_at, old.ended, old.skipped, old.paused = event.at or 1.0, None, "", False
        old.trial, old.written = None, None
        if old.began_at:
            old.moments.append(event)
        else:
            old.began_at = old.started_at
        self.steps[event.stage] = old
