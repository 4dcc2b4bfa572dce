"""Tokenised sequences of one length, as training and evaluation read them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..run_directory import atomic

IGNORED = -100


@dataclass(frozen=True)
class Packed:
    """input_ids and labels, both (n, T) integers, int64 once loaded.

    Labels are IGNORED where nothing is to be learned; labels[t] is the token at t itself: the loss shifts.
    """

    input_ids: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def n_counted(self) -> int:
        """Tokens that count in the loss (the first of a sequence has no predecessor)."""
        return int((self.labels[:, 1:] != IGNORED).sum())


def save_packed(path: Path, packed: Packed) -> None:
    tensors = {"input_ids": packed.input_ids.to(torch.int32), "labels": packed.labels.to(torch.int32)}
    with atomic(path) as draft:
        save_file(tensors, draft)


def load_packed(path: Path) -> Packed:
    tensors = load_file(path)
    return Packed(tensors["input_ids"].long(), tensors["labels"].long())
