"""The questions before something is stopped, and what closing the window means while a step runs."""

from collections.abc import Callable, Sequence
from enum import StrEnum

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QSessionManager
from PySide6.QtWidgets import QApplication, QCheckBox, QMessageBox, QWidget

from .i18n import tr
from .long_work import LongWork
from .preferences import AtClose, Preferences
from .runner import Runner, Stopping

Choice = tuple[str, Callable[[], None]]  # what the button says, what it does


class Closing(StrEnum):
    """What a wish to close the window leads to."""

    NOW = "now"
    HIDE = "hide"
    STOP_FIRST = "stop_first"
    ASK = "ask"
    WAIT = "wait"  # it is stopping already


def closing(running: bool, stopping: Stopping, has_tray: bool, wanted: AtClose) -> Closing:
    """Nothing is ever left running where nobody could find it: without a tray the person is asked."""
    if not running:
        return Closing.NOW
    if stopping is Stopping.SAVING:
        return Closing.WAIT
    if wanted is AtClose.TRAY and has_tray and stopping is not Stopping.OVERDUE:
        return Closing.HIDE
    if wanted is AtClose.STOP and stopping is not Stopping.OVERDUE:
        return Closing.STOP_FIRST
    return Closing.ASK


class Farewell(QObject):
    """Asks, stops or hides when the window is to close. `leaving`: it closes as soon as the engine is gone."""

    changed = Signal()
    hidden = Signal()  # into the tray

    def __init__(self, runner: Runner, long_work: LongWork, preferences: Preferences, window: QWidget) -> None:
        super().__init__(window)
        self.runner, self.long_work, self.preferences, self.window = runner, long_work, preferences, window
        self.leaving = False
        self._box: QMessageBox | None = None
        runner.ended.connect(self._on_ended)

    def may_close(self) -> bool:
        """Whether the window may close now; otherwise it will have asked, hidden itself, or begun to stop."""
        wanted = self.preferences.at_close
        match closing(self.runner.running, self.runner.stopping, self.long_work.has_tray, wanted):
            case Closing.NOW:
                return True
            case Closing.HIDE:
                self.hide()
            case Closing.STOP_FIRST:
                self.stop_and_leave()
            case Closing.WAIT:
                self._leave_later()
            case Closing.ASK:
                self._ask_at_close()
        return False

    def ask_to_stop(self) -> None:
        """Confirm; then the engine saves and exits, now or after this step, or is ended if it takes too long."""
        if self.runner.stopping is Stopping.OVERDUE:
            self._ask_to_end(self.runner.kill)
            return
        choices: list[Choice] = [(tr("Save and stop now"), self.runner.stop)]
        if self.runner.several and self.runner.stopping is Stopping.NO:
            choices.append((tr("Stop after this step"), self.runner.stop_after_step))
        self._ask(tr("Stop this run?"), tr("The step saves what it has and can go on from there later."), choices)

    def hide(self) -> None:
        """Keep running in the tray: no window that closes meanwhile may end the program."""
        QApplication.setQuitOnLastWindowClosed(False)
        self.window.hide()
        self.long_work.move_into_tray()
        self.hidden.emit()

    def stop_and_leave(self) -> None:
        self._leave_later()
        self.runner.stop()

    def quit(self) -> None:
        """From the tray's menu, whose words have said what happens."""
        if self.runner.running:
            self.stop_and_leave()
        else:
            self._leave()

    def end_with_session(self, session: QSessionManager | None = None) -> None:
        """The computer shuts down or the person logs off: save without asking, there is no time for questions."""
        self.runner.shut_down()

    def _ask_at_close(self) -> None:
        if self.runner.stopping is Stopping.OVERDUE:
            self._ask_to_end(self._end_and_leave)
            return
        stop = (tr("Save, stop and close"), self.stop_and_leave)
        if not self.long_work.has_tray:
            self._ask(
                tr("A step is still running."),
                tr(
                    "AEGIS can save it now and close; the step then goes on from there next time. "
                    "This desktop has no tray in which AEGIS could keep running without a window."
                ),
                [stop],
            )
            return
        self._ask(
            tr("A step is still running."),
            tr(
                "It can go on without the window; AEGIS then waits in the tray beside the clock. "
                "Or AEGIS saves it now and closes; the step then goes on from there next time."
            ),
            [(tr("Keep running in the tray"), self.hide), stop],
            remembered={0: AtClose.TRAY, 1: AtClose.STOP},
        )

    def _ask_to_end(self, then: Callable[[], None]) -> None:
        self._ask(
            tr("The engine has not finished saving."),
            tr("If it is ended now, the step goes on from its last checkpoint next time."),
            [(tr("End it now"), then)],
        )

    def _ask(
        self, question: str, explanation: str, choices: Sequence[Choice], remembered: dict[int, AtClose] | None = None
    ) -> None:
        """The window goes on working while the question stands there; it goes away when the run ends by itself."""
        if self._box:
            self._box.raise_()
            return
        box = self._box = QMessageBox(self.window)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setWindowTitle("AEGIS")
        box.setText(question)
        box.setInformativeText(explanation)
        always = QCheckBox(tr("Always do this without asking"))
        for place, (words, then) in enumerate(choices):
            button = box.addButton(words, QMessageBox.ButtonRole.AcceptRole)
            if place == 0:
                box.setDefaultButton(button)
                button.setFocus()
            if remembered:
                button.clicked.connect(lambda _=False, at=remembered[place]: self._remember(always, at))
            button.clicked.connect(then)
        if remembered:
            box.setCheckBox(always)
        stay = box.addButton(tr("Cancel"), QMessageBox.ButtonRole.RejectRole)
        box.setEscapeButton(stay)
        box.finished.connect(self._forget_box)
        self.runner.ended.connect(box.reject)
        box.open()

    def _remember(self, always: QCheckBox, choice: AtClose) -> None:
        if always.isChecked():
            self.preferences.at_close = choice

    def _forget_box(self) -> None:
        self._box = None

    def _leave_later(self) -> None:
        self.leaving = True
        self.changed.emit()

    def _end_and_leave(self) -> None:
        self._leave_later()
        self.runner.kill()

    def _on_ended(self) -> None:
        if self.leaving:
            self._leave()

    def _leave(self) -> None:
        """A hidden window that closes ends no event loop by itself."""
        self.window.close()
        QApplication.quit()
