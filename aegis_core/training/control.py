"""Control runs: the same training without the gate, and with the gate at its target from the first step.

Data, order, adapter initialisation and dropout are those of the gated run, so the two differ in nothing else. Each arm
has a folder control/<kind>-<order> with its own checkpoints; a finished arm keeps its losses and is never run again.
"""

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedModel

from ..context import StepContext
from ..data.packed import Packed
from ..evaluation.chain import free_memory, tokens_sha256
from ..evaluation.measurement import save_measurement
from ..evaluation.quality import finite, quality_of, token_losses
from ..events import Log, Progress, note
from ..plan import Plan
from ..run_directory import atomic_folder, write_json
from ..sealed import sealed
from .arms import FINISHED, LOSSES, MAIN, Arm, Kind, finished, plan_of, wanted
from .comparison import Comparison, Pairing, compare
from .gated_model import GatedModel, gated_for_training
from .health import Health
from .metrics import read_metrics
from .to_the_end import resume_point, train_to_the_end
from .trainer import StepReport
from .watch import Told, Watch


@dataclass(frozen=True)
class Material:
    """What all arms start from, learn from and are measured on."""

    base_model: str
    data: Packed
    held_out: Packed


def run_controls(plan: Plan, ctx: StepContext, gated: GatedModel, material: Material) -> None:
    """Train and measure every wanted arm that is not finished, compare them, and leave control.json.

    `gated` is the main training, whole: its adapter is taken out of the base model, which then serves all arms. Can be
    cancelled at any step and continues there.
    """
    arms = wanted(plan)
    if arms and not MAIN.is_finished(ctx.folder):
        _finish(MAIN, ctx, gated, material.held_out)
    base = gated.causal
    gated.release()
    n_steps = len(read_metrics(MAIN.metrics(ctx.folder)))
    todo = [arm for arm in arms if not arm.is_finished(ctx.folder)]
    for n, arm in enumerate(todo, start=1):
        ctx.emit(note("Control run {n} of {n_arms}: {arm}.", n=n, n_arms=len(todo), arm=arm.name))
        _train(arm, plan, ctx, base, material, n_steps)
    done = list(finished(ctx.folder))
    if any(arm.kind != "gated" for arm in done):
        comparison = compare(done, ctx.folder, material.held_out)
        write_json(ctx.folder / "control.json", comparison.row())
        _tell(comparison, ctx)
        ctx.artifact(ctx.folder / "control.json", evidence=True)
    for arm in done:
        _declare(arm, ctx)


def adapter_of(kind: Kind, train: Path) -> Path | None:
    """The adapter folder of a control that is finished in the plan's own data order."""
    arm = Arm(kind, 0)
    return arm.folder(train) / "adapter" if arm.is_finished(train) else None


class _ToStep(Watch):
    """Ends where the main training ended, be that early: an arm that learns longer is no control."""

    ends_at = reached = 0

    def after_step(self, report: StepReport) -> None:
        super().after_step(report)
        self.reached = report.step

    def enough(self) -> bool:
        return self.reached >= self.ends_at


def _train(arm: Arm, plan: Plan, ctx: StepContext, base: PreTrainedModel, material: Material, n_steps: int) -> None:
    own, folder = plan_of(arm, plan), arm.folder(ctx.folder)
    folder.mkdir(parents=True, exist_ok=True)
    gated = gated_for_training(base, own.lora, own.soul, own.train.seed, shut=arm.kind == "lora")
    try:
        resume, n_done = resume_point(folder)
        health = Health(math.inf, math.inf)  # what the main training was warned of is not told of every control again
        watch = _ToStep(own, ctx, gated, material.held_out, health, folder, n_done, _told(arm))
        watch.reached, watch.ends_at = n_done, n_steps
        train_to_the_end(gated, own, material.data, ctx.cancel, folder, resume, watch)
        if arm.order == 0:
            with atomic_folder(folder / "adapter") as draft:
                gated.save_adapter(draft, material.base_model)
        _finish(arm, ctx, gated, material.held_out)
    finally:
        gated.release()
        del gated
        free_memory()  # adapters and moments hold themselves in cycles; the next arm needs the room


def _told(arm: Arm) -> Told:
    """The first order's curves carry the bare name: these are drawn beside the main training's."""
    prefix = f"{arm.kind}_{arm.order}" if arm.order else arm.kind
    if arm.kind == "lora":
        return Told(prefix, "control: LoRA without gate")
    if arm.kind == "fixed":
        return Told(prefix, "control: gate open from the start")
    return Told(prefix, "control: gated in another data order")


def _finish(arm: Arm, ctx: StepContext, gated: GatedModel, held_out: Packed) -> None:
    """Measure a trained arm in the very form in which it was trained; its quality, written last, marks it finished."""
    folder = arm.folder(ctx.folder)
    folder.mkdir(parents=True, exist_ok=True)

    def progress(done: int, total: int) -> None:
        ctx.emit(Progress(done, total, "sequences", "held-out losses for the comparison"))

    gated.eval()
    measured = token_losses(gated, held_out, ctx.cancel, progress)
    save_measurement(folder / LOSSES, measured, {"tokens": tokens_sha256(held_out)})
    write_json(folder / FINISHED, sealed({arm.kind: asdict(finite(quality_of(measured)))}))


def _declare(arm: Arm, ctx: StepContext) -> None:
    """A finished arm needs no checkpoints any more; the rest is evidence."""
    folder = arm.folder(ctx.folder)
    for checkpoint in folder.glob("checkpoint*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            ctx.artifact(path, evidence=True)


def _tell(comparison: Comparison, ctx: StepContext) -> None:
    for kind, pairing in comparison.paired.items():
        ctx.emit(_sentence(kind, pairing))


def _sentence(kind: Kind, pairing: Pairing) -> Log:
    numbers = {"nats": f"{pairing.nats:+.4f}", "error": f"{pairing.standard_error:.4f}"}
    match kind, pairing.verdict, pairing.n_orders:
        case "lora", "helped", 1:
            return note(
                "Against LoRA alone the gate helped in this one data order: {nats} ± {error} nats held-out loss.",
                **numbers,
            )
        case "lora", "helped", _:
            return note("Against LoRA alone the gate helped: {nats} ± {error} nats held-out loss.", **numbers)
        case "lora", "hurt", 1:
            return note(
                "Against LoRA alone the gate hurt in this one data order: {nats} ± {error} nats held-out loss.",
                **numbers,
            )
        case "lora", "hurt", _:
            return note("Against LoRA alone the gate hurt: {nats} ± {error} nats held-out loss.", **numbers)
        case "lora", _, _:
            return note(
                "Against LoRA alone the gate made no difference: {nats} ± {error} nats held-out loss.", **numbers
            )
        case _, "helped", 1:
            return note(
                "Against a fixed gate the annealing helped in this one data order: "
                "{nats} ± {error} nats held-out loss.",
                **numbers,
            )
        case _, "helped", _:
            return note("Against a fixed gate the annealing helped: {nats} ± {error} nats held-out loss.", **numbers)
        case _, "hurt", 1:
            return note(
                "Against a fixed gate the annealing hurt in this one data order: {nats} ± {error} nats held-out loss.",
                **numbers,
            )
        case _, "hurt", _:
            return note("Against a fixed gate the annealing hurt: {nats} ± {error} nats held-out loss.", **numbers)
    return note(
        "Against a fixed gate the annealing made no difference: {nats} ± {error} nats held-out loss.", **numbers
    )
