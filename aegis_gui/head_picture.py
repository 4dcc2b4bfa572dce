"""The output layer before and after, from fuse/head.json: how the rows moved, how far the rotation turns."""

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from . import text
from . import theme as themes
from .histogram import Bars, Histogram
from .i18n import filled, mark, tr
from .panels import Section, label
from .theme import Theme

DEGREE = "°"
N_TOKENS = 16
SHOWN_CHARACTERS = 16
BLANKS = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"})


class HeadPicture(Section):
    """Hidden as long as there is no picture."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(mark("The output layer before and after"), parent)
        self.summary = label(role="secondary", wraps=True)
        self.plots = {
            "change": Histogram("loss"),
            "norms": Histogram("loss_raw"),
            "angles": Histogram("memory", unit=DEGREE),
        }
        self.names = {name: label(role="strong", wraps=True) for name in self.plots}
        self.remarks = {name: label(role="small", wraps=True) for name in self.plots}
        grid = QGridLayout()
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(4)
        for column, (name, plot) in enumerate(self.plots.items()):
            grid.setColumnStretch(column, 1)
            grid.addWidget(self.names[name], 0, column, Qt.AlignmentFlag.AlignBottom)
            grid.addWidget(plot, 1, column)
            self.remarks[name].setFont(themes.tabular(themes.SMALL))
            grid.addWidget(self.remarks[name], 2, column, Qt.AlignmentFlag.AlignTop)
        self.tokens_name = label(role="strong")
        self.tokens = QWidget()
        self._tokens = QGridLayout(self.tokens)
        self._tokens.setContentsMargins(0, 0, 0, 0)
        self._tokens.setHorizontalSpacing(16)
        self._tokens.setVerticalSpacing(2)
        below = QVBoxLayout()
        below.setSpacing(4)
        below.addWidget(self.tokens_name)
        below.addWidget(self.tokens)
        self.body.addWidget(self.summary)
        self.body.addLayout(grid)
        self.body.addLayout(below)
        self.hide()

    def show_head(self, head: Mapping[str, Any]) -> None:
        """head.json's content; {} or an older one that lacks the figures hides the picture."""
        change, angles, norms = (_object(head.get(name)) for name in ("relative_change", "angles_degrees", "norms"))
        moved = Bars.of(change.get("histogram"))
        self.setVisible(moved is not None)
        if moved is None:
            return
        self.summary.setText(
            filled(
                "{rows} rows, one for each token, of {columns} numbers. In the middle a row moved by {change} of its "
                "length.",
                rows=text.number(head.get("rows")),
                columns=text.number(head.get("columns")),
                change=_percent(_object(change.get("quantiles")).get("50")),
            )
        )
        self.names["change"].setText(tr("How far each row moved, as a part of its length"))
        self.names["norms"].setText(tr("Length of the rows: filled before, line after"))
        self.names["angles"].setText(tr("Angles of the rotation"))
        self.plots["change"].show_bars(moved)
        self.plots["norms"].show_bars(Bars.of(norms.get("before")), Bars.of(norms.get("after")))
        self.plots["angles"].show_bars(Bars.of(angles.get("histogram")))
        self.remarks["change"].setText(_spread(change, _percent))
        self.remarks["norms"].setText(
            tr("As stored in the files, before the final norm takes its part over.")
            if head.get("norm_factor") != 1
            else tr("As stored in the files.")
        )
        self.remarks["angles"].setText(_spread(angles, lambda value: f"{text.number(value, 3)}{DEGREE}"))
        for name, plot in self.plots.items():
            plot.setAccessibleName(f"{self.names[name].text()}: {self.remarks[name].text()}")
        self._show_tokens(head.get("most_changed"))

    def set_theme(self, theme: Theme) -> None:
        for plot in self.plots.values():
            plot.theme = theme
            plot.update()

    def _show_tokens(self, rows: object) -> None:
        while item := self._tokens.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        found = [row for row in rows if isinstance(row, Mapping)][:N_TOKENS] if isinstance(rows, list) else []
        self.tokens_name.setText(tr("Most changed tokens"))
        for part in (self.tokens_name, self.tokens):
            part.setVisible(bool(found))
        half = -(-len(found) // 2)
        for place, row in enumerate(found):
            line, block = place % half + 1, place // half * 4
            shown = visible_token(str(row.get("token", "")))
            name = label(shown)
            name.setToolTip(f"#{row.get('id')}")
            self._tokens.addWidget(name, line, block)
            self._figure(line, block + 1, f"{text.number(row.get('before'), 3)} → {text.number(row.get('after'), 3)}")
            self._figure(line, block + 2, _percent(row.get("change")))
        for block in range(0, 4 * (2 if len(found) > 1 else 1), 4) if found else ():
            self._tokens.addWidget(label(tr("Token"), role="small"), 0, block)
            self._figure(0, block + 1, tr("Length"), "small")
            self._figure(0, block + 2, tr("Moved by"), "small")
            self._tokens.setColumnStretch(block, 1)
        self._tokens.setColumnMinimumWidth(3, 24)

    def _figure(self, line: int, column: int, content: str, role: str = "") -> None:
        made = label(content, role=role)
        made.setFont(themes.tabular())
        self._tokens.addWidget(made, line, column, Qt.AlignmentFlag.AlignRight)


def visible_token(token: str) -> str:
    """A token as one can read it: blanks and line breaks by their signs, long ones cut."""
    shown = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in token.translate(BLANKS))
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[: SHOWN_CHARACTERS - 1]}…"


def _spread(row: Mapping[str, Any], said: Any) -> str:
    quantiles = _object(row.get("quantiles"))
    return filled(
        "middle {middle}, 90 % between {low} and {high}, largest {largest}",
        middle=said(quantiles.get("50")),
        low=said(quantiles.get("5")),
        high=said(quantiles.get("95")),
        largest=said(quantiles.get("100")),
    )


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{text.number(100 * part, 3)} %"


def _object(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
