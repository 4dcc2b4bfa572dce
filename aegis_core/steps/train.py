"""Step 5: adapter and rotation learn while alpha goes from its start through the critical point to its target."""

import math
import time
from typing import Any

import torch

from ..chat.questions import load_questions
from ..context import StepContext
from ..data.packed import Packed, load_packed
from ..evaluation.chain import Chain, free_memory
from ..evaluation.quality import Quality, measure, read_quality, write_quality
from ..events import Metric, Progress, note
from ..models.identity import BaseModel, read_base
from ..models.loading import choose_dtype, load_model, load_tokenizer
from ..plan import Plan
from ..run_directory import atomic_folder, write_json
from ..soul.schedule import critical_step, half_open_step
from ..training.control import Material, adapter_of, run_controls
from ..training.gated_model import GatedModel, gated_for_training
from ..training.health import Health
from ..training.metrics import read_metrics
from ..training.to_the_end import resume_point, train_to_the_end
from ..training.watch import Interview, Told, Watch


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
    resume, n_done = resume_point(ctx.folder)
    if n_done:
        ctx.emit(note("Continuing from step {step}.", step=n_done))
    interview = Interview(load_questions(plan.chat.questions)[0].question, load_tokenizer(base.path))
    health = Health(quality.loss, chance)
    watch = Watch(plan, ctx, gated, held_out, health, ctx.folder, n_done, Told(interview=interview))
    train_to_the_end(gated, plan, data, ctx.cancel, ctx.folder, resume, watch)
    _save(ctx, gated, base)
    run_controls(plan, ctx, gated, Material(data, held_out, quality.loss, chance))
    _summarise(plan, ctx, watch, chance, time.monotonic() - started)
    del model, gated, watch
    _measure_control(plan, ctx)
    ctx.artifact(ctx.folder / "quality.json", evidence=True)


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


def _measure_control(plan: Plan, ctx: StepContext) -> None:
    """LoRA without gate as a stage of the quality chain, where that control was trained; no model may be in memory."""
    if adapter := adapter_of("lora", ctx.folder):
        free_memory()
        chain = Chain.of(ctx, plan)
        chain.adapted("lora", adapter)
        ctx.artifact(chain.path("lora"), evidence=True)


def _save(ctx: StepContext, gated: GatedModel, base: BaseModel) -> None:
    adapter = ctx.folder / "adapter"
    gated.model.peft_config["default"].base_model_name_or_path = base.source
    with atomic_folder(adapter) as draft:
        gated.model.save_pretrained(str(draft), save_embedding_layers=False)
    soul = gated.gate.soul(base.source, base.revision, base.sha256)
    soul.save(ctx.folder / "soul.safetensors")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        ctx.artifact(adapter / name)
    ctx.artifact(ctx.folder / "soul.safetensors")


def _summarise(plan: Plan, ctx: StepContext, watch: Watch, chance: float, seconds: float) -> None:
    rows = read_metrics(ctx.folder / "metrics.jsonl")
    scheduled = plan.soul.alpha == "scheduled"
    summary = {
        "steps_planned": plan.train.steps,
        "steps_done": len(rows),
        "stopped_early": len(rows) < plan.train.steps and watch.enough(),
        "loss_first": rows[0]["loss"],
        "loss_last": rows[-1]["loss"],
        "held_out_loss_last": _last_measured(rows),
        "alpha_final": rows[-1]["alpha"],
        "critical_step": critical_step(plan.train.steps, plan.soul) + 1 if scheduled else None,
        "half_open_step": _one_based(half_open_step(plan.train.steps, plan.soul)) if scheduled else None,
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
    for name in ("metrics.jsonl", "summary.json"):
        ctx.artifact(ctx.folder / name, evidence=True)


def _one_based(step: int | None) -> int | None:
    return None if step is None else step + 1


def _last_measured(rows: list[dict[str, Any]]) -> float | None:
    return next((row["held_out_loss"] for row in reversed(rows) if "held_out_loss" in row), None)
