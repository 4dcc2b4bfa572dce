"""What the stages of one run are computed in: the same for each, so that their differences are the models'.

Decided when the base is measured, from what is free then; train/measured/base.safetensors says in its header what it
was, and every later stage of the run follows it. Where a stage runs, GPU or CPU, is decided for each.
"""

from pathlib import Path

import psutil
import torch

from ..fusion.anatomy import EMBEDDING, HEAD
from ..fusion.merge import FLOATS
from ..models.identity import BaseModel
from ..models.loading import DTYPES, device_for
from ..models.weights import stored_tensors
from ..run_directory import RunDirectory, sha256_of_json
from .reference import made_of


def checkpoint_dtype(folder: Path) -> torch.dtype:
    """The dtype of the model's head, which is the one that fusion rounds to."""
    stored = {tensor.name: tensor.dtype for tensor in stored_tensors(folder)}
    dtype = FLOATS.get(stored.get(HEAD) or stored.get(EMBEDDING, ""), torch.float32)
    return torch.float32 if dtype == torch.float64 else dtype


def computing_dtype(checkpoint: torch.dtype, n_parameters: int) -> torch.dtype:
    """What models run in where they are compared: the checkpoint's own dtype, but float32 on a CPU with room for it.

    A CPU gains nothing from 16 bits, and without the rounding of every layer the weights themselves are compared. A
    GPU on which the weights find no room does not count: they are read on the CPU then.
    """
    if device_for(checkpoint.itemsize * n_parameters).type != "cpu":
        return checkpoint
    return torch.float32 if 4 * n_parameters < 0.6 * psutil.virtual_memory().available else checkpoint


def dtype_of_run(run: RunDirectory, base: BaseModel) -> torch.dtype:
    """What this base was measured in at the beginning of the run's training; `computing_dtype` where it was not yet."""
    found = made_of(run.step_folder("train") / "measured" / "base.safetensors")
    if found.get("weights") == sha256_of_json([base.sha256]) and found.get("dtype") in DTYPES:
        return DTYPES[found["dtype"]]
    return computing_dtype(checkpoint_dtype(base.path), base.n_parameters)


def place_of(base: BaseModel, dtype: torch.dtype) -> torch.device:
    """Where that base, or a model of its size, is measured."""
    return device_for(dtype.itemsize * base.n_parameters)
