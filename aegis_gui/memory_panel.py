"""What training will take of the card's memory, part by part, and which batch × length would fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from aegis_core.failures import UserError
from aegis_core.models.identity import read_base
from aegis_core.models.memory import Capacity, Forecast, capacity_in, forecast, recorded_scale, table
from aegis_core.models.shape import ModelShape, read_shape

from . import text
from . import theme as themes
from .i18n import filled, mark, tr
from .panels import Section, label, set_role
from .state import AppState
from .theme import Theme

VERDICTS = {
    "fits": ("check", "pass", mark("fits")),
    "tight": ("warning", "warn", mark("tight")),
    "too_large": ("cross", "fail", mark("too large")),
}
ICON = QSize(14, 14)


@dataclass(frozen=True)
class Slice:
    """Parts of a forecast that are drawn and named as one; `colour` is a token of the theme."""

    name: str
    parts: tuple[str, ...]
    colour: str


SLICES = (
    Slice(mark("Model"), ("weights",), "memory"),
    Slice(mark("Adapter, gradients, optimiser"), ("adapters", "gradients", "optimiser"), "held_out"),
    Slice(mark("Activations"), ("activations",), "loss"),
    Slice(mark("Logits"), ("logits",), "gate"),
    Slice(mark("Held by the allocator"), ("allocator",), "loss_raw"),
    Slice(mark("Libraries"), ("context",), "control_run"),
    Slice(mark("Other programs"), ("others",), "control"),
)


class StackedBar(QWidget):
    """Slices side by side against the whole; where they are more, a line shows where the whole ends."""

    def __init__(self) -> None:
        super().__init__()
        self.theme = themes.LIGHT
        self._slices: list[tuple[str, int]] = []
        self._total_bytes = 0
        self.setFixedHeight(20)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_slices(self, slices: list[tuple[str, int]], total_bytes: int) -> None:
        """Each slice is (token of the theme, bytes)."""
        self._slices, self._total_bytes = slices, total_bytes
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        whole = max(self._total_bytes, sum(size for _, size in self._slices))
        if not whole:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        outline = QPainterPath()
        outline.addRoundedRect(QRectF(self.rect()), 4, 4)
        painter.setClipPath(outline)
        painter.fillRect(self.rect(), QColor(self.theme.sunken))
        left, width = 0.0, float(self.width())
        for token, size in self._slices:
            part = size / whole * width
            # a hairline between neighbours: two colours that look alike are still two slices
            painter.fillRect(QRectF(left, 0, max(part - 1, 0.5), self.height()), QColor(getattr(self.theme, token)))
            left += part
        if whole > self._total_bytes:
            end = self._total_bytes / whole * width
            painter.setPen(QPen(QColor(self.theme.text), 3))
            painter.drawLine(round(end), 0, round(end), self.height())
        painter.end()


class MemoryPanel(Section):
    """Follows plan, preparation and machine. While a step runs it stands still: what is in use then is the training."""

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(mark("Memory"), parent)
        self.state = state
        self.theme = themes.LIGHT
        self._capacity: Capacity | None = None
        self._cells: dict[tuple[int, int], Forecast] = {}
        self.icon, self.word = QLabel(), label(role="strong")
        self.sentence = label(wraps=True)
        self.bar = StackedBar()
        self.legend = [_Entry(_Swatch(), label(role="secondary"), label()) for _ in SLICES]
        self.caption = label(role="secondary", wraps=True)
        self.basis = label(role="small", wraps=True)
        self.grid = QGridLayout()
        self._lay_out()
        state.plan_changed.connect(self.refresh)
        state.flow_changed.connect(self.refresh)
        state.run_opened.connect(self.refresh)
        state.machine_read.connect(self._on_machine)
        self._on_machine()
        self.refresh()

    def refresh(self) -> None:
        """Compute everything again from plan, prepared model and machine."""
        shape = self._shape()
        known = shape is not None and self._capacity is not None
        for part in (self.bar, self._legend_box, self._grid_box, self.basis, self.icon, self.word):
            part.setVisible(known)
        if shape is None or self._capacity is None:
            self.sentence.setText(self._unknown(shape))
            return
        scale = self._scale(self._capacity)
        found = forecast(
            shape,
            self.state.plan,
            device=self._capacity.device,
            others_bytes=self._capacity.others_bytes,
            scale=scale,
        )
        self._show_forecast(found, self._capacity)
        self._show_table(table(shape, self.state.plan, self._capacity, scale), self._capacity)

    def set_theme(self, theme: Theme) -> None:
        self.theme = self.bar.theme = theme
        for entry in self.legend:
            entry.swatch.theme = theme
        self.refresh()

    def _on_machine(self) -> None:
        """A new reading of the machine; it moves the figures only where a tenth of a GB has changed."""
        reading = self.state.machine
        if reading is None or self.state.busy:
            return
        found = capacity_in(reading)
        if found and self._capacity and abs(found.others_bytes - self._capacity.others_bytes) < 1e8:
            found = Capacity(found.device, found.total_bytes, self._capacity.others_bytes)
        if found != self._capacity:
            self._capacity = found
            self.refresh()

    def _shape(self) -> ModelShape | None:
        """The prepared model's; None where it is not prepared, or another one was."""
        if self.state.run is None:
            return None
        try:
            base = read_base(self.state.run)
            return read_shape(base.path) if base.source == self.state.plan.model.source else None
        except (UserError, OSError, ValueError, TypeError):
            return None

    def _unknown(self, shape: ModelShape | None) -> str:
        if shape is None:
            return tr("Not known yet: the base model has to be prepared first.")
        return tr("The memory of this machine could not be read.")

    def _scale(self, capacity: Capacity) -> float | None:
        run = self.state.run
        return recorded_scale(run.step_folder("train"), capacity.device) if run else None

    def _show_forecast(self, found: Forecast, capacity: Capacity) -> None:
        icon, role, word = VERDICTS[found.verdict(capacity.total_bytes)]
        self.icon.setPixmap(themes.icon(icon, _colour(role, self.theme)).pixmap(ICON))
        self.word.setText(tr(word))
        set_role(self.word, role)
        template = (
            mark("Training {batch} × {length} tokens should take {need} of {room} graphics memory.")
            if capacity.device == "cuda"
            else mark("Training {batch} × {length} tokens should take {need} of this machine's {room} RAM.")
        )
        need, room = text.size(found.total_bytes), text.size(capacity.total_bytes)
        sentence = filled(template, batch=found.batch_size, length=found.sequence_length, need=need, room=room)
        self.sentence.setText(sentence)
        parts = found.parts
        sizes = [(piece, sum(parts[name] for name in piece.parts)) for piece in SLICES]
        self.bar.show_slices([(piece.colour, size) for piece, size in sizes], capacity.total_bytes)
        self.bar.setAccessibleName(f"{sentence} {tr(word)}")
        for entry, (piece, size) in zip(self.legend, sizes, strict=True):
            entry.swatch.show_colour(piece.colour)
            entry.name.setText(tr(piece.name))
            entry.size.setText(f"{size / 1e9:,.2f} GB")
        self.basis.setText(
            tr("Corrected by a measured training step.")
            if found.scale is not None
            else tr("Computed from the model's sizes; the first training steps correct it.")
        )

    def _show_table(self, cells: Mapping[tuple[int, int], Forecast], capacity: Capacity) -> None:
        while item := self.grid.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        self.caption.setText(tr("Batch size (rows) by sequence length in tokens (columns), in GB:"))
        batches, lengths = (sorted({key[axis] for key in cells}) for axis in (0, 1))
        chosen = (self.state.plan.train.batch_size, self.state.plan.data.sequence_length)
        for column, length in enumerate(lengths, start=1):
            self.grid.addWidget(_number(f"{length:,}"), 0, column)
        for row, batch in enumerate(batches, start=1):
            self.grid.addWidget(_number(str(batch)), row, 0)
            for column, length in enumerate(lengths, start=1):
                found = cells[batch, length]
                verdict = VERDICTS[found.verdict(capacity.total_bytes)]
                cell = _Cell(found, verdict, (batch, length) == chosen, self.theme)
                self.grid.addWidget(cell, row, column)
        self.grid.setColumnStretch(len(lengths) + 1, 1)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.sentence, 1)
        top.addWidget(self.icon)
        top.addWidget(self.word)
        self._legend_box = QWidget()
        entries = QGridLayout(self._legend_box)
        entries.setContentsMargins(0, 0, 0, 0)
        entries.setHorizontalSpacing(8)
        entries.setVerticalSpacing(4)
        for row, parts in enumerate(self.legend):
            parts.size.setFont(themes.tabular())
            parts.size.setAlignment(Qt.AlignmentFlag.AlignRight)
            for column, part in enumerate((parts.swatch, parts.name, parts.size)):
                entries.addWidget(part, row, column)
        entries.setRowStretch(len(self.legend), 1)
        self._grid_box = QWidget()
        box = QVBoxLayout(self._grid_box)
        box.setContentsMargins(0, 0, 0, 0)
        self.grid.setHorizontalSpacing(4)
        self.grid.setVerticalSpacing(2)
        box.addWidget(self.caption)
        box.addLayout(self.grid)
        details = QHBoxLayout()
        details.setSpacing(48)
        details.addWidget(self._legend_box)
        details.addWidget(self._grid_box, 1)
        self.body.addLayout(top)
        self.body.addWidget(self.bar)
        self.body.addLayout(details)
        self.body.addWidget(self.basis)


