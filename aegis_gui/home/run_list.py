"""The runs as cards, the newest first: searched, shown a page at a time, chosen for comparing.

Reading a card takes about ten milliseconds. A few are read at once; the rest follows between two events, so that two
hundred runs do not keep the window from opening.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from aegis_core.run_card import RunCard, run_card, run_paths
from aegis_core.run_numbers import read_content
from aegis_core.side_by_side import MOST

from .. import theme as themes
from ..i18n import filled, tr
from ..panels import label, scrolled
from ..theme import Theme
from .card import RunRow

PAGE = 24  # cards shown at first, and more at each request
AT_ONCE_SECONDS = 0.06  # of reading in one go


class RunList(QWidget):
    """`asked` says what a person wants to do with which card; `chosen_changed` that the choice for comparing did."""

    asked = Signal(object, object)  # RunRow, Act
    chosen_changed = Signal()
    counted = Signal(int, int)  # runs that match the search, runs there are

    def __init__(self, open_path: Callable[[], Path | None]) -> None:
        super().__init__()
        self._open_path = open_path
        self._paths: list[Path] = []
        self._models: dict[Path, tuple[float, str]] = {}
        self._sought = ""
        self._n_shown = PAGE
        self._busy = False
        self._theme: Theme = themes.LIGHT
        self.rows: dict[Path, RunRow] = {}
        self.chosen: list[Path] = []
        self.none_found = label(role="secondary", wraps=True)
        self.none_found.hide()
        self.more = QPushButton()
        self.more.setProperty("role", "quiet")
        self.more.clicked.connect(self._show_more)
        self.column = QVBoxLayout()
        self.column.setSpacing(8)
        whole = QVBoxLayout()
        whole.setSpacing(8)
        whole.addWidget(self.none_found)
        whole.addLayout(self.column)
        whole.addWidget(self.more, 0, Qt.AlignmentFlag.AlignHCenter)
        self.area = scrolled(whole)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.addWidget(self.area)
        self._unread: list[Path] = []
        self._reading = QTimer(self, interval=0)
        self._reading.timeout.connect(self._read_some)

    def show_runs(self, folder: Path, recent: list[Path]) -> None:
        """Read the runs from the disk again."""
        self._paths = run_paths(folder, recent)
        self.chosen = [path for path in self.chosen if path in self._paths]
        self._fill()
        self.chosen_changed.emit()

    def seek(self, words: str) -> None:
        """Show only the runs whose name or model contains every word."""
        self._sought, self._n_shown = words.casefold(), PAGE
        self._fill()

    @property
    def reading(self) -> bool:
        """Whether cards are still to be read."""
        return bool(self._unread)

    def set_busy(self, busy: bool) -> None:
        """While a step is running in this window no other run can be opened."""
        if busy is not self._busy:
            self._busy = busy
            for row in self.rows.values():
                row.show_run(row.run, self._is_open(row.run.path), busy)

    def cards(self, paths: list[Path]) -> list[RunCard]:
        """The cards of these runs as they are now."""
        return [run_card(path) for path in paths]

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        for row in self.rows.values():
            row.set_theme(theme)

    def retranslate(self) -> None:
        self.none_found.setText(tr("No run has this in its name or its model."))
        self._show_count()
        for row in self.rows.values():
            row.put_into_drawer(None)
            row.retranslate()

    def matching(self) -> list[Path]:
        """The runs that the search leaves."""
        words = self._sought.split()
        if not words:
            return self._paths
        return [path for path in self._paths if all(word in self._searchable(path) for word in words)]

    def _fill(self) -> None:
        """Bring the cards into the order of the paths; those that are there already stay until they are read again."""
        shown = self.matching()[: self._n_shown]
        for path in [path for path in self.rows if path not in shown]:
            row = self.rows.pop(path)
            self.column.removeWidget(row)
            row.hide()
            row.deleteLater()
        self._unread = list(shown)
        self._show_count()
        self._read_some()

    def _read_some(self) -> None:
        began = time.monotonic()
        while self._unread and time.monotonic() - began < AT_ONCE_SECONDS:
            self._read_one(self._unread.pop(0))
        if self._unread:
            self._reading.start()
        else:
            self._reading.stop()
            self._order_tabs()

    def _order_tabs(self) -> None:
        """Tab goes from card to card as they stand, not as they came."""
        rows = sorted(self.rows.values(), key=self.column.indexOf)
        stops = [stop for row in rows for stop in row.tab_stops()]
        for before, after in pairwise([*stops, self.more]):
            QWidget.setTabOrder(before, after)

    def _read_one(self, path: Path) -> None:
        card = run_card(path)
        row = self.rows.get(path) or self._new_row(card)
        place = self.matching().index(path)
        if self.column.indexOf(row) != place:
            self.column.insertWidget(place, row)
        row.box.setChecked(path in self.chosen)
        row.show_run(card, self._is_open(path), self._busy)
        self._limit_choice()

    def _new_row(self, card: RunCard) -> RunRow:
        row = RunRow(card)
        row.set_theme(self._theme)
        row.asked.connect(lambda act: self.asked.emit(row, act))
        row.chosen.connect(lambda on: self._choose(row.run.path, on))
        row.moved.connect(lambda by: self._move(row, by))
        self.rows[card.path] = row
        return row

    def _choose(self, path: Path, on: bool) -> None:
        if on is (path in self.chosen):
            return
        self.chosen = [*self.chosen, path] if on else [other for other in self.chosen if other != path]
        self._limit_choice()
        self.chosen_changed.emit()

    def _limit_choice(self) -> None:
        full = len(self.chosen) >= MOST
        for path, row in self.rows.items():
            row.box.setEnabled(not full or path in self.chosen)
            row.box.setToolTip(filled("At most {n} runs", n=MOST) if full else tr("Choose for comparing"))

    def _move(self, row: RunRow, by: int) -> None:
        place = self.column.indexOf(row) + by
        item = self.column.itemAt(place) if 0 <= place < self.column.count() else None
        if item and (widget := item.widget()):
            widget.setFocus(Qt.FocusReason.TabFocusReason)
            self.area.ensureWidgetVisible(widget)

    def _show_more(self) -> None:
        self._n_shown += PAGE
        self._fill()

    def _show_count(self) -> None:
        n_matching = len(self.matching())
        n_more = min(n_matching - self._n_shown, PAGE)
        self.more.setVisible(n_more > 0)
        self.more.setText(filled("Show {n} more", n=max(n_more, 0)))
        self.none_found.setVisible(bool(self._sought) and not n_matching)
        self.counted.emit(n_matching, len(self._paths))

    def _is_open(self, path: Path) -> bool:
        return path == self._open_path()

    def _searchable(self, path: Path) -> str:
        plan = path / "plan.json"
        changed = plan.stat().st_mtime if plan.is_file() else 0.0
        if self._models.get(path, (None, ""))[0] != changed:
            content = read_content(plan)
            model = content.get("model") if isinstance(content, dict) else None
            source = str(model.get("source", "")) if isinstance(model, dict) else ""
            self._models[path] = (changed, f"{path.name} {source}".casefold())
        return self._models[path][1]
