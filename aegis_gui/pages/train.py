"""Step 5 on screen: the settings of the training, the instrument while it runs, and what came of it."""

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import QToolButton, QVBoxLayout, QWidget

from aegis_core.events import Event, StepStarted

from .. import theme as themes
from ..cockpit import Cockpit
from ..comparison import Comparison
from ..facts import Facts
from ..flow import Status
from ..form import Form
from ..i18n import mark, tr
from ..memory_panel import MemoryPanel
from ..panels import Section, label, scrolled
from ..preferences import Preferences
from ..recording import Recording
from ..replay import Replay
from ..replay_bar import ReplayBar
from ..result_files import read_object
from ..run_view import RunView
from ..state import AppState
from ..tabs import Tabs
from ..theme import Theme
from ..training_result import training_facts
from ..warning_lines import WarningLines
from .step_page import StepPage

CURVES, SETTINGS, RESULT = 0, 1, 2
TRAINING = (
    "train.steps",
    "train.batch_size",
    "train.accumulation",
    "train.learning_rate",
    "train.warmup_steps",
    "train.evaluate_steps",
    "train.early_stopping",
    "evaluation.kl_tokens",
    "train.optimizer",
    "train.gradient_checkpointing",
    "train.weight_decay",
    "train.max_grad_norm",
    "train.seed",
    "train.checkpoint_steps",
    "train.checkpoint_seconds",
    "train.keep_checkpoints",
)
ADAPTER = ("lora.rank", "lora.alpha", "lora.dropout", "lora.targets", "lora.rank_stabilised", "lora.dora")
SOUL = (
    "soul.schedule.kind",
    "soul.schedule.steepness",
    "soul.schedule.warmup_fraction",
    "soul.schedule.end_fraction",
    "soul.schedule.hold_fraction",
    "soul.calibrate",
    "soul.rotation_learning_rate",
    "soul.alpha_start",
    "soul.alpha_target",
    "soul.alpha",
    "soul.alpha_learning_rate",
    "soul.rotation_waits",
    "soul.rotation_weight_decay",
    "soul.inner_layers",
    "soul.train_norm",
)
CONTROL = ("control.lora", "control.fixed", "control.orders")


