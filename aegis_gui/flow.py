"""Which page follows which, what each step's state is, and what its one primary action does. Qt-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aegis_core.freshness import BY_ID, STEPS, State

HOME = "home"
PAGES: tuple[str, ...] = (HOME, *(step.id for step in STEPS))


class Status(StrEnum):
    """How a page appears. `empty`: no run is open; the last four come from this sitting or the step's last attempt."""

    EMPTY = "empty"
    WAITING = "waiting"
    READY = "ready"
    DISABLED = "disabled"
    DONE = "done"
    STALE = "stale"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Do(StrEnum):
    """What the primary button does."""

    NOTHING = "nothing"
    RUN = "run"
    RUN_AGAIN = "run_again"
    RESUME = "resume"
    GO = "go"
    NEXT = "next"


@dataclass(frozen=True)
class Action:
    do: Do
    page: str = ""


@dataclass(frozen=True)
class Flow:
    """The wizard as a table. `states` is empty while no run is open; `ended` holds failed and cancelled steps, and
    `resumable` those of them whose next attempt goes on where this one broke off."""

    states: Mapping[str, State] = field(default_factory=dict)
    running: str = ""
    paused: bool = False
    busy: bool = False
    ended: Mapping[str, Status] = field(default_factory=dict)
    resumable: frozenset[str] = frozenset()

    def status(self, page: str) -> Status:
        if page == HOME or not self.states:
            return Status.EMPTY
        if page == self.running:
            return Status.PAUSED if self.paused else Status.RUNNING
        state = self.states[page]
        if state in (State.READY, State.STALE) and page in self.ended:
            return self.ended[page]
        return Status(state.value)

    def reachable(self, page: str) -> bool:
        """Every page of an open run can be looked at and its settings edited; running is what has to wait."""
        return page == HOME or bool(self.states)

    def runnable(self, page: str) -> bool:
        """Whether this step could start now."""
        if self.busy or page == HOME:
            return False
        return self.status(page) in (Status.READY, Status.STALE, Status.FAILED, Status.CANCELLED, Status.DONE) and (
            not self.blocking(page)
        )

    def blocking(self, page: str) -> str:
        """The first earlier step whose result this one needs and does not have; "" if there is none."""
        if page == HOME or not self.states:
            return ""
        for name in BY_ID[page].inputs:
            if self.states[name] not in (State.DONE, State.DISABLED):
                return self.blocking(name) or name
        return ""

    def next(self, page: str) -> str | None:
        index = PAGES.index(page) + 1
        return PAGES[index] if index < len(PAGES) and self.reachable(PAGES[index]) else None

    def back(self, page: str) -> str | None:
        index = PAGES.index(page)
        return PAGES[index - 1] if index > 0 else None

    def first_unfinished(self) -> str | None:
        """Where a run that is opened again goes on."""
        open_states = (State.READY, State.STALE, State.WAITING)
        return next((page for page in PAGES[1:] if self.states and self.states[page] in open_states), None)

    def cut_off(self) -> str | None:
        """The first step that broke off or was stopped and can go on from what it saved."""
        return next((page for page in PAGES[1:] if page in self.resumable and self._broke_off(page)), None)

    def _broke_off(self, page: str) -> bool:
        return self.status(page) is Status.CANCELLED and not self.busy and not self.blocking(page)

    def anything_to_run(self) -> bool:
        return not self.busy and self.first_unfinished() is not None

    def primary(self, page: str) -> Action:
        """The one thing to do next on this page."""
        status = self.status(page)
        if page == HOME:
            start = self.first_unfinished() or (PAGES[-1] if self.states else "")
            return Action(Do.GO, start) if start else Action(Do.NOTHING)
        if status in (Status.RUNNING, Status.PAUSED, Status.EMPTY) or (self.busy and status is not Status.DONE):
            return Action(Do.NOTHING)
        if blocking := self.blocking(page):
            return Action(Do.GO, blocking) if status is not Status.DISABLED else self._onward(page)
        if status in (Status.DONE, Status.DISABLED):
            return self._onward(page)
        if status is Status.READY:
            return Action(Do.RUN, page)
        return Action(Do.RESUME if self.goes_on(page) else Do.RUN_AGAIN, page)

    def goes_on(self, page: str) -> bool:
        """Whether the next attempt continues the last one rather than beginning anew."""
        return self.status(page) is Status.CANCELLED or page in self.resumable

    def _onward(self, page: str) -> Action:
        following = self.next(page)
        return Action(Do.NEXT, following) if following else Action(Do.NOTHING)
