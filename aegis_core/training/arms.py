"""The trainings of a comparison: gated, LoRA without gate, gate fixed open, each in several data orders."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..plan import Plan, changed

Kind = Literal["gated", "lora", "fixed"]
CONTROL_KINDS: tuple[Kind, ...] = ("lora", "fixed")
LOSSES, FINISHED = "held_out.safetensors", "quality.json"


@dataclass(frozen=True)
class Arm:
    """One training of `kind` in data order `order`, of which 0 is the plan's own. Written below train/control/."""

    kind: Kind
    order: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.order}"

    def folder(self, train: Path) -> Path:
        """Where it lies, given the training step's folder."""
        return train / "control" / self.name

    def is_finished(self, train: Path) -> bool:
        """Its quality is the last file written."""
        return (self.folder(train) / FINISHED).is_file()

    def metrics(self, train: Path) -> Path:
        """The main training is the gated arm of order 0 and keeps its metrics where they always are."""
        return (train if self == MAIN else self.folder(train)) / "metrics.jsonl"


MAIN = Arm("gated", 0)


def wanted(plan: Plan) -> list[Arm]:
    """The arms that the plan asks for, order by order, the main training first; none without any control."""
    asked = {"lora": plan.control.lora, "fixed": plan.control.fixed}
    kinds = [kind for kind in CONTROL_KINDS if asked[kind]]
    if not kinds:
        return []
    return [Arm(kind, order) for order in range(plan.control.orders) for kind in (MAIN.kind, *kinds)]


def finished(train: Path) -> Iterator[Arm]:
    """What has been finished beside the main training that lies in `train`, asked for by the plan or not any more."""
    order = 0
    while arms := [arm for arm in (Arm(kind, order) for kind in ("gated", *CONTROL_KINDS)) if arm.is_finished(train)]:
        yield from arms
        order += 1


def plan_of(arm: Arm, plan: Plan) -> Plan:
    """The plan as this arm trains it: the same but for gate and seed. Only the first order is measured on the way."""
    changes: dict[str, Any] = {"train.seed": plan.train.seed + arm.order}
    if arm.kind == "fixed":
        changes |= {"soul.alpha": "scheduled", "soul.alpha_start": plan.soul.alpha_target}
    if arm.order:
        changes["train.evaluate_steps"] = 0
    return changed(plan, changes)
