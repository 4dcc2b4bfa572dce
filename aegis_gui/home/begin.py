"""Beginning a run: a name, the settings to start from, and two shortcuts: the demo, and a run that is elsewhere."""

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
)

from aegis_core.duplicate import own_folders
from aegis_core.failures import UserError
from aegis_core.names import fresh_name, usable_name
from aegis_core.plan import DEMO, Plan, demo_plan
from aegis_core.presets import Preset, presets
from aegis_core.run_directory import RunDirectory

from .. import theme as themes
from ..i18n import filled, in_window_language, tr
from ..panels import label
from ..theme import Theme
from .discard import discard
from .words import sentence, unwritable

N_RECENT = 3  # plans of earlier runs that are offered


class Begin(QFrame):
    """`asked` carries the folder and the plan of a new run, `opened` the folder of one that is there."""

    asked = Signal(Path, object)
    opened = Signal(Path)
    folder_chosen = Signal(Path)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self.folder = Path()
        self._theme = themes.LIGHT
        self._recent: list[Path] = []
        self._problem: UserError | None = None
        self.name = QLineEdit()
        self.start = QComboBox()
        self.start.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.start.setMinimumContentsLength(26)
        self.start.currentIndexChanged.connect(self._show_forget)
        self.forget = QToolButton()
        self.forget.clicked.connect(self._forget_preset)
        self.create_button, self.demo_button, self.open_button = QPushButton(), QPushButton(), QPushButton()
        self.place = label(role="small", wraps=True)
        self.change = QPushButton()
        self.change.setProperty("role", "quiet")
        self.problem = label(role="error", wraps=True)
        self.problem.hide()
        self.create_button.clicked.connect(self._create)
        self.name.returnPressed.connect(self._create)
        self.name.textEdited.connect(lambda: self.show_problem(None))
        self.demo_button.clicked.connect(self.start_demo)
        self.open_button.clicked.connect(self._choose_run)
        self.change.clicked.connect(self._choose_folder)
        self._lay_out()

    def show_places(self, folder: Path, recent: list[Path]) -> None:
        """Where new runs go, and the runs whose plans may be begun with again."""
        self.folder, self._recent = folder, recent[:N_RECENT]
        self.place.setText(filled("In {folder}", folder=folder))
        if not self.name.isModified():
            self.name.setText(fresh_name(folder, "ritual"))
        self.show_presets()

    def show_presets(self, chosen: str = "") -> None:
        """Read the presets again; one that is damaged is named and cannot be chosen."""
        kept = chosen or self._chosen_name()
        found = presets()
        self.start.blockSignals(True)
        self.start.clear()
        for preset in found:
            self.start.addItem(self._title(preset), preset)
            if preset.problem:
                self._disable(self.start.count() - 1, preset.problem)
        for path in self._recent:
            self.start.addItem(filled("Settings of “{name}”", name=path.name), path)
        names = [preset.name for preset in found]
        self.start.setCurrentIndex(names.index(kept) if kept in names else 0)
        self.start.blockSignals(False)
        self._show_forget()

    def start_demo(self) -> None:
        """A new run of the embedded demo."""
        self._ask(fresh_name(self.folder, DEMO), demo_plan())

    def show_problem(self, error: UserError | OSError | None) -> None:
        """Say below the line why nothing began; None takes it away."""
        if isinstance(error, OSError):
            error = unwritable(error)
        self._problem = error
        self.problem.setVisible(error is not None)
        if error:
            self.problem.setText(sentence(error))

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        for button, name in ((self.create_button, "plus"), (self.demo_button, "demo"), (self.open_button, "folder")):
            button.setIcon(themes.icon(name, theme.text))
        self.forget.setIcon(themes.icon("trash", theme.text))

    def retranslate(self) -> None:
        self.name.setAccessibleName(tr("Name of the new run"))
        self.name.setPlaceholderText(tr("Name of the new run"))
        self.start.setAccessibleName(tr("Settings to begin with"))
        self.start.setToolTip(tr("Settings to begin with"))
        self.forget.setToolTip(tr("Move this preset to the recycle bin"))
        self.forget.setAccessibleName(tr("Move this preset to the recycle bin"))
        self.create_button.setText(tr("New ritual"))
        self.demo_button.setText(tr("Try the demo"))
        self.demo_button.setToolTip(tr("A small embedded model, minutes on any computer, nothing to choose."))
        self.open_button.setText(tr("Open a run…"))
        self.change.setText(tr("Change…"))
        self.change.setAccessibleName(tr("Folder for runs"))
        self.show_places(self.folder, self._recent)
        self.show_problem(self._problem)

    def _create(self) -> None:
        try:
            start = self.start.currentData()
            plan = start.plan() if isinstance(start, Preset) else RunDirectory.open(start).plan()
        except (UserError, OSError) as error:
            self.show_problem(error)
            return
        if isinstance(start, Path):
            plan = own_folders(plan, start.name, self.name.text().strip())
        self._ask(self.name.text(), plan)

    def _ask(self, name: str, plan: Plan) -> None:
        try:
            folder = self.folder / usable_name(name)
        except UserError as error:
            self.show_problem(error)
            return
        self.asked.emit(folder, in_window_language(plan))

    def _choose_run(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr("Open a run…"), str(self.folder))
        if chosen:
            self.opened.emit(Path(chosen))

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, tr("Folder for runs"), str(self.folder))
        if chosen:
            self.folder_chosen.emit(Path(chosen))

    def _forget_preset(self) -> None:
        preset = self.start.currentData()
        if not isinstance(preset, Preset) or preset.path is None:
            return
        try:
            discard(preset.path)
        except UserError as error:
            self.show_problem(error)
        self.show_presets()

    def _title(self, preset: Preset) -> str:
        if preset.problem:
            return filled("{name} (damaged)", name=preset.name)
        return tr(preset.title) if preset.path is None else preset.title

    def _disable(self, row: int, problem: UserError) -> None:
        model = self.start.model()
        assert isinstance(model, QStandardItemModel)
        item = model.item(row)
        item.setEnabled(False)
        item.setToolTip(sentence(problem))

    def _chosen_name(self) -> str:
        chosen = self.start.currentData()
        return chosen.name if isinstance(chosen, Preset) else ""

    def _show_forget(self) -> None:
        chosen = self.start.currentData()
        self.forget.setVisible(isinstance(chosen, Preset) and chosen.path is not None)

    def _lay_out(self) -> None:
        start = QHBoxLayout()
        start.setSpacing(8)
        start.addWidget(self.name, 2)
        start.addWidget(self.start, 3)
        for button in (self.forget, self.create_button):
            start.addWidget(button)
        where = QHBoxLayout()
        where.setSpacing(8)
        where.addWidget(self.place)
        where.addWidget(self.change)
        where.addStretch(1)
        for button in (self.demo_button, self.open_button):
            where.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 16, 12)
        column.setSpacing(8)
        column.addLayout(start)
        column.addLayout(where)
        column.addWidget(self.problem)
