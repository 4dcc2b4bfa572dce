"""Step 5: adapter and rotation learn while alpha goes from its start through the critical point to its target."""

import math
import time
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..cancel import Cancelled
from ..chat.questions import load_questions
from ..context import StepContext
from ..data.packed import Packed, load_packed
from ..evaluation.answering import greedy_answer
from ..evaluation.quality import Quality, finite, measure, read_quality, write_quality
from ..events import Metric, PhaseChanged, Progress, Sample, note, warning
from ..models.identity import BaseModel, read_base
from ..models.loading import choose_dtype, load_model, load_tokenizer
from ..plan import Plan
from ..run_directory import atomic_folder, write_json
from ..soul.gate import Soul
from ..soul.schedule import critical_step, gate, half_open_step, phases
from ..training import checkpoints
from ..training.gated_model import GatedModel, gated_for_training
from ..training.metrics import MetricsFile, read_metrics
from ..training.trainer import WEIGHTS, Hooks, StepReport, fit, load_trainable

_N_SAMPLE_TOKENS = 48


def run(plan: Plan, ctx: StepContext) -> None:
    started = time.monotonic()
    base = read_base(ctx.run)
    folder = ctx.run.step_folder("prepare")
    data, held_out = load_packed(folder / "train.safetensors"), load_packed(folder / "held_out.safetensors")
    model = load_model(base.path, choose_dtype(plan.model.dtype))
    quality = _base_quality(model, held_out, ctx)
    chance = math.log(base.vocabulary_size)
    ctx.emit(Metric("base_loss", 0, quality.loss))
    ctx.emit(Metric("chance_loss", 0, chance))

    gated = gated_for_training(model, plan.lora, plan.soul, plan.train.seed)
    if gated.model.device.type == "cuda":
        gated.causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    resume = checkpoints.newest(ctx.folder)
    n_done = 0 if resume is None else checkpoints.step_of(resume)
    if n_done:
        ctx.emit(note("Continuing from step {step}.", step=n_done))
    watch = _Watch(plan, ctx, gated, held_out, load_tokenizer(base.path), quality.loss, n_done)
    if n_done < plan.train.steps:
        fit(gated, plan, data, ctx.cancel, Hooks(watch.after_step, watch.metrics.sync), ctx.folder, resume)
    elif resume is not None:
        load_trainable(gated, resume / WEIGHTS)
        gated.gate.alpha.fill_(plan.soul.alpha_target)
    _save(plan, ctx, gated, base)
    _summarise(plan, ctx, chance, time.monotonic() - started)


def _base_quality(model: Any, held_out: Packed, ctx: StepContext) -> Quality:
    """The base model's held-out quality; measured once per run of this step."""
    path = ctx.folder / "quality.json"
    if not path.is_file():

        def progress(done: int, total: int) -> None:
            ctx.emit(Progress(done, total, "sequences", "base model"))

        quality = measure(
            lambda ids: model(ids.to(model.device), use_cache=False).logits, held_out, ctx.cancel, progress
        )
        write_quality(path, {"base": quality})
    return read_quality(path)["base"]


