"""Step 5 on screen: the settings of the training, and the instrument while it runs."""

from PySide6.QtWidgets import QVBoxLayout, QWidget

from aegis_core.events import Event, StepStarted

from ..cockpit import Cockpit
from ..form import Form
from ..i18n import mark
from ..memory_panel import MemoryPanel
from ..panels import Section, scrolled
from ..run_view import RunView
from ..state import AppState
from ..tabs import Tabs
from ..theme import Theme
from .step_page import StepPage

CURVES, SETTINGS = 0, 1
TRAINING = (
    "train.steps",
    "train.batch_size",
    "train.accumulation",
    "train.learning_rate",
    "train.warmup_steps",
    "train.evaluate_steps",
    "train.weight_decay",
    "train.max_grad_norm",
    "train.seed",
    "train.checkpoint_steps",
    "train.checkpoint_seconds",
    "train.keep_checkpoints",
)
ADAPTER = ("lora.rank", "lora.alpha", "lora.dropout")
SOUL = (
    "soul.schedule.kind",
    "soul.schedule.steepness",
    "soul.schedule.warmup_fraction",
    "soul.schedule.end_fraction",
    "soul.calibrate",
    "soul.rotation_learning_rate",
    "soul.alpha_start",
    "soul.alpha_target",
)


class TrainPage(StepPage):
    step = "train"
    sentence = mark(
        "LoRA and the gated rotation learn while alpha crosses the critical point; stop and continue at any time."
    )
    scrolls = False

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, parent)
        self.cockpit = Cockpit(self.theme)
        settings = QWidget()
        column = QVBoxLayout(settings)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(16)
        self.memory = MemoryPanel(state)
        column.addWidget(self.memory)
        for heading, names in (
            (mark("Training"), TRAINING),
            (mark("Adapter (LoRA)"), ADAPTER),
            (mark("Alpha, gate and rotation"), SOUL),
        ):
            section = Section(heading)
            section.body.addWidget(Form(state, names))
            column.addWidget(section)
        self.tabs = Tabs()
        self.tabs.add(mark("Curves"), self.cockpit)
        self.tabs.add(mark("Settings"), scrolled(settings))
        self.body.addWidget(self.tabs)
        self.cockpit.set_plan(state.plan)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if isinstance(event, StepStarted):
            self.tabs.show_view(CURVES)
        self.cockpit.on_event(event)

    def show_run(self, view: RunView) -> None:
        """Curves where there are some, otherwise the settings; the past is drawn from what is known."""
        super().show_run(view)
        step = view.step(self.step)
        self.cockpit.clear()
        self.cockpit.set_plan(self.state.plan)
        for event in step.events():
            self.cockpit.on_event(event)
        self.tabs.show_view(CURVES if step.series else SETTINGS)

    def plan_changed(self) -> None:
        super().plan_changed()
        self.cockpit.set_plan(self.state.plan)

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.cockpit.set_theme(theme)
        self.memory.set_theme(theme)

    def retranslate(self) -> None:
        super().retranslate()
        self.tabs.retranslate()
        self.memory.refresh()
        self.cockpit.retranslate()
