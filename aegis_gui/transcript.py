"""The questions a step has put to the model, its answers, and what the judge measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtWidgets import QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from aegis_core.events import Verdict

from . import text
from . import theme as themes
from .chat_message import Turn
from .i18n import filled, mark, tr
from .panels import label
from .theme import Theme
from .verdicts import VerdictRows

BACKENDS = {"ollama": mark("through Ollama"), "embedded": mark("through the built-in llama.cpp")}


def read_transcript(path: Path) -> list[dict[str, Any]]:
    """Rows of transcript.jsonl; a line that is still being written is passed over."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


class Transcript(QWidget):
    """One entry per question; at its end the answer that is coming."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.entries: list[Entry] = []
        self._theme = themes.LIGHT
        self._rows: list[dict[str, Any]] = []
        self.empty = label(role="secondary", wraps=True)
        self.coming = Turn(True)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(16)
        self._column.addWidget(self.empty)
        self._column.addWidget(self.coming)
        self.show_rows([])

    def show_rows(self, rows: list[dict[str, Any]]) -> None:
        """Replace what is shown, unless it is the same already."""
        if rows != self._rows:
            for entry in self.entries:
                self._column.removeWidget(entry)
                entry.hide()
                entry.deleteLater()
            self.entries = [Entry(row) for row in rows]
            for place, entry in enumerate(self.entries):
                entry.set_theme(self._theme)
                self._column.insertWidget(place + 1, entry)
            self._rows = rows
        self.show_coming("")

    def show_coming(self, answer: str) -> None:
        """The beginning of an answer that is still being given; "" for none."""
        self.coming.show_text(answer)
        self.coming.setVisible(bool(answer))
        self.empty.setVisible(not self.entries and not answer)

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        for entry in self.entries:
            entry.set_theme(theme)

    def retranslate(self) -> None:
        self.empty.setText(
            tr("When this step runs, it puts the physics questions to the new model and judges the answers.")
        )
        self.coming.who.setText(tr("the answer that is coming"))
        for entry in self.entries:
            entry.retranslate()


class Entry(QWidget):
    """A question, its answer, the verdict, and the checks behind a fold."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__()
        self._row = row
        self._theme = themes.LIGHT
        verdict = row.get("verdict") or {}
        self._checks = [check for check in verdict.get("checks", []) if isinstance(check, dict)]
        self._passed = verdict.get("passed")
        self.asked, self.answered = Turn(False), Turn(True)
        self.asked.show_text(str(row.get("question", "")))
        self.answered.show_text(str(row.get("answer", "")))
        self.shape, self.word = QLabel(), label(role="strong")
        self.fold = QToolButton()
        self.fold.setCheckable(True)
        self.fold.setProperty("role", "quiet")
        self.checks = VerdictRows()
        self.fold.toggled.connect(self._unfold)
        line = QHBoxLayout()
        line.setSpacing(8)
        line.addWidget(self.shape)
        line.addWidget(self.word)
        line.addWidget(self.fold)
        line.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.asked)
        column.addWidget(self.answered)
        below = QVBoxLayout()
        below.setContentsMargins(16, 0, 16, 0)
        below.addLayout(line)
        below.addWidget(self.checks)
        column.addLayout(below)
        self.retranslate()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        name, colour = ("ok", theme.success) if self._passed else ("missing", theme.danger)
        self.shape.setPixmap(themes.icon(name, colour).pixmap(16, 16))
        self.checks.set_theme(theme)
        self._unfold(self.fold.isChecked())

    def retranslate(self) -> None:
        self.asked.who.setText(tr("Question"))
        self.answered.who.setText(str(self._row.get("model", "")))
        self.answered.show_remark(self._remark())
        measured = [check for check in self._checks if _status(check) != "skipped"]
        n_passed = sum(_status(check) == "pass" for check in measured)
        self.shape.setVisible(self._passed is not None)
        self.word.setText(
            "" if self._passed is None else tr("a meaningful answer") if self._passed else tr("not a meaningful answer")
        )
        self.fold.setText(filled("{passed} of {total} checks passed", passed=n_passed, total=len(measured)))
        self.fold.setVisible(bool(self._checks))
        self._unfold(self.fold.isChecked())

    def _unfold(self, open_: bool) -> None:
        verdicts = [
            Verdict(
                str(check.get("name", "")),
                _status(check),
                str(check.get("measured", "")),
                str(check.get("expected", "")),
            )
            for check in self._checks
        ]
        self.checks.show_verdicts(verdicts if open_ else [])

    def _remark(self) -> str:
        seconds, n_tokens = self._row.get("seconds"), self._row.get("n_tokens")
        parts = []
        if isinstance(seconds, int | float) and isinstance(n_tokens, int) and seconds > 0:
            speed = text.number(n_tokens / seconds, 3)
            parts.append(filled("{count} tokens, {speed} tokens/s", count=f"{n_tokens:,}", speed=speed))
        backend = str(self._row.get("backend", ""))
        if backend:
            parts.append(tr(BACKENDS.get(backend, backend)))
        return " · ".join(parts)


def _status(check: Mapping[str, Any]) -> str:
    """pass, fail or skipped (not measured); transcripts of earlier versions know the first two alone."""
    return str(check.get("status") or ("pass" if check.get("passed") else "fail"))
