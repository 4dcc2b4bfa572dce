"""The row above a conversation: earlier ones to come back to, to name anew, to keep elsewhere or to delete."""

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QInputDialog, QMessageBox, QPushButton, QWidget

from aegis_core.chat import history
from aegis_core.failures import UserError
from aegis_core.run_directory import RunDirectory, write_text

from .i18n import filled, tr
from .panels import label


class ChatBar(QWidget):
    """`chosen` carries the id of a conversation to go on with, "" for a new one."""

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._run: RunDirectory | None = None
        self._id = ""
        self._busy = self._begun = False
        self.caption = label(role="secondary")
        self.list = QComboBox()
        self.list.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.list.setMinimumContentsLength(24)
        self.list.activated.connect(lambda index: self.chosen.emit(self.list.itemData(index)))
        self.rename, self.export, self.delete, self.fresh = (QPushButton() for _ in range(4))
        self.rename.clicked.connect(self._rename)
        self.export.clicked.connect(self._export)
        self.delete.clicked.connect(self._delete)
        self.fresh.clicked.connect(lambda: self.chosen.emit(""))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.caption)
        row.addWidget(self.list, 1)
        for button in (self.rename, self.export, self.delete, self.fresh):
            button.setProperty("role", "quiet")
            row.addWidget(button)
        self.retranslate()

    def show_conversations(self, run: RunDirectory | None, id: str) -> None:
        """The run's conversations with this one chosen; one that has not begun yet stands first."""
        self._run, self._id = run, id
        found = history.conversations(run) if run else []
        self.list.clear()
        if not any(talk.id == id for talk in found):
            self.list.addItem(tr("New conversation"), "")
        for talk in found:
            self.list.addItem(talk.title, talk.id)
            if talk.id == id:
                self.list.setCurrentIndex(self.list.count() - 1)
        self._begun = any(talk.id == id for talk in found)
        for button in (self.rename, self.export, self.fresh):
            button.setEnabled(self._begun)
        self.list.setEnabled(self.list.count() > 1)
        self.set_busy(self._busy)

    def set_busy(self, busy: bool) -> None:
        """While an answer comes its conversation cannot be deleted from under it."""
        self._busy = busy
        self.delete.setEnabled(self._begun and not busy)

    def retranslate(self) -> None:
        self.caption.setText(tr("Conversation"))
        self.list.setAccessibleName(tr("Conversation"))
        self.rename.setText(tr("Rename"))
        self.export.setText(tr("Save as…"))
        self.delete.setText(tr("Delete"))
        self.fresh.setText(tr("New conversation"))
        if self.list.count() and not self.list.itemData(0):
            self.list.setItemText(0, tr("New conversation"))

    def _rename(self) -> None:
        if self._run is None:
            return
        title, agreed = QInputDialog.getText(self, tr("Rename"), tr("Title"), text=self.list.currentText())
        if agreed and title.strip():
            try:
                history.rename(self._run, self._id, title)
            except OSError as error:
                self._warn(tr("Rename"), error)
            self.show_conversations(self._run, self._id)

    def _export(self) -> None:
        if self._run is None:
            return
        suggested = str(self._run.path / f"{self._id}.md")
        chosen, _ = QFileDialog.getSaveFileName(self, tr("Save as…"), suggested, "Markdown (*.md)")
        if not chosen:
            return
        try:
            write_text(Path(chosen), history.as_markdown(history.conversation(self._run, self._id)))
        except (OSError, UserError) as error:
            self._warn(tr("Save as…"), error)

    def _delete(self) -> None:
        if self._run is None:
            return
        question = filled("Delete the conversation “{title}” for good?", title=self.list.currentText())
        if QMessageBox.question(self, tr("Delete"), question) == QMessageBox.StandardButton.Yes:
            try:
                history.delete(self._run, self._id)
            except OSError as error:
                self._warn(tr("Delete"), error)
            else:
                self.chosen.emit("")

    def _warn(self, title: str, error: Exception) -> None:
        QMessageBox.warning(self, title, filled("It could not be saved: {problem}", problem=str(error)))
