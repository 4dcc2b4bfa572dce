"""What the hardware decides about a training: optimiser, mixed precision, gradient checkpointing."""

import importlib.util
from pathlib import Path

import torch
from transformers import TrainingArguments

from ..failures import UserError
from ..plan import Plan
from .gated_model import GatedModel

PAGED_8BIT = "paged_adamw_8bit"


def choose_optimizer(name: str) -> str:
    """transformers' name of the optimiser a plan's setting stands for.

    auto is the paged 8-bit AdamW where CUDA and bitsandbytes are there, else plain AdamW; UserError if the 8-bit one is
    asked for and cannot run.
    """
    possible = torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes") is not None
    if name == PAGED_8BIT and not possible:
        raise UserError(
            "The 8-bit optimiser needs an NVIDIA GPU and bitsandbytes.",
            "Set train.optimizer to auto.",
            changes={"train.optimizer": "auto"},
        )
    return PAGED_8BIT if name == PAGED_8BIT or (name == "auto" and possible) else "adamw_torch"


def enable_checkpointing(gated: GatedModel, setting: str) -> bool:
    """Compute activations twice instead of keeping them, where the setting says so (auto: on CUDA); whether it does."""
    wanted = setting == "on" or (setting == "auto" and gated.device.type == "cuda")
    if wanted:
        gated.causal.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        gated.causal.activation_checkpointing_disable()
    return wanted


def trainer_arguments(plan: Plan, folder: Path, dtype: torch.dtype) -> TrainingArguments:
    """The plan in transformers' words; AEGIS saves, measures and tells by itself. `dtype` is the base model's."""
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
        optim=choose_optimizer(train.optimizer),
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16 and torch.cuda.is_available(),
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
        ddp_timeout=7 * 24 * 3600,  # the other processes wait while the first measures
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs in one process would split the batch behind our loss
    return arguments
