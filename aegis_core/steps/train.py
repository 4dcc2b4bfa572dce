"""Step 5: adapter and rotation learn while alpha goes from its start through the critical point to its target."""

import math
import time
from typing import Any

import torch

from ..chat.questions import load_questions
from ..context import StepContext
from ..data.packed import load_packed
from ..evaluation.chain import Chain, free_memory
from ..events import Metric, note
from ..hardware import reading
from ..models.identity import BaseModel, read_base
from ..models.loading import choose_dtype, describe_numbers, load_model, load_tokenizer, wants_nf4
from ..models.memory import RECORD, Device, Forecast, capacity_in, forecast, forecast_note, record
from ..models.peak import PeakMemory
from ..models.shape import read_shape
from ..plan import Plan
from ..run_directory import atomic_folder, write_json
from ..soul.schedule import critical_step, half_open_step
from ..training.control import Material, adapter_of, run_controls
from ..training.early_stopping import stopped_early
from ..training.gated_model import GatedModel, gated_for_training
from ..training.health import Health
from ..training.metrics import read_metrics
from ..training.to_the_end import resume_point, train_to_the_end
from ..training.watch import Interview, Told, Watch

EVIDENCE = ("metrics.jsonl", "summary.json", RECORD)


def run(plan: Plan, ctx: StepContext) -> None:
    started = time.monotonic()
    base = read_base(ctx.run)
    folder = ctx.run.step_folder("prepare")
    data, held_out = load_packed(folder / "train.safetensors"), load_packed(folder / "held_out.safetensors")
    chain = Chain.of(ctx, plan)
    quality = chain.base()
    chance = math.log(base.vocabulary_size)
    ctx.emit(Metric("base_loss", 0, quality.loss))
    ctx.emit(Metric("chance_loss", 0, chance))

    memory = _Memory(plan, ctx, base)
    quantised = wants_nf4(plan.model.quantisation)
    dtype = choose_dtype(plan.model.dtype)
    ctx.emit(describe_numbers(dtype, quantised))
    model = load_model(base.path, dtype, quantised, own_code="model" in base.own_code)
    gated = gated_for_training(model, plan.lora, plan.soul, plan.train.seed)
    resume, n_done = resume_point(ctx.folder)
    if n_done:
        ctx.emit(note("Continuing from step {step}.", step=n_done))
    tokenizer = load_tokenizer(base.path, own_code="tokenizer" in base.own_code)
    interview = Interview(load_questions(plan.chat.questions)[0].question, tokenizer)
    health = Health(quality.loss, chance)
    watch = Watch(plan, ctx, gated, held_out, health, ctx.folder, n_done, Told(interview=interview), memory.measured)
    with memory.peak:
        train_to_the_end(gated, plan, data, ctx.cancel, ctx.folder, resume, watch)
    _save(ctx, gated, base)
    if watch.n_steps or not (ctx.folder / "summary.json").is_file():
        _summarise(plan, ctx, chance, memory.peak.n_bytes, time.monotonic() - started)
    if quantised:
        gated.eval()
        chain.trained("gated_nf4", gated, adapter=ctx.folder / "adapter", soul=ctx.folder / "soul.safetensors")
    run_controls(plan, ctx, gated, Material(base.source, data, held_out))
    del model, gated, watch
    if adapter := adapter_of("lora", ctx.folder):
        free_memory()
        chain.adapted("lora", adapter)
    for path in [*(ctx.folder / name for name in EVIDENCE), *chain.files()]:
        if path.is_file():
            ctx.artifact(path, evidence=True)


class _Memory:
    """Foretells the peak before the training and sets the forecast right by what its first steps took."""

    def __init__(self, plan: Plan, ctx: StepContext, base: BaseModel) -> None:
        self._ctx, self.peak = ctx, PeakMemory()
        self._capacity = capacity_in(reading())
        device: Device = "cuda" if torch.cuda.is_available() else "cpu"
        if self._capacity is None or self._capacity.device != device:
            self._capacity = None
            return
        self._expected = forecast(
            read_shape(base.path),
            plan,
            device=device,
            quantised=wants_nf4(plan.model.quantisation),
            others_bytes=self._capacity.others_bytes,
        )
        self._tell(self._expected)

    def measured(self) -> None:
        if self._capacity:
            self._tell(record(self._ctx.folder, self._expected, self.peak.n_bytes, self._capacity))

    def _tell(self, found: Forecast) -> None:
        assert self._capacity is not None
        self._ctx.emit(forecast_note(found, self._capacity))
        self._ctx.emit(Metric("forecast_bytes", 0, found.total_bytes))


def _save(ctx: StepContext, gated: GatedModel, base: BaseModel) -> None:
    adapter = ctx.folder / "adapter"
    with atomic_folder(adapter) as draft:
        gated.save_adapter(draft, base.source)
    soul = gated.gate.soul(base.source, base.revision, base.sha256)
    soul.save(ctx.folder / "soul.safetensors")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        ctx.artifact(adapter / name)
    ctx.artifact(ctx.folder / "soul.safetensors")


def _summarise(plan: Plan, ctx: StepContext, chance: float, peak_bytes: int, seconds: float) -> None:
    rows = read_metrics(ctx.folder / "metrics.jsonl")
    scheduled = plan.soul.alpha == "scheduled"
    summary = {
        "steps_planned": plan.train.steps,
        "steps_done": len(rows),
        "stopped_early": stopped_early(rows, plan),
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
        "peak_vram_bytes": peak_bytes if torch.cuda.is_available() else None,
        "peak_ram_bytes": None if torch.cuda.is_available() else peak_bytes,
        "torch_threads": torch.get_num_threads(),
    }
    write_json(ctx.folder / "summary.json", summary)


def _one_based(step: int | None) -> int | None:
    return None if step is None else step + 1


def _last_measured(rows: list[dict[str, Any]]) -> float | None:
    return next((row["held_out_loss"] for row in reversed(rows) if "held_out_loss" in row), None)
