"""Loss and alpha of several runs over each other, on one axis of steps."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unicodedata import east_asian_width

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from ..i18n import filled, tr
from ..live_plot import LivePlot
from ..plot_link import link
from ..plot_parts import Colour
from ..series import Smoother
from ..text import fixed
from ..theme import Theme

COLOURS: tuple[Colour, ...] = (lambda t: t.loss, lambda t: t.fixed_run, lambda t: t.memory, lambda t: t.held_out)
STYLES = (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine, Qt.PenStyle.DashDotLine, Qt.PenStyle.DotLine)
SYMBOLS = ("o", "t1", "s", "o")
MOST_ROWS = 4000  # of one run that are read; of more steps every so many, but every held-out loss
LONGEST_NAME = 24  # in a legend, in widths of a Latin letter; a Japanese sign counts twice
HEIGHT = 280  # px


class RunsPlot(LivePlot):
    """One quantity of up to four runs, each in its own colour and stroke."""

    _names: Mapping[str, str] = MappingProxyType({})

    def show_names(self, names: Sequence[str]) -> None:
        self._names = {f"run{place}": escape(_short(name)) for place, name in enumerate(names)}

    def curve_names(self) -> dict[str, str]:
        return dict(self._names)


class LossesPlot(RunsPlot):
    """Each run's training loss smoothed, its held-out losses as points of the same colour."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(theme)
        for place, (colour, style, symbol) in enumerate(zip(COLOURS, STYLES, SYMBOLS, strict=True)):
            self.add_curve(f"run{place}", colour, width=2, style=style, read=lambda value: fixed(value, 3))
            self.add_curve(f"held{place}", colour, dots=True, symbol=symbol, read=lambda value: fixed(value, 3))

    def title(self) -> str:
        return tr("Loss (nats)")

    def note(self) -> str:
        return tr("lines: training, smoothed; points: held-out")

    def curve_names(self) -> dict[str, str]:
        names = super().curve_names()
        held_out = {f"held{place}": tr("held-out") for place in range(len(names))}
        return names if self.cursor is None else names | held_out

    def show_rows(self, place: int, rows: Sequence[dict[str, Any]], n_steps: float) -> None:
        smooth = Smoother(min(max(n_steps / 40, 4), 400) * len(rows) / max(n_steps, 1))
        for row in rows:
            if (loss := _finite(row, "loss")) is not None:
                self.curves[f"run{place}"].series.append(row["step"], smooth(loss))
            self.curves[f"held{place}"].series.append(row["step"], _finite(row, "held_out_loss"))


class AlphasPlot(RunsPlot):
    def __init__(self, theme: Theme) -> None:
        super().__init__(theme)
        for place, (colour, style) in enumerate(zip(COLOURS, STYLES, strict=True)):
            self.add_curve(f"run{place}", colour, width=2, style=style, read=lambda value: fixed(value, 3))

    def title(self) -> str:
        return tr("Alpha")

    def show_rows(self, place: int, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            self.curves[f"run{place}"].series.append(row["step"], _finite(row, "alpha"))


class RunsCurves(QWidget):
    """Both plots, one beside the other, with one crosshair and one zoom."""

    def __init__(self, theme: Theme, paths: Sequence[Path]) -> None:
        super().__init__()
        self.losses, self.alphas = LossesPlot(theme), AlphasPlot(theme)
        found = [list(rows_of(path / "train" / "metrics.jsonl")) for path in paths]
        last = max((row["step"] for rows in found for row in rows), default=0)
        self.has_any = last > 0
        for plot in (self.losses, self.alphas):
            plot.show_names([path.name for path in paths])
            plot.set_span(max(last, 10))
        for place, rows in enumerate(found):
            self.losses.show_rows(place, rows, rows[-1]["step"] if rows else 0)
            self.alphas.show_rows(place, rows)
        link([self.losses, self.alphas])
        for plot in (self.losses, self.alphas):
            plot.refresh()
            plot.setAccessibleName(filled("{plot} of {n} runs", plot=plot.title(), n=len(paths)))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(12)
        row.addWidget(self.losses, 3)
        row.addWidget(self.alphas, 2)
        self.setFixedHeight(HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_theme(self, theme: Theme) -> None:
        for plot in (self.losses, self.alphas):
            plot.set_theme(theme)

    def retranslate(self) -> None:
        for plot in (self.losses, self.alphas):
            plot.retranslate()


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics file, thinned where there are very many; what is torn or no row is left out."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines()
    stride = max(len(lines) // MOST_ROWS, 1)
    for place, line in enumerate(lines):
        if place % stride and b'"held_out_loss"' not in line and place != len(lines) - 1:
            continue
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield row


def _short(name: str) -> str:
    """As much of the name as a legend has room for."""
    widths = list(accumulate(2 if east_asian_width(sign) in "WF" else 1 for sign in name))
    if not widths or widths[-1] <= LONGEST_NAME:
        return name
    return name[: sum(width < LONGEST_NAME for width in widths)] + "…"


def _finite(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
