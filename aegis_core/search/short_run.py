"""Short real training runs on one loaded base model: a fresh adapter and gate for each, the base untouched after it."""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from transformers import PreTrainedModel

from ..cancel import CancelToken
from ..context import StepContext
from ..data.packed import Packed, load_packed
from ..evaluation.quality import measure
from ..failures import UserError
from ..models.identity import read_base
from ..models.loading import choose_dtype, describe_numbers, load_model, wants_nf4
from ..plan import Plan
from ..training.gated_model import GatedModel, gated_for_training
from ..training.trainer import Hooks, StepReport, fit
from .study import TrialFailed, Tried

QUARTERS = 4
GLANCE_SEQUENCES = 4  # a glance must cost little beside the training between two of them


@dataclass(frozen=True)
class ShortRuns:
    """Everything that all trials share. `folder` is scratch for the trainer; nothing is saved in it."""

    base: PreTrainedModel
    data: Packed
    held_out: Packed
    cancel: CancelToken
    folder: Path

    @classmethod
    def of(cls, plan: Plan, ctx: StepContext) -> Self:
        """With the base model and the data that prepare left, loaded as training loads them."""
        prepared, base = ctx.run.step_folder("prepare"), read_base(ctx.run)
        dtype, quantised = choose_dtype(plan.model.dtype), wants_nf4(plan.model.quantisation)
        ctx.emit(describe_numbers(dtype, quantised))
        return cls(
            base=load_model(base.path, dtype, quantised, own_code="model" in base.own_code),
            data=load_packed(prepared / "train.safetensors"),
            held_out=load_packed(prepared / "held_out.safetensors"),
            cancel=ctx.cancel,
            folder=ctx.folder / "scratch",
        )

    def tried(
        self,
        plan: Plan,
        on_part: Callable[[float], None] = lambda part: None,
        on_glance: Callable[[int, float], None] = lambda percent, loss: None,
    ) -> Tried:
        """`held_out_loss` with the steps and tokens it really took; `on_part` hears which part of it is done."""
        n_read = 0

        def on_step(report: StepReport) -> None:
            nonlocal n_read
            n_read += report.n_tokens
            on_part(report.step / plan.train.steps)

        loss = self.held_out_loss(plan, on_step, on_glance)
        return Tried(loss, notes=(("steps", plan.train.steps), ("tokens", n_read)))

    def held_out_loss(
        self, plan: Plan, on_step: Callable[[StepReport], None], on_glance: Callable[[int, float], None]
    ) -> float:
        """Train by `plan` with the gate in the forward pass; returns the loss over all held-out tokens, in nats.

        `on_step` gets the report of every step. `on_glance` gets, about every quarter and at the end, the percentage of
        the trial's tokens and the loss of a few held-out sequences, always the same; it may raise to stop the trial.
        TrialFailed for what gives no score: a loss that is not finite, too little memory, settings that cannot work.
        """
        gated = gated_for_training(self.base, plan.lora, plan.soul, plan.train.seed)
        try:
            fit(
                gated,
                plan,
                self.data,
                self.cancel,
                self._hooks(gated, plan, on_step, on_glance),
                self.folder,
                keep=False,
            )
            return _finite(self._loss(gated, self.held_out))
        except UserError as error:
            raise TrialFailed(error.reason) from error
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise TrialFailed("The memory was not enough for this trial.") from error
        finally:
            self._free(gated)

    def _hooks(
        self,
        gated: GatedModel,
        plan: Plan,
        on_step: Callable[[StepReport], None],
        on_glance: Callable[[int, float], None],
    ) -> Hooks:
        glance = _evenly(self.held_out, GLANCE_SEQUENCES)
        n_steps = plan.train.steps

        def after_step(report: StepReport) -> None:
            on_step(report)
            quarter = QUARTERS * report.step // n_steps
            if quarter > QUARTERS * (report.step - 1) // n_steps:
                on_glance(100 * quarter // QUARTERS, _finite(self._loss(gated, glance)))

        return Hooks(after_step=after_step)

    def _loss(self, gated: GatedModel, sequences: Packed) -> float:
        return measure(gated.eval().logits, sequences, self.cancel).loss

    def _free(self, gated: GatedModel) -> None:
        """Take the adapter out of the base again and give its memory back before the next trial."""
        gated.release()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _evenly(packed: Packed, n: int) -> Packed:
    step = max(len(packed) // n, 1)
    return Packed(packed.input_ids[::step][:n], packed.labels[::step][:n])


def _finite(loss: float) -> float:
    if not math.isfinite(loss):
        raise TrialFailed("The held-out loss is not a finite number.")
    return loss


def _is_out_of_memory(error: BaseException) -> bool:
    """CUDA has its own error; the CPU allocator raises a bare RuntimeError that names itself."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
