"""Where the engine is set up and mended: what is fetched, from where, how large, where to, and how far it is."""

from collections.abc import Callable

from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from aegis_core.engine.condition import Condition
from aegis_core.engine.making import Stage
from aegis_core.engine.room import Need, need
from aegis_core.engine.torch_build import choose_build
from aegis_core.events import StepFailed
from aegis_core.hardware import cuda_card, gpu

from . import text, theme
from .elided import Elided
from .engine_setup import EngineSetup
from .facts import Facts
from .failure_box import FailureBox
from .i18n import filled, mark, tr
from .panels import label, set_role
from .sheet import Sheet

WIDTH = 600
STANDING = {
    Condition.ABSENT: mark("The engine does the work: it trains, fuses and converts. It is fetched once, because it is "
                           "large and because it differs from card to card."),
    Condition.HALF: mark("The engine is half set up. What has been fetched is used again."),
    Condition.OUTDATED: mark("The engine belongs to another version of AEGIS. Only what is new is fetched."),
    Condition.DAMAGED: mark("Something of the engine is missing. Only what is damaged is fetched anew."),
    Condition.READY: mark("The engine is ready. A check compares every file and fetches anew what is damaged."),
}  # fmt: skip
BEGIN = {
    Condition.ABSENT: mark("Fetch and set up"),
    Condition.HALF: mark("Continue"),
    Condition.OUTDATED: mark("Bring up to date"),
    Condition.DAMAGED: mark("Repair"),
    Condition.READY: mark("Check and repair"),
}
STAGES = {
    Stage.LOOK: mark("Looking at what is there …"),
    Stage.PYTHON: mark("Making room for it, with a Python of its own …"),
    Stage.RESOLVE: mark("Asking PyPI and PyTorch for the files that suit this machine …"),
    Stage.FETCH: mark("{done} of {total} fetched"),
    Stage.INSTALL: mark("Unpacking …"),
    Stage.TRY: mark("Trying whether it starts …"),
}


