"""What a live plot is made of, and the words of its legend."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGraphicsLineItem, QGraphicsSimpleTextItem

from .i18n import tr
from .series import Series
from .text import number
from .theme import Theme

Colour = Callable[[Theme], str]
STROKES = {
    Qt.PenStyle.SolidLine: "━",
    Qt.PenStyle.DashLine: "╍",
    Qt.PenStyle.DashDotLine: "━·",
    Qt.PenStyle.DotLine: "┅",
}
SYMBOLS = {"o": "•", "t1": "▴", "s": "▪"}


@dataclass
class Curve:
    """One line of a plot: its points and how it is drawn."""

    name: str
    colour: Colour
    item: pg.PlotDataItem
    width: float = 1.5
    style: Qt.PenStyle = Qt.PenStyle.SolidLine
    noisy: bool = False
    dots: bool = False
    symbol: str = "o"  # of the dots, as pyqtgraph names them
    fill: bool = False
    fill_strength: float = 0.14  # how much of the colour the filling has
    read: Callable[[float], str] = number
    series: Series = field(default_factory=Series)
    drawn_version: int = -1


@dataclass
class Level:
    """A horizontal reference line with its name; where it lies outside the view the legend tells of it."""

    colour: Colour
    line: QGraphicsLineItem
    label: QGraphicsSimpleTextItem
    text: Callable[[float], str]
    value: float | None = None


@dataclass
class Mark:
    """A point of the curve that deserves a name."""

    text: Callable[[], str]
    label: QGraphicsSimpleTextItem
    x: float
    y: float


def legend_entry(curve: Curve, name: str, value: float, theme: Theme) -> str:
    """Sign, name and reading of a curve as rich text that is not broken in the middle."""
    sign = SYMBOLS[curve.symbol] if curve.dots else "■" if curve.fill else STROKES[curve.style]
    return (
        f'<span style="white-space:nowrap"><span style="color:{curve.colour(theme)}">{sign}</span>'
        f'&nbsp;<span style="color:{theme.secondary}">{unbroken(name)}</span>'
        f'&nbsp;<span style="color:{theme.text}">{curve.read(value)}</span></span>'
    )


def phase_word(phase: str) -> str:
    """latent, critical, settled in the user's language; other words as they are."""
    return {"latent": tr("latent"), "critical": tr("critical transition"), "settled": tr("settled")}.get(phase, phase)


def unbroken(name: str) -> str:
    """The name in one piece: Japanese would otherwise be broken between any two characters."""
    return "\u2060".join(name.replace(" ", "\u00a0"))


def band_colour(theme: Theme, phase: str) -> str:
    return {"critical": theme.band_critical, "settled": theme.band_settled}.get(phase, theme.band_latent)
