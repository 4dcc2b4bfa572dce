"""Held-out loss, perplexity and distance to the base, counted the same way for every stage."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from ..cancel import CancelToken
from ..data.packed import Packed
from ..failures import UserError
from ..run_directory import read_json, write_json
from .measurement import Measurement, mean_and_error
from .reading import Decoder, LogitsOf, predictions
from .reference import Distance


@dataclass(frozen=True)
class Quality:
    """Mean negative log-likelihood per counted token in nats, its exponential, and the standard error of the mean.

    `kl` is the mean of KL(base ‖ stage) in nats per token over `kl_tokens` of these tokens; None where it was not
    measured.
    """

    loss: float
    perplexity: float
    n_tokens: int
    standard_error: float
    kl: float | None = None
    kl_standard_error: float | None = None
    kl_tokens: int | None = None


def measure(
    model: Decoder | LogitsOf,
    held_out: Packed,
    cancel: CancelToken,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Quality:
    """Quality of a model over every counted token of `held_out`.

    `model` has `hidden` and `head`, as GatedModel, so that logits are made only where they count and 256 positions at
    a time, or is a function input_ids (1, T) -> logits (1, T, V). `on_progress` hears sequences done and in all.
    """
    return quality_of(token_losses(model, held_out, cancel, on_progress))


@torch.no_grad()
def token_losses(
    model: Decoder | LogitsOf,
    held_out: Packed,
    cancel: CancelToken,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    distance: Distance | None = None,
) -> Measurement:
    """The same, token by token; with a `distance` also how far the predictions are from the base's."""
    losses, n_read = [torch.zeros(0)], 0
    for logits, targets in predictions(model, held_out, cancel, on_progress):
        losses.append(cross_entropy(logits, targets, reduction="none").cpu())
        if distance:
            distance.see(n_read, logits)
        n_read += len(targets)
    return Measurement(torch.cat(losses), distance.divergences() if distance else None)


def quality_of(measured: Measurement) -> Quality:
    """Means and their standard errors, reckoned in float64; tokens count as independent of each other."""
    loss, error = mean_and_error(measured.losses)
    quality = Quality(loss, math.exp(min(loss, 700.0)), len(measured.losses), error)
    if measured.divergences is None:
        return quality
    kl, kl_error = mean_and_error(measured.divergences)
    return replace(quality, kl=kl, kl_standard_error=kl_error, kl_tokens=len(measured.divergences))


def finite(quality: Quality) -> Quality:
    """The same, if it is a number at all; UserError if the model gave none."""
    if not (math.isfinite(quality.loss) and math.isfinite(quality.kl or 0.0)):
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
    """Stage -> quality; files of earlier versions lack KL, later ones may hold more."""
    rows: dict[str, dict[str, Any]] = read_json(path)
    known = [field.name for field in fields(Quality)]
    return {stage: Quality(**{name: row[name] for name in known if name in row}) for stage, row in rows.items()}
