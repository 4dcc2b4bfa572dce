"""transformers' Trainer with the gate's schedule, two clips, finite checks and whole checkpoints."""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from ..cancel import CancelToken
from ..data.packed import Packed
from ..failures import UserError
from ..plan import Plan
from ..soul.schedule import alpha_at
from . import checkpoints
from .gated_model import GatedModel

WEIGHTS = "trainable.safetensors"


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step was: `step` counts from 1; gradient norms are those before clipping."""

    step: int
    loss: float
    alpha: float
    learning_rate: float
    grad_norm: float
    rotation_grad_norm: float
    n_tokens: int
    seconds: float


@dataclass(frozen=True)
class Hooks:
    """What happens around the steps: `after_step` may raise to stop; `before_checkpoint` makes its files safe."""

    after_step: Callable[[StepReport], None] = lambda report: None
    before_checkpoint: Callable[[], None] = lambda: None


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
    """Train adapter and rotation for plan.train.steps optimiser steps, with checkpoints in `folder` if `keep`.

    A cancel saves first and then raises Cancelled. UserError if loss or gradient stop being finite; the step is
    then not made and the last checkpoint stays as it is.
    """
    trainer = _GatedTrainer(gated, plan, data, cancel, hooks, folder, keep)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    if trainer.state.global_step < plan.train.steps:
        cancel.check()
        raise UserError(
            "Training ended at step {step} of {steps} without being asked to.",
            "Run this step again; it continues from the last checkpoint.",
            step=trainer.state.global_step,
            steps=plan.train.steps,
        )


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
        self._rotation = list(gated.gate.rotation.parameters())
        self._adapter = [p for p in gated.model.parameters() if p.requires_grad]
        self._step_loss, self._step_tokens, self._norms, self._learning_rate = 0.0, 0, (0.0, 0.0), 0.0
        self._step_started = time.monotonic()
        super().__init__(
            model=gated,
            args=_arguments(plan, folder),
            train_dataset=_Sequences(data),
            callbacks=[_Schedule(self, gated, plan, cancel, hooks, keep)],
        )
        # GatedModel.forward takes num_items_in_batch and divides by it, so accumulation sums to one mean.
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = True  # position 0 is no target: counting it would make the mean too small

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        train, soul = self._plan.train, self._plan.soul
        groups = [
            {"params": self._adapter, "lr": train.learning_rate, "weight_decay": train.weight_decay},
            {"params": self._rotation, "lr": soul.rotation_learning_rate, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups)
        return self.optimizer

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss = model(**inputs, num_items_in_batch=num_items_in_batch)["loss"]
        self._step_loss += loss.item()
        self._step_tokens += inputs["input_ids"].numel()
        if not math.isfinite(self._step_loss):
            raise self._not_finite("loss")
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> float:
        """Shorten the gradients of adapter and rotation separately; the adapter's norm before that is the one shown."""
        limit = self._plan.train.max_grad_norm
        norms = [nn.utils.clip_grad_norm_(group, limit).item() for group in (self._adapter, self._rotation)]
        if not all(map(math.isfinite, norms)):
            raise self._not_finite("gradient")
        self._norms = (norms[0], norms[1])
        self._learning_rate = self._get_learning_rate()
        return norms[0]

    def _not_finite(self, what: str) -> UserError:
        return UserError(
            "The {what} is not a finite number at step {step}; training stopped before that step was made.",
            "Lower the learning rate or choose float32; the last good checkpoint is kept.",
            what=what,
            step=self.state.global_step + 1,
        )

    def take_report(self, alpha: float) -> StepReport:
        """The report of the step just made; starts counting the next one."""
        now = time.monotonic()
        report = StepReport(
            step=self.state.global_step,
            loss=self._step_loss,
            alpha=alpha,
            learning_rate=self._learning_rate,
            grad_norm=self._norms[0],
            rotation_grad_norm=self._norms[1],
            n_tokens=self._step_tokens,
            seconds=now - self._step_started,
        )
        self._step_loss, self._step_tokens = 0.0, 0
        return report

    def start_clock(self) -> None:
        self._step_started = time.monotonic()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._folder / "checkpoint.part")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._hooks.before_checkpoint()
        staging = Path(self._get_output_dir(trial))
        shutil.rmtree(staging, ignore_errors=True)
        super()._save_checkpoint(model, trial)
        checkpoints.seal(next(staging.glob("checkpoint-*")), self._folder, self.state.global_step)
        staging.rmdir()
        checkpoints.keep_newest(self._folder, self._plan.train.keep_checkpoints)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Only what learns is saved; the base model is already on disk and never changes."""
        folder = Path(output_dir or self._folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_trainable(self._gated), folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_trainable(self._gated, Path(resume_from_checkpoint) / WEIGHTS)


def load_trainable(gated: nn.Module, path: Path) -> None:
    """Put saved adapter and rotation weights into the model; UserError if they are not exactly its own."""
    saved = load_file(path)
    parameters = {name: p for name, p in gated.named_parameters() if p.requires_grad}
    if saved.keys() != parameters.keys():
        raise UserError(
            "The checkpoint {path} belongs to another model or adapter.",
            "Delete the train folder of this run and train again.",
            path=path.parent,
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


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
        self._gated.gate.alpha.fill_(alpha_at(state.global_step, self._plan.train.steps, self._plan.soul))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._hooks.after_step(self._trainer.take_report(self._gated.gate.alpha.item()))
        self._cancel.wait_while_paused()
        control.should_training_stop |= self._cancel.cancelled
        due = (
            state.global_step % self._plan.train.checkpoint_steps == 0
            or time.monotonic() - self._saved_at >= self._plan.train.checkpoint_seconds
            or self._cancel.cancelled
            or state.global_step >= self._plan.train.steps
        )
        control.should_save = due and self._keep
        control.should_log = False

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = time.monotonic()


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def _arguments(plan: Plan, folder: Path) -> TrainingArguments:
    train = plan.train
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=train.steps,
        per_device_train_batch_size=train.batch_size,
        gradient_accumulation_steps=train.accumulation,
        learning_rate=train.learning_rate,
        warmup_steps=train.warmup_steps,
        lr_scheduler_type="cosine",
        max_grad_norm=train.max_grad_norm,
        seed=train.seed,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs in one process would split the batch behind our loss
    return arguments
