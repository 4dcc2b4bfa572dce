"""The one run that is open: its folder, its plan and what is known about it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from aegis_core import events, freshness
from aegis_core import plan as plans
from aegis_core.events import Event, StepCancelled, StepFailed, Telemetry
from aegis_core.failures import UserError
from aegis_core.journal import replay
from aegis_core.plan import Plan
from aegis_core.run_directory import RunDirectory

from .claim import Claim, other_engine, other_window
from .flow import Flow, Status
from .run_view import RunView

KEEPING = ("search", "schedule", "train")
"""Steps that continue where an attempt with the same settings broke off; the others begin anew."""


class AppState(QObject):
    """Changes go through here and nowhere else, so that the disk and the pages never disagree.

    `flow_changed` comes whenever a step's state may be another; `event_arrived` carries every event of the engine.
    """

    run_opened = Signal()
    plan_changed = Signal()
    flow_changed = Signal()
    machine_read = Signal()
    event_arrived = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run: RunDirectory | None = None
        self.plan = Plan()
        self.view = RunView()
        self.flow = Flow()
        self.busy = False
        self.machine: Telemetry | None = None
        self._running = ""
        self._paused = False
        self._claim = Claim()
        self._barred = False

    def open(self, path: Path) -> None:
        """Open an existing run; UserError if there is none or its plan is not readable."""
        run = RunDirectory.open(path)
        plan = run.plan()
        freshness.states(run, plan)
        self._barred = not self._claim.take(run) or run.is_locked()
        self.run, self.plan = run, plan
        self.view = past(run)
        self._running, self._paused, self.busy = "", False, False
        self.refresh()
        self.run_opened.emit()

    def create(self, path: Path, plan: Plan) -> None:
        """Start a new run in an empty place and open it; UserError if a run is already there."""
        RunDirectory.create(path, plan)
        self.open(path)

    def close(self) -> None:
        self.let_go()
        self.run, self.plan, self.view = None, Plan(), RunView()
        self.refresh()
        self.run_opened.emit()

    def let_go(self) -> None:
        """Another window may have the run from now on."""
        self._claim.drop()

    @property
    def owned_by_window(self) -> bool:
        """Whether another window has the run that is open here, rather than a terminal."""
        return self.run is not None and not self._claim.held

    def obstacle(self) -> UserError | None:
        """Why nothing can be changed or started here: another window or engine has the run. None if nobody has.

        A run that was somebody else's and is free now is opened anew: much may have happened to it.
        """
        if self.run is None or self.busy:
            return None
        if not self._claim.held and not self._claim.take(self.run):
            return other_window(self.run)
        if self.run.is_locked():
            self._barred = True
            return other_engine(self.run)
        if self._barred:
            self.open(self.run.path)
        return None

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set "section.field" values and write plan.json; UserError, and nothing changed, if they are not allowed."""
        if self.busy:
            raise UserError(
                "Settings cannot change while a step is running.", "Stop it first, or wait until it is done."
            )
        if obstacle := self.obstacle():
            raise obstacle
        plan = plans.changed(self.plan, dict(changes))
        if plan == self.plan:
            return
        if self.run:
            self.run.write_plan(plan)
        self.plan = plan
        self.refresh()
        self.plan_changed.emit()

    def begin(self) -> None:
        """The engine was started for this run."""
        self.busy = True
        self.refresh()

    def end(self) -> None:
        """The engine is gone."""
        self.busy, self._running, self._paused = False, "", False
        self._read_plan()
        self.refresh()

    def receive(self, event: Event) -> None:
        """Take one event of the engine: remember it, pass it on, and see whether a step's state changed."""
        self.view.apply(event)
        match event:
            case events.StepStarted():
                self._running, self._paused = event.stage, False
                self.refresh()
            case events.Paused():
                self._paused = event.paused
                self.refresh()
            case events.PlanChanged():
                self._read_plan()
                self.refresh()
            case events.StepFinished() | events.StepFailed() | events.StepCancelled() | events.StepSkipped():
                self._running, self._paused = "", False
                self.refresh()
        self.event_arrived.emit(event)

    def read_machine(self, reading: Telemetry) -> None:
        """Take a reading of the machine, about once a second."""
        self.machine = reading
        self.machine_read.emit()

    def status(self, page: str) -> Status:
        return self.flow.status(page)

    def refresh(self) -> None:
        """Read every step's state from the files again."""
        found = freshness.states(self.run, self.plan) if self.run else {}
        ended = self._ended()
        self.flow = Flow(found, self._running, self._paused, self.busy, ended, self._resumable(ended))
        self.flow_changed.emit()

    def _read_plan(self) -> None:
        if self.run and (plan := self.run.plan()) != self.plan:
            self.plan = plan
            self.plan_changed.emit()

    def _ended(self) -> dict[str, Status]:
        """How the latest attempt of each step ended, where that was not well; one that broke off counts as stopped."""
        ended: dict[str, Status] = {}
        for name, step in self.view.steps.items():
            if isinstance(step.ended, StepFailed):
                ended[name] = Status.FAILED
            elif isinstance(step.ended, StepCancelled) or (step.running and not self.busy):
                ended[name] = Status.CANCELLED
        return ended

    def _resumable(self, ended: Mapping[str, Status]) -> frozenset[str]:
        """Of the steps that did not end well, those that keep what they have while they work."""
        run, plan = self.run, self.plan
        steps = [freshness.BY_ID[name] for name in ended if name in KEEPING]
        if run is None:
            return frozenset()
        found = (s.id for s in steps if freshness.begun_alike(run, plan, s, freshness.input_digests(run, plan, s)))
        return frozenset(found)


def past(run: RunDirectory) -> RunView:
    """Everything events.jsonl tells about the run so far; a torn last line is passed over."""
    view = RunView()
    for event in replay(run.events_path):
        view.apply(event)
    return view
