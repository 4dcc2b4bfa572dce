"""Short real training runs on one loaded base model: a fresh adapter and gate for each, the base untouched after it."""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ..cancel import CancelToken
from ..data.packed import Packed
from ..evaluation.quality import measure
from ..failures import UserError
from ..plan import Plan
from ..training.gated_model import GatedModel, gated_for_training
from ..training.trainer import Hooks, StepReport, fit
from .study import TrialFailed

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

    def held_out_loss(
        self, plan: Plan, on_step: Callable[[StepReport], None], on_glance: Callable[[int, float], None]
    ) -> float:
        """Train by `plan` with the gate in the forward pass; returns the loss over all held-out tokens, in nats.

        `on_step` gets the report of every step. `on_glance` gets, about every quarter, the percentage of the trial's
        tokens and the loss of a few held-out sequences; it may raise to stop the trial. TrialFailed for what gives no
        score: a loss that is not finite, too little memory, settings that cannot work.
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
            if quarter > QUARTERS * (report.step - 1) // n_steps and report.step < n_steps:
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
