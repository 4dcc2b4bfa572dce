"""How far a stored tensor may be from its source in each number format, and how far it is."""

import math
from dataclasses import dataclass

import torch
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from torch import Tensor

# A scale below F16's normal range loses digits; this much never matters to a matrix product.
ABSOLUTE_ALLOWANCE = 8e-6


@dataclass(frozen=True)
class Bound:
    """`rms` relative to the tensor's own root mean square, `block` to the largest value of its block."""

    rms: float
    block: float


# About twice what Gaussian weights show, and far below what a wrong tensor or order of rows does (1.4).
BOUNDS: dict[Type, Bound] = {
    Type.F32: Bound(0.0, 0.0),
    Type.F16: Bound(2**-11, 2**-11),
    Type.BF16: Bound(2**-8, 2**-8),
    Type.Q8_0: Bound(0.015, 0.006),
    Type.Q6_K: Bound(0.04, 0.035),
    Type.Q5_K: Bound(0.08, 0.12),
    Type.Q5_1: Bound(0.08, 0.04),
    Type.Q5_0: Bound(0.10, 0.075),
    Type.Q4_K: Bound(0.15, 0.20),
}


class TensorError:
    """The error of one tensor, told block by block of its rows."""

    def __init__(self, kind: Type) -> None:
        self._kind = kind
        self._n = 0
        self._of_difference = self._of_source = 0.0  # sums of squares
        self._worst_block = 0.0

    def add(self, stored: Tensor, source: Tensor) -> None:
        """Some more rows, both float32 and of one shape."""
        if torch.equal(stored, source):
            difference = torch.zeros_like(stored)
        elif self._kind == Type.F32:
            self._worst_block = math.inf
            return
        else:
            difference = (stored - source).abs_()
        self._n += stored.numel()
        self._of_difference += torch.linalg.vector_norm(difference).item() ** 2
        self._of_source += torch.linalg.vector_norm(source).item() ** 2
        blocks = (-1, GGML_QUANT_SIZES[self._kind][0])
        allowed = source.abs().reshape(blocks).amax(1).mul_(BOUNDS[self._kind].block).add_(ABSOLUTE_ALLOWANCE)
        worst = (difference.reshape(blocks).amax(1) / allowed).max().item()
        self._worst_block = worst if math.isnan(worst) else max(self._worst_block, worst)

    def share_of_bound(self) -> float:
        """The error as a part of what the format allows; NaN or infinite if the values are not finite."""
        if self._n == 0 or math.isnan(self._worst_block):
            return self._worst_block
        rms, source_rms = math.sqrt(self._of_difference / self._n), math.sqrt(self._of_source / self._n)
        return max(rms / (BOUNDS[self._kind].rms * source_rms + ABSOLUTE_ALLOWANCE), self._worst_block)
