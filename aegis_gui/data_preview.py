"""What the dataset is read as: its columns and their use, its first samples, and what is wrong with it."""

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from aegis_core.events import StepFailed

from . import text
from .facts import Facts
from .failure_box import FailureBox
from .i18n import filled, mark, tr
from .panels import label

USES = {
    "messages": mark("Chats"),
    "question": mark("Question"),
    "input": mark("Input"),
    "answer": mark("Answer"),
    "text": mark("Text"),
    "system": mark("System prompt"),
    "topic": mark("Topic"),
}
ROLES = {"user": mark("Question"), "assistant": mark("Answer"), "system": mark("System prompt"), "text": mark("Text")}
SHOWN_CHARACTERS = 160
MOST_TURNS = 6


class DataPreview(QWidget):
    """Shows one answer of `aegis preview`, or that it is still awaited, or offers to ask for it.

    `looked` asks to look (again); `mended` carries settings that would mend what is wrong.
    """

    looked = Signal()
    mended = Signal(object)  # {"section.field": value}

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._row: Mapping[str, Any] | None = None
        self._running = self._asks = False
        self.words = label(role="secondary", wraps=True)
        self.button = QPushButton()
        self.button.clicked.connect(self.looked)
        self.failure = FailureBox()
        self.failure.button.clicked.connect(self.looked)
        self.failure.mend.clicked.connect(lambda: self.mended.emit(self.failure.changes))
        self.facts = Facts()
        self.warnings = label(role="warn", wraps=True)
        self.samples_title = label(role="secondary")
        self.samples = QWidget()
        self._grid = QGridLayout(self.samples)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(16)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(2, 1)
        top = QHBoxLayout()
        top.addWidget(self.words, 1)
        top.addWidget(self.button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(top)
        for widget in (self.failure, self.facts, self.warnings, self.samples_title, self.samples):
            column.addWidget(widget)
        self.retranslate()

    def show_look(self, row: Mapping[str, Any] | None, running: bool = False, asks: bool = False) -> None:
        """`row` is what `aegis preview --json` says of the data, None while nothing is known."""
        self._row, self._running, self._asks = row, running, asks
        self._draw()

    def retranslate(self) -> None:
        self.failure.retranslate()
        self.failure.mend.setText(tr("Apply"))
        self.samples_title.setText(tr("The first samples"))
        self._draw()

    def _draw(self) -> None:
        row = self._row or {}
        failure = row.get("failure")
        readable = bool(row) and failure is None
        if self._running:
            self.words.setText(tr("Looking into the dataset …"))
        elif self._asks:
            self.words.setText(tr("This dataset is on the hub. A look fetches its first rows only."))
        self.words.setVisible(self._running or self._asks)
        self.button.setText(tr("Look at it"))
        self.button.setVisible(self._asks and not self._running)
        self.failure.setVisible(failure is not None)
        if failure is not None:
            known = {name: value for name, value in failure.items() if name in StepFailed.__dataclass_fields__}
            self.failure.show_failure(StepFailed(**known))
            self.failure.mend.setText(tr("Apply"))
        for widget in (self.facts, self.samples_title, self.samples):
            widget.setVisible(readable)
        self.warnings.setText(
            "\n".join(filled(said["template"], said["values"]) for said in row.get("warnings", ())) if readable else ""
        )
        self.warnings.setVisible(bool(self.warnings.text()))
        if readable:
            self.facts.show_facts(_facts(row))
            self._draw_samples(row["samples"])

    def _draw_samples(self, samples: list[dict[str, Any]]) -> None:
        while item := self._grid.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        line = 0
        for number, sample in enumerate(samples, start=1):
            turns = sample.get("messages") or [{"role": "text", "content": sample.get("text", "")}]
            for place, turn in enumerate(turns[:MOST_TURNS]):
                shown = _content(turn["content"])
                role = label(tr(ROLES.get(turn["role"], turn["role"])), role="secondary")
                top = Qt.AlignmentFlag.AlignTop
                if place == 0:
                    self._grid.addWidget(label(str(number), role="secondary"), line, 0, top)
                self._grid.addWidget(role, line, 1, top)
                self._grid.addWidget(shown, line, 2)
                line += 1


def _content(content: str) -> QLabel:
    """The beginning on few lines; the rest where the mouse rests on it."""
    one_line = " ".join(content.split())
    shown = label(one_line[:SHOWN_CHARACTERS] + ("…" if len(one_line) > SHOWN_CHARACTERS else ""), wraps=True)
    shown.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    if len(one_line) > SHOWN_CHARACTERS:
        shown.setToolTip(f"<p>{_escaped(content)}</p>")
    return shown


def _escaped(content: str) -> str:
    """Foreign text is never taken for markup."""
    return content.replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br>")


def _facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    reads = row["reads"]
    uses = [filled("{column} as {use}", column=column, use=tr(USES.get(use, use))) for use, column in reads.items()]
    if "text" in reads or row["as_text"]:
        kind = tr("Plain text; all of it is learned.")
    else:
        kind = tr("Chats in the model's own template; only the answers are learned.")
    n_rows = row["n_rows"]
    rows = text.number(n_rows) if n_rows is not None else tr("known once everything is read")
    files = row["files"]
    return [
        (tr("Files"), ", ".join(files[:8]) + (" …" if len(files) > 8 else "") if len(files) > 1 else ""),
        (tr("Version on the hub"), row["commit"][:12]),
        (tr("Rows"), rows),
        (tr("Columns"), tr(", ").join(row["columns"])),
        (tr("Read"), tr(", ").join(uses)),
        (tr("Taken as"), kind),
    ]
