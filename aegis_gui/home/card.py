"""One run as a card: what it is, where it stands, what it reached, and what can be done with it."""

from enum import Enum, auto
from functools import partial

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QAction, QContextMenuEvent, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from aegis_core.run_card import RunCard, Standing

from .. import theme as themes
from ..elided import Elided
from ..i18n import filled, mark, tr
from ..panels import label
from ..theme import Theme
from .card_figures import CardFigures
from .words import ICONS, model_words, problem_words, standing_colour, standing_words, when


class Act(Enum):
    """What a person can do with a run."""

    OPEN = auto()
    RESUME = auto()
    DUPLICATE = auto()
    SAVE_PRESET = auto()
    SHOW_COMMAND = auto()
    OPEN_FOLDER = auto()
    DELETE = auto()


MENU: tuple[tuple[Act, str, str], ...] = (
    (Act.DUPLICATE, mark("Duplicate with changes…"), "copy"),
    (Act.SAVE_PRESET, mark("Save settings as a preset…"), "bookmark"),
    (Act.SHOW_COMMAND, mark("Show as a command line…"), "terminal"),
    (Act.OPEN_FOLDER, mark("Open folder"), "folder"),
    (Act.DELETE, mark("Delete…"), "trash"),
)
OF_A_DAMAGED_RUN = (Act.OPEN_FOLDER, Act.DELETE)
KEYS = {
    Qt.Key.Key_Return: Act.OPEN,
    Qt.Key.Key_Enter: Act.OPEN,
    Qt.Key.Key_Delete: Act.DELETE,
    Qt.Key.Key_D: Act.DUPLICATE,
}
INDENT = 44  # px: what stands below the name stands under it
RESUMABLE = (Standing.CUT_OFF, Standing.FAILED)


