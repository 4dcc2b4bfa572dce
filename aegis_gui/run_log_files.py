"""What can be done with a written run log: open it, copy it as text, keep a copy elsewhere, pass the model card on."""

import shutil
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QFileDialog, QGridLayout, QMessageBox, QPushButton, QVBoxLayout, QWidget

from . import theme as themes
from .i18n import filled, tr
from .panels import label
from .theme import Theme

PAGE, TEXT, CARD = "report.html", "report.md", "report/model-card.md"


class RunLogFiles(QWidget):
    """Buttons for the files of one run; without a log only its folder can be opened."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._folder: Path | None = None
        self.place = label(role="secondary", wraps=True)
        self.hint = label(role="small", wraps=True)
        self.open_log, self.save_copy, self.copy_text = QPushButton(), QPushButton(), QPushButton()
        self.copy_path, self.save_card, self.open_folder = QPushButton(), QPushButton(), QPushButton()
        doings: dict[QPushButton, Callable[[], object]] = {
            self.open_log: lambda: self._open(PAGE),
            self.save_copy: self._save_page,
            self.copy_text: self._copy_text,
            self.copy_path: self._copy_path,
            self.save_card: self._save_card,
            self.open_folder: lambda: self._open(""),
        }
        buttons = QGridLayout()
        buttons.setHorizontalSpacing(8)
        buttons.setVerticalSpacing(8)
        for place, (button, do) in enumerate(doings.items()):
            button.clicked.connect(lambda checked=False, do=do: do())
            buttons.addWidget(button, place // 3, place % 3)
        buttons.setColumnStretch(3, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addWidget(self.place)
        column.addLayout(buttons)
        column.addWidget(self.hint)
        self.retranslate()

    def show_run(self, folder: Path | None) -> None:
        """The run's folder; None where no run is open. A card whose log was put aside is outdated as well."""
        self._folder = folder
        page = self.path_of(PAGE)
        self.place.setText(
            str(page)
            if page
            else tr("It is written when this step has run, at any time: what is missing by then stands in it as a gap.")
        )
        for button, name in (
            (self.open_log, PAGE), (self.save_copy, PAGE), (self.copy_path, PAGE), (self.copy_text, TEXT),
            (self.save_card, CARD),
        ):  # fmt: skip
            button.setEnabled(page is not None and self.path_of(name) is not None)
        self.open_folder.setEnabled(folder is not None)
        self.hint.setVisible(page is not None)

    def path_of(self, name: str) -> Path | None:
        """A file of the log, once there is one."""
        path = self._folder / name if self._folder else None
        return path if path and path.is_file() else None

    def set_theme(self, theme: Theme) -> None:
        icons = {self.open_log: "open", self.copy_text: "copy", self.copy_path: "copy", self.open_folder: "folder"}
        for button, name in icons.items():
            button.setIcon(themes.icon(name, theme.text))

    def retranslate(self) -> None:
        self.open_log.setText(tr("Open the run log"))
        self.save_copy.setText(tr("Save a copy…"))
        self.copy_text.setText(tr("Copy as Markdown"))
        self.copy_path.setText(tr("Copy the path"))
        self.save_card.setText(tr("Save the model card…"))
        self.open_folder.setText(tr("Open the folder"))
        self.hint.setText(
            tr("One file, figures included: it can be sent or archived as it is. For a PDF, open it and print it.")
        )
        self.show_run(self._folder)

    def _open(self, name: str) -> None:
        if self._folder:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._folder / name)))

    def _copy_path(self) -> None:
        if page := self.path_of(PAGE):
            QGuiApplication.clipboard().setText(str(page))

    def _copy_text(self) -> None:
        if text := self.path_of(TEXT):
            QGuiApplication.clipboard().setText(text.read_text(encoding="utf-8", errors="replace"))

    def _save_page(self) -> None:
        if page := self.path_of(PAGE):
            self._save(page, f"{page.parent.name}.html", "HTML (*.html)")

    def _save_card(self) -> None:
        if card := self.path_of(CARD):
            self._save(card, "README.md", "Markdown (*.md)")

    def _save(self, file: Path, name: str, kinds: str) -> None:
        """Ask where to and copy; the file itself is never the place."""
        suggested = str(Path.home() / name)
        chosen, _ = QFileDialog.getSaveFileName(self, tr("Save as…"), suggested, kinds)
        if not chosen or Path(chosen) == file:
            return
        try:
            shutil.copyfile(file, chosen)
        except OSError as error:
            QMessageBox.warning(self, tr("Save as…"), filled("It could not be saved: {problem}", problem=str(error)))
