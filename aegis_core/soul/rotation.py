"""R: a block-diagonal rotation in SO(8)^(H/8)."""

import torch
from torch import Tensor, nn

from ..failures import UserError

BLOCK = 8
N_FREE = BLOCK * (BLOCK - 1) // 2


class SO8Rotation(nn.Module):
    """Block-diagonal rotation of the hidden state; identity at the start.

    x (…, H) -> x Rᵀ (…, H) with H = 8·n_blocks, that is R applied to each hidden vector. Each block is exp(A),
    A = P − Pᵀ with 28 free parameters (the upper triangle of A, row by row), so RᵀR = I and det R = 1 hold by
    construction. Raises UserError if H is not a multiple of 8.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        if hidden_size % BLOCK or hidden_size <= 0:
            raise UserError(
                "The model's hidden size {hidden_size} is not a multiple of 8, so no SO(8) rotation fits it.",
                "Choose a model whose hidden size is a multiple of 8.",
                hidden_size=hidden_size,
            )
        self.generator = nn.Parameter(torch.zeros(hidden_size // BLOCK, N_FREE))

    def forward(self, hidden: Tensor) -> Tensor:
        return rotate(hidden, blocks(self.generator))

    def orthogonality_error(self) -> float:
        """Largest |RᵀR − I| of any entry, in float64."""
        r = blocks(self.generator.detach().double())
        return (r.mT @ r - torch.eye(BLOCK, dtype=r.dtype, device=r.device)).abs().max().item()

    def angle(self) -> float:
        """Root mean square rotation angle in radians over all planes: ‖A‖_F / √(2 · 4) per block."""
        return self.generator.detach().double().square().sum(-1).div(BLOCK // 2).mean().sqrt().item()

    def largest_angle(self) -> float:
        """The same of the block that has turned furthest, in radians."""
        return self.generator.detach().double().square().sum(-1).div(BLOCK // 2).max().sqrt().item()


def blocks(generator: Tensor) -> Tensor:
    """exp(A) for each block: generator (n_blocks, 28) -> (n_blocks, 8, 8), at least float32."""
    generator = generator if generator.dtype == torch.float64 else generator.float()
    rows, columns = torch.triu_indices(BLOCK, BLOCK, offset=1, device=generator.device)
    upper = generator.new_zeros(len(generator), BLOCK, BLOCK)
    upper = upper.index_put((torch.arange(len(generator), device=generator.device)[:, None], rows, columns), generator)
    return torch.matrix_exp(upper - upper.mT)


def rotate(hidden: Tensor, r: Tensor) -> Tensor:
    """R h for every vector: hidden (…, H), r (H/8, 8, 8) -> (…, H), in hidden's dtype."""
    parts = hidden.unflatten(-1, (len(r), BLOCK))
    return torch.einsum("...nj,nij->...ni", parts, r.to(hidden.dtype)).flatten(-2)


def rotate_columns(weight: Tensor, r: Tensor) -> Tensor:
    """R @ W for a block-diagonal R: weight (H, M) -> (H, M). (R W) x = R (W x)."""
    parts = weight.unflatten(0, (len(r), BLOCK))
    return torch.einsum("nij,njm->nim", r.to(weight.dtype), parts).flatten(0, 1)
