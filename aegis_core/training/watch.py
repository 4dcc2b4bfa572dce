"""What is told, measured and recorded while a training runs."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..cancel import Cancelled
from ..context import StepContext
from ..data.packed import Packed
from ..evaluation.answering import greedy_answer
from ..evaluation.quality import finite, measure
from ..events import CheckpointSaved, Metric, PhaseChanged, Progress, Sample
from ..plan import Plan
from ..soul.schedule import gate, phases
from .early_stopping import enough, settled_measurements
from .gated_model import GatedModel
from .health import Health
from .metrics import MetricsFile, read_metrics
from .trainer import Hooks, StepReport
from .vram import vram_in_use

_N_SAMPLE_TOKENS = 48
_SHOWN = (
    "loss",
    "alpha",
    "gate",
    "learning_rate",
    "grad_norm",
    "rotation_grad_norm",
    "rotation_angle",
    "rotation_angle_largest",
    "orthogonality_error",
)


@dataclass(frozen=True)
class Interview:
    """The question that the model is asked whenever it is measured."""

    question: str
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Told:
    """How a training is told of: the main one with everything, a control only with its losses, as `prefix`_loss."""

    prefix: str = ""
    phase: str = ""
    interview: Interview | None = None


class Watch:
    """Turns finished steps into rows of `folder`/metrics.jsonl, events, measurements and warnings.

    `n_done` is where training continues: later rows are cut off. `on_warm` is called once, after the second step of
    this attempt, when the memory has seen its peak: the optimiser's state comes into being with the first.
    """

    def __init__(
        self,
        plan: Plan,
        ctx: StepContext,
        gated: GatedModel,
        held_out: Packed,
        health: Health,
        folder: Path,
        n_done: int,
        told: Told = Told(),
        on_warm: Callable[[], None] = lambda: None,
    ) -> None:
        self._plan, self._ctx, self._gated, self._held_out = plan, ctx, gated, held_out
        self._health, self._told, self._on_warm = health, told, on_warm
        self.n_steps = 0  # of this attempt
        scheduled = not gated.shut and plan.soul.alpha == "scheduled"
        self._phases = phases(plan.train.steps, plan.soul) if scheduled else []
        self._phase = self._phases[n_done - 1] if n_done and self._phases else ""
        self._path = folder / "metrics.jsonl"
        self._metrics = MetricsFile(self._path, n_done)
        self._measured: list[float] = []  # held-out losses since alpha has arrived
        for row in read_metrics(self._path):
            self._health.after_step(row["step"], row["loss"])
            self._measured += settled_measurements([row], plan)

    def hooks(self) -> Hooks:
        return Hooks(self.after_step, self._metrics.sync, self._saved, self.enough)

    def enough(self) -> bool:
        """Whether early stopping is on and the last measurements brought nothing better, with alpha arrived."""
        return enough(self._measured, self._plan.train.early_stopping)

    def after_step(self, report: StepReport) -> None:
        self.n_steps += 1
        if self.n_steps == 2:
            self._on_warm()
        row: dict[str, Any] = {
            "step": report.step,
            "loss": report.loss,
            "alpha": report.alpha,
            "gate": 0.0 if report.alpha is None else gate(report.alpha),
            "learning_rate": report.learning_rate,
            "grad_norm": report.grad_norm,
            "tokens": report.n_tokens,
            "seconds": report.seconds,
            "rotation_grad_norm": report.rotation_grad_norm,
            "rotation_angle": self._gated.gate.rotation.angle(),
            "rotation_angle_largest": max(r.largest_angle() for r in self._gated.gate.rotations()),
            "orthogonality_error": max(r.orthogonality_error() for r in self._gated.gate.rotations()),
        }
        self._announce(row)
        for log in self._health.after_step(report.step, report.loss):
            self._ctx.emit(log)
        if self._due(report.step):
            # a stop ends the measurement only: the step was made and is saved; what is owed is caught up on resume
            with suppress(Cancelled):
                row["held_out_loss"] = self._held_out_loss(report.step)
        self._metrics.append(row)
        self._measured += settled_measurements([row], self._plan)

    def owes_measurement(self) -> bool:
        """Whether a stop cut off the measurement of the last step that was made."""
        rows = read_metrics(self._path)
        return bool(rows) and self._due(rows[-1]["step"]) and "held_out_loss" not in rows[-1]

    def catch_up(self) -> None:
        """Measure what is owed; the model must be as it was after that step. May raise Cancelled."""
        row = read_metrics(self._path)[-1]
        row["held_out_loss"] = self._held_out_loss(row["step"])
        self._metrics.complete_last(row)
        self._measured += settled_measurements([row], self._plan)

    def _announce(self, row: dict[str, Any]) -> None:
        step, told = row["step"], self._told
        if told.prefix:
            self._ctx.emit(Metric(f"{told.prefix}_loss", step, row["loss"]))
        else:
            if self._phases and self._phases[step - 1] != self._phase:
                self._phase = self._phases[step - 1]
                self._ctx.emit(PhaseChanged(step, self._phase))
            for name in _SHOWN:
                self._ctx.emit(Metric(name, step, row[name]))
            self._ctx.emit(Metric("tokens_per_second", step, row["tokens"] / max(row["seconds"], 1e-9)))
            for name, n_bytes in vram_in_use().items():
                self._ctx.emit(Metric(name, step, n_bytes))
        self._ctx.emit(Progress(step, self._plan.train.steps, "steps", told.phase))

    def _saved(self, step: int) -> None:
        if not self._told.prefix:
            self._ctx.emit(CheckpointSaved(step))

    def _due(self, step: int) -> bool:
        every = self._plan.train.evaluate_steps
        return step == self._plan.train.steps or (every > 0 and step % every == 0)

    def _held_out_loss(self, step: int) -> float:
        """Measure, and let the model say something; dropout is off, so the random state is not touched."""
        self._gated.eval()
        loss = finite(measure(self._gated, self._held_out, self._ctx.cancel)).loss
        prefix = f"{self._told.prefix}_" if self._told.prefix else ""
        self._ctx.emit(Metric(f"{prefix}held_out_loss", step, loss))
        if interview := self._told.interview:
            answer = greedy_answer(
                self._gated, interview.tokenizer, interview.question, _N_SAMPLE_TOKENS, self._ctx.cancel
            )
            self._ctx.emit(Sample(interview.question, answer, step))
        for log in self._health.after_measurement(step, loss):
            self._ctx.emit(log)
        return loss
