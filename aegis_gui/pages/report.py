"""Step 9 on screen: the verdict on the whole ritual, and the way to its run log."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QWidget

from aegis_core.events import Event, StepFinished

from .. import theme as themes
from ..checklist import Checklist
from ..form import Form
from ..i18n import mark, tr
from ..panels import Section, label
from ..quality_chain import QualityChain
from ..result_files import read_object
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme
from .step_page import StepPage


class ReportPage(StepPage):
    step = "report"
    sentence = mark("Every claim of this run with the figure that proves it, in one file that can be passed on.")

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, parent)
        self.checklist, self.chain = Checklist(), QualityChain()
        self.success = Section(mark("Success indicators"))
        self.success.body.addWidget(self.checklist)
        self.quality = Section(mark("Quality at every stage"))
        self.quality.body.addWidget(self.chain)
        self.files = Section(mark("Run log"))
        self.place = label(role="secondary", wraps=True)
        self.open_log, self.open_folder, self.copy_path = QPushButton(), QPushButton(), QPushButton()
        self.open_log.clicked.connect(lambda: self._open("report.html"))
        self.open_folder.clicked.connect(lambda: self._open(""))
        self.copy_path.clicked.connect(self._copy)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        for button in (self.open_log, self.open_folder, self.copy_path):
            buttons.addWidget(button)
        buttons.addStretch(1)
        self.files.body.addWidget(self.place)
        self.files.body.addLayout(buttons)
        self.files.body.addWidget(Form(state, ("report.language",)))
        for section in (self.success, self.quality, self.files):
            self.body.addWidget(section)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, StepFinished):
            self._draw()

    def show_run(self, view: RunView) -> None:
        super().show_run(view)
        self._draw()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.checklist.set_theme(theme)
        for button, name in ((self.open_log, "open"), (self.open_folder, "folder"), (self.copy_path, "copy")):
            button.setIcon(themes.icon(name, theme.text))

    def retranslate(self) -> None:
        super().retranslate()
        self.checklist.retranslate()
        self.chain.retranslate()
        self.open_log.setText(tr("Open the run log"))
        self.open_folder.setText(tr("Open the folder"))
        self.copy_path.setText(tr("Copy the path"))
        self._draw()

    @property
    def log_path(self) -> Path | None:
        """The page to open, once there is one."""
        path = self.state.run.path / "report.html" if self.state.run else None
        return path if path and path.is_file() else None

    def _draw(self) -> None:
        report = read_object(self.state.run.path / "report.json") if self.state.run else {}
        self.checklist.show_indicators(_table(report, "indicators"))
        self.chain.show_quality(_table(report, "quality"))
        self.quality.setVisible(bool(_table(report, "quality")))
        path = self.log_path
        self.place.setText(str(path) if path else tr("It is written when this step has run."))
        self.open_log.setEnabled(path is not None)
        self.copy_path.setEnabled(path is not None)
        self.open_folder.setEnabled(self.state.run is not None)

    def _open(self, name: str) -> None:
        if self.state.run:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.state.run.path / name)))

    def _copy(self) -> None:
        if self.log_path:
            QGuiApplication.clipboard().setText(str(self.log_path))


def _table(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = report.get(name)
    return found if isinstance(found, dict) else {}
