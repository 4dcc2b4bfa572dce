"""transformers' Trainer with the gate's schedule, two clips, finite checks and whole checkpoints."""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback

from ..cancel import CancelToken
from ..data.packed import Packed
from ..failures import UserError
from ..plan import Plan
from ..soul.schedule import alpha_at, gate
from . import checkpoints
from .gated_model import GatedModel
from .numbers import PAGED_8BIT, enable_checkpointing, trainer_arguments
from .trainable import load_trainable, save_trainable

_MOST_SKIPPED = 20  # so many steps in a row without a finite gradient: no loss scale will help any more


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step was: `step` counts from 1; gradient norms are those before clipping.

    `alpha` is None where the gate is shut. Norms are None where the loss scale was too large for fp16, so that the step
    was skipped and the scale lowered.
    """

    step: int
    loss: float
    alpha: float | None
    learning_rate: float
    grad_norm: float | None
    rotation_grad_norm: float | None
    n_tokens: int
    seconds: float


@dataclass(frozen=True)
class Hooks:
    """What happens around the steps: `after_step` may raise to stop at once; `before_checkpoint` makes its files safe,
    `after_checkpoint` hears after which step one is complete; `enough` says, after each step, whether training may end
    early, with a checkpoint."""

    after_step: Callable[[StepReport], None] = lambda report: None
    before_checkpoint: Callable[[], None] = lambda: None
    after_checkpoint: Callable[[int], None] = lambda step: None
    enough: Callable[[], bool] = lambda: False


def fit(
    gated: GatedModel,
    plan: Plan,
    data: Packed,
    cancel: CancelToken,
    hooks: Hooks,
    folder: Path,
    resume: Path | None = None,
    keep: bool = True,
) -> None:
    """Train adapter and gate for plan.train.steps optimiser steps, with checkpoints in `folder` if `keep`.

    A cancel saves first and then raises Cancelled. UserError if loss or gradient stop being finite; the step is
    then not made and the last checkpoint stays as it is.
    """
    enable_checkpointing(gated, plan.train.gradient_checkpointing)
    trainer = _GatedTrainer(gated, plan, data, cancel, hooks, folder, keep)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    if trainer.state.global_step < plan.train.steps:
        cancel.check()
    if trainer.state.global_step < plan.train.steps and not trainer.asked_to_end:
        raise UserError(
            "Training ended at step {step} of {steps} without being asked to.",
            "Run this step again; it continues from the last checkpoint.",
            step=trainer.state.global_step,
            steps=plan.train.steps,
        )


def scales_loss(accelerator: Accelerator) -> bool:
    """Whether fp16's loss scaler is at work: it skips a step whose gradient is not finite, and lowers the scale."""
    return accelerator.scaler is not None


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


class _Sequences(Dataset[dict[str, Tensor]]):
    def __init__(self, packed: Packed) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self._packed.input_ids[index], "labels": self._packed.labels[index]}