class _Watch:
    """Turns finished steps into metrics, events, measurements and warnings."""

    def __init__(
        self,
        plan: Plan,
        ctx: StepContext,
        gated: GatedModel,
        held_out: Packed,
        tokenizer: PreTrainedTokenizerBase,
        base_loss: float,
        n_done: int,
    ) -> None:
        self._plan, self._ctx, self._gated = plan, ctx, gated
        self._held_out, self._tokenizer, self._base_loss = held_out, tokenizer, base_loss
        self._phases = phases(plan.train.steps, plan.soul)
        self._phase = self._phases[n_done - 1] if n_done else ""
        self._question = load_questions(plan.chat.questions)[0].question
        self._warned = False
        self.metrics = MetricsFile(ctx.folder / "metrics.jsonl", n_done)

    def after_step(self, report: StepReport) -> None:
        row: dict[str, Any] = {
            "step": report.step,
            "loss": report.loss,
            "alpha": report.alpha,
            "gate": gate(report.alpha),
            "learning_rate": report.learning_rate,
            "grad_norm": report.grad_norm,
            "tokens": report.n_tokens,
            "seconds": report.seconds,
            "rotation_grad_norm": report.rotation_grad_norm,
            "rotation_angle": self._gated.gate.rotation.angle(),
            "orthogonality_error": self._gated.gate.rotation.orthogonality_error(),
        }
        self._announce_phase(report.step)
        for name in ("loss", "alpha", "gate", "learning_rate", "grad_norm", "rotation_angle", "orthogonality_error"):
            self._ctx.emit(Metric(name, report.step, row[name]))
        self._ctx.emit(Metric("tokens_per_second", report.step, report.n_tokens / max(report.seconds, 1e-9)))
        self._ctx.emit(Progress(report.step, self._plan.train.steps, "steps"))
        if self._due(report.step):
            try:
                row["held_out_loss"] = self._held_out_loss(report.step)
            except Cancelled:  # only the measurement ends: the step was made and is saved before training stops
                if report.step == self._plan.train.steps:
                    raise  # a finished training needs its last measurement
        self.metrics.append(row)

    def _announce_phase(self, step: int) -> None:
        phase = self._phases[step - 1]
        if phase != self._phase:
            self._phase = phase
            self._ctx.emit(PhaseChanged(step, phase))

    def _due(self, step: int) -> bool:
        every = self._plan.train.evaluate_steps
        return step == self._plan.train.steps or (every > 0 and step % every == 0)

    def _held_out_loss(self, step: int) -> float:
        """Measure, and let the model say something; dropout is off, so the random state is not touched."""
        self._gated.eval()
        loss = finite(measure(self._gated.logits, self._held_out, self._ctx.cancel)).loss
        self._ctx.emit(Metric("held_out_loss", step, loss))
        answer = greedy_answer(self._gated, self._tokenizer, self._question, _N_SAMPLE_TOKENS, self._ctx.cancel)
        self._ctx.emit(Sample(self._question, answer, step))
        if loss > self._base_loss and not self._warned:
            self._warned = True
            self._ctx.emit(
                warning(
                    "At step {step} the held-out loss {loss} is above the base model's {base}: "
                    "lower the learning rate.",
                    step=step,
                    loss=f"{loss:.3f}",
                    base=f"{self._base_loss:.3f}",
                )
            )
        return loss


def _save(plan: Plan, ctx: StepContext, gated: GatedModel, base: BaseModel) -> None:
    adapter = ctx.folder / "adapter"
    gated.model.peft_config["default"].base_model_name_or_path = base.source
    with atomic_folder(adapter) as draft:
        gated.model.save_pretrained(str(draft), save_embedding_layers=False)
    soul = Soul(
        alpha=gated.gate.alpha.item(),
        generator=gated.gate.rotation.generator.detach().cpu().float(),
        calibrate=plan.soul.calibrate,
        base_model=base.source,
        base_revision=base.revision,
        base_sha256=base.sha256,
    )
    soul.save(ctx.folder / "soul.safetensors")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        ctx.artifact(adapter / name)
    ctx.artifact(ctx.folder / "soul.safetensors")


def _summarise(plan: Plan, ctx: StepContext, chance: float, seconds: float) -> None:
    rows = read_metrics(ctx.folder / "metrics.jsonl")
    summary = {
        "steps_planned": plan.train.steps,
        "steps_done": len(rows),
        "loss_first": rows[0]["loss"],
        "loss_last": rows[-1]["loss"],
        "held_out_loss_last": rows[-1]["held_out_loss"],
        "alpha_final": rows[-1]["alpha"],
        "critical_step": critical_step(plan.train.steps, plan.soul) + 1,
        "half_open_step": _one_based(half_open_step(plan.train.steps, plan.soul)),
        "rotation_angle": rows[-1]["rotation_angle"],
        "orthogonality_error": rows[-1]["orthogonality_error"],
        "chance_loss": chance,
        "tokens": sum(row["tokens"] for row in rows),
        "seconds_in_steps": sum(row["seconds"] for row in rows),
        "seconds_this_attempt": seconds,
        "peak_vram_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
    }
    write_json(ctx.folder / "summary.json", summary)
    for name in ("metrics.jsonl", "quality.json", "summary.json"):
        ctx.artifact(ctx.folder / name)


def _one_based(step: int | None) -> int | None:
    return None if step is None else step + 1
