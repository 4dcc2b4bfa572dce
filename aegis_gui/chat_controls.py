"""The row above a conversation: whom to talk to and how answers are drawn; the rarer settings behind a fold."""

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from aegis_core.plan import ChatPlan

from . import theme as themes
from .chat_exchange import MODEL_WORDS
from .i18n import mark, tr
from .panels import label
from .plan_fields import plan_field
from .theme import Theme

BOTH = mark("both, side by side")
CHOICES: dict[str, tuple[str, ...]] = {MODEL_WORDS["aegis"]: ("aegis",), MODEL_WORDS["base"]: ("base",)}
CHOICES |= {BOTH: ("aegis", "base")}
SEEDS = 2**31 - 1  # as many as a spin box counts


class ChatControls(QWidget):
    """Starts from the plan; what is changed here counts for the conversation on screen."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plan = ChatPlan()
        self.model = QComboBox()
        for words, names in CHOICES.items():
            self.model.addItem(words, names)
        self.boxes: dict[str, QSpinBox | QDoubleSpinBox] = {
            "temperature": _decimal("temperature", 0.1),
            "max_tokens": _whole("max_tokens", 16, 112),
            "top_p": _decimal("top_p", 0.05),
            "top_k": _whole("top_k", 5, 56),
            "repeat_penalty": _decimal("repeat_penalty", 0.05),
            "seed": _whole("seed", 1, 104),
        }
        self.system = QPlainTextEdit()
        self.system.setFixedHeight(56)
        self.system.setTabChangesFocus(True)
        self.as_planned = QPushButton()
        self.as_planned.setProperty("role", "quiet")
        self.as_planned.clicked.connect(lambda: self.begin(None, {}))
        self.fold = QToolButton()
        self.fold.setCheckable(True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.setProperty("role", "quiet")
        self.fold.toggled.connect(self._unfold)
        self._captions = {name: label(role="secondary") for name in ("model", *self.boxes, "system")}
        self._theme = themes.LIGHT
        self.rarer = QWidget()
        self._lay_out()
        self._unfold(False)
        for box in self.boxes.values():
            box.valueChanged.connect(self._show_changed)
        self.system.textChanged.connect(self._show_changed)

    @property
    def models(self) -> tuple[str, ...]:
        """Whom to ask, in this order: "aegis", "base" or both."""
        return CHOICES[list(CHOICES)[self.model.currentIndex()]]

    @property
    def sampling(self) -> dict[str, Any]:
        """What answers are drawn with, by the plan's names; a box that was left alone gives the plan's own digits."""
        return {name: self._value(name) for name in self.boxes}

    @property
    def own_system(self) -> str | None:
        """What the models are told beforehand; None as long as that is what the plan says."""
        text = self.system.toPlainText().strip()
        return None if text == self._plan.system.strip() else text

    def set_plan(self, plan: ChatPlan) -> None:
        """Another plan: what was not changed here follows it."""
        system, own = self.own_system, {name: self._value(name) for name in self._different()}
        self._plan = plan
        self.begin(system, own)

    def begin(self, system: str | None, sampling: Mapping[str, Any]) -> None:
        """The settings of another conversation: its own system text and sampling where it has them, else the plan's."""
        for name, box in self.boxes.items():
            own = sampling.get(name)
            value = own if isinstance(own, int | float) else _shown(self._plan, name)
            if isinstance(box, QSpinBox):
                box.setValue(int(value))
            else:
                box.setValue(float(value))
        self.system.setPlainText(self._plan.system if system is None else system)
        self._show_changed()

    def set_theme(self, theme: Theme) -> None:
        self._theme = theme
        self._unfold(self.fold.isChecked())

    def retranslate(self) -> None:
        for index, words in enumerate(CHOICES):
            self.model.setItemText(index, tr(words))
        names = {
            "model": tr("Talk to"),
            "temperature": tr("Temperature"),
            "max_tokens": tr("At most"),
            "top_p": tr("Top p"),
            "top_k": tr("Top k"),
            "repeat_penalty": tr("Repeat penalty"),
            "seed": tr("Seed"),
            "system": tr("System prompt"),
        }
        for name, control in {"model": self.model, **self.boxes, "system": self.system}.items():
            self._captions[name].setText(names[name])
            control.setAccessibleName(names[name])
        for name, box in self.boxes.items():
            box.setToolTip(tr(plan_field(f"chat.{name}").help))
        self.system.setPlaceholderText(tr("What the model is told before the conversation"))
        self.boxes["max_tokens"].setSuffix(" " + tr("tokens"))
        self.as_planned.setText(tr("As in the plan"))
        self.fold.setAccessibleName(tr("More settings"))
        self._show_changed()

    def _value(self, name: str) -> float | int:
        shown = round(self.boxes[name].value(), 2)
        planned: float | int = getattr(self._plan, name)
        return planned if shown == _shown(self._plan, name) else shown

    def _different(self) -> list[str]:
        """What is set otherwise than in the plan."""
        return [name for name, box in self.boxes.items() if round(box.value(), 2) != _shown(self._plan, name)]

    def _unfold(self, open_: bool) -> None:
        self.rarer.setVisible(open_)
        self.fold.setIcon(themes.icon("chevron-up" if open_ else "chevron-down", self._theme.secondary))

    def _show_changed(self) -> None:
        """A fold that is shut says whether something behind it differs from the plan."""
        differs = bool(self._different()) or self.own_system is not None
        self.as_planned.setEnabled(differs)
        self.fold.setText(tr("More · changed") if differs else tr("More"))
        self.changed.emit()

    def _lay_out(self) -> None:
        first = self._row(("model", self.model), *((name, self.boxes[name]) for name in ("temperature", "max_tokens")))
        first.addStretch(1)
        first.addWidget(self.fold)
        second = self._row(*((name, self.boxes[name]) for name in ("top_p", "top_k", "repeat_penalty", "seed")))
        second.addStretch(1)
        second.addWidget(self.as_planned)
        inside = QVBoxLayout(self.rarer)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(8)
        inside.addLayout(second)
        inside.addWidget(self._captions["system"])
        inside.addWidget(self.system)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(first)
        column.addWidget(self.rarer)

    def _row(self, *named: tuple[str, QWidget]) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        for name, control in named:
            row.addWidget(self._captions[name])
            row.addWidget(control)
            row.addSpacing(8)
        return row


def _decimal(name: str, step: float) -> QDoubleSpinBox:
    bounds = plan_field(f"chat.{name}")
    smallest = (bounds.low or 0.0) + (0.01 if bounds.low_open else 0.0)
    box = QDoubleSpinBox(minimum=smallest, maximum=bounds.high or 1.0, singleStep=step, decimals=2)
    box.setFixedWidth(56)
    return box


def _whole(name: str, step: int, width: int) -> QSpinBox:
    bounds = plan_field(f"chat.{name}")
    box = QSpinBox(minimum=int(bounds.low or 0), maximum=int(bounds.high or SEEDS), singleStep=step)
    box.setFixedWidth(width)
    return box


def _shown(plan: ChatPlan, name: str) -> float:
    """The plan's value as a box shows it."""
    return round(float(getattr(plan, name)), 2)
