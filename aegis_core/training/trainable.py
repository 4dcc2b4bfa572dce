"""What learns, as one file: adapter and gate, without the frozen base."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ..failures import UserError

WEIGHTS = "trainable.safetensors"


def save_trainable(gated: nn.Module, folder: Path) -> None:
    """Write every parameter that learns into `folder`, which is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().contiguous() for name, p in gated.named_parameters() if p.requires_grad}
    save_file(tensors, folder / WEIGHTS)


def load_trainable(gated: nn.Module, folder: Path) -> None:
    """Put the adapter and gate saved in `folder` into the model; UserError if they are not exactly its own."""
    saved = load_file(folder / WEIGHTS)
    parameters = {name: p for name, p in gated.named_parameters() if p.requires_grad}
    if saved.keys() != parameters.keys():
        raise UserError(
            "The checkpoint {path} belongs to another model or adapter.",
            "Delete the train folder of this run and train again.",
            path=folder,
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])
