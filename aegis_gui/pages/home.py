"""The list of runs: begin a new ritual, try the demo, or go on with an earlier one."""

from pathlib import Path

from PySide6.QtCore import QDateTime, QEvent, QLocale, Qt, Signal
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from aegis_core.failures import UserError
from aegis_core.plan import DEMO, Plan, demo_plan
from aegis_core.resources import runs_folder

from .. import theme as themes
from ..i18n import filled, in_window_language, mark, tr
from ..panels import Section, label, scrolled
from ..preferences import Preferences
from ..runs import RunCard, fresh_name, known_runs
from ..state import AppState
from ..theme import Theme

FORBIDDEN = '<>:"/\\|?*'


class HomePage(QWidget):
    """`opened` comes when a run is open; the window then shows its first unfinished step."""

    opened = Signal()

    def __init__(self, state: AppState, preferences: Preferences, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.state, self.preferences = state, preferences
        self.folder = runs_folder()
        self._theme = themes.LIGHT
        self._problem: UserError | None = None
        self.title, self.lead = label(role="title"), label(role="secondary", wraps=True)
        self.new = Section(mark("Begin"))
        self.name = QLineEdit()
        self.place = label(role="small", wraps=True)
        self.change = QPushButton()
        self.change.setProperty("role", "quiet")
        self.create_button, self.demo_button, self.open_button = QPushButton(), QPushButton(), QPushButton()
        self.problem = label(role="error", wraps=True)
        self.earlier = label(role="heading")
        self.empty = label(role="secondary", wraps=True)
        self.list = QVBoxLayout()
        self.list.setSpacing(8)
        self.create_button.clicked.connect(lambda: self._create(self.name.text(), Plan()))
        self.demo_button.clicked.connect(self.start_demo)
        self.open_button.clicked.connect(self._choose_run)
        self.change.clicked.connect(self._choose_folder)
        self.name.returnPressed.connect(lambda: self._create(self.name.text(), Plan()))
        self._lay_out()
        self.retranslate()

    def start_demo(self) -> None:
        """A new run of the embedded demo, opened."""
        self._create(fresh_name(self.folder, DEMO), demo_plan())

    def refresh(self) -> None:
        """Read the runs from the disk again."""
        while item := self.list.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        cards = known_runs(self.folder, self.preferences.recent)
        self.empty.setVisible(not cards)
        for run in cards:
            row = RunRow(run, self.state.run is not None and run.path == self.state.run.path.resolve(), self._theme)
            row.opened.connect(self.open_run)
            self.list.addWidget(row)
        if not self.name.isModified():
            self.name.setText(fresh_name(self.folder, "ritual"))

    def open_run(self, path: Path) -> None:
        """Open it and say so; a run that cannot be opened says why."""
        try:
            self.state.open(path)
        except (UserError, OSError) as error:
            self._show_problem(error)
            return
        self._show_problem(None)
        self.preferences.note_recent(path)
        self.opened.emit()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        for button, name in ((self.create_button, "plus"), (self.demo_button, "demo"), (self.open_button, "folder")):
            button.setIcon(themes.icon(name, theme.text))
        self.refresh()

    def retranslate(self) -> None:
        self.title.setText(tr("Runs"))
        self.lead.setText(
            tr(
                "Nine steps lead from a base model to your own model in Ollama. "
                "Each run keeps everything in one folder."
            )
        )
        self.new.retranslate()
        self.name.setAccessibleName(tr("Name of the new run"))
        self.name.setPlaceholderText(tr("Name of the new run"))
        self.create_button.setText(tr("New ritual"))
        self.demo_button.setText(tr("Try the demo"))
        self.demo_button.setToolTip(tr("A small embedded model, minutes on any computer, nothing to choose."))
        self.open_button.setText(tr("Open a run…"))
        self.change.setText(tr("Change…"))
        self.place.setText(filled("In {folder}", folder=self.folder))
        self.earlier.setText(tr("Earlier runs"))
        self.empty.setText(
            tr("There are none yet. The demo is a good beginning: it needs no GPU and no download of gigabytes.")
        )
        self._show_problem(self._problem)
        self.refresh()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def _create(self, name: str, plan: Plan) -> None:
        name = name.strip().rstrip(".")
        try:
            if not name or any(c in FORBIDDEN or ord(c) < 32 for c in name):
                raise UserError(
                    "“{name}” cannot be the name of a folder.",
                    "Leave out {characters}.",
                    name=name,
                    characters=FORBIDDEN,
                )
            self.state.create(self.folder / name, in_window_language(plan))
        except (UserError, OSError) as error:
            self._show_problem(error)
            return
        self._show_problem(None)
        self.name.setModified(False)
        self.preferences.note_recent(self.folder / name)
        self.opened.emit()

    def _choose_run(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr("Open a run…"), str(self.folder))
        if chosen:
            self.open_run(Path(chosen))

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr("Folder for runs"), str(self.folder))
        if chosen:
            self.folder = Path(chosen)
            self.retranslate()

    def _show_problem(self, error: UserError | OSError | None) -> None:
        if isinstance(error, OSError):
            error = UserError("The folder cannot be written: {problem}.", "Choose another one.", problem=error.strerror)
        self._problem = error
        self.problem.setVisible(error is not None)
        if error:
            parts = (filled(error.reason_template, error.values), filled(error.advice_template, error.values))
            self.problem.setText(" ".join(filter(None, parts)))

    def _lay_out(self) -> None:
        start = QHBoxLayout()
        start.setSpacing(8)
        start.addWidget(self.name, 1)
        for button in (self.create_button, self.demo_button, self.open_button):
            start.addWidget(button)
        where = QHBoxLayout()
        where.addWidget(self.place, 1)
        where.addWidget(self.change)
        self.new.body.addLayout(start)
        self.new.body.addLayout(where)
        self.new.body.addWidget(self.problem)
        page = QVBoxLayout(self)
        page.setContentsMargins(24, 20, 24, 12)
        page.setSpacing(8)
        page.addWidget(self.title)
        page.addWidget(self.lead)
        page.addSpacing(8)
        page.addWidget(self.new)
        page.addSpacing(12)
        page.addWidget(self.earlier)
        page.addWidget(self.empty)
        page.addWidget(scrolled(self.list), 1)


