"""The window: header, step rail, pages, actions, telemetry strip, log drawer, and what connects them."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from PySide6.QtCore import QEvent, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import QApplication, QMainWindow, QStackedWidget, QToolButton

from aegis_core.engine.parts import this_parts
from aegis_core.engine.place import engine_place, is_frozen
from aegis_core.engine.wish import this_wish
from aegis_core.events import Event, StepFailed, StepStarted
from aegis_core.failures import UserError

from . import theme as themes
from .banner import Banner
from .closing import Farewell
from .desktop import Desktop
from .engine_setup import EngineSetup
from .flow import HOME, PAGES, Action, Do, Status
from .footer import Footer
from .frame import framed
from .greeting import Greeting
from .header import Header
from .hub_token import HubToken
from .i18n import Language, mark, tr
from .log_drawer import LogDrawer
from .long_work import LongWork
from .machine import Machine
from .pages.home import HomePage
from .preferences import Preferences
from .rail import Rail
from .runner import Runner
from .sheets import Sheets
from .state import AppState
from .telemetry_strip import TelemetryStrip
from .theme import Appearance, Theme

if TYPE_CHECKING:
    from .pages.step_page import StepPage

SMALLEST = (1100, 720)


class Window(QMainWindow):
    """Pages are made when they are first shown, so that the window itself opens at once."""

    page_shown = Signal(str)

    def __init__(self, language: Language, appearance: Appearance, preferences: Preferences, desktop: Desktop) -> None:
        super().__init__()
        self.language, self.appearance, self.preferences, self.desktop = language, appearance, preferences, desktop
        self.state = AppState(self)
        self.runner = Runner(self.state, self)
        self.machine = Machine(self)
        self.long_work = LongWork(self.state, self.runner, preferences, desktop, self)
        self.farewell = Farewell(self.runner, self.long_work, preferences, self)
        self.engine = EngineSetup(engine_place(), this_parts(), this_wish(), self) if is_frozen() else None
        self.hub_token = HubToken(self)
        self.page = HOME
        self._following = True
        self.sheets = Sheets(self)
        self.header, self.rail, self.footer = Header(self.state), Rail(self.state), Footer()
        self.banner, self.log, self.strip = Banner(), LogDrawer(), TelemetryStrip()
        self.greeting = Greeting(self.state, self.banner, self)
        self.log_button = QToolButton()
        self.stack = QStackedWidget()
        self.stack.setObjectName("pages")
        self.home = HomePage(self.state, preferences)
        self.pages: dict[str, StepPage] = {}
        self.stack.addWidget(self.home)
        self._lay_out()
        self._connect()
        self._add_shortcuts()
        self.header.show_choices(language.current, appearance.choice)
        self.set_theme(appearance.theme)
        self.retranslate()
        self.show_page(HOME)
        self.setFocus()
        self.setMinimumSize(*SMALLEST)
        if not self.restoreGeometry(preferences.geometry):
            self.resize(1280, 800)
        self._choose_disk()
        self.machine.start()

    # ---- pages

    def show_page(self, name: str) -> None:
        """Bring a page to the front; silently nothing if it cannot be reached."""
        if not self.state.flow.reachable(name):
            return
        self.page = name
        self.rail.show_page(name)
        self.stack.setCurrentWidget(self.home if name == HOME else self.step_page(name))
        if name == HOME:
            self.home.refresh()
        self._show_flow()
        self.page_shown.emit(name)

    def go(self, place: str) -> None:
        """Where a page leads: to another page, to the engine's sheet, or to that of the hub's token."""
        if place == "engine":
            self.sheets.show_engine()
        elif place == "hub_token":
            self.sheets.show_token()
        else:
            self.show_page(place)

    def step_page(self, name: str) -> "StepPage":
        """The page of a step, made on first use and shown the step's past."""
        if name not in self.pages:
            module = import_module(f"{__package__}.pages.{name}")
            kind = cast("Callable[[AppState], StepPage]", getattr(module, f"{name.capitalize()}Page"))
            page = kind(self.state)
            page.run_requested.connect(self.run_step)
            page.mend_requested.connect(self.apply_and_run)
            page.go_requested.connect(self.go)
            page.set_theme(self.appearance.theme)
            page.retranslate()
            page.plan_changed()
            page.show_run(self.state.view)
            self.stack.addWidget(page)
            self.pages[name] = page
        return self.pages[name]

    # ---- running

    def run_step(self, step: str) -> None:
        """Start one step; a finished one is done once more, a stopped one goes on."""
        again = ("--again",) if self.state.status(step) is Status.DONE else ()
        self._start(("--only", step, *again))

    def apply_and_run(self, step: str, changes: Mapping[str, Any]) -> None:
        """Change settings and do what they made necessary, up to and including a step."""
        try:
            self.state.change(changes)
        except UserError as error:
            self.tell(error)
            return
        self._start(("--to", step))

    def run_all(self) -> None:
        """Start everything that is not done yet."""
        self._start(())

    def _start(self, arguments: tuple[str, ...]) -> None:
        if self.runner.running:
            return
        if self.engine and self.engine.needed:
            self.banner.offer(
                lambda: tr("The engine is not set up yet."), mark("Set up the engine"), self.sheets.show_engine
            )
            return
        if obstacle := self.state.obstacle():
            self.greeting.tell_of_owner(obstacle)
            return
        for name, page in self.pages.items():
            if not page.settle():
                self.show_page(name)
                return
        self.banner.hide()
        self._following = True
        try:
            self.runner.start(arguments)
        except UserError as error:
            self.tell(error)
        except OSError as error:
            self.tell(UserError("The engine could not be started: {problem}.", "Try again.", problem=error))

    def _act(self, action: Action) -> None:
        if action.do in (Do.GO, Do.NEXT):
            self.show_page(action.page)
        elif action.do is not Do.NOTHING:
            self.run_step(action.page)

    def _on_event(self, event: Event) -> None:
        page = self.pages.get(event.stage)
        if isinstance(event, StepStarted):
            if page:
                page.show_run(self.state.view)
            if self._following:
                self.show_page(event.stage)
                page = self.pages[event.stage]
        if page:
            page.on_event(event)
        self.log.on_event(event)
        if isinstance(event, StepFailed) and not event.stage:
            self.banner.tell(event.values, event.reason_template or event.reason, event.advice_template or event.advice)

    # ---- what the window says

    def tell(self, error: UserError) -> None:
        """One sentence and its advice, above the page."""
        self.banner.tell(error.values, error.reason_template, error.advice_template)

    def set_theme(self, theme: Theme) -> None:
        for part in (self.header, self.rail, self.footer, self.banner, self.log, self.strip, self.home):
            part.set_theme(theme)
        for page in self.pages.values():
            page.set_theme(theme)
        self._show_log_button()

    def retranslate(self) -> None:
        for part in (self.header, self.rail, self.footer, self.banner, self.log, self.strip):
            part.retranslate()
        self.long_work.retranslate()
        self.log_button.setText(tr("Log"))
        self._name_window()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        if event.type() == QEvent.Type.ActivationChange and self.isActiveWindow():
            self.long_work.seen()
        super().changeEvent(event)

    def toggle_log(self) -> None:
        self.log.setVisible(not self.log.isVisible())
        self._show_log_button()

    # ---- the end

    def come_to_front(self, page: str = "") -> None:
        """From the tray or a notification: visible again, on this page if one is meant."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
        self.show()
        self.raise_()
        self.activateWindow()
        if page:
            self._choose_page(page)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QApplication.setQuitOnLastWindowClosed(True)
        self.greeting.leave_tray()
        self.long_work.refresh()

    def closeEvent(self, event: QCloseEvent) -> None:
        """During a run: ask, save or hide. Afterwards no thread, timer or process is left."""
        if not self.farewell.may_close():
            event.ignore()
            return
        self.preferences.geometry = self.saveGeometry()
        self.shut_down()
        event.accept()

    def shut_down(self) -> None:
        """End every thread and process; safe to call twice."""
        for page in self.pages.values():
            page.close()  # the chat page ends its own engine
        if self.engine:
            self.engine.shut_down()
        self.hub_token.shut_down()
        self.runner.shut_down()
        self.machine.shut_down()
        self.long_work.shut_down()
        self.greeting.shut_down()
        self.state.let_go()

    # ---- putting it together

    def _lay_out(self) -> None:
        self.log.hide()
        self.log_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.strip.row.addWidget(self.log_button)
        parts = (self.header, self.rail, self.banner, self.stack, self.footer, self.log, self.strip)
        self.setCentralWidget(framed(*parts))

    def _connect(self) -> None:
        state, footer = self.state, self.footer
        state.event_arrived.connect(self._on_event)
        state.flow_changed.connect(self._show_flow)
        state.run_opened.connect(self._on_run_opened)
        self.greeting.called.connect(self.come_to_front)
        self.greeting.continued.connect(self.run_step)
        self.farewell.hidden.connect(self.greeting.wait_in_tray)
        for changed in (self.runner.ended, self.runner.stopping_changed, self.farewell.changed):
            changed.connect(self._show_flow)
        tray = self.long_work.tray
        self.long_work.show_asked.connect(self.come_to_front)
        tray.paused.connect(self.runner.pause)
        tray.stop_after_step.connect(self.runner.stop_after_step)
        tray.stop.connect(self.runner.stop)
        tray.quit.connect(self.farewell.quit)
        self.machine.read.connect(self.strip.show_reading)
        self.machine.read.connect(state.read_machine)
        self.log_button.clicked.connect(self.toggle_log)
        self.rail.chosen.connect(self._choose_page)
        self.home.opened.connect(lambda: self.show_page(state.flow.first_unfinished() or PAGES[-1]))
        self.home.settings_asked.connect(self.show_page)
        self.home.resumed.connect(lambda: self.run_step(self.page))
        self.header.language_chosen.connect(self._use_language)
        self.header.theme_chosen.connect(self._use_theme)
        self.header.settings_asked.connect(self.sheets.show_settings)
        self.header.help_asked.connect(self.sheets.show_help)
        self.appearance.changed.connect(self.set_theme)
        footer.acted.connect(self._act)
        footer.run_all.connect(self.run_all)
        footer.run_again.connect(lambda: self.run_step(self.page))
        footer.back.connect(lambda: self._choose_page(state.flow.back(self.page) or HOME))
        footer.next.connect(lambda: self._choose_page(state.flow.next(self.page) or self.page))
        footer.paused.connect(self.runner.pause)
        footer.stop.connect(self.farewell.ask_to_stop)

    def _add_shortcuts(self) -> None:
        actions: dict[str, Callable[[], object]] = {
            "Ctrl+Return": lambda: self._act(self.footer.action),
            "Ctrl+Enter": lambda: self._act(self.footer.action),
            "Alt+Left": self.footer.back.emit,
            "Alt+Right": self.footer.next.emit,
            "Ctrl+P": self.footer.pause_button.click,
            "Ctrl+L": self.toggle_log,
            "Ctrl+,": self.sheets.show_settings,
            "F1": self.sheets.show_help,
            "Ctrl+N": lambda: self._at_home(self.home.begin_new),
            "Ctrl+F": lambda: self._at_home(self.home.seek),
        }
        actions |= {f"Ctrl+{number}": partial(self._choose_page, page) for number, page in enumerate(PAGES)}
        for keys, action in actions.items():
            QShortcut(QKeySequence(keys), self).activated.connect(action)

    def _at_home(self, then: Callable[[], None]) -> None:
        self._choose_page(HOME)
        then()

    def _show_log_button(self) -> None:
        name = "chevron-up" if self.log.isHidden() else "chevron-down"
        self.log_button.setIcon(themes.icon(name, self.appearance.theme.secondary))

    def _choose_page(self, name: str) -> None:
        """The person chose a page: do not pull them away when the next step begins."""
        self._following = name == self.state.flow.running
        self.show_page(name)

    def _show_flow(self) -> None:
        self.footer.show_flow(self.state.flow, self.page, self.runner.stopping, self.farewell.leaving)
        self.home.set_busy(self.state.busy)
        self.machine.pid = self.runner.pid

    def _on_run_opened(self) -> None:
        self._choose_disk()
        for page in self.pages.values():
            page.plan_changed()
            page.show_run(self.state.view)
        self.log.show_run(self.state.view)
        self.greeting.greet()
        self._name_window()

    def _choose_disk(self) -> None:
        """Free space is told of the drive that the run lies on, or that the next one would."""
        self.machine.disk = self.state.run.path if self.state.run else self.home.folder

    def _name_window(self) -> None:
        run = self.state.run
        self.setWindowTitle(f"{run.path.name} – AEGIS" if run else "AEGIS")

    def _use_language(self, code: str) -> None:
        self.preferences.language = code
        self.language.use(code)
        self.header.show_choices(code, self.appearance.choice)

    def _use_theme(self, choice: str) -> None:
        self.preferences.theme = choice
        self.appearance.use(choice)


def warm_up(window: Window) -> None:
    """Import what the heavier pages need while nobody waits for it."""
    QTimer.singleShot(300, window, lambda: import_module(f"{__package__}.plots"))
