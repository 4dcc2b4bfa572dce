"""Held-out loss and perplexity at every stage, on the same tokens: what the ritual gained and what each step cost."""

import math
from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QWidget

from . import text
from . import theme as themes
from .i18n import mark, tr
from .panels import label

STAGES = {
    "base": mark("Base model"),
    "lora": mark("LoRA without gate"),
    "gated_nf4": mark("Gated, on 4-bit weights"),
    "gated": mark("Gated"),
    "fused": mark("Fused"),
    "f16": mark("GGUF F16"),
    "q4_k_m": mark("GGUF Q4_K_M"),
}
ALWAYS = ("base", "gated", "fused", "f16", "q4_k_m")  # shown as a gap where they were not measured
HEADINGS = (mark("Stage"), mark("Held-out loss (nats)"), mark("Against the base"), mark("Perplexity"), mark("Tokens"))


class QualityChain(QWidget):
    """A table without frames; figures right-aligned so that they can be compared by eye."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._quality: Mapping[str, Any] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(24)
        self._grid.setVerticalSpacing(8)
        self._grid.setColumnStretch(0, 1)
        self.retranslate()

    def show_quality(self, quality: Mapping[str, Any]) -> None:
        """report.json's `quality`: stage -> {loss, perplexity, n_tokens}."""
        self._quality = quality
        self.retranslate()

    def retranslate(self) -> None:
        while item := self._grid.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        for column, heading in enumerate(HEADINGS):
            self._put(0, column, tr(heading), "small")
        rule = QFrame()
        rule.setProperty("role", "rule")
        self._grid.addWidget(rule, 1, 0, 1, len(HEADINGS))
        base = _loss(self._quality.get("base"))
        shown = [stage for stage in STAGES if stage in ALWAYS or stage in self._quality]
        for line, stage in enumerate(shown, start=2):
            row = self._quality.get(stage)
            loss = _loss(row)
            self._put(line, 0, tr(STAGES[stage]), "")
            if loss is None or not isinstance(row, Mapping):
                self._put(line, 1, tr("not measured"), "secondary")
                continue
            self._put(line, 1, text.fixed(loss, 4), "strong")
            if base is not None and stage != "base":
                self._put(line, 2, _change(loss - base), "")
            self._put(line, 3, text.number(row.get("perplexity")), "")
            self._put(line, 4, text.number(row.get("n_tokens")), "secondary")

    def _put(self, line: int, column: int, content: str, role: str) -> None:
        made = label(content, role=role)
        made.setFont(themes.tabular())
        side = Qt.AlignmentFlag.AlignLeft if column == 0 else Qt.AlignmentFlag.AlignRight
        self._grid.addWidget(made, line, column, side)


def _loss(row: object) -> float | None:
    loss = row.get("loss") if isinstance(row, Mapping) else None
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else None


def _change(difference: float) -> str:
    shown = text.fixed(abs(difference), 4)
    return shown if float(shown) == 0 else f"{'+' if difference > 0 else '−'}{shown}"
