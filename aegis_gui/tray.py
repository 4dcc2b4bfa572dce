"""The icon beside the clock: how the run stands, as picture and tooltip, and a menu to act from there."""

from functools import lru_cache

from PySide6.QtCore import QObject, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QAction, QColor, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QMenu, QSystemTrayIcon, QWidget

from aegis_core.resources import RESOURCES

from . import theme as themes
from .i18n import tr
from .standing import Kind, Standing

SIZES = (16, 20, 24, 32, 48, 64)  # px: what systems ask for, from 100 to 200 %
SHOWN_MILLISECONDS = 10_000
# Ground and sign of the badge; the shape alone tells them apart.
BADGES = {
    Kind.WORKING: ("play", "#1B1B19"),
    Kind.PAUSED: ("pause", "#1B1B19"),
    Kind.STOPPING: ("stop", "#1B1B19"),
    Kind.DONE: ("check", "#1A7340"),
    Kind.FAILED: ("cross", "#B3261E"),
}
ACTIVE = (Kind.WORKING, Kind.PAUSED, Kind.STOPPING)


class Tray(QObject):
    """Works without a desktop that has a tray: then it is only never seen. `said_clicked`: a notification was."""

    show_asked = Signal()
    said_clicked = Signal()
    paused = Signal(bool)
    stop_after_step = Signal()
    stop = Signal()
    quit = Signal()

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self.icon = QSystemTrayIcon(self)
        self.menu = QMenu(window)
        self.line, self.show_action, self.pause_action = QAction(self), QAction(self), QAction(self)
        self.after_action, self.stop_action, self.quit_action = QAction(self), QAction(self), QAction(self)
        self._standing, self._run, self._several = Standing(), "", False
        self.menu.addAction(self.line)
        self.menu.addAction(self.show_action)
        self.menu.addSeparator()
        self.menu.addActions([self.pause_action, self.after_action, self.stop_action])
        self.menu.addSeparator()
        self.menu.addAction(self.quit_action)
        self.menu.setDefaultAction(self.show_action)
        self.icon.setContextMenu(self.menu)
        self.icon.activated.connect(self._activated)
        self.icon.messageClicked.connect(self.said_clicked)
        for action in (self.line, self.show_action):
            action.triggered.connect(lambda: self.show_asked.emit())
        self.pause_action.triggered.connect(lambda: self.paused.emit(self._standing.kind is not Kind.PAUSED))
        self.after_action.triggered.connect(self.stop_after_step)
        self.stop_action.triggered.connect(self.stop)
        self.quit_action.triggered.connect(self.quit)
        self.retranslate()

    def show_standing(self, standing: Standing, run: str, several: bool) -> None:
        """`run` is its name; `several` whether more steps follow this one."""
        self._standing, self._run, self._several = standing, run, several
        self.retranslate()

    def retranslate(self) -> None:
        kind = self._standing.kind
        sentence = self._standing.sentence()
        self.icon.setIcon(picture(kind))
        self.icon.setToolTip("\n".join(filter(None, (f"AEGIS – {self._run}" if self._run else "AEGIS", sentence))))
        self.line.setText(sentence)
        self.show_action.setText(tr("Show AEGIS"))
        self.pause_action.setText(tr("Resume") if kind is Kind.PAUSED else tr("Pause"))
        self.after_action.setText(tr("Stop after this step"))
        self.stop_action.setText(tr("Save and stop now"))
        self.quit_action.setText(tr("Save, stop and quit") if kind in ACTIVE else tr("Quit"))
        for action in (self.pause_action, self.after_action, self.stop_action):
            action.setVisible(kind in ACTIVE)
        self.pause_action.setEnabled(bool(self._standing.step) and kind is not Kind.STOPPING)
        self.after_action.setEnabled(self._several and kind is not Kind.STOPPING)
        self.stop_action.setEnabled(kind is not Kind.STOPPING)

    def say(self, title: str, sentence: str) -> None:
        """A notification of the system; nothing where the icon is not shown."""
        if self.icon.isVisible():
            signs = QSystemTrayIcon.MessageIcon
            sign = signs.Warning if self._standing.kind is Kind.FAILED else signs.Information
            self.icon.showMessage(title, sentence, sign, SHOWN_MILLISECONDS)

    def _activated(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason in (QSystemTrayIcon.ActivationReason.Trigger, QSystemTrayIcon.ActivationReason.DoubleClick):
            self.show_asked.emit()


@lru_cache
def picture(kind: Kind) -> QIcon:
    """AEGIS's mark with a badge of the state; the mark alone while nothing runs."""
    mark = QSvgRenderer(str(RESOURCES / "aegis.svg"))
    made = QIcon()
    for size in SIZES:
        pixmap = QPixmap(size, size)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
        mark.render(painter, QRectF(pixmap.rect()))
        if kind in BADGES:
            _paint_badge(painter, size, *BADGES[kind])
        painter.end()
        made.addPixmap(pixmap)
    return made


def _paint_badge(painter: QPainter, size: int, sign: str, ground: str) -> None:
    across = size * 0.62
    corner = QPointF(size - across, size - across)
    place = QRectF(corner.x(), corner.y(), across, across)
    painter.setPen(QColor("#FFFFFF"))
    painter.setBrush(QColor(ground))
    painter.drawEllipse(place.adjusted(0.5, 0.5, -0.5, -0.5))
    inset = across * 0.17
    themes.icon(sign, "#FFFFFF", max(SIZES)).paint(
        painter, place.adjusted(inset, inset, -inset, -inset).toAlignedRect()
    )
