"""What fusion takes, computes and leaves, with this run's own numbers: read from its files as far as they are there."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegis_core.events import Verdict
from aegis_core.plan import Plan
from aegis_core.run_directory import RunDirectory
from aegis_core.soul.schedule import gate

from . import text
from .i18n import filled, tr
from .result_files import read_object

WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class Formula:
    """One line of what is computed: of which layers, the formula, what its letters are."""

    name: str
    formula: str
    words: str


class FusionFacts:
    """`plan` fills in what no file says yet; `use_result` takes head.json's figures rather than the plan's."""

    def __init__(self, run: RunDirectory | None, plan: Plan, use_result: bool) -> None:
        self._run, self._plan = run, plan
        self.base = self._read("prepare", "base.json")
        self.adapter = self._read("train/adapter", "adapter_config.json")
        self.summary = self._read("train", "summary.json")
        self.proof = self._read("fuse", "proof.json")
        self.head = self._read("fuse", "head.json")
        self._result = self.head if use_result else {}

    @property
    def alpha(self) -> float:
        found = (self._result.get("alpha"), self.summary.get("alpha_final"), self._plan.soul.alpha_target)
        return next(float(v) for v in found if isinstance(v, int | float) and math.isfinite(v))

    @property
    def norm_factor(self) -> float:
        """What calibration multiplies the final norm by; 1 without it."""
        known = self._result.get("norm_factor")
        if isinstance(known, int | float):
            return float(known)
        return 1 / (1 + gate(self.alpha)) if self._plan.soul.calibrate else 1.0

    @property
    def rank(self) -> int:
        return int(self.adapter.get("r") or self._plan.lora.rank)

    @property
    def strength(self) -> float:
        return float(self.adapter.get("lora_alpha") or self._plan.lora.alpha)

    @property
    def stabilised(self) -> bool:
        return bool(self.adapter.get("use_rslora", self._plan.lora.rank_stabilised))

    @property
    def dora(self) -> bool:
        return bool(self.adapter.get("use_dora", self._plan.lora.dora))

    @property
    def scale(self) -> float:
        return self.strength / (math.sqrt(self.rank) if self.stabilised else self.rank)

    @property
    def folder(self) -> Path | None:
        """Where the fused model lies, or will."""
        if self._run is None:
            return None
        if self.proof.get("folder"):
            return self._run.path / str(self.proof["folder"])
        chosen = self._plan.fuse.directory
        return Path(chosen).expanduser() if chosen else self._run.step_folder("fuse") / "model"

    def taken(self) -> list[tuple[str, str]]:
        """What goes in."""
        facts = []
        if self.base:
            words = filled(
                "{source}, {millions} million parameters, {size}",
                source=self.base.get("source", "?"),
                millions=text.number(round(self.base.get("n_parameters", 0) / 1e6)),
                size=text.size(weight_bytes(Path(self.base.get("folder", "")))),
            )
            facts.append((tr("Base model"), words))
            facts.append((tr("Known by"), f"SHA-256 {str(self.base.get('sha256', ''))[:16]}…"))
        adapter = filled("rank {rank}, strength {strength}", rank=self.rank, strength=text.number(self.strength))
        targets = self.adapter.get("target_modules")
        if isinstance(targets, list):
            adapter += f" · {', '.join(sorted(map(str, targets)))}"
        facts.append((tr("Adapter"), adapter))
        facts.append((tr("Gate"), f"α = {text.number(self.alpha)}, σ(α) = {text.number(gate(self.alpha))}"))
        if rotation := self._rotation():
            facts.append((tr("Rotation"), rotation))
        facts.append((tr("Factor of the final norm"), text.number(self.norm_factor)))
        return facts

    def left(self) -> list[tuple[str, str]]:
        """What comes out."""
        folder = self.folder
        facts = [(tr("Folder"), str(folder))] if folder else []
        if folder and (size := weight_bytes(folder)):
            facts.append((tr("Size"), text.size(size)))
        if self.proof.get("dtype"):
            facts.append((tr("Number format"), str(self.proof["dtype"])))
        if self.base:
            facts.append((tr("Output layer"), self._untied()))
        facts.append((tr("Loads in"), tr("plain transformers, without any code of AEGIS")))
        return facts

    def formulas(self) -> list[Formula]:
        """What becomes of the weights, line by line."""
        openness, factor = text.number(gate(self.alpha)), text.number(self.norm_factor)
        scale = text.number(self.scale)
        divisor = f"√{self.rank}" if self.stabilised else f"{self.rank}"
        adapted = f"W′ = W + {text.number(self.strength)}/{divisor} · B A = W + {scale} · B A"
        if self.dora:
            adapted = f"W′ = m · (W + {scale} · B A) / ‖W + {scale} · B A‖"
        found = [
            Formula(tr("Adapted layers"), adapted, filled("B A is the adapter, of rank r = {rank}.", rank=self.rank)),
            Formula(
                tr("Output layer"),
                f"W′ = W + σ({text.number(self.alpha)}) · W R = W + {openness} · W R",
                tr("W is the output layer, R the learned rotation in blocks of eight."),
            ),
        ]
        if self.norm_factor != 1:
            words = filled(
                "The final norm is multiplied by 1 / (1 + σ) = {factor}, so the answers are not sharpened.",
                factor=factor,
            )
            found.append(Formula(tr("Final norm"), f"n′ = n · 1 / (1 + {openness}) = {factor} · n", words))
        if layers := self._plan.soul.inner_layers:
            inner = f"W′ = (W + {openness} · R W) / (1 + {openness})" if self.norm_factor != 1 else (
                f"W′ = W + {openness} · R W")  # fmt: skip
            which = filled("The last weight of layers {layers}.", layers=", ".join(map(str, layers)))
            found.append(Formula(tr("Inner layers"), inner, which))
        return found

    def verdict_rows(self) -> list[Verdict]:
        """The proof's claims as its file has them, for a run whose events are lost."""
        limits = self.proof.get("limits")
        if not isinstance(limits, dict):
            return []
        found = []
        for name, limit in limits.items():
            measured, at_least = self.proof.get(name), name == "top1_agreement"
            passed = isinstance(measured, int | float) and (measured >= limit if at_least else abs(measured) <= limit)
            shown = text.number(measured, 3) if isinstance(measured, int | float) else "–"
            error = self.proof.get(f"{name}_standard_error")
            shown += f" ± {text.number(error, 1)}" if isinstance(error, int | float) else ""
            sign = "≥" if at_least else "≤"
            found.append(Verdict(name, "pass" if passed else "fail", shown, f"{sign} {limit:g}"))
        return found

    def _untied(self) -> str:
        if not self.base.get("tied_embeddings"):
            return tr("of its own, as in the base model")
        n_values = self.base.get("vocabulary_size", 0) * self.base.get("hidden_size", 0)
        return filled(
            "of its own now: {values} million numbers that the base model shared with its embeddings",
            values=text.number(n_values / 1e6, 3),
        )

    def _rotation(self) -> str:
        angles = self._result.get("angles_degrees")
        quantiles = angles.get("quantiles", {}) if isinstance(angles, dict) else {}
        if quantiles:
            return filled(
                "{n_blocks} blocks of eight, angles up to {largest}°, in the middle {middle}°",
                n_blocks=text.number(self.head.get("columns", 0) // 8),
                largest=text.number(quantiles.get("100"), 3),
                middle=text.number(quantiles.get("50"), 3),
            )
        angle = self.summary.get("rotation_angle")
        return f"{text.number(angle)} rad" if isinstance(angle, int | float) else ""

    def _read(self, step: str, name: str) -> dict[str, Any]:
        return read_object(self._run.path / step / name) if self._run else {}


def weight_bytes(folder: Path) -> int | None:
    """Bytes of the weight files in a folder; None where there are none."""
    if not str(folder) or not folder.is_dir():
        return None
    return sum(file.stat().st_size for file in folder.glob(WEIGHTS)) or None
