"""What the model says now: its answers to one question as the training goes on, the newest first."""

import html
from collections import deque

from PySide6.QtWidgets import QFrame, QTextBrowser, QVBoxLayout, QWidget

from aegis_core.events import Sample

from .figures import steady_label
from .i18n import filled, tr
from .theme import Theme

KEPT_SAMPLES = 40


class Samples(QFrame):
    """Answers are shown as they are: what a model says is never taken for markup."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "card")
        self._samples: deque[Sample] = deque(maxlen=KEPT_SAMPLES)
        self._drawn = False
        self.title = steady_label("strong")
        self.text = QTextBrowser()
        self.text.setOpenLinks(False)
        self.text.setFrameShape(QFrame.Shape.NoFrame)
        self.text.setStyleSheet("border: none; padding: 0; background: transparent;")
        self.text.setMinimumSize(160, 80)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 8, 4, 4)
        column.setSpacing(4)
        column.addWidget(self.title)
        column.addWidget(self.text, 1)

    def add(self, sample: Sample) -> None:
        """Take note of an answer; `refresh()` shows it."""
        self._samples.appendleft(sample)
        self._drawn = False

    def clear(self) -> None:
        self._samples.clear()
        self._draw()

    def refresh(self) -> None:
        if not self._drawn:
            self._draw()

    def set_theme(self, theme: Theme) -> None:
        self.text.document().setDefaultStyleSheet(f".quiet {{ color: {theme.secondary} }}")
        self._draw()

    def retranslate(self) -> None:
        self.title.setText(tr("What it says now"))
        self.text.setAccessibleName(tr("What it says now"))
        self._draw()

    def _draw(self) -> None:
        self._drawn = True
        parts = []
        asked = ""
        for sample in self._samples:
            if sample.prompt != asked:
                asked = sample.prompt
                parts.append(f'<p class="quiet" style="margin:0 0 6px 0">{html.escape(asked)}</p>')
            when = filled("step {step}", step=f"{sample.step:,}")
            parts.append(f'<p style="margin:0 0 8px 0"><span class="quiet">{when}</span><br>{_lines(sample.text)}</p>')
        waiting = f'<p class="quiet" style="margin:0">{tr("It has not been asked yet.")}</p>'
        self.text.setHtml("".join(parts) or waiting)


def _lines(answer: str) -> str:
    return html.escape(answer.strip()).replace("\n", "<br>")
