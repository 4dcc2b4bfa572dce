"""Loss, perplexity and KL at every stage, on the same tokens: what the ritual gained and what each step cost."""

import math
from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QVBoxLayout, QWidget

from . import text
from . import theme as themes
from .i18n import mark, tr
from .panels import label

STAGES = {
    "base": mark("Base model"),
    "lora": mark("LoRA without gate"),
    "gated_nf4": mark("Gated, on 4-bit weights"),
    "gated": mark("Gated"),
    "gated_dequantised_4bit": mark("Gated, 4-bit weights made wide"),
    "fused": mark("Fused"),
    "f32": mark("GGUF F32"),
    "bf16": mark("GGUF BF16"),
    "f16": mark("GGUF F16"),
    "q8_0": mark("GGUF Q8_0"),
    "q6_k": mark("GGUF Q6_K"),
    "q5_k_m": mark("GGUF Q5_K_M"),
    "q4_k_m": mark("GGUF Q4_K_M"),
    "q4_k_s": mark("GGUF Q4_K_S"),
}
ALWAYS = ("base", "gated", "fused", "f16", "q4_k_m")  # shown as a gap where they were not measured
HEADINGS = (
    mark("Stage"),
    mark("Held-out loss (nats)"),
    mark("Against the base"),
    mark("Against the stage before"),
    mark("KL to the base (nats)"),
    mark("Perplexity"),
    mark("Tokens"),
)


class QualityChain(QWidget):
    """A table without frames; figures right-aligned so that they can be compared by eye, their errors under them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._quality: Mapping[str, Any] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(20)
        self._grid.setVerticalSpacing(8)
        self._grid.setColumnStretch(0, 1)
        self.retranslate()

    def show_quality(self, quality: Mapping[str, Any]) -> None:
        """report.json's `quality`: stage -> {loss, standard_error, perplexity, n_tokens, kl, against_base…}."""
        self._quality = quality
        self.retranslate()

    def retranslate(self) -> None:
        while item := self._grid.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()
        for column, heading in enumerate(HEADINGS):
            made = label(tr(heading), role="small", wraps=True)
            side = Qt.AlignmentFlag.AlignLeft if column == 0 else Qt.AlignmentFlag.AlignRight
            made.setAlignment(side | Qt.AlignmentFlag.AlignBottom)
            self._grid.addWidget(made, 0, column)
        rule = QFrame()
        rule.setProperty("role", "rule")
        self._grid.addWidget(rule, 1, 0, 1, len(HEADINGS))
        base = _number(self._quality.get("base"), "loss")
        shown = [stage for stage in STAGES if stage in ALWAYS or stage in self._quality]
        for line, stage in enumerate(shown, start=2):
            row = self._quality.get(stage)
            loss = _number(row, "loss")
            self._put(line, 0, tr(STAGES[stage]), "")
            if loss is None or not isinstance(row, Mapping):
                self._put(line, 1, tr("not measured"), "secondary")
                continue
            self._put(line, 1, text.fixed(loss, 4), "strong", _number(row, "standard_error"))
            if stage != "base":
                self._put_difference(line, 2, row.get("against_base"), None if base is None else loss - base)
                self._put_difference(line, 3, row.get("against_previous"), None)
                kl = _number(row, "kl")
                if kl is not None:
                    self._put(line, 4, text.fixed(kl, 4), "", _number(row, "kl_standard_error"))
            self._put(line, 5, text.number(row.get("perplexity")), "")
            self._put(line, 6, text.number(row.get("n_tokens")), "secondary")
        note = label(
            tr("± is the standard error; differences are taken token by token, which makes theirs smaller."),
            role="small",
            wraps=True,
        )
        self._grid.addWidget(note, len(shown) + 2, 0, 1, len(HEADINGS))

    def _put_difference(self, line: int, column: int, pair: object, unpaired: float | None) -> None:
        """The paired difference with its error; without one, as in older run logs, the bare one."""
        paired = _number(pair, "difference")
        difference = unpaired if paired is None else paired
        if difference is not None:
            error = None if paired is None else _number(pair, "standard_error")
            self._put(line, column, _change(difference), "", error)

    def _put(self, line: int, column: int, content: str, role: str, error: float | None = None) -> None:
        cell = QWidget()
        stack = QVBoxLayout(cell)
        stack.setContentsMargins(0, 0, 0, 0)
        stack.setSpacing(0)
        side = Qt.AlignmentFlag.AlignLeft if column == 0 else Qt.AlignmentFlag.AlignRight
        pieces = [(content, role)] if error is None else [(content, role), (f"± {text.fixed(error, 4)}", "small")]
        for piece, its_role in pieces:
            made = label(piece, role=its_role)
            made.setFont(themes.tabular())
            stack.addWidget(made, alignment=side)
        self._grid.addWidget(cell, line, column, side | Qt.AlignmentFlag.AlignTop)


def _number(row: object, name: str) -> float | None:
    """A finite number of that name, if there is one."""
    value = row.get(name) if isinstance(row, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _change(difference: float) -> str:
    shown = text.fixed(abs(difference), 4)
    return shown if float(shown) == 0 else f"{'+' if difference > 0 else '−'}{shown}"