class RunRow(QFrame):
    """One run: name, model, how far it is, when it was last touched."""

    opened = Signal(Path)

    def __init__(self, run: RunCard, is_open: bool, theme: Theme) -> None:
        super().__init__()
        self.run = run
        self.setProperty("role", "card")
        self.setProperty("chosen", is_open)
        name = label(run.path.name, role="heading")
        name.setToolTip(str(run.path))
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(name)
        words.addWidget(label(self._words(), role="secondary", wraps=True))
        self.button = QToolButton()
        self.button.setIcon(themes.icon("chevron-right", theme.text))
        self.button.setText(tr("Open"))
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
        self.button.setAccessibleName(filled("Open run {name}", name=run.path.name))
        self.button.setEnabled(run.problem is None)
        self.button.clicked.connect(lambda: self.opened.emit(self.run.path))
        when = QLocale().toString(QDateTime.fromSecsSinceEpoch(int(run.changed_at)), QLocale.FormatType.ShortFormat)
        touched = label(when, role="small")
        touched.setFont(themes.tabular(themes.SMALL))
        row = QHBoxLayout(self)
        row.setContentsMargins(16, 12, 12, 12)
        row.setSpacing(16)
        row.addLayout(words, 1)
        row.addWidget(touched)
        row.addWidget(self.button)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        super().mouseReleaseEvent(event)
        if self.run.problem is None and self.rect().contains(event.position().toPoint()):
            self.opened.emit(self.run.path)

    def _words(self) -> str:
        run = self.run
        if run.problem:
            return filled(run.problem.reason_template, run.problem.values)
        model = tr("embedded demo model") if run.model == DEMO else run.model
        said = [model, filled("{done} of {total} steps done", done=run.n_done, total=run.n_steps)]
        if run.stale:
            said.append(tr("partly outdated"))
        if run.passed is not None:
            said.append(filled("{passed} of {total} indicators passed", passed=run.passed, total=run.n_indicators))
        return " · ".join(said)
