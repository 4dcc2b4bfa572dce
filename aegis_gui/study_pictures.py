"""Where in the space the good trials lie, painted by hand: what matters, and all parameters side by side."""

import math
from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent, QPen, QPolygonF, QTextOption
from PySide6.QtWidgets import QSizePolicy, QWidget

from aegis_core.events import TrialFinished

from . import theme as themes
from .i18n import tr
from .plan_fields import OPTIONS
from .study_data import Axis, axes_of, is_poor
from .text import number
from .theme import Theme
from .trials import PARAMETERS

TICK_SIZE = 11  # px
CROWD = 60  # trials: more are drawn paler
PARALLEL_HEIGHT = 244


class _Painted(QWidget):
    """A small picture drawn by hand in the theme's colours."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self.theme = themes.LIGHT
        self.setMinimumSize(QSize(180, height))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_theme(self, theme: Theme) -> None:
        self.theme = theme
        self.update()


class ImportanceBars(_Painted):
    """How much of the spread of the values each parameter explains; empty until that can be told."""

    ROW = 26

    def __init__(self) -> None:
        super().__init__(self.ROW)
        self._parts: list[tuple[str, float]] = []

    def show_parts(self, parts: dict[str, float]) -> None:
        self._parts = sorted(parts.items(), key=lambda part: -part[1])
        self.setFixedHeight(self.ROW * max(len(self._parts), 1) + 4)
        names = ", ".join(f"{tr(PARAMETERS.get(name, name))} {part:.0%}" for name, part in self._parts)
        self.setAccessibleDescription(names)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setFont(themes.tabular(themes.SMALL))
        metrics = QFontMetrics(painter.font())
        names = [tr(PARAMETERS.get(name, name)) for name, _ in self._parts]
        side = max((metrics.horizontalAdvance(name) for name in names), default=0) + 12
        figures = metrics.horizontalAdvance("100 %") + 8
        room = max(self.width() - side - figures, 40)
        for row, (name, (_, part)) in enumerate(zip(names, self._parts, strict=True)):
            top = row * self.ROW
            painter.setPen(QColor(self.theme.text))
            painter.drawText(QRectF(0, top, side - 8, self.ROW), Qt.AlignmentFlag.AlignVCenter, name)
            bar = QRectF(side, top + 7, max(room * part, 2), self.ROW - 14)
            painter.fillRect(bar, QColor(self.theme.accent))
            painter.setPen(QColor(self.theme.secondary))
            spot = QRectF(bar.right() + 6, top, figures, self.ROW)
            painter.drawText(spot, Qt.AlignmentFlag.AlignVCenter, f"{part:.0%}")
        painter.end()


class ParallelPlot(_Painted):
    """One line for each complete trial through all its parameters to its value; the best third in colour."""

    def __init__(self, lower_is_better: bool) -> None:
        super().__init__(PARALLEL_HEIGHT)
        self.setFixedHeight(PARALLEL_HEIGHT)
        self._lower_is_better = lower_is_better
        self._axes: list[Axis] = []
        self._trials: list[TrialFinished] = []

    def show_trials(self, trials: Sequence[TrialFinished]) -> None:
        """Complete trials with a finite value; the worst first, so that the best lies on top."""
        sign = -1 if self._lower_is_better else 1
        whole = [t for t in trials if t.state == "COMPLETE" and t.value is not None and math.isfinite(t.value)]
        self._trials = sorted(whole, key=lambda trial: sign * (trial.value or 0.0))
        self._axes = [*axes_of(self._trials), self._value_axis()] if self._trials else []
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._axes:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(themes.tabular(TICK_SIZE))
        line = QFontMetrics(painter.font()).height()
        top, bottom = line * 3.0 + 8, self.height() - line - 6.0
        gap = self.width() / len(self._axes)
        spots = [gap * (i + 0.5) for i in range(len(self._axes))]
        for rank, trial in enumerate(self._trials):
            painter.setPen(self._pen(rank))
            painter.drawPolyline(self._way(trial, spots, top, bottom))
        for axis, x in zip(self._axes, spots, strict=True):
            painter.setPen(QPen(QColor(self.theme.control), 1))
            painter.drawLine(QPointF(x, top), QPointF(x, bottom))
            column = QRectF(x - gap / 2 + 4, 0, gap - 8, line)
            middle = Qt.AlignmentFlag.AlignHCenter
            painter.setPen(QColor(self.theme.text))
            painter.drawText(QRectF(column.x(), 0, column.width(), 2 * line), self._name(axis), _TWO_LINES)
            painter.setPen(QColor(self.theme.secondary))
            painter.drawText(column.translated(0, 2 * line), middle, _end(axis, 1.0))
            painter.drawText(column.translated(0, bottom + 2), middle, _end(axis, 0.0))
        painter.end()

    def _value_axis(self) -> Axis:
        """Schedules that do not converge stand at its bottom: how far they miss would hide how the others differ."""
        good = [trial.value or 0.0 for trial in self._trials if not is_poor(trial, self._lower_is_better)]
        values = good or [trial.value or 0.0 for trial in self._trials]
        return Axis("", min(values), max(values), is_floored=len(values) < len(self._trials))

    def _name(self, axis: Axis) -> str:
        if axis.name:
            return tr(PARAMETERS.get(axis.name, axis.name))
        return tr("Held-out loss") if self._lower_is_better else tr("Score")

    def _pen(self, rank: int) -> QPen:
        n = len(self._trials)
        if rank == n - 1:
            return QPen(QColor(self.theme.accent), 2.5)
        good = 3 * rank >= 2 * n
        colour = QColor(self.theme.loss if good else self.theme.reference)
        strength = 0.75 if good else 0.35
        colour.setAlphaF(strength / 2 if n > CROWD else strength)
        return QPen(colour, 1)

    def _way(self, trial: TrialFinished, spots: list[float], top: float, bottom: float) -> QPolygonF:
        points = []
        for axis, x in zip(self._axes, spots, strict=True):
            place = axis.place(trial.params.get(axis.name) if axis.name else trial.value)
            if place is not None:  # a parameter that this trial does not have is passed by
                points.append(QPointF(x, bottom - place * (bottom - top)))
        return QPolygonF(points)


def _end(axis: Axis, place: float) -> str:
    """What stands at the top (1) or bottom (0) of an axis."""
    if axis.choices:
        value = axis.choices[-1 if place else 0]
        return number(value) if isinstance(value, int | float) else tr(OPTIONS.get(value, str(value)))
    shown = number(axis.high if place else axis.low, 3)
    return f"≤ {shown}" if axis.is_floored and not place else shown


def _two_lines() -> QTextOption:
    option = QTextOption(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignBottom)
    option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
    return option


_TWO_LINES = _two_lines()
