"""What the person must know of a run that was just opened: somebody else has it, or a step broke off."""

from functools import partial

from PySide6.QtCore import QObject, QTimer, Signal

from aegis_core.failures import UserError
from aegis_core.run_directory import RunDirectory

from . import text
from .banner import Banner
from .doorbell import Doorbell, door_of, door_of_the_tray, ring
from .i18n import filled, mark, tr
from .state import AppState

IN_USE_MILLISECONDS = 1_000  # how often a run that somebody else has is asked for


class Greeting(QObject):
    """Says it in the banner, and hears who rings for this run or for the window in the tray.

    `called`: the window is wanted in front; `continued` carries the step that is to go on.
    """

    called = Signal()
    continued = Signal(str)

    def __init__(self, state: AppState, banner: Banner, parent: QObject) -> None:
        super().__init__(parent)
        self.state, self.banner = state, banner
        self.run_door, self.tray_door = Doorbell(self), Doorbell(self)
        for door in (self.run_door, self.tray_door):
            door.rung.connect(self.called)
        self.in_use = QTimer(self, interval=IN_USE_MILLISECONDS)
        self.in_use.timeout.connect(state.obstacle)  # opens the run anew as soon as nobody has it any more

    def greet(self) -> None:
        self.banner.hide()
        self.in_use.stop()
        self.run_door.take_down()
        run = self.state.run
        if run is None:
            return
        if obstacle := self.state.obstacle():
            self.in_use.start()
            self.tell_of_owner(obstacle)
            return
        self.run_door.hang(door_of(run.path))
        if step := self.state.flow.cut_off():
            self.banner.offer(partial(_broke_off, step), mark("Continue"), partial(self.continued.emit, step))

    def tell_of_owner(self, obstacle: UserError) -> None:
        """Another window can be called to the front; a terminal cannot."""
        if self.state.run and self.state.owned_by_window:
            sentence = partial(filled, obstacle.reason_template, obstacle.values)
            self.banner.offer(sentence, mark("Show that window"), partial(_call, self.state.run))
        else:
            self.banner.tell(obstacle.values, obstacle.reason_template, obstacle.advice_template)

    def wait_in_tray(self) -> None:
        self.tray_door.hang(door_of_the_tray())

    def leave_tray(self) -> None:
        self.tray_door.take_down()

    def shut_down(self) -> None:
        self.in_use.stop()
        self.run_door.take_down()
        self.tray_door.take_down()


def _call(run: RunDirectory) -> None:
    """Ask the window that has the run to come to the front."""
    ring(door_of(run.path))


def _broke_off(step: str) -> str:
    return filled("“{step}” broke off and can go on from what was saved.", step=tr(text.STEP_TITLES[step]))
