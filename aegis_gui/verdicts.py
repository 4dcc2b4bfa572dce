"""Rows of measured claims: shape, word, what was measured, what was expected."""

import re
from collections.abc import Iterable

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from aegis_core.events import Verdict

from . import theme as themes
from .i18n import filled, mark, said, tr
from .panels import label
from .theme import Theme

SHA256 = re.compile(r"\b[0-9a-f]{64}\b")
WORDS = {"pass": mark("passed"), "fail": mark("failed"), "skipped": mark("not measured")}
ICONS = {"pass": "ok", "fail": "missing", "skipped": "skipped"}
ROLES = {"pass": "pass", "fail": "fail", "skipped": "secondary"}


NAMES = {
    "max_abs_logit_diff": mark("Largest difference of the logits"),
    "top1_agreement": mark("Same first choice"),
    "loss_difference": mark("Difference of the held-out losses"),
    "head_difference": mark("Difference of the output layer"),
    "fused_model": mark("Fused model"),
    "training_completed": mark("Training completed"),
    "alpha_reached": mark("Alpha reached its target"),
    "soul_saved": mark("Adapter, gate and rotation saved"),
    "fusion_equal": mark("Fused equals gated"),
    "gguf_verified": mark("GGUF written and verified"),
    "ollama_loaded": mark("Loaded by Ollama"),
    "answer_meaningful": mark("Meaningful answer"),
}

# What the engine puts together from parts; listed here so that it is recognised and translated.
SAYINGS = (
    mark("{n_right} of {n_all}; largest error as a part of the bound: {errors}"),
    mark("{n_right} of {n_all} equal"),
    mark("{n_right} of {n_all} answers; {problems}"),
    mark("{n_right} of {n_all} answers"),
    mark("{n_tensors} tensors"),
    mark("answered by the built-in llama.cpp"),
    mark("read back as written"),
    mark("held-out loss against {name}"),
)


def claim(name: str) -> str:
    """What a verdict is about, in the window's language; "F16: file size" keeps its first part."""
    if name in NAMES:
        return tr(NAMES[name])
    known = said(name)
    if known == name and ": " in name:
        subject, rest = name.split(": ", 1)
        return f"{subject}: {said(rest)}"
    return known


class VerdictRows(QWidget):
    """A verdict with the same name replaces the earlier one."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = themes.LIGHT
        self._verdicts: dict[str, Verdict] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(8)
        self._grid.setColumnStretch(3, 1)

    def show_verdicts(self, verdicts: Iterable[Verdict]) -> None:
        self._verdicts = {verdict.name: verdict for verdict in verdicts}
        self._draw()

    def add(self, verdict: Verdict) -> None:
        self._verdicts[verdict.name] = verdict
        self._draw()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self._draw()

    def retranslate(self) -> None:
        self._draw()

    def _draw(self) -> None:
        while item := self._grid.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        for line, verdict in enumerate(self._verdicts.values()):
            status = verdict.status if verdict.status in WORDS else "skipped"
            colours = {"pass": self._theme.success, "fail": self._theme.danger}
            shape = QLabel()
            colour = colours.get(status, self._theme.secondary)
            shape.setPixmap(themes.icon(ICONS[status], colour).pixmap(QSize(16, 16)))
            measured = label(said(_short(verdict.measured)), wraps=True)
            measured.setFont(themes.tabular())
            expected = (
                filled("expected: {expected}", expected=said(_short(verdict.expected))) if verdict.expected else ""
            )
            self._grid.addWidget(shape, line, 0)
            self._grid.addWidget(label(tr(WORDS[status]), role=ROLES[status]), line, 1)
            self._grid.addWidget(label(claim(verdict.name), role="strong"), line, 2)
            self._grid.addWidget(measured, line, 3)
            self._grid.addWidget(label(expected, role="small", wraps=True), line, 4)
        self.setVisible(bool(self._verdicts))


def _short(claimed: str) -> str:
    """A SHA-256 has no place to break and would push the page wider: its beginning tells it apart."""
    return SHA256.sub(lambda found: f"{found[0][:16]}…", claimed)
