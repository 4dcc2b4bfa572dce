"""Several processes under `accelerate launch`: the first runs the step, the others only lend a hand in the loop.

The first process reads, measures, tells and writes everything. Before each training it sends its Job to the others,
which train along in lockstep (the gradients are averaged) and write nothing but their random state.
"""

import json
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch

from ..cancel import CancelToken
from ..data.packed import load_packed
from ..evaluation.chain import free_memory
from ..models.identity import read_base
from ..models.loading import choose_dtype, load_model, wants_nf4
from ..plan import Plan, dumps, loads
from ..run_directory import RunDirectory
from .gated_model import gated_for_training
from .trainer import Hooks, fit

TRAIN = "train"
_PATIENCE = timedelta(days=7)  # the others wait while the first process measures, or is paused over the weekend


@dataclass(frozen=True)
class Job:
    """One training: everything another process needs to take part in it."""

    plan: Plan
    shut: bool
    folder: Path
    resume: Path | None


def n_processes() -> int:
    """How many processes the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def helping() -> bool:
    """Whether this process is not the first."""
    return int(os.environ.get("RANK", "0")) > 0


def call_helpers(job: Job) -> None:
    """Let the other processes take part in a training; nothing to do if there are none."""
    if n_processes() > 1:
        resume = None if job.resume is None else str(job.resume)
        _broadcast(json.dumps({"plan": dumps(job.plan), "shut": job.shut, "folder": str(job.folder), "resume": resume}))


def dismiss_helpers() -> None:
    """There is no more training to take part in; never after a failure, when the launcher ends the others."""
    if n_processes() > 1:
        _broadcast("")
        _part()


def help_along(run: RunDirectory) -> None:
    """What every process but the first does: take part in trainings until it is dismissed."""
    while text := _broadcast(""):
        row = json.loads(text)
        plan, resume = loads(row["plan"], run.plan_path), row["resume"]
        base = load_model(read_base(run).path, choose_dtype(plan.model.dtype), wants_nf4(plan.model.quantisation))
        data = load_packed(run.step_folder("prepare") / "train.safetensors")
        gated = gated_for_training(base, plan.lora, plan.soul, plan.train.seed, shut=row["shut"])
        fit(gated, plan, data, CancelToken(), Hooks(), Path(row["folder"]), None if resume is None else Path(resume))
        del base, gated
        free_memory()
    _part()


def _part() -> None:
    """Leave the group together: a process that merely ends while the others still listen may abort them."""
    from accelerate import PartialState

    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()


def _broadcast(message: str) -> str:
    """The first process's message, in every process."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
    held = [message]
    broadcast_object_list(held, from_process=0)
    return held[0]
