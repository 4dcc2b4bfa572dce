"""The list of runs with its heading, search and the button that compares; and everything a card can ask for."""

from pathlib import Path

from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from aegis_core.command_line import repeat_command
from aegis_core.duplicate import duplicate
from aegis_core.failures import UserError
from aegis_core.names import free_name, usable_name
from aegis_core.presets import save_preset
from aegis_core.removal import refuse_in_use, removal
from aegis_core.run_directory import RunDirectory

from .. import theme as themes
from ..i18n import filled, mark, tr
from ..panels import label
from ..state import AppState
from ..theme import Theme
from .card import Act, RunRow
from .discard import confirmation, discard
from .drawers import CommandDrawer, Drawer, NameDrawer
from .run_list import RunList

MANY = 6  # runs from which on a search is worth its place
ENOUGH = 2  # runs that can be compared


class Shelf(QWidget):
    """`opened` and `resumed` carry a run's folder, `compared` several; `problem` is a UserError to be shown."""

    opened = Signal(Path)
    resumed = Signal(Path)
    compared = Signal(list)
    duplicated = Signal(Path)
    preset_saved = Signal(str)
    problem = Signal(object)
    changed = Signal()  # runs came or went

    def __init__(self, state: AppState) -> None:
        super().__init__()
        self.state = state
        self.heading = label(role="heading")
        self.empty = label(role="secondary", wraps=True)
        self.search = QLineEdit(clearButtonEnabled=True)
        self.search.setMaximumWidth(280)
        self.compare = QPushButton()
        self.list = RunList(self._open_path)
        self.said = label(role="small", wraps=True)
        self.said.hide()
        self._told: tuple[str, dict[str, object]] | None = None
        self.search.textChanged.connect(self.list.seek)
        self.compare.clicked.connect(lambda: self.compared.emit(list(self.list.chosen)))
        self.list.asked.connect(self.do)
        self.list.chosen_changed.connect(self._show_choice)
        self.list.counted.connect(self._show_count)
        self._lay_out()

    def show_runs(self, folder: Path, recent: list[Path]) -> None:
        """Read the runs from the disk again."""
        self.list.show_runs(folder, recent)

    def do(self, row: RunRow, act: Act) -> None:
        """What a person asked of a card."""
        path = row.run.path
        match act:
            case Act.OPEN:
                self.opened.emit(path)
            case Act.RESUME:
                self.resumed.emit(path)
            case Act.DUPLICATE:
                self._ask_duplicate(row)
            case Act.SAVE_PRESET:
                self._ask_preset(row)
            case Act.SHOW_COMMAND:
                self._unfold(row, CommandDrawer(lambda shell: repeat_command(RunDirectory(path), shell)))
            case Act.OPEN_FOLDER:
                QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))
            case Act.DELETE:
                self._ask_delete(path)

    def set_theme(self, theme: Theme) -> None:
        self.compare.setIcon(themes.icon("compare", theme.text))
        self.list.set_theme(theme)

    def retranslate(self) -> None:
        self.heading.setText(tr("Earlier runs"))
        self.search.setPlaceholderText(tr("Search by name or model"))
        self.search.setAccessibleName(tr("Search by name or model"))
        self.empty.setText(
            tr("There are none yet. The demo is a good beginning: it needs no GPU and no download of gigabytes.")
        )
        self._show_choice()
        self._say(self._told)
        self.list.retranslate()

    def _ask_duplicate(self, row: RunRow) -> None:
        source = row.run.path

        def make(name: str) -> None:
            made = duplicate(RunDirectory.open(source), source.parent / usable_name(name))
            if self.state.busy:
                self._say(
                    (mark("“{name}” is in the list and can be opened once the step is done."), {"name": made.path.name})
                )
                self.changed.emit()
            else:
                self._say(None)
                self.duplicated.emit(made.path)

        drawer = NameDrawer(
            tr("Name of the new run"),
            tr("It gets all settings and none of the results, and opens on its settings, so that you can change them."),
            free_name(source.parent, f"{source.name}-2"),
            tr("Duplicate"),
            make,
        )
        self._unfold(row, drawer)

    def _ask_preset(self, row: RunRow) -> None:
        path = row.run.path

        def keep(name: str) -> None:
            made = save_preset(name, RunDirectory.open(path).plan())
            row.put_into_drawer(None)
            row.setFocus(Qt.FocusReason.OtherFocusReason)
            self._say((mark("The preset “{name}” is saved; new runs can begin with it."), {"name": made.name}))
            self.preset_saved.emit(made.name)

        drawer = NameDrawer(
            tr("Name of the preset"),
            tr("Keeps every setting, but no folders of this run and no consents."),
            path.name,
            tr("Save preset"),
            keep,
        )
        self._unfold(row, drawer)

    def _unfold(self, row: RunRow, drawer: Drawer) -> None:
        for other in self.list.rows.values():
            other.put_into_drawer(None)
        drawer.closed.connect(lambda: self._fold(row))
        row.put_into_drawer(drawer)
        drawer.setFocus(Qt.FocusReason.OtherFocusReason)
        QTimer.singleShot(0, drawer, lambda: self.list.area.ensureWidgetVisible(drawer))  # once it has its place

    def _fold(self, row: RunRow) -> None:
        row.put_into_drawer(None)
        row.setFocus(Qt.FocusReason.OtherFocusReason)

    def _ask_delete(self, path: Path) -> None:
        try:
            self._refuse_busy(path)
            found = removal(path)
        except UserError as error:
            self.problem.emit(error)
            return
        box = confirmation(found, self)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.accepted.connect(lambda: self._delete(path))
        box.open()

    def _delete(self, path: Path) -> None:
        """Once more whether it is in use: the question may have stood there for long."""
        try:
            self._refuse_busy(path)
            refuse_in_use(RunDirectory(path))
            if path == self._open_path():
                self.state.close()  # nothing of this window may hold its files
            discard(path)
        except UserError as error:
            self.problem.emit(error)
            self.changed.emit()
            return
        self._say((mark("“{name}” is in the recycle bin."), {"name": path.name}))
        self.changed.emit()

    def _refuse_busy(self, path: Path) -> None:
        if self.state.busy and path == self._open_path():
            raise UserError(
                "A step of {name} is running, so the run cannot be deleted.",
                "Stop it first, or wait until it is done.",
                name=path.name,
            )

    def _say(self, told: tuple[str, dict[str, object]] | None) -> None:
        """One quiet sentence about what was just done."""
        self._told = told
        self.said.setVisible(told is not None)
        if told:
            self.said.setText(filled(told[0], told[1]))

    def _show_choice(self) -> None:
        n = len(self.list.chosen)
        self.compare.setEnabled(n >= ENOUGH)
        self.compare.setText(filled("Compare {n} runs", n=n) if n >= ENOUGH else tr("Compare"))
        self.compare.setToolTip(tr("Choose two to four runs by the boxes on their cards."))

    def _show_count(self, n_matching: int, n_runs: int) -> None:
        self.empty.setVisible(n_runs == 0)
        self.list.setVisible(n_runs > 0)
        self.search.setVisible(n_runs >= MANY or bool(self.search.text()))
        self.compare.setVisible(n_runs >= ENOUGH)

    def _open_path(self) -> Path | None:
        return self.state.run.path.resolve() if self.state.run else None

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(12)
        head.addWidget(self.heading)
        head.addWidget(self.said, 1)
        head.addStretch(1)
        head.addWidget(self.search, 1)
        head.addWidget(self.compare)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(8)
        page.addLayout(head)
        page.addWidget(self.empty)
        page.addWidget(self.list, 1)
        page.addStretch(0)
