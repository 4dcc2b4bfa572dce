"""The questions a step has put to the model, its answers, and what the judge measured."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from aegis_core.chat.overruling import Overrule
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
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):  # splitlines would cut at U+2028
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


class Transcript(QWidget):
    """One entry per question; at its end the answer that is coming.

    `overruled` carries the place of an answer and the verdict the person sets beside its own: True, False, or None to
    take it back.
    """

    overruled = Signal(int, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.entries: list[Entry] = []
        self._theme = themes.LIGHT
        self._shown: object = None
        self.empty = label(role="secondary", wraps=True)
        self.coming = Turn(True)
        self.notice = label(role="fail", wraps=True)
        self.notice.hide()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(16)
        self._column.addWidget(self.empty)
        self._column.addWidget(self.coming)
        self._column.addWidget(self.notice)
        self.show_rows([])

    def show_rows(
        self,
        rows: list[dict[str, Any]],
        base_rows: Sequence[dict[str, Any]] = (),
        decisions: Mapping[int, Overrule] | None = None,
    ) -> None:
        """Replace what is shown, unless it is the same already: the answers, the base model's to the same questions,
        and what the person decided on those at these places."""
        shown = (rows, list(base_rows), dict(decisions or {}))
        if shown != self._shown:
            for entry in self.entries:
                self._column.removeWidget(entry)
                entry.hide()
                entry.deleteLater()
            base = {row.get("question"): row for row in base_rows}
            own = decisions or {}
            self.entries = [Entry(row, base.get(row.get("question")), own.get(i)) for i, row in enumerate(rows)]
            for place, entry in enumerate(self.entries):
                entry.overruled.connect(partial(self.overruled.emit, place))
                entry.set_theme(self._theme)
                self._column.insertWidget(place + 1, entry)
            self._shown = shown
        self.show_coming("")

    def show_notice(self, sentence: str) -> None:
        """What could not be read (a translated sentence); "" for nothing."""
        self.notice.setText(sentence)
        self.notice.setVisible(bool(sentence))

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
    """A question, its answer, the base model's beside it, the verdict, and the checks behind a fold."""

    overruled = Signal(object)  # True, False, or None to take it back

    def __init__(
        self, row: Mapping[str, Any], base: Mapping[str, Any] | None = None, decision: Overrule | None = None
    ) -> None:
        super().__init__()
        self._row, self._base, self._decision = row, base, decision
        self._theme = themes.LIGHT
        verdict = row.get("verdict") or {}
        self._checks = [check for check in verdict.get("checks", []) if isinstance(check, dict)]
        self._passed = verdict.get("passed")
        self.asked, self.answered = Turn(False), Turn(True)
        self.asked.show_text(str(row.get("question", "")))
        self.answered.show_text(str(row.get("answer", "")))
        self.base = Turn(True)
        self.base.show_text(str(base.get("answer", "")) if base else "")
        self.shape, self.word = QLabel(), label(role="strong")
        self.own = label(role="secondary", wraps=True)
        self.otherwise = QToolButton()
        self.otherwise.setProperty("role", "quiet")
        self.otherwise.clicked.connect(lambda: self.overruled.emit(None if self._decision else not self._passed))
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
        line.addWidget(self.otherwise)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.asked)
        answers = QHBoxLayout()
        answers.setSpacing(8)
        for turn in (self.answered, self.base):
            answers.addWidget(turn, 1, Qt.AlignmentFlag.AlignTop)
        column.addLayout(answers)
        below = QVBoxLayout()
        below.setContentsMargins(16, 0, 16, 0)
        below.addLayout(line)
        below.addWidget(self.own)
        below.addWidget(self.checks)
        column.addLayout(below)
        absent = {self.base: base is None, self.own: decision is None, self.otherwise: self._passed is None}
        for widget, is_absent in absent.items():
            widget.setHidden(is_absent)
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
        self.answered.show_remark(_remark(self._row))
        if self._base:
            found = (self._base.get("verdict") or {}).get("passed")
            self.base.who.setText(tr("the base model"))
            self.base.show_remark(" · ".join(part for part in (_word(found), _remark(self._base)) if part))
        measured = [check for check in self._checks if _status(check) != "skipped"]
        n_passed = sum(_status(check) == "pass" for check in measured)
        self.shape.setVisible(self._passed is not None)
        self.word.setText(_word(self._passed))
        own = self._decision
        self.own.setText(
            filled("You: {verdict}. {reason}", verdict=_word(own.passed), reason=own.reason) if own else ""
        )
        self.otherwise.setText(tr("Take my verdict back") if own else tr("I see it otherwise…"))
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


def _word(passed: bool | None) -> str:
    if passed is None:
        return ""
    return tr("a meaningful answer") if passed else tr("not a meaningful answer")


def _remark(row: Mapping[str, Any]) -> str:
    seconds, n_tokens = row.get("seconds"), row.get("n_tokens")
    parts = []
    if isinstance(seconds, int | float) and isinstance(n_tokens, int) and seconds > 0:
        speed = text.number(n_tokens / seconds, 3)
        parts.append(filled("{count} tokens, {speed} tokens/s", count=f"{n_tokens:,}", speed=speed))
    backend = str(row.get("backend", ""))
    if backend:
        parts.append(tr(BACKENDS.get(backend, backend)))
    return " · ".join(parts)


def _status(check: Mapping[str, Any]) -> str:
    """pass, fail or skipped (not measured); transcripts of earlier versions know the first two alone."""
    return str(check.get("status") or ("pass" if check.get("passed") else "fail"))
