"""Step 6 on screen: what goes in, the formula with this run's numbers, what comes out, and the proof of it."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from .. import text
from ..facts import Facts
from ..flow import Status
from ..form import Form
from ..fusion_facts import FusionFacts
from ..head_picture import HeadPicture
from ..i18n import filled, mark, tr
from ..panels import Section, label, set_role
from ..result_files import read_object
from ..run_view import RunView
from ..state import AppState
from ..theme import Theme
from .proof_page import ProofPage

STAGES = (
    ("base", mark("base model")),
    ("lora", mark("LoRA without gate")),
    ("gated_nf4", mark("gated, on 4-bit weights")),
    ("gated", mark("gated")),
    ("gated_dequantised_4bit", mark("gated, 4-bit weights made wide")),
    ("fused", mark("fused")),
    ("f32", mark("GGUF F32")),
    ("bf16", mark("GGUF BF16")),
    ("f16", mark("GGUF F16")),
    ("q8_0", mark("GGUF Q8_0")),
    ("q6_k", mark("GGUF Q6_K")),
    ("q5_k_m", mark("GGUF Q5_K_M")),
    ("q4_k_m", mark("GGUF Q4_K_M")),
    ("q4_k_s", mark("GGUF Q4_K_S")),
)
N_FORMULAS = 4


class FusePage(ProofPage):
    step = "fuse"
    sentence = mark(
        "Merges the adapter and bakes gate and rotation into the output layer: a plain model that needs no special "
        "code. Then both are measured against each other."
    )

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, mark("Proof"), parent)
        self.taken, self.left = Facts(), Facts()
        sides = QHBoxLayout()
        sides.setSpacing(16)
        for heading, facts in ((mark("What goes in"), self.taken), (mark("What comes out"), self.left)):
            section = Section(heading)
            section.body.addWidget(facts)
            section.body.addStretch(1)
            sides.addWidget(section, 1)
        self.formula_section = Section(mark("What is computed"))
        self.formulas = [
            (label(role="secondary"), label(role="heading", wraps=True), label(role="small", wraps=True))
            for _ in range(N_FORMULAS)
        ]
        self.formula_section.body.addLayout(self._formula_grid())
        self.verdict = label(role="strong", wraps=True)
        self.facts = Facts()
        self.proof.body.insertWidget(1, self.verdict)
        self.proof.body.addWidget(self.facts)
        self.head = HeadPicture()
        place = Section(mark("Where to"))
        place.body.addWidget(Form(state, ("fuse.base", "fuse.directory")))
        self.body.addWidget(self.proof)
        self.body.addLayout(sides)
        for section in (self.formula_section, self.head, place):
            self.body.addWidget(section)
        state.flow_changed.connect(self._draw_facts)

    def plan_changed(self) -> None:
        super().plan_changed()
        self._draw_facts()

    def set_theme(self, theme: Theme) -> None:
        super().set_theme(theme)
        self.head.set_theme(theme)

    def draw(self, view: RunView) -> None:
        super().draw(view)
        found = self._draw_facts()
        if not view.step(self.step).verdicts and not view.step(self.step).running:
            rows = found.verdict_rows()
            self.rows.show_verdicts(rows)
            self.proof.setVisible(bool(rows))
        self._show_outcome(found, view.step(self.step).running)
        measured = self._measured(found)
        self.facts.show_facts(measured)
        if measured:
            self.proof.show()

    def _draw_facts(self) -> FusionFacts:
        found = FusionFacts(self.state.run, self.state.plan, use_result=self.status is Status.DONE)
        self.taken.show_facts(found.taken())
        self.left.show_facts(found.left())
        lines = found.formulas()
        for place, widgets in enumerate(self.formulas):
            line = lines[place] if place < len(lines) else None
            for widget in widgets:
                widget.setVisible(line is not None)
            if line:
                for widget, content in zip(widgets, (line.name, line.formula, line.words), strict=True):
                    widget.setText(content)
        self.head.show_head(found.head)
        return found

    def _show_outcome(self, found: FusionFacts, running: bool) -> None:
        passed = found.proof.get("passed")
        self.verdict.setVisible(isinstance(passed, bool) and not running)
        set_role(self.verdict, "pass" if passed else "fail")
        if passed:
            self.verdict.setText(
                filled(
                    "Proved: on {n_tokens} held-out tokens the fused model says what the gated one says.",
                    n_tokens=text.number(found.proof.get("n_tokens")),
                )
            )
        else:
            self.verdict.setText(
                filled("Not proved. The model is kept as evidence in {folder}.", folder=found.folder or "–")
            )

    def _measured(self, found: FusionFacts) -> list[tuple[str, str]]:
        if not self.state.run:
            return []
        quality = read_object(self.state.run.step_folder(self.step) / "quality.json")
        facts = []
        for stage, name in STAGES:
            if stage in quality:
                loss = filled("{loss} nats", loss=text.number(quality[stage]["loss"]))
                facts.append((filled("Held-out loss, {stage}", stage=tr(name)), loss))
        if found.proof.get("computed_in"):
            facts.append(
                (
                    tr("Measured"),
                    filled(
                        "in {dtype}; logits compared at {n_positions} positions",
                        dtype=found.proof["computed_in"],
                        n_positions=text.number(found.proof.get("n_positions")),
                    ),
                )
            )
        return facts

    def _formula_grid(self) -> QVBoxLayout:
        box, grid = QVBoxLayout(), QGridLayout()
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for line, (name, formula, words) in enumerate(self.formulas):
            grid.addWidget(name, 2 * line, 0, Qt.AlignmentFlag.AlignVCenter)
            grid.addWidget(formula, 2 * line, 1)
            grid.addWidget(words, 2 * line + 1, 1)
            formula.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        box.addLayout(grid)
        return box
