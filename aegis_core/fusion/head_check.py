"""Head and norm folded in float32, before any cast, against the gate itself, on hidden states of the real model."""

import copy
import math
from pathlib import Path
from types import TracebackType

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..models.weights import stored_tensors
from ..soul.gate import Soul
from ..training.gated_model import GatedModel
from .anatomy import NORM

_N_STATES = 256
_BLOCK_ROWS = 8192


class HeadProbe:
    """While entered, collects the first 256 hidden states that go into the final norm; `states` (n, H)."""

    def __init__(self, norm: nn.Module) -> None:
        self._norm = norm
        self._states: list[Tensor] = []
        self._missing = _N_STATES

    def __enter__(self) -> "HeadProbe":
        self._hook = self._norm.register_forward_pre_hook(self._collect)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()

    @property
    def states(self) -> Tensor:
        return torch.cat(self._states)

    def _collect(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if self._missing:
            taken = arguments[0].detach().flatten(0, -2)[: self._missing].clone()
            self._states.append(taken)
            self._missing -= len(taken)


@torch.no_grad()
def head_difference(model: GatedModel, soul: Soul, folder: Path, states: Tensor) -> float:
    """Largest difference between the gated logits and those of the folded head behind the fused folder's own norm.

    For inputs of the final norm `states` (n, H), both in float32, as a part of the range of the gated logits.
    """
    norm = copy.deepcopy(model.causal.get_decoder().norm).float()
    plain = norm(states.float())
    norm.weight.copy_(_stored_norm(folder))
    scaled = norm(states.float())
    gated = model.gate(plain)
    largest, low, high = 0.0, torch.inf, -torch.inf
    for rows in model.head.weight.split(_BLOCK_ROWS):
        expected = gated @ rows.float().T
        found = scaled @ soul.fused_head(rows).T
        difference = (expected - found).abs().max().item()
        largest = worst(largest, difference)
        low, high = min(low, expected.min().item()), max(high, expected.max().item())
    return largest / (high - low) if high > low else torch.inf


def worst(one: float, other: float) -> float:
    """The larger of two differences; NaN is worse than any number."""
    return other if math.isnan(other) else max(one, other)


def _stored_norm(folder: Path) -> Tensor:
    file = next(tensor.file for tensor in stored_tensors(folder) if tensor.name == NORM)
    with safe_open(file, framework="pt") as reader:
        norm: Tensor = reader.get_tensor(NORM)
    return norm
