"""The line at the window's foot: what the card and the machine are doing right now."""

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from aegis_core.events import Telemetry
from aegis_core.hardware import SPILT_BYTES

from . import text
from . import theme as themes
from .i18n import filled, tr
from .theme import Theme

ABSENT = "–"
NEARLY_FULL = 0.92


class Bar(QWidget):
    """How much of something is used; turns amber where it is nearly full, which the words beside it say too."""

    def __init__(self) -> None:
        super().__init__()
        self.part: float | None = None
        self.own: float | None = None
        self.theme = themes.LIGHT
        self.setFixedSize(QSize(96, 8))

    def show_part(self, part: float | None, own: float | None) -> None:
        """Fractions of the whole in [0, 1]: everything in use, and this run's share of it."""
        self.part, self.own = part, own
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        full = self.part is not None and self.part >= NEARLY_FULL
        self._fill(painter, 1.0, QColor(self.theme.sunken))
        if self.part is not None:
            others = QColor(self.theme.warning if full else self.theme.memory)
            if self.own is not None:
                others.setAlphaF(0.45)
            self._fill(painter, self.part, others)
        if self.own is not None:
            self._fill(painter, self.own, QColor(self.theme.warning if full else self.theme.memory))
        painter.end()

    def _fill(self, painter: QPainter, part: float, colour: QColor) -> None:
        painter.setBrush(colour)
        width = max(min(part, 1.0), 0.0) * self.width()
        painter.setClipRect(QRectF(0, 0, width, self.height()))
        painter.drawRoundedRect(QRectF(self.rect()), 4, 4)


@dataclass(frozen=True)
class Reading:
    """One figure of the strip: how to read it, its unit, and the sentence for when it is missing."""

    name: Callable[[], str]
    shown: Callable[[Telemetry], str | None]
    unit: str
    absent: Callable[[], str]


READINGS: dict[str, Reading] = {
    "vram": Reading(
        lambda: tr("VRAM"),
        lambda t: _of(t.vram_used_bytes, t.vram_total_bytes),
        "GB",
        lambda: tr("No NVIDIA GPU was found, so there is no graphics memory to read."),
    ),
    "shared": Reading(
        lambda: tr("shared"),
        lambda t: None if t.vram_shared_bytes is None else f"{t.vram_shared_bytes / 1e9:.1f}",
        "GB",
        lambda: tr("Only Windows tells how much graphics memory has moved into RAM."),
    ),
    "gpu": Reading(
        lambda: tr("GPU"),
        lambda t: _whole(t.gpu_percent),
        "%",
        lambda: tr("The driver does not say how busy the GPU is."),
    ),
    "celsius": Reading(
        lambda: "",
        lambda t: _whole(t.gpu_celsius),
        "°C",
        lambda: tr("The driver does not tell the GPU's temperature."),
    ),
    "watts": Reading(
        lambda: "",
        lambda t: _whole(t.gpu_watts),
        "W",
        lambda: tr("The driver does not tell the GPU's power."),
    ),
    "ram": Reading(
        lambda: tr("RAM"),
        lambda t: _of(t.ram_used_bytes, t.ram_total_bytes),
        "GB",
        lambda: tr("The memory of this machine could not be read."),
    ),
    "disk": Reading(
        lambda: tr("Disk free"),
        lambda t: None if t.disk_free_bytes is None else f"{t.disk_free_bytes / 1e9:,.0f}",
        "GB",
        lambda: tr("The free space of the run's disk could not be read."),
    ),
}


class TelemetryStrip(QWidget):
    """Shows the newest Telemetry; a reading that is missing is a dash with a reason, never a zero."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("strip")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.bars = {"vram": Bar(), "ram": Bar()}
        self.labels = {name: QLabel(textFormat=Qt.TextFormat.RichText) for name in READINGS}
        self.names = {name: QLabel() for name in self.bars}
        self._theme = themes.LIGHT
        self._reading: Telemetry | None = None
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(16, 6, 8, 6)
        self.row.setSpacing(8)
        for name, label in self.labels.items():
            if name in self.names:
                self.names[name].setProperty("role", "secondary")
            label.setFont(themes.tabular())
            label.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Preferred)
            if name in self.bars:
                self.row.addWidget(self.names[name])
                self.row.addWidget(self.bars[name])
            self.row.addWidget(label)
            self.row.addSpacing(12)
        self.row.addStretch(1)
        self.retranslate()

    def show_reading(self, reading: Telemetry | None) -> None:
        """None: nothing has been read yet."""
        self._reading = reading
        self._draw()

    def clear(self) -> None:
        self.show_reading(None)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        for bar in self.bars.values():
            bar.theme = theme
            bar.update()
        self._draw()

    def retranslate(self) -> None:
        for name, label in self.names.items():
            label.setText(READINGS[name].name())
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.LanguageChange:
            self.retranslate()
        super().changeEvent(event)

    def _draw(self) -> None:
        reading = self._reading or Telemetry()
        for name, label in self.labels.items():
            self._draw_one(name, label, READINGS[name], reading)
        self.bars["vram"].show_part(
            _part(reading.vram_used_bytes, reading.vram_total_bytes),
            _part(reading.vram_own_bytes, reading.vram_total_bytes),
        )
        self.bars["ram"].show_part(
            _part(reading.ram_used_bytes, reading.ram_total_bytes),
            _part(reading.ram_own_bytes, reading.ram_total_bytes),
        )
        self.bars["vram"].setVisible(reading.vram_total_bytes is not None)
        self.bars["ram"].setVisible(reading.ram_total_bytes is not None)
        for extra in ("celsius", "watts"):  # without a card one dash says enough
            self.labels[extra].setVisible(reading.vram_total_bytes is not None)
        self.labels["shared"].setVisible((reading.vram_shared_bytes or 0) >= SPILT_BYTES)

    def _draw_one(self, name: str, label: QLabel, kind: Reading, reading: Telemetry) -> None:
        shown = kind.shown(reading)
        quiet = f'<span style="color:{self._theme.secondary}">'
        title = f"{quiet}{kind.name()}</span>&nbsp; " if kind.name() and name not in self.names else ""
        value = ABSENT if shown is None else f"{shown} {quiet}{kind.unit}</span>"
        label.setText(title + value)
        label.setToolTip(self._tip(name, kind, shown, reading))
        label.setAccessibleName(f"{kind.name()} {ABSENT if shown is None else shown + ' ' + kind.unit}".strip())

    def _tip(self, name: str, kind: Reading, shown: str | None, reading: Telemetry) -> str:
        if self._reading is None:
            return tr("Nothing has been read yet.")
        if shown is None:
            return kind.absent()
        own = {"vram": reading.vram_own_bytes, "ram": reading.ram_own_bytes}.get(name)
        lines = [reading.gpu_name] if name == "vram" and reading.gpu_name else []
        lines += [filled("of which this run: {size}", size=text.size(own))] if own is not None else []
        part = {
            "vram": _part(reading.vram_used_bytes, reading.vram_total_bytes),
            "ram": _part(reading.ram_used_bytes, reading.ram_total_bytes),
        }.get(name)
        if name == "shared":
            lines += [tr("The card is full: this much has moved into RAM, where training is many times slower.")]
        lines += [tr("Nearly full.")] if part is not None and part >= NEARLY_FULL else []
        return "\n".join(lines)


def _of(used: int | None, total: int | None) -> str | None:
    if used is None or total is None:
        return None
    return f"{used / 1e9:.1f} / {total / 1e9:.1f}"


def _whole(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def _part(used: int | None, total: int | None) -> float | None:
    return used / total if used is not None and total else None
