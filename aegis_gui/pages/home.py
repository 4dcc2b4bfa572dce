"""The first page: begin a new ritual, try the demo, go on with an earlier run, hold runs against each other."""

from pathlib import Path

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from aegis_core.failures import UserError
from aegis_core.plan import Plan
from aegis_core.resources import runs_folder
from aegis_core.run_directory import RunDirectory

from .. import theme as themes
from ..home.begin import Begin
from ..home.comparison import Comparison
from ..home.shelf import Shelf
from ..home.welcome import Welcome
from ..i18n import tr
from ..panels import label
from ..preferences import Preferences
from ..state import AppState
from ..theme import Theme

SETTINGS_PAGE = "prepare"  # where the settings of a run begin


class HomePage(QWidget):
    """`opened` comes when a run is open: the window shows its first unfinished step, or the page that is named.

    `resumed` asks the window to go on with that step at once.
    """

    opened = Signal()
    settings_asked = Signal(str)
    resumed = Signal()

    def __init__(self, state: AppState, preferences: Preferences, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.state, self.preferences = state, preferences
        self.folder = preferences.runs or runs_folder()
        self._theme = themes.LIGHT
        self.title, self.lead = label(role="title"), label(role="secondary", wraps=True)
        self.begin, self.shelf = Begin(), Shelf(state)
        self.welcome: Welcome | None = None
        self.comparison: Comparison | None = None
        self.faces = QStackedWidget()
        self.runs_face = QWidget()
        self._lay_out()
        self._connect()
        self.retranslate()
        if not preferences.welcomed:
            self.show_welcome()

    @property
    def welcoming(self) -> bool:
        """Whether the pictures of the first start are what is seen."""
        return self.welcome is not None and self.faces.currentWidget() is self.welcome

    def refresh(self) -> None:
        """Read the runs from the disk again."""
        recent = [path for path in self.preferences.recent if RunDirectory(path).plan_path.is_file()]
        self.begin.show_places(self.folder, recent)
        self.shelf.show_runs(self.folder, self.preferences.recent)
        self.lead.setVisible(not self.shelf.list.rows)

    def open_run(self, path: Path) -> bool:
        """Open it and say so; a run that cannot be opened says why."""
        if self._open(path):
            self.opened.emit()
            return True
        return False

    def resume_run(self, path: Path) -> None:
        """Open it and go on with its first unfinished step."""
        if self.open_run(path):
            self.resumed.emit()

    def show_runs(self) -> None:
        """Back to the list, from the welcome or a comparison."""
        self._forget_comparison()
        self.faces.setCurrentWidget(self.runs_face)

    def show_welcome(self) -> None:
        """The ritual in four pictures: at every start until a person has gone on from there, later when asked for."""
        if self.welcome is None:
            self.welcome = Welcome()
            self.welcome.demo_asked.connect(self._begin_demo)
            self.welcome.closed.connect(self._leave_welcome)
            self.faces.addWidget(self.welcome)
        self.welcome.set_theme(self._theme)
        self.faces.setCurrentWidget(self.welcome)
        self.welcome.setFocus(Qt.FocusReason.OtherFocusReason)

    def compare(self, paths: list[Path]) -> None:
        """Hold these runs against each other."""
        self._forget_comparison()
        cards = [card for card in self.shelf.list.cards(paths) if card.problem is None]
        self.comparison = Comparison(cards, self._theme)
        self.comparison.closed.connect(self._leave_comparison)
        self.faces.addWidget(self.comparison)
        self.faces.setCurrentWidget(self.comparison)
        self.comparison.setFocus(Qt.FocusReason.OtherFocusReason)

    def begin_new(self) -> None:
        """Where a name for a new run is typed."""
        self.show_runs()
        self.begin.name.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.begin.name.selectAll()

    def seek(self) -> None:
        """Where a run is searched for."""
        self.show_runs()
        self.shelf.search.show()
        self.shelf.search.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def set_busy(self, busy: bool) -> None:
        """While a step is running, runs can be looked at and compared, but no other one opened."""
        self.begin.setEnabled(not busy)
        self.shelf.list.set_busy(busy)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        for part in (self.begin, self.shelf, self.welcome, self.comparison):
            if part:
                part.set_theme(theme)

    def retranslate(self) -> None:
        self.title.setText(tr("Runs"))
        self.lead.setText(
            tr(
                "Nine steps lead from a base model to your own model in Ollama. "
                "Each run keeps everything in one folder."
            )
        )
        for part in (self.begin, self.shelf, self.welcome, self.comparison):
            if part:
                part.retranslate()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def _open(self, path: Path) -> bool:
        if self.state.busy and self.state.run and path.resolve() == self.state.run.path.resolve():
            return True  # it is open, and its step goes on
        try:
            self._refuse_while_busy()
            self.state.open(path)
        except (UserError, OSError) as error:
            self.begin.show_problem(error)
            return False
        self.begin.show_problem(None)
        self.preferences.note_recent(path)
        return True

    def _refuse_while_busy(self) -> None:
        if self.state.busy:
            raise UserError("A step is running in this window.", "Stop it first, or wait until it is done.")

    def _create(self, folder: Path, plan: Plan) -> None:
        try:
            self._refuse_while_busy()
            self.state.create(folder, plan)
        except (UserError, OSError) as error:
            self.begin.show_problem(error)
            return
        self.begin.show_problem(None)
        self.begin.name.setModified(False)
        self.preferences.note_recent(folder)
        self.opened.emit()

    def _open_settings(self, path: Path) -> None:
        if self._open(path):
            self.settings_asked.emit(SETTINGS_PAGE)

    def _begin_demo(self) -> None:
        self.preferences.welcomed = True
        self.show_runs()
        self.begin.start_demo()

    def _leave_welcome(self) -> None:
        self.preferences.welcomed = True
        self.begin_new()

    def _leave_comparison(self) -> None:
        self.show_runs()
        self.shelf.compare.setFocus(Qt.FocusReason.OtherFocusReason)

    def _forget_comparison(self) -> None:
        if self.comparison:
            self.faces.removeWidget(self.comparison)
            self.comparison.deleteLater()
            self.comparison = None

    def _change_folder(self, folder: Path) -> None:
        self.folder = self.preferences.runs = folder
        self.refresh()

    def _connect(self) -> None:
        self.state.run_opened.connect(self.show_runs)
        self.begin.asked.connect(self._create)
        self.begin.opened.connect(self.open_run)
        self.begin.folder_chosen.connect(self._change_folder)
        self.shelf.opened.connect(self.open_run)
        self.shelf.resumed.connect(self.resume_run)
        self.shelf.compared.connect(self.compare)
        self.shelf.duplicated.connect(self._open_settings)
        self.shelf.preset_saved.connect(self.begin.show_presets)
        self.shelf.problem.connect(self.begin.show_problem)
        self.shelf.changed.connect(self.refresh)

    def _lay_out(self) -> None:
        list_page = QVBoxLayout(self.runs_face)
        list_page.setContentsMargins(0, 0, 0, 0)
        list_page.setSpacing(8)
        list_page.addWidget(self.title)
        list_page.addWidget(self.lead)
        list_page.addSpacing(8)
        list_page.addWidget(self.begin)
        list_page.addSpacing(12)
        list_page.addWidget(self.shelf, 1)
        self.faces.addWidget(self.runs_face)
        page = QVBoxLayout(self)
        page.setContentsMargins(24, 20, 24, 12)
        page.addWidget(self.faces)
