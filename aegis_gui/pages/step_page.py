"""What every page of a step has in common: title, state, one sentence, progress, and what to do when it failed."""

import math
import time

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from aegis_core import freshness
from aegis_core.events import Event, Progress, StepFailed, StepFinished, StepStarted

from .. import text
from .. import theme as themes
from ..failure_box import FailureBox
from ..flow import Status
from ..form import Form
from ..how_long import sentence
from ..i18n import filled, mark, said, tr
from ..panels import Section, label, scrolled, set_role, status_colour
from ..plan_fields import all_names, plan_field
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme

UNITS = {
    "steps": mark("{done} of {total} steps"),
    "trials": mark("{done} of {total} trials"),
    "shards": mark("{done} of {total} shards"),
    "bytes": mark("{done} of {total}"),
    "tokens": mark("{done} of {total} tokens"),
    "tensors": mark("{done} of {total} tensors"),
    "runs": mark("{done} of {total} runs"),
    "schedules": mark("{done} of {total} schedules"),
    "answers": mark("{done} of {total} answers"),
    "checks": mark("{done} of {total} checks"),
    "files": mark("{done} of {total} files"),
    "batches": mark("{done} of {total} batches"),
    "rows": mark("{done} of {total} rows"),
    "sequences": mark("{done} of {total} sequences"),
    "samples": mark("{done} of {total} samples"),
    "positions": mark("{done} of {total} positions"),
    "MiB": mark("{done} of {total} MiB"),
}
LONGEST_PHASE = 40  # characters: eight file types in one phase would push the title away
# Phases that the engine puts together from parts; listed here so that they are recognised and translated.
PHASES = (mark("measuring {label}"),)