@dataclass(frozen=True)
class _Entry:
    swatch: "_Swatch"
    name: QLabel
    size: QLabel


class _Swatch(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self.theme = themes.LIGHT
        self._colour = ""
        self.setFixedSize(QSize(12, 12))

    def show_colour(self, token: str) -> None:
        self._colour = token
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._colour:
            painter = QPainter(self)
            painter.fillRect(self.rect(), QColor(getattr(self.theme, self._colour)))
            painter.end()


class _Cell(QFrame):
    """One batch × length: its figure with the verdict's shape; the chosen one has a frame and says so."""

    def __init__(self, found: Forecast, verdict: tuple[str, str, str], chosen: bool, theme: Theme) -> None:
        super().__init__()
        icon, role, word = verdict
        if chosen:
            self.setProperty("role", "card")
            self.setProperty("chosen", "true")
        picture = QLabel()
        picture.setPixmap(themes.icon(icon, _colour(role, theme)).pixmap(ICON))
        figure = label(f"{found.total_bytes / 1e9:,.1f}", role="strong" if chosen else "")
        figure.setFont(themes.tabular())
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 2, 8, 2)
        row.setSpacing(6)
        row.addStretch(1)
        row.addWidget(figure)
        row.addWidget(picture)
        says = filled("{batch} × {length} tokens: {need}", batch=found.batch_size, length=found.sequence_length,
                      need=text.size(found.total_bytes))  # fmt: skip
        self.setToolTip(f"{says}, {tr(word)}")
        self.setAccessibleName(f"{says}, {tr(word)}{', ' + tr('chosen') if chosen else ''}")


def _number(shown: str) -> QLabel:
    made = label(shown, role="secondary")
    made.setFont(themes.tabular())
    made.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return made


def _colour(role: str, theme: Theme) -> str:
    return {"pass": theme.success, "warn": theme.warning, "fail": theme.danger}[role]