class TrainPage(StepPage):
    step = "train"
    sentence = mark(
        "LoRA and the gated rotation learn while alpha crosses the critical point; stop and continue at any time."
    )
    scrolls = False

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, parent)
        self.preferences = Preferences()
        self.cockpit = Cockpit(self.theme, shown=tuple(self.preferences.plots))
        self.cockpit.board.chosen.connect(self._remember_plots)
        self.cockpit.board.saved.connect(self._say_saved)
        self.warnings = WarningLines()
        self.replay: Replay | None = None
        self.replay_bar, self.replay_button, self.saved = ReplayBar(), QToolButton(), label(role="secondary")
        self.replay_bar.closed.connect(self.end_replay)
        self.replay_button.clicked.connect(self.begin_replay)
        self.replay_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.replay_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
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
        control = Section(mark("Comparison"))
        self.price = label(role="secondary", wraps=True)
        control.body.addWidget(self.price)
        control.body.addWidget(Form(state, CONTROL))
        column.addWidget(control)
        self.tabs = Tabs()
        self.tabs.add(mark("Curves"), self.cockpit)
        self.tabs.add(mark("Settings"), scrolled(settings))
        self.tabs.add(mark("Result"), scrolled(self._result()))
        self.tabs.add_corner(self.saved)
        self.tabs.add_corner(self.replay_button)
        self.body.addWidget(self.warnings)
        self.body.addWidget(self.replay_bar)
        self.body.addWidget(self.tabs)
        self.cockpit.set_plan(state.plan)

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        self.end_replay()
        if isinstance(event, StepStarted):
            self.tabs.show_view(CURVES)
        self.cockpit.on_event(event)
        self.warnings.on_event(event)

    def show_run(self, view: RunView) -> None:
        """Curves where there are some, otherwise the settings; the past is drawn from what is known."""
        super().show_run(view)
        self._drop_replay()
        self._show_past(view)
        self.tabs.show_view(CURVES if view.step(self.step).series else SETTINGS)
        run = self.state.run
        self.cockpit.board.run_name, self.cockpit.board.folder = (run.path.name, run.path) if run else ("", Path.home())
        self._offer_replay()

    def begin_replay(self) -> None:
        """Play the recorded training through the same curves; what was there comes back when it ends."""
        run = self.state.run
        if run is None or self.replay is not None:
            return
        recording = Recording(run.events_path, self.step)
        self.replay = Replay(recording, self._show_event, self._forget_all, self)
        self.replay.set_speed(10.0)
        self._forget_all()
        self.replay_bar.show_replay(self.replay)
        self.tabs.show_view(CURVES)
        self.replay.play()
        self._offer_replay()

    def end_replay(self) -> None:
        """Back to what is known of this run, if a replay was on."""
        if self._drop_replay():
            self._show_past(self.state.view)
            self._offer_replay()

    def plan_changed(self) -> None:
        super().plan_changed()
        self.cockpit.set_plan(self.state.plan)

    def closeEvent(self, event: QCloseEvent) -> None:
        self._drop_replay()
        super().closeEvent(event)

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.cockpit.set_theme(theme)
        self.memory.set_theme(theme)
        self.warnings.set_theme(theme)
        self.comparison.set_theme(theme)
        self.replay_bar.set_theme(theme)
        self.replay_button.setIcon(themes.icon("replay", theme.text))

    def retranslate(self) -> None:
        super().retranslate()
        self.tabs.retranslate()
        self.memory.refresh()
        self.cockpit.retranslate()
        self.price.setText(
            tr(
                "Each comparison trains once more, on the same data in the same order, and takes as long as the "
                "training. It shows whether the gate helped, hurt or made no difference, and can be added later."
            )
        )
        self.comparison.refresh()
        self.replay_bar.retranslate()
        self.replay_button.setText(tr("Replay"))
        self.replay_button.setToolTip(tr("Watch the recorded training again, at any speed"))
        self.saved.clear()
        self._show_facts()

    def show_status(self) -> None:
        super().show_status()
        self._show_facts()
        self._offer_replay()

    def _drop_replay(self) -> bool:
        replay, self.replay = self.replay, None
        if replay is None:
            return False
        replay.stop()
        replay.deleteLater()
        self.replay_bar.show_replay(None)
        return True

    def _offer_replay(self) -> None:
        """Only of what is over: a running training is watched itself."""
        running = self.status in (Status.RUNNING, Status.PAUSED)
        known = bool(self.state.view.step(self.step).series)
        self.replay_button.setVisible(known and not running and self.replay is None)

    def _show_past(self, view: RunView) -> None:
        self._forget_all()
        for event in view.step(self.step).events():
            self._show_event(event)

    def _forget_all(self) -> None:
        self.cockpit.clear()
        self.cockpit.set_plan(self.state.plan)
        self.warnings.forget()

    def _show_event(self, event: Event) -> None:
        self.cockpit.on_event(event)
        self.warnings.on_event(event)

    def _remember_plots(self, names: list[str]) -> None:
        self.preferences.plots = names

    def _say_saved(self, sentence: str) -> None:
        self.saved.setText(sentence)
        self.saved.setToolTip(sentence)

    def _result(self) -> QWidget:
        came_out, gate = Section(mark("What came out")), Section(mark("What the gate brought"))
        self.facts, self.nothing = Facts(), label(role="secondary", wraps=True)
        came_out.body.addWidget(self.facts)
        came_out.body.addWidget(self.nothing)
        self.comparison = Comparison(self.state)
        self.comparison.asked.connect(lambda changes: self.mend_requested.emit(self.step, changes))
        gate.body.addWidget(self.comparison)
        made = QWidget()
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(16)
        column.addWidget(gate)
        column.addWidget(came_out)
        return made

    def _show_facts(self) -> None:
        run = self.state.run
        facts = training_facts(read_object(run.step_folder(self.step) / "summary.json") if run else {})
        self.facts.show_facts(facts)
        self.nothing.setText(tr("Nothing yet: it is written when the training has finished."))
        self.nothing.setVisible(not facts)
