"""What the model says now: its answer to one question, and how it answered earlier in the training."""

import difflib
import html
import re

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSlider, QTextBrowser, QVBoxLayout, QWidget

from aegis_core.events import Sample

from .figures import steady_label
from .i18n import filled, tr
from .theme import LIGHT, Theme


class Samples(QFrame):
    """The newest answer, until the slider is drawn back in time; then it stays there, whatever comes.

    Words that the answer before it did not have are marked. What a model says is never taken for markup.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "card")
        self._theme = LIGHT
        self._samples: list[Sample] = []
        self._drawn = False
        self.title, self.when, self.prompt = steady_label("strong"), steady_label("small"), steady_label("secondary")
        self.text = QTextBrowser()
        self.text.setOpenLinks(False)
        self.text.setFrameShape(QFrame.Shape.NoFrame)
        self.text.setStyleSheet("border: none; padding: 0; background: transparent;")
        self.text.document().setDocumentMargin(0)
        self.text.setMinimumSize(160, 20)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 0)
        self.slider.setPageStep(1)
        self.slider.valueChanged.connect(self._draw)
        head = QHBoxLayout()
        head.addWidget(self.title, 3)
        head.addWidget(self.when, 2)
        self.when.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        head.setContentsMargins(0, 0, 12, 0)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 6, 4, 4)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(self.prompt)
        column.addWidget(self.text, 1)
        foot = QHBoxLayout()
        foot.setContentsMargins(0, 0, 12, 0)
        foot.addWidget(self.slider)
        column.addLayout(foot)
        self._draw()

    def add(self, sample: Sample) -> None:
        """Take note of an answer; `refresh()` shows it. A step that comes again, as after a resume, replaces it."""
        self._samples = [earlier for earlier in self._samples if earlier.step < sample.step]
        self._samples.append(sample)
        self._drawn = False

    def clear(self) -> None:
        self._samples = []
        self.slider.setRange(0, 0)
        self._draw()

    def refresh(self) -> None:
        """Show what is new, if the newest is what is looked at."""
        if self._drawn:
            return
        self._drawn = True
        newest = self.slider.value() == self.slider.maximum()
        last = max(len(self._samples) - 1, 0)
        self.slider.blockSignals(True)
        self.slider.setRange(0, last)
        if newest:
            self.slider.setValue(last)
        self.slider.blockSignals(False)
        self._draw()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self._draw()

    def retranslate(self) -> None:
        self.title.setText(tr("What it says now"))
        self.text.setAccessibleName(tr("What it says now"))
        self.slider.setAccessibleName(tr("Earlier answers"))
        self.slider.setToolTip(tr("Back to earlier answers"))
        self._draw()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._show_prompt()

    def _show_prompt(self) -> None:
        """In one line; as a whole where the mouse rests."""
        asked = self._samples[-1].prompt if self._samples else ""
        room = max(self.width() - 40, 40)
        self.prompt.setText(self.prompt.fontMetrics().elidedText(asked, Qt.TextElideMode.ElideRight, room))
        self.prompt.setToolTip(asked)
        self.prompt.setVisible(bool(asked))

    def _draw(self) -> None:
        self.slider.setVisible(len(self._samples) > 1)
        self._show_prompt()
        if not self._samples:
            self.when.setText(" ")
            colour = self._theme.secondary
            self.text.setHtml(f'<p style="margin:0; color:{colour}">{tr("It has not been asked yet.")}</p>')
            return
        index = min(self.slider.value(), len(self._samples) - 1)
        sample = self._samples[index]
        before = self._samples[index - 1].text if index else sample.text
        self.title.setText(tr("What it says now") if sample is self._samples[-1] else tr("What it said then"))
        self.when.setText(filled("step {step}", step=f"{sample.step:,}"))
        answer = _marked(before.strip(), sample.text.strip(), self._theme.hover)
        self.text.setHtml(f'<p style="margin:0">{answer}</p>')


def _marked(before: str, now: str, colour: str) -> str:
    """`now` as rich text, with a ground of this colour where it says what `before` did not."""
    old, new = _words(before), _words(now)
    parts = []
    for what, _, _, begin, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        piece = html.escape("".join(new[begin:end])).replace("\n", "<br>")
        parts.append(f'<span style="background-color:{colour}">{piece}</span>' if what != "equal" and piece else piece)
    return "".join(parts)


def _words(text: str) -> list[str]:
    """Words with the blank after them; where a script has no blanks, its characters."""
    return re.findall(r"[\x21-\x7e]+\s*|.", text, re.DOTALL)