class RunRow(QFrame):
    """A card that can be reached by keyboard: Enter opens, Space chooses it for comparing, Up and Down move on.

    `asked` carries what the person wants; `chosen` says that the box for comparing was changed.
    """

    asked = Signal(object)
    chosen = Signal(bool)
    moved = Signal(int)  # to the card above (−1) or below (+1)

    def __init__(self, run: RunCard) -> None:
        super().__init__()
        self.run, self._theme, self._busy, self._is_open = run, themes.LIGHT, False, False
        self.setProperty("role", "run")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.box = QCheckBox()
        self.box.toggled.connect(self.chosen)
        keeps_its_place = self.box.sizePolicy()
        keeps_its_place.setRetainSizeWhenHidden(True)
        self.box.setSizePolicy(keeps_its_place)
        self.name, self.open_mark = Elided("heading"), label(role="small")
        self.shape, self.standing, self.model = QLabel(), label(), Elided("secondary")
        self.touched = label(role="small")
        self.touched.setFont(themes.tabular(themes.SMALL))
        self.figures = CardFigures()
        self.problem = label(role="secondary", wraps=True)
        self.resume, self.open, self.more = QPushButton(), QPushButton(), QToolButton()
        self.resume.clicked.connect(partial(self.asked.emit, Act.RESUME))
        self.open.clicked.connect(partial(self.asked.emit, Act.OPEN))
        self.menu = QMenu(self)
        self.actions_of = {act: QAction(self.menu) for act, _, _ in MENU}
        for act, action in self.actions_of.items():
            if act is Act.DELETE:
                self.menu.addSeparator()
            action.triggered.connect(partial(self.asked.emit, act))
            self.menu.addAction(action)
        self.more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.more.setMenu(self.menu)
        self.drawer = QVBoxLayout()
        self._lay_out()

    def show_run(self, run: RunCard, is_open: bool, busy: bool) -> None:
        """Show the run as it is now; `busy`: a step is running in this window, so that no run can be opened."""
        self.run, self._is_open, self._busy = run, is_open, busy
        self.setProperty("chosen", is_open)
        self.style().unpolish(self)
        self.style().polish(self)
        self.retranslate()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self.resume.setIcon(themes.icon("play", theme.text))
        self.more.setIcon(themes.icon("more", theme.text))
        for act, _, icon in MENU:
            self.actions_of[act].setIcon(themes.icon(icon, theme.text))
        self.shape.setPixmap(
            themes.icon(ICONS[self.run.standing], standing_colour(self.run, theme)).pixmap(QSize(16, 16))
        )
        self.figures.set_theme(theme)

    def retranslate(self) -> None:
        run = self.run
        whole = run.problem is None
        self.name.show_text(run.name, str(run.path))
        self.open_mark.setText(tr("open"))
        self.open_mark.setVisible(self._is_open)
        self.standing.setText(standing_words(run))
        self.model.show_text(model_words(run))
        self.touched.setText(when(run.changed_at))
        self.problem.setText(problem_words(run))
        self.problem.setVisible(not whole)
        self.figures.show_run(run)
        self.resume.setText(tr("Resume"))
        self.resume.setToolTip(tr("Goes on with the first step that is not finished."))
        self.resume.setAccessibleName(filled("Resume run {name}", name=run.name))
        self.resume.setVisible(run.standing in RESUMABLE)
        self.resume.setEnabled(not self._busy)
        self.open.setText(tr("Open"))
        self.open.setAccessibleName(filled("Open run {name}", name=run.name))
        self.open.setVisible(whole)
        self.open.setEnabled(not self._busy or self._is_open)
        self.box.setVisible(whole)
        self.box.setAccessibleName(filled("Compare run {name}", name=run.name))
        self.box.setToolTip(tr("Choose for comparing"))
        self.more.setToolTip(tr("More actions"))
        self.more.setAccessibleName(filled("More for run {name}", name=run.name))
        for act, words, _ in MENU:
            self.actions_of[act].setText(tr(words))
            self.actions_of[act].setVisible(whole or act in OF_A_DAMAGED_RUN)
        self.setAccessibleName(", ".join(filter(None, (run.name, self.standing.text(), self.touched.text()))))
        self.setAccessibleDescription(self.problem.text() or self.figures.spoken())
        self.set_theme(self._theme)

    def put_into_drawer(self, content: QWidget | None) -> None:
        """Unfold something below the card in place of what is there; None folds it."""
        while item := self.drawer.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        if content:
            self.drawer.addWidget(content)

    def tab_stops(self) -> list[QWidget]:
        """What Tab reaches in this card, in order."""
        return [self, self.box, self.resume, self.open, self.more]

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        act = KEYS.get(key)
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier or not self.hasFocus():
            super().keyPressEvent(event)
        elif key in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            self.moved.emit(-1 if key == Qt.Key.Key_Up else 1)
        elif key == Qt.Key.Key_Space and self.box.isEnabled() and not self.box.isHidden():
            self.box.toggle()
        elif act and self._offers(act):
            self.asked.emit(act)
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Also the menu key and Shift+F10."""
        self.menu.popup(event.globalPos())

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        super().mouseDoubleClickEvent(event)
        if self._offers(Act.OPEN):
            self.asked.emit(Act.OPEN)

    def _offers(self, act: Act) -> bool:
        if act is Act.OPEN:
            return self.run.problem is None and self.open.isEnabled()
        return self.run.problem is None or act in OF_A_DAMAGED_RUN

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.name)
        head.addWidget(self.open_mark)
        head.addStretch(1)
        state = QHBoxLayout()
        state.setSpacing(8)
        state.addWidget(self.shape)
        state.addWidget(self.standing)
        state.addWidget(self.model)
        state.addStretch(1)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addLayout(head)
        words.addLayout(state)
        row = QHBoxLayout()
        row.setSpacing(12)
        row.addWidget(self.box, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        row.addWidget(self.touched)
        row.addSpacing(4)
        for button in (self.resume, self.open, self.more):
            row.addWidget(button)
        below = QVBoxLayout()
        below.setContentsMargins(INDENT, 0, 0, 0)
        below.setSpacing(4)
        below.addWidget(self.problem)
        below.addWidget(self.figures)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 12, 12)
        column.setSpacing(4)
        column.addLayout(row)
        column.addLayout(below)
        column.addLayout(self.drawer)
