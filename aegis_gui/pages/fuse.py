"""Step 6 on screen: the formula with this run's numbers, and the proof that the fused model is the gated one."""

import math
from pathlib import Path

from PySide6.QtWidgets import QWidget

from aegis_core.run_directory import read_json
from aegis_core.soul.schedule import gate

from .. import text
from ..facts import Facts
from ..form import Form
from ..i18n import filled, mark, tr
from ..panels import Section, label
from ..run_view import RunView
from ..state import AppState
from .proof_page import ProofPage

STAGES = (
    ("base", mark("base model")),
    ("lora", mark("LoRA without gate")),
    ("gated_nf4", mark("gated, on 4-bit weights")),
    ("gated", mark("gated")),
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


class FusePage(ProofPage):
    step = "fuse"
    sentence = mark(
        "Merges the adapter and bakes gate and rotation into the output layer: a plain model that needs no special "
        "code. Then both are measured against each other."
    )

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(state, mark("Proof"), parent)
        self.formula_section = Section(mark("What is computed"))
        self.formula = label(role="heading", wraps=True)
        self.formula_words = label(role="secondary", wraps=True)
        self.formula_section.body.addWidget(self.formula)
        self.formula_section.body.addWidget(self.formula_words)
        self.facts = Facts()
        self.proof.body.addWidget(self.facts)
        place = Section(mark("Where to"))
        place.body.addWidget(Form(state, ("fuse.directory",)))
        for section in (self.formula_section, self.proof, place):
            self.body.addWidget(section)

    def plan_changed(self) -> None:
        super().plan_changed()
        self._draw_formula()

    def draw(self, view: RunView) -> None:
        super().draw(view)
        self._draw_formula()
        facts = self._measured()
        self.facts.show_facts(facts)
        if facts:
            self.proof.show()

    def _draw_formula(self) -> None:
        soul = self.state.plan.soul
        alpha = self._alpha() or soul.alpha_target
        openness = gate(alpha)
        self.formula.setText(f"W′ = W + σ({text.number(alpha)}) · W R = W + {text.number(openness)} · W R")
        said = [tr("W is the output layer, R the learned rotation in blocks of eight.")]
        if soul.calibrate:
            factor = text.number(1 / (1 + openness))
            said.append(
                filled(
                    "The final norm is multiplied by 1 / (1 + σ) = {factor}, so the answers are not sharpened.",
                    factor=factor,
                )
            )
        self.formula_words.setText(" ".join(said))

    def _alpha(self) -> float | None:
        path = self.state.run.step_folder("train") / "summary.json" if self.state.run else Path()
        if not path.is_file():
            return None
        value = read_json(path).get("alpha_final")
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def _measured(self) -> list[tuple[str, str]]:
        if not self.state.run:
            return []
        folder = self.state.run.step_folder(self.step)
        facts: list[tuple[str, str]] = []
        if (folder / "quality.json").is_file():
            quality = read_json(folder / "quality.json")
            for stage, name in STAGES:
                if stage in quality:
                    loss = text.number(quality[stage]["loss"])
                    facts.append((filled("Held-out loss, {stage}", stage=tr(name)), filled("{loss} nats", loss=loss)))
        if (folder / "proof.json").is_file():
            facts.append((tr("Folder"), str(self.state.run.path / read_json(folder / "proof.json").get("folder", ""))))
        return facts
