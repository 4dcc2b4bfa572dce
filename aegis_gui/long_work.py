"""What the desktop is told of a run: taskbar, tray, notification, sound; and the computer stays awake."""

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtWidgets import QApplication, QWidget

from aegis_core.events import Event

from .desktop import Bar, Desktop
from .i18n import tr
from .preferences import Preferences
from .runner import Runner, Stopping
from .standing import Ended, Kind, Standing, at_work
from .state import AppState
from .tray import Tray

INTERVAL_MILLISECONDS = 500  # how often a moving figure is told on


class LongWork(QObject):
    """Follows one runner. `show_asked` carries the page that the person wants to see, "" for whichever is open."""

    show_asked = Signal(str)

    def __init__(
        self, state: AppState, runner: Runner, preferences: Preferences, desktop: Desktop, window: QWidget
    ) -> None:
        super().__init__(window)
        self.state, self.runner, self.preferences = state, runner, preferences
        self.desktop, self.window = desktop, window
        self.tray = Tray(window)
        self.standing = Standing()
        self._ended = Ended()
        self._said_step = ""
        self._told_of_tray = False
        self._soon = QTimer(self, singleShot=True, interval=INTERVAL_MILLISECONDS)
        self._soon.timeout.connect(self.refresh)
        runner.started.connect(self._on_started)
        runner.ended.connect(self._on_ended)
        runner.stopping_changed.connect(self.refresh)
        state.event_arrived.connect(self._on_event)
        state.flow_changed.connect(self._on_flow_changed)
        state.run_opened.connect(self._on_run_opened)
        self.tray.show_asked.connect(lambda: self.show_asked.emit(""))
        self.tray.said_clicked.connect(lambda: self.show_asked.emit(self._said_step))

    @property
    def has_tray(self) -> bool:
        return self.desktop.has_tray()

    def show_tray(self) -> None:
        """Show the icon where the desktop has room for one; a taskbar may have come up after the window."""
        if self.has_tray:
            self.tray.icon.show()

    def move_into_tray(self) -> None:
        """The window was hidden; once, the person is told where to find it."""
        self.show_tray()
        if not self._told_of_tray:
            self._told_of_tray = True
            self._said_step = ""
            self.tray.say("AEGIS", tr("The step goes on; AEGIS waits here beside the clock."))

    def seen(self) -> None:
        """The person looks at the window: how the last run ended needs no sign any more."""
        if not self.runner.running and self.standing.kind in (Kind.FAILED, Kind.DONE):
            self._show(Standing())

    def refresh(self) -> None:
        """Show how the run stands now; the button of a window that came back starts empty."""
        if self.runner.running:
            saving = self.runner.stopping in (Stopping.SAVING, Stopping.OVERDUE)
            self.standing = at_work(self.state.flow, self.state.view, saving)
        self._show(self.standing)

    def retranslate(self) -> None:
        self.tray.retranslate()

    def shut_down(self) -> None:
        self._soon.stop()
        self.desktop.awake.release()
        self._show_in_taskbar(Bar.NONE, 0.0)
        self.tray.icon.hide()

    def _on_started(self) -> None:
        self._ended = Ended()
        self.desktop.awake.hold()  # also while paused: a sleeping card can lose what it holds
        self.show_tray()
        self.refresh()

    def _on_flow_changed(self) -> None:
        if self.runner.running:
            self.refresh()

    def _on_event(self, event: Event) -> None:
        self._ended.hear(event)
        self._refresh_soon()

    def _refresh_soon(self) -> None:
        if self.runner.running and not self._soon.isActive():
            self._soon.start()

    def _on_ended(self) -> None:
        self._soon.stop()
        self.desktop.awake.release()
        ended = self._ended.standing(self.standing.fraction)
        self._show(ended)
        if ended.kind not in (Kind.DONE, Kind.FAILED):
            return
        if self.preferences.sound:
            self.desktop.chime()
        if self.window.isActiveWindow():
            self.seen()
        elif self.preferences.notify:
            self._said_step = ended.step
            self.tray.say(self._run_name() or "AEGIS", self._ended.sentence())
            QApplication.alert(self.window)

    def _on_run_opened(self) -> None:
        if not self.runner.running:
            self._show(Standing())

    def _show(self, standing: Standing) -> None:
        self.standing = standing
        self.tray.show_standing(standing, self._run_name(), self.runner.several)
        self._show_in_taskbar(standing.bar, standing.fraction or 0.0)

    def _show_in_taskbar(self, bar: Bar, fraction: float) -> None:
        """A hidden window has no button there."""
        if self.window.isVisible():
            self.desktop.taskbar.show(int(self.window.winId()), bar, fraction)

    def _run_name(self) -> str:
        return self.state.run.path.name if self.state.run else ""
