"""Cross-entropy over a large vocabulary without ever holding all logits."""

from typing import Any

import torch
from torch import Tensor

from ..data.packed import IGNORED

CHUNK_TOKENS = 256


def next_token_loss(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Summed next-token cross-entropy in nats: hidden (B, T, H), head (V, H), labels (B, T) -> scalar float32.

    Position t predicts labels[t + 1]; IGNORED labels do not count. Divide by the number of counted tokens for
    the mean. The head gets no gradient: it is frozen until fusion.
    """
    targets = labels[:, 1:].flatten()
    counted = targets != IGNORED
    summed: Tensor = _SummedCrossEntropy.apply(hidden[:, :-1].flatten(0, 1)[counted], head, targets[counted])
    return summed


class _SummedCrossEntropy(torch.autograd.Function):
    """The gradient of the hidden states is found in the forward pass, chunk by chunk: going over the head again in
    the backward pass would cost as much as the logits did."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(hidden) if hidden.requires_grad else None
        for start in range(0, len(hidden), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            total += _chunk(hidden[part], head, targets[part, None], None if gradient is None else gradient[part])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None, None


def _chunk(hidden: Tensor, head: Tensor, targets: Tensor, gradient: Tensor | None) -> Tensor:
    """The summed loss of a few positions, their gradient written where it is wanted; their logits are gone on return,
    before those of the next positions are made."""
    logits = (hidden @ head.T).float()
    log_sum = logits.logsumexp(-1, keepdim=True)
    summed = (log_sum - logits.gather(1, targets)).sum()
    if gradient is not None:
        probabilities = logits.sub_(log_sum).exp_()
        probabilities.scatter_add_(1, targets, -torch.ones_like(log_sum))
        gradient.copy_(probabilities.to(head.dtype) @ head)
    return summed
