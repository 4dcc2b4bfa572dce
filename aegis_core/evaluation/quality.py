"""Held-out loss and perplexity, counted the same way for every stage."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..cancel import CancelToken
from ..data.packed import IGNORED, Packed
from ..failures import UserError
from ..run_directory import read_json, write_json


@dataclass(frozen=True)
class Quality:
    """Mean negative log-likelihood per counted token in nats, its exponential, and the standard error of the mean."""

    loss: float
    perplexity: float
    n_tokens: int
    standard_error: float


@torch.no_grad()
def measure(
    logits_of: Callable[[Tensor], Tensor],
    held_out: Packed,
    cancel: CancelToken,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Quality:
    """Quality of `logits_of`: input_ids (1, T) -> logits (1, T, V), over every counted token of `held_out`.

    One sequence at a time, so that memory is bounded by T·V; sums in float64.
    """
    losses = []
    for n_done, (ids, labels) in enumerate(zip(held_out.input_ids, held_out.labels, strict=True), start=1):
        cancel.check()
        targets = labels[1:]
        logits = logits_of(ids[None])[0, :-1].float()
        loss = cross_entropy(logits, targets.to(logits.device), ignore_index=IGNORED, reduction="none")
        losses.append(loss[targets.to(loss.device) != IGNORED].double().cpu())
        on_progress(n_done, len(held_out))
    per_token = torch.cat(losses)
    mean = per_token.mean().item()
    return Quality(
        loss=mean,
        perplexity=math.exp(min(mean, 700.0)),
        n_tokens=per_token.numel(),
        standard_error=per_token.std().item() / math.sqrt(per_token.numel()) if per_token.numel() > 1 else 0.0,
    )


def finite(quality: Quality) -> Quality:
    """The same, if it is a number at all; UserError if the model gave none."""
    if not math.isfinite(quality.loss):
        raise UserError(
            "The held-out loss is not a finite number: this model is destroyed.",
            "Train again with a lower learning rate or in float32, or choose another base model.",
        )
    return quality


def write_quality(path: Path, stages: dict[str, Quality]) -> None:
    """Keep measured stages as quality.json: {"base": {"loss": …, "perplexity": …, "n_tokens": …}, …}.

    UserError if one of them is not a number.
    """
    write_json(path, {stage: asdict(finite(quality)) for stage, quality in stages.items()})


def read_quality(path: Path) -> dict[str, Quality]:
    rows: dict[str, Any] = read_json(path)
    return {stage: Quality(**row) for stage, row in rows.items()}