class EngineSheet(Sheet):
    """Modeless; closing it stops nothing. `busy` says whether a step is using the engine."""

    def __init__(self, setup: EngineSetup, busy: Callable[[], bool], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setup, self._busy = setup, busy
        self._need: Need | None = None
        self.title, self.lead = label(role="title"), label(role="secondary", wraps=True)
        self.facts, self.folder_name, self.folder = Facts(), label(role="secondary"), Elided()
        self.hashes, self.doing, self.note = (label(role="small", wraps=True) for _ in range(3))
        self.bar = QProgressBar(textVisible=False)
        self.failure = FailureBox()
        self.failure.button.hide()
        self.begin, self.later, self.stop = QPushButton(), QPushButton(), QPushButton()
        self.begin.setProperty("role", "primary")
        self.begin.setDefault(True)
        self.doing.setFont(theme.tabular())
        self.begin.clicked.connect(setup.start)
        self.stop.clicked.connect(setup.stop)
        self.later.clicked.connect(self.close)
        setup.changed.connect(self._draw)
        self._lay_out()
        self.retranslate()

    def refresh(self) -> None:
        """Look again at machine, disk and engine."""
        self._need = need(self.setup.place, self.setup.parts, self.setup.wish)
        self._show_facts(self._need)
        self._draw()
        (self.stop if self.setup.running else self.begin).setFocus()

    def retranslate(self) -> None:
        self.setWindowTitle(tr("Engine"))
        self.title.setText(tr("Set up the engine"))
        self.folder_name.setText(tr("Folder"))
        self.folder.show_text(str(self.setup.place.folder))
        self.hashes.setText(
            tr(
                "Every file is compared with its hash before it is used. For torch and NVIDIA's libraries that is the "
                "one which PyTorch names; all others came along with AEGIS."
            )
        )
        self.stop.setText(tr("Stop"))
        self.failure.retranslate()
        self.failure.button.hide()
        self.refresh()

    def _show_facts(self, wanted: Need) -> None:
        card = gpu()
        if wanted.build.is_cuda and card is not None:
            machine = filled("{card}, with torch for CUDA ({build})", card=card.name, build=wanted.build.tag)
        elif wanted.build.is_cuda:
            machine = filled("No NVIDIA card answers right now; torch for CUDA stays ({build})", build=wanted.build.tag)
        elif card is not None and choose_build(cuda_card()).is_cuda:
            machine = filled("Torch for the processor, as it was chosen; {card} is not used", card=card.name)
        elif card is not None:
            machine = filled("{card} cannot be used: its driver or the card itself is too old", card=card.name)
        else:
            machine = tr("No NVIDIA card was found; torch for the processor is taken")
        room = filled(
            "about {wanted} meanwhile, about {kept} afterwards",
            wanted=text.size(wanted.disk_bytes),
            kept=text.size(wanted.disk_bytes - wanted.fetched_bytes),
        )
        free = "" if wanted.free_bytes is None else text.size(wanted.free_bytes)
        fetched = filled("about {size} in all, from PyPI and PyTorch", size=text.size(wanted.fetched_bytes))
        names = [tr("For"), tr("To fetch"), tr("Room needed"), tr("Room free")]
        self.facts.show_facts(list(zip(names, (machine, fetched, room, free), strict=True)))
        metrics = self.folder_name.fontMetrics()  # in one line with the names above it
        self.folder_name.setMinimumWidth(max(metrics.horizontalAdvance(name) for name in names) + 1)

    def _draw(self) -> None:
        setup, condition = self.setup, self.setup.state.condition
        running, ready = setup.running, condition is Condition.READY
        self.lead.setText(tr(STANDING[Condition.ABSENT if running else condition]))
        self.facts.setVisible(not ready or running)
        self.begin.setText(tr(BEGIN[condition]))
        self.begin.setVisible(not running)
        self.begin.setEnabled(not self._busy() and self._fits())
        set_role(self.begin, "" if ready else "primary")
        self.stop.setVisible(running)
        self.stop.setEnabled(not setup.stopping)
        self.later.setText(tr("Hide") if running else tr("Close") if ready else tr("Later"))
        self.bar.setVisible(running)
        self.doing.setVisible(running)
        self.note.setText(self._noted(running))
        self.note.setVisible(bool(self.note.text()))
        self.failure.setVisible(setup.failure is not None)
        if running:
            self._draw_progress()
        if failure := setup.failure:
            shown = (failure.reason, failure.advice, "", failure.reason_template, failure.advice_template)
            self.failure.show_failure(StepFailed(*shown, failure.values))
            self.failure.button.hide()

    def _draw_progress(self) -> None:
        progress, left = self.setup.progress, self.setup.seconds_left()
        if self.setup.stopping:
            self.doing.setText(tr("Stopping…"))
        elif progress.stage is Stage.FETCH:
            sizes = {"done": text.size(progress.done_bytes), "total": text.size(progress.total_bytes)}
            said = [filled(STAGES[Stage.FETCH], sizes), text.remaining(left) if left is not None else ""]
            self.doing.setText("  ·  ".join(filter(None, said)))
        else:
            self.doing.setText(tr(STAGES[progress.stage]))
        known = progress.stage is Stage.FETCH and progress.total_bytes > 0
        self.bar.setRange(0, 1000 if known else 0)
        if known:
            self.bar.setValue(progress.done_bytes * 1000 // progress.total_bytes)

    def _noted(self, running: bool) -> str:
        if running:
            return tr("After a stop or a cut connection it goes on where it was.")
        if self._busy():
            return tr("A step is running and needs the engine; wait until it is done.")
        if not self._fits() and self._need is not None:
            return tr("There is too little room in this folder: free some disk space first.")
        return ""

    def _fits(self) -> bool:
        return self._need is None or self._need.fits or self.setup.state.condition is not Condition.ABSENT

    def _lay_out(self) -> None:
        folder = QHBoxLayout()
        folder.setSpacing(24)
        folder.addWidget(self.folder_name)
        folder.addWidget(self.folder)
        folder.addStretch(1)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        for button in (self.later, self.stop, self.begin):
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(8)
        column.addWidget(self.title)
        column.addWidget(self.lead)
        column.addSpacing(8)
        column.addWidget(self.facts)
        column.addLayout(folder)
        column.addWidget(self.hashes)
        column.addSpacing(8)
        column.addWidget(self.doing)
        column.addWidget(self.bar)
        column.addWidget(self.failure)
        column.addWidget(self.note)
        column.addSpacing(8)
        column.addStretch(1)
        column.addLayout(buttons)
        self.setMinimumWidth(WIDTH)
