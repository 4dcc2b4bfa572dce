"""The strip above a replay: what is shown is the past, and here is how to move in it."""

from PySide6.QtCore import QDateTime, QLocale, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtWidgets import QButtonGroup, QFrame, QHBoxLayout, QLabel, QPushButton, QSlider, QToolButton, QWidget

from . import text
from . import theme as themes
from .i18n import filled, tr
from .panels import label
from .replay import AS_FAST_AS_POSSIBLE, Replay
from .theme import LIGHT, Theme

SPEEDS = (1.0, 10.0, 100.0, AS_FAST_AS_POSSIBLE)
TICKS = 1000  # of the slider


class ReplayBar(QFrame):
    """Hidden until it is given a replay; `closed` comes when the person has seen enough."""

    closed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "notice")
        self._theme = LIGHT
        self._replay: Replay | None = None
        self.sign, self.says, self.clock = QLabel(), label(role="strong"), label(role="secondary")
        self.clock.setFont(themes.tabular())
        self.play = QToolButton()
        self.play.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, TICKS)
        self.slider.setPageStep(TICKS // 20)
        self.speeds = QButtonGroup(self)
        self.end = QPushButton()
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 6, 8, 6)
        row.setSpacing(8)
        row.addWidget(self.sign)
        row.addWidget(self.says)
        row.addWidget(self.play)
        row.addWidget(self.slider, 1)
        row.addWidget(self.clock)
        for place, _ in enumerate(SPEEDS):
            button = QToolButton()
            button.setCheckable(True)
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            self.speeds.addButton(button, place)
            row.addWidget(button)
        row.addWidget(self.end)
        self.play.clicked.connect(self._play_or_pause)
        self.slider.valueChanged.connect(self._seek)
        self.speeds.idClicked.connect(self._choose_speed)
        self.end.clicked.connect(self.closed)
        self.retranslate()
        self.hide()

    def show_replay(self, replay: Replay | None) -> None:
        self._replay = replay
        self.setVisible(replay is not None)
        if replay is not None:
            replay.moved.connect(self._show_place)
            self.speeds.button(SPEEDS.index(replay.speed)).setChecked(True)
            self.retranslate()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self.sign.setPixmap(themes.icon("replay", theme.warning).pixmap(QSize(16, 16)))
        self._show_place()

    def retranslate(self) -> None:
        self.slider.setAccessibleName(tr("Place in the recording"))
        self.end.setText(tr("End the replay"))
        for place, speed in enumerate(SPEEDS):
            button = self.speeds.button(place)
            fastest = speed == AS_FAST_AS_POSSIBLE
            button.setText(tr("max") if fastest else f"{speed:g}×")
            button.setToolTip(tr("As fast as possible") if fastest else filled("{n} times as fast", n=f"{speed:g}"))
        if self._replay is not None:
            began = QDateTime.fromSecsSinceEpoch(int(self._replay.recording.began_at))
            day = QLocale().toString(began, QLocale.FormatType.ShortFormat)
            self.says.setText(filled("Replay of {day}", day=day))
            self.setToolTip(tr("A recording is shown; nothing is being trained."))
            self.setAccessibleName(f"{self.says.text()}. {self.toolTip()}")
        self._show_place()

    def _show_place(self) -> None:
        replay = self._replay
        if replay is None:
            return
        whole = max(replay.recording.seconds, 1e-9)
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(TICKS * replay.position / whole))
        self.clock.setText(f"{text.clock(replay.position)} / {text.clock(whole)}")
        self.play.setIcon(themes.icon("pause" if replay.playing else "play", self._theme.text))
        self.play.setToolTip(tr("Pause") if replay.playing else tr("Play"))
        self.play.setAccessibleName(self.play.toolTip())

    def _play_or_pause(self) -> None:
        if self._replay is not None:
            (self._replay.pause if self._replay.playing else self._replay.play)()

    def _seek(self, tick: int) -> None:
        if self._replay is not None:
            self._replay.seek(self._replay.recording.seconds * tick / TICKS)

    def _choose_speed(self, place: int) -> None:
        if self._replay is not None:
            self._replay.set_speed(SPEEDS[place])