class _GatedTrainer(Trainer):
    def __init__(
        self, gated: GatedModel, plan: Plan, data: Packed, cancel: CancelToken, hooks: Hooks, folder: Path, keep: bool
    ) -> None:
        self._gated, self._plan, self._hooks, self._folder = gated, plan, hooks, folder
        rotations = [p for rotation in gated.gate.rotations() for p in rotation.parameters()]
        self._rotation = [p for p in rotations if p.requires_grad]
        self._alpha = [p for p in [gated.gate.alpha] if p.requires_grad]
        self._norm = [p for p in [gated.gate.norm_scale] if p is not None and p.requires_grad]
        self._adapter = [p for p in gated.model.parameters() if p.requires_grad]
        self._step_loss, self._step_tokens, self._norms, self._learning_rate = 0.0, 0, (0.0, 0.0), 0.0
        self._n_skipped = 0
        self.asked_to_end = False
        self._step_started = time.monotonic()
        super().__init__(
            model=gated,
            args=trainer_arguments(plan, folder, gated.causal.dtype),
            train_dataset=_Sequences(data),
            callbacks=[_Schedule(self, gated, plan, cancel, hooks, keep)],
        )
        self.remove_callback(PrinterCallback)
        # GatedModel.forward takes num_items_in_batch and divides by it, so accumulation sums to one mean.
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = True  # position 0 is no target: counting it would make the mean too small

    @property
    def n_processes(self) -> int:
        return int(self.accelerator.num_processes)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The adapter first: its learning rate is the one shown. Final norm and alpha are never decayed."""
        train, soul = self._plan.train, self._plan.soul
        groups = [
            {"params": self._adapter, "lr": train.learning_rate, "weight_decay": train.weight_decay},
            {
                "params": self._rotation,
                "lr": soul.rotation_learning_rate,
                "weight_decay": soul.rotation_weight_decay,
                "rotation": True,
            },
            {"params": self._norm, "lr": train.learning_rate, "weight_decay": 0.0},
            {"params": self._alpha, "lr": soul.alpha_learning_rate, "weight_decay": 0.0},
        ]
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args)
        self.optimizer = kind([group for group in groups if group["params"]], **settings)
        if self.args.optim == PAGED_8BIT:
            self._keep_rotation_wide()
        return self.optimizer

    def _keep_rotation_wide(self) -> None:
        """These few numbers decide everything: their moments stay in 32 bits."""
        import bitsandbytes

        manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
        for rotation in self._gated.gate.rotations():
            manager.register_module_override(rotation, "generator", {"optim_bits": 32})

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss = model(**inputs, num_items_in_batch=num_items_in_batch)["loss"]
        self._step_loss += loss.item()
        self._step_tokens += inputs["input_ids"].numel()
        # among several processes the shared gradient tells it to all of them at once
        if self.n_processes == 1 and not math.isfinite(self._step_loss):
            raise self._not_finite("loss")
        return loss * self.n_processes  # gradients are averaged over processes, the loss is a share of one sum

    def _clip_grad_norm(self, model: nn.Module) -> float:
        """Shorten the gradients of adapter and gate separately; the adapter's norm before that is the one shown."""
        self.accelerator.unscale_gradients()
        self._let_rotation_wait()
        limit = self._plan.train.max_grad_norm
        groups = (self._adapter, [*self._rotation, *self._norm, *self._alpha])
        norms = [nn.utils.clip_grad_norm_(group, limit).item() for group in groups]
        if not all(map(math.isfinite, norms)):
            self._n_skipped += 1
            if not scales_loss(self.accelerator) or self._n_skipped > _MOST_SKIPPED:
                raise self._not_finite("gradient")
        else:
            self._n_skipped = 0
        self._norms = (norms[0], norms[1])
        self._learning_rate = self._get_learning_rate()
        return norms[0]

    def _let_rotation_wait(self) -> None:
        """While the gate is shut its gradient is tiny, and Adam, which normalises that away, would let it drift."""
        waits, alpha = self._plan.soul.rotation_waits, self._gated.gate.alpha.item()
        if waits == "frozen" and alpha < 0:
            for parameter in self._rotation:
                parameter.grad = None
        if waits == "scaled":
            assert self.optimizer is not None
            for group in self.optimizer.param_groups:
                if group.get("rotation"):
                    group["lr"] = self._plan.soul.rotation_learning_rate * self._lr_part() * gate(alpha)

    def _lr_part(self) -> float:
        """Where warm-up and cosine are now: a part of the full learning rate."""
        assert self.lr_scheduler is not None
        part: float = self.lr_scheduler.lr_lambdas[0](self.lr_scheduler.last_epoch)
        return part

    def _not_finite(self, what: Literal["loss", "gradient"]) -> UserError:
        return UserError(
            "The loss is not a finite number at step {step}; training stopped before that step was made."
            if what == "loss"
            else "The gradient is not a finite number at step {step}; training stopped before that step was made.",
            "Lower the learning rate or choose float32; the last good checkpoint is kept.",
            step=self.state.global_step + 1,
        )

    def take_report(self, alpha: float | None) -> StepReport:
        """The report of the step just made; starts counting the next one."""
        now = time.monotonic()
        loss, n_tokens = self._over_processes([self._step_loss, self._step_tokens])
        report = StepReport(
            step=self.state.global_step,
            loss=loss,
            alpha=alpha,
            learning_rate=self._learning_rate,
            grad_norm=_number(self._norms[0]),
            rotation_grad_norm=_number(self._norms[1]),
            n_tokens=int(n_tokens),
            seconds=now - self._step_started,
        )
        self._step_loss, self._step_tokens = 0.0, 0
        return report

    def _over_processes(self, numbers: list[float]) -> list[float]:
        """Their sums over all processes; one process keeps its own, bit for bit."""
        if self.n_processes == 1:
            return numbers
        summed = self.accelerator.reduce(torch.tensor(numbers, dtype=torch.float64, device=self.args.device))
        return [float(number) for number in summed]

    def anywhere(self, flag: bool) -> bool:
        """Whether it is true in any process: all must stop and save together."""
        return bool(self._over_processes([float(flag)])[0])

    def start_clock(self) -> None:
        self._step_started = time.monotonic()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._folder / checkpoints.DRAFT)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._hooks.before_checkpoint()
        staging = Path(self._get_output_dir(trial))
        if self.is_world_process_zero():
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # every process adds its random state
        if self.is_world_process_zero():
            checkpoints.seal(next(staging.glob("checkpoint-*")), self._folder, self.state.global_step)
            staging.rmdir()
            checkpoints.keep_newest(self._folder, self._plan.train.keep_checkpoints)
            self._hooks.after_checkpoint(self.state.global_step)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Only what learns is saved; the base model is already on disk and never changes."""
        save_trainable(self._gated, Path(output_dir or self._folder))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_trainable(self._gated, Path(resume_from_checkpoint))


class _Schedule(TrainerCallback):
    """Sets alpha before each step; reports, pauses, saves and stops after it."""

    def __init__(
        self, trainer: _GatedTrainer, gated: GatedModel, plan: Plan, cancel: CancelToken, hooks: Hooks, keep: bool
    ) -> None:
        self._trainer, self._gated, self._plan, self._cancel, self._hooks = trainer, gated, plan, cancel, hooks
        self._keep = keep
        self._saved_at = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.start_clock()
        if not self._gated.gate.learned:
            self._gated.gate.alpha.fill_(alpha_at(state.global_step, self._plan.train.steps, self._plan.soul))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        alpha = None if self._gated.shut else self._gated.gate.alpha.item()
        self._hooks.after_step(self._trainer.take_report(alpha))
        self._cancel.wait_while_paused()
        stop = self._trainer.anywhere(self._cancel.cancelled or self._hooks.enough())
        self._trainer.asked_to_end = stop
        control.should_training_stop |= stop
        due = (
            state.global_step % self._plan.train.checkpoint_steps == 0
            or time.monotonic() - self._saved_at >= self._plan.train.checkpoint_seconds
            or stop
            or state.global_step >= self._plan.train.steps
        )
        control.should_save = self._trainer.anywhere(due) and self._keep
        control.should_log = False

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = time.monotonic()
