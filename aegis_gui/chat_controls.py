"""The row above a conversation that says whom to talk to and how its answers are drawn."""

from typing import Any

from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QSpinBox, QWidget

from aegis_core.plan import ChatPlan

from .i18n import mark, tr
from .panels import label

MODELS = (("aegis", mark("the new model")), ("base", mark("the base model")))


class ChatControls(QWidget):
    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = QComboBox()
        for name, _ in MODELS:
            self.model.addItem(name, name)
        self.temperature = QDoubleSpinBox(minimum=0, maximum=2, singleStep=0.1, decimals=2)
        self.top_p = QDoubleSpinBox(minimum=0.01, maximum=1, singleStep=0.05, decimals=2)
        self.max_tokens = QSpinBox(minimum=16, maximum=8192, singleStep=16)
        self.temperature.setFixedWidth(56)
        self.top_p.setFixedWidth(56)
        self.max_tokens.setFixedWidth(112)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        controls = (self.model, self.temperature, self.top_p, self.max_tokens)
        self._named = [(label(role="secondary"), control) for control in controls]
        for caption, control in self._named:
            row.addWidget(caption)
            row.addWidget(control)
            row.addSpacing(8)
        row.addStretch(1)

    @property
    def model_name(self) -> str:
        """Whom to talk to: "aegis" or "base"."""
        return str(self.model.currentData())

    @property
    def sampling(self) -> dict[str, Any]:
        return {
            "temperature": round(self.temperature.value(), 2),
            "top_p": round(self.top_p.value(), 2),
            "max_tokens": self.max_tokens.value(),
        }

    def set_plan(self, plan: ChatPlan) -> None:
        self.temperature.setValue(plan.temperature)
        self.top_p.setValue(plan.top_p)
        self.max_tokens.setValue(plan.max_tokens)

    def retranslate(self) -> None:
        for index, (_, words) in enumerate(MODELS):
            self.model.setItemText(index, tr(words))
        names = (tr("Talk to"), tr("Temperature"), tr("Top p"), tr("At most"))
        for (caption, control), name in zip(self._named, names, strict=True):
            caption.setText(name)
            control.setAccessibleName(name)
        self.max_tokens.setSuffix(" " + tr("tokens"))
