"""What the gated model said, kept on the disk: the fused model is held against it, and a kill does not lose it."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.packed import IGNORED
from ..evaluation.measurement import Measurement
from .head_check import worst

_LOGITS, _REST = "logits.float32", "rest.safetensors"


class Dictation:
    """Writes it down: top choices of all positions, logits of the first positions of the `chosen` sequences."""

    def __init__(self, file: BinaryIO, chosen: dict[int, int]) -> None:
        self._file, self._chosen = file, chosen
        self._top: list[Tensor] = []

    def keep(self, index: int, logits: Tensor) -> None:
        """Remember sequence `index`: logits (T, V)."""
        self._top.append(logits.argmax(-1).to(torch.int32).cpu())
        if index in self._chosen:
            self._file.write(logits[: self._chosen[index]].float().cpu().contiguous().numpy().data)

    def finish(self, folder: Path, measured: Measurement, head_difference: float, of: str) -> None:
        """Leave the rest beside the logits; `of` says which model and tokens this was."""
        tensors = {
            "top": torch.stack(self._top),
            "chosen": torch.tensor(sorted(self._chosen.items())),
            "losses": measured.losses,
            "head_difference": torch.tensor(head_difference, dtype=torch.float64),
        }
        if measured.divergences is not None:
            tensors["divergences"] = measured.divergences
        save_file(tensors, folder / _REST, metadata={"of": of})


def dictation_file(folder: Path) -> Path:
    return folder / _LOGITS


def spoken_of(folder: Path) -> str:
    """Of which model and tokens the record in `folder` is; empty if there is none."""
    if not (folder / _REST).is_file():
        return ""
    try:
        with safe_open(folder / _REST, framework="pt") as file:
            return str((file.metadata() or {}).get("of", ""))
    except SafetensorError:
        return ""


class Spoken:
    """The record of the gated model, and how far another model is from it."""

    def __init__(self, folder: Path) -> None:
        with safe_open(folder / _REST, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        self._top = tensors["top"]
        self._chosen: dict[int, int] = dict(tensors["chosen"].tolist())
        self.measured = Measurement(tensors["losses"], tensors.get("divergences"))
        self.head_difference: float = tensors["head_difference"].item()
        self._file = dictation_file(folder).open("rb")
        self._agree: list[Tensor] = []
        self.largest = 0.0
        self.n_positions = 0

    def close(self) -> None:
        self._file.close()

    def compare(self, index: int, logits: Tensor) -> None:
        """Hold sequence `index` of the other model against it: logits (T, V), called in the same order."""
        self._agree.append(self._top[index] == logits.argmax(-1).cpu())
        if index in self._chosen:
            other = logits[: self._chosen[index]].float().cpu()
            kept = torch.from_numpy(np.frombuffer(self._file.read(other.numel() * 4), dtype=np.float32).copy())
            difference = (kept.view_as(other) - other).abs().max().item()
            self.largest = worst(self.largest, difference)
            self.n_positions += len(other)

    def agreement(self, labels: Tensor) -> float:
        """The part of counted tokens (labels (n, T)) for which both models' first choice is the same."""
        counted = labels[:, 1:] != IGNORED
        return torch.stack(self._agree)[:, :-1][counted].double().mean().item()