class StepPage(QWidget):
    """Shows one step. A subclass sets `step` and `sentence`, puts its content into `self.body`, and overrides
    `on_event` (live), `show_run` (a run was opened or this step began anew: draw its past), `retranslate`,
    `set_theme` and `plan_changed` as far as it needs them, calling the base first.
    """

    step = ""
    sentence = ""  # marked English: what this step does and why
    scrolls = True  # False: the body takes the page's height itself

    run_requested = Signal(str)  # step
    mend_requested = Signal(str, object)  # step, {"section.field": value}
    go_requested = Signal(str)  # page

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.state = state
        self.theme = themes.LIGHT
        self._progress: Progress | None = None
        self._pace: list[tuple[float, float]] = []
        self.title = label(role="title")
        self.status_icon = QLabel()
        self.status_word = label(role="secondary")
        self.progress_text = label(role="secondary")
        self.progress_text.setFont(themes.tabular())
        self.lead = label(role="secondary", wraps=True)
        self.bar = QProgressBar(textVisible=False)
        self.failure = FailureBox()
        self.failure.button.clicked.connect(lambda: self.run_requested.emit(self.step))
        self.failure.mend.clicked.connect(lambda: self.mend_requested.emit(self.step, self.failure.changes))
        self.notice = label(role="warn", wraps=True)
        self.body = QVBoxLayout()
        self.body.setContentsMargins(0, 0, 0, 0)
        self.body.setSpacing(16)
        self._lay_out()
        state.plan_changed.connect(self.plan_changed)
        state.flow_changed.connect(self.show_status)

    # ---- for subclasses

    def on_event(self, event: Event) -> None:
        """One event of this step, as it happens."""
        match event:
            case StepStarted():
                self._progress, self._pace = None, []
                self.failure.hide()
            case Progress():
                self._progress = event
                self._note_pace(event)
            case StepFailed():
                self.failure.show_failure(event)
            case StepFinished():
                self._progress = None
        self._show_progress()

    def show_run(self, view: RunView) -> None:
        """Draw what is known about this step's latest attempt; also when there is nothing."""
        step = view.step(self.step)
        self._progress, self._pace = (step.progress if step.running else None), []
        self.failure.setVisible(isinstance(step.ended, StepFailed))
        if isinstance(step.ended, StepFailed):
            self.failure.show_failure(step.ended)
        self.show_status()

    def plan_changed(self) -> None:
        """The plan is another one."""

    def settle(self) -> bool:
        """Finish pending edits; False, with the cursor there, if one is not allowed."""
        return all([form.settle() for form in self.findChildren(Form)])

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme
        for form in self.findChildren(Form):
            form.set_theme(theme)
        self.show_status()

    def retranslate(self) -> None:
        """Set every text again, in the language of now."""
        self.title.setText(tr(text.STEP_TITLES[self.step]))
        for section in self.findChildren(Section):
            section.retranslate()
        self.failure.retranslate()
        self.show_status()

    def look_at(self, part: QWidget) -> None:
        """Scroll so that this part of the body begins at the top."""
        self.area.verticalScrollBar().setValue(part.y())

    # ---- the frame

    @property
    def status(self) -> Status:
        return self.state.status(self.step)

    def show_status(self) -> None:
        """Show the step's state as shape and word, and what an outdated or waiting one means."""
        status = self.status
        name = text.STATUS_ICONS[status]
        self.status_icon.setPixmap(themes.icon(name, status_colour(status, self.theme)).pixmap(QSize(16, 16)))
        self.status_word.setText(tr(text.STATUS_WORDS[status]))
        self.notice.setText(self._notice(status))
        self.notice.setVisible(bool(self.notice.text()))
        set_role(self.notice, "secondary" if status is Status.WAITING or self._only_adds() else "warn")
        if status is not Status.FAILED:
            self.failure.hide()
        self.failure.set_goes_on(self.state.flow.goes_on(self.step))
        self._write_lead()
        self._show_progress()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def _write_lead(self) -> None:
        self.lead.setText(
            tr("{what} {how_long}").format(what=tr(self.sentence), how_long=sentence(self.state, self.step))
        )

    def _notice(self, status: Status) -> str:
        if status is Status.STALE:
            changed = self._changed()
            if self._only_adds():
                return filled("The settings ask for more: {what}. The next run adds it to what is there.", what=changed)
            if changed:
                return filled("This result is outdated, because this changed: {what}. Run it again.", what=changed)
            return tr("This result is outdated, because an earlier step is. Run it again.")
        if status is Status.WAITING:
            needed = self.state.flow.blocking(self.step)
            return filled("This step comes after “{step}”.", step=tr(text.STEP_TITLES[needed])) if needed else ""
        if status is Status.CANCELLED:
            return tr("Stopped. What was finished is kept; it goes on from there.")
        return ""

    def _only_adds(self) -> bool:
        run, step = self.state.run, freshness.BY_ID[self.step]
        return run is not None and self.status is Status.STALE and freshness.only_adds(run, self.state.plan, step)

    def _changed(self) -> str:
        """What no longer fits this step's result, in the words of forms and rail."""
        if self.state.run is None:
            return ""
        names = freshness.why_stale(self.state.run, self.state.plan, freshness.BY_ID[self.step])
        settings = {name: plan_field(name).label for name in names if name in all_names()}
        return ", ".join(tr(settings.get(name) or text.STEP_TITLES.get(name) or name) for name in names[:4])

    def _note_pace(self, event: Progress) -> None:
        if self._pace and event.done < self._pace[-1][1]:
            self._pace = []
        self._pace = [*self._pace[-40:], (time.monotonic(), event.done)]

    def _show_progress(self) -> None:
        progress = self._progress
        busy = self.status in (Status.RUNNING, Status.PAUSED)
        self.bar.setVisible(busy)
        self.progress_text.setVisible(busy and progress is not None)
        if not busy:
            return
        if progress is None or progress.total <= 0:
            self.bar.setRange(0, 0)
            return
        self.bar.setRange(0, 1000)
        self.bar.setValue(round(1000 * min(progress.done / progress.total, 1)))
        figure = text.size if progress.unit == "bytes" else text.number
        template = UNITS.get(progress.unit, mark("{done} of {total}"))
        parts = [_short(said(progress.phase))] if progress.phase else []
        whole = math.floor(progress.done)  # of a trial half done nobody says 3.5 trials
        parts.append(filled(template, done=figure(whole), total=figure(progress.total)))
        pace = self._per_second()
        if progress.unit == "bytes" and pace is not None:
            parts.append(filled("{size}/s", size=text.size(pace)))
        if (left := self._seconds_left(progress)) is not None:
            parts.append(text.remaining(left))
        self.progress_text.setText(" · ".join(parts))

    def _per_second(self) -> float | None:
        """How many units a second, lately; None while that cannot be told."""
        if len(self._pace) < 3 or self.status is Status.PAUSED:
            return None
        (began, first), (now, last) = self._pace[0], self._pace[-1]
        return None if now - began < 1 or last <= first else (last - first) / (now - began)

    def _seconds_left(self, progress: Progress) -> float | None:
        pace = self._per_second()
        return None if pace is None else (progress.total - self._pace[-1][1]) / pace

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.title)
        top.addStretch(1)
        top.addWidget(self.progress_text)
        top.addSpacing(8)
        top.addWidget(self.status_icon)
        top.addWidget(self.status_word)
        page = QVBoxLayout(self)
        page.setContentsMargins(24, 20, 24, 12)
        page.setSpacing(8)
        page.addLayout(top)
        page.addWidget(self.lead)
        page.addWidget(self.bar)
        page.addWidget(self.notice)
        page.addWidget(self.failure)
        page.addSpacing(8)
        self.failure.hide()
        if not self.scrolls:
            page.addLayout(self.body, 1)
            return
        self.area = scrolled(self.body)
        page.addWidget(self.area, 1)


def _short(phase: str) -> str:
    return phase if len(phase) <= LONGEST_PHASE else f"{phase[: LONGEST_PHASE - 1].rstrip(' ,')}…"
