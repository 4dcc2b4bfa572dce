"""What the ritual is in four sentences, every shortcut, and the way back to the pictures of the first start."""

import sys
from pathlib import Path

from PySide6.QtCore import QEvent, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from aegis_core import __version__
from aegis_core.engine.place import is_frozen

from .i18n import filled, mark, tr
from .panels import label, scrolled
from .shortcuts import GROUPS, Shortcut

SENTENCES = (
    mark("AEGIS trains a small addition (an adapter) to a language model and a gate that lets a rotation in."),
    mark("While training, alpha opens that gate from almost shut to the golden ratio."),
    mark("Afterwards both are folded into the model, which then needs no special program code any more."),
    mark("Everything is measured on the way; the run log shows the figures, whether they are good or bad."),
)
SIZE = (620, 640)
KEYS_WIDTH = 200  # px


class HelpSheet(QDialog):
    """Modeless: it can stay open beside the window."""

    welcome_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title, self.sentences = label(role="title"), label(role="secondary", wraps=True)
        self.keys = QVBoxLayout()
        self.about = label(role="small", wraps=True)
        self.welcome, self.licences, self.close_button = QPushButton(), QPushButton(), QPushButton()
        self.welcome.setAutoDefault(False)
        self.licences.setAutoDefault(False)
        self.licences.setVisible(notices().is_file())
        self.licences.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(notices()))))
        self.welcome.clicked.connect(self.welcome_asked)
        self.close_button.clicked.connect(self.close)
        inner = QVBoxLayout()
        inner.setSpacing(12)
        inner.addWidget(self.sentences)
        inner.addLayout(self.keys)
        self.area = scrolled(inner)
        self.area.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # so that the keyboard can scroll it
        buttons = QHBoxLayout()
        buttons.addWidget(self.welcome)
        buttons.addWidget(self.licences)
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(12)
        column.addWidget(self.title)
        column.addWidget(self.area, 1)
        column.addWidget(self.about)
        column.addLayout(buttons)
        self.resize(*SIZE)
        self.retranslate()
        self.close_button.setFocus()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def retranslate(self) -> None:
        self.setWindowTitle(tr("Help and shortcuts"))
        self.title.setText(tr("What happens here"))
        self.sentences.setText("\n".join(map(tr, SENTENCES)))
        self.welcome.setText(tr("Show the pictures again"))
        self.licences.setText(tr("Licences"))
        self.licences.setToolTip(tr("What others wrote of this program, and on which terms"))
        self.about.setText(filled("AEGIS {version}. Free software under the Apache License 2.0.", version=__version__))
        self.close_button.setText(tr("Close"))
        while item := self.keys.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        self.keys.addWidget(_table())


def notices() -> Path:
    """Where the notices of what others wrote lie, if this is an installed window: packaging puts them there."""
    place = Path(sys.executable) if is_frozen() else Path(__file__)
    return place.with_name("THIRD-PARTY-NOTICES.txt")


def _table() -> QWidget:
    """Every shortcut with its meaning, in groups."""
    made = QWidget()
    grid = QGridLayout(made)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(16)
    grid.setVerticalSpacing(6)
    grid.setColumnMinimumWidth(0, KEYS_WIDTH)
    grid.setColumnStretch(1, 1)
    for group, shortcuts in GROUPS:
        heading = grid.rowCount()
        grid.addWidget(label(tr(group), role="heading"), heading, 0, 1, 2)
        grid.setRowMinimumHeight(heading, 36)
        for line, shortcut in enumerate(shortcuts, start=heading + 1):
            grid.addWidget(_caps(shortcut), line, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(label(tr(shortcut.meaning), wraps=True), line, 1)
    return made


def _caps(shortcut: Shortcut) -> QWidget:
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(6)
    for place, keys in enumerate(shortcut.keys):
        if place and keys.startswith("Ctrl+"):
            row.addWidget(label("…", role="secondary"))
        row.addWidget(label(tr(keys), role="key"))
    row.addStretch(1)
    return made
