"""What the stages of one run are computed in: the same for each, so that their differences are the models'."""

from pathlib import Path

import psutil
import torch

from ..fusion.anatomy import EMBEDDING, HEAD
from ..fusion.merge import FLOATS
from ..models.loading import device
from ..models.weights import stored_tensors


def checkpoint_dtype(folder: Path) -> torch.dtype:
    """The dtype of the model's head, which is the one that fusion rounds to."""
    stored = {tensor.name: tensor.dtype for tensor in stored_tensors(folder)}
    dtype = FLOATS.get(stored.get(HEAD) or stored.get(EMBEDDING, ""), torch.float32)
    return torch.float32 if dtype == torch.float64 else dtype


def computing_dtype(checkpoint: torch.dtype, n_parameters: int) -> torch.dtype:
    """What models run in where they are compared: the checkpoint's own dtype, but float32 on a CPU with room for it.

    A CPU gains nothing from 16 bits, and without the rounding of every layer the weights themselves are compared.
    """
    if device().type != "cpu":
        return checkpoint
    return torch.float32 if 4 * n_parameters < 0.6 * psutil.virtual_memory().available else checkpoint
