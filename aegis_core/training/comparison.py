"""What the control runs say about the gate: held-out losses paired token by token, training losses step by step."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data.packed import IGNORED, Packed
from ..evaluation.measurement import load_measurement
from ..sealed import read_sealed
from ..soul.transition import Transition, transition
from .arms import CONTROL_KINDS, FINISHED, LOSSES, Arm, Kind
from .metrics import read_metrics

TIE_NATS = 1e-3  # a smaller difference is none that anybody would notice
CERTAIN = 2.0  # standard errors, where one data order was compared
# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom; from eleven orders on the last one serves.
CERTAIN_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

Verdict = Literal["helped", "hurt", "no_difference"]


@dataclass(frozen=True)
class Pairing:
    """Mean held-out loss of the gated runs minus that of their controls, in nats per token, and its standard error.

    `n_orders` data orders were averaged. The error holds the spread over held-out sequences (tokens of one sequence
    are not independent) and, from two orders on, that over the orders. A verdict other than no_difference takes two
    errors, from two orders on as many as Student's t asks for. One order says nothing of how another would fall out.
    """

    nats: float
    standard_error: float
    n_tokens: int
    n_orders: int
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """`paired` is control kind -> pairing, for those that ran; `arms` is arm name -> its held-out quality."""

    arms: dict[str, dict[str, Any]]
    paired: dict[Kind, Pairing]
    transition: Transition

    def row(self) -> dict[str, Any]:
        """control.json."""
        paired = {f"gated_minus_{kind}": asdict(pairing) for kind, pairing in self.paired.items()}
        return {"arms": self.arms, "paired": paired, "transition": self.transition.row()}


def compare(arms: Sequence[Arm], train: Path, held_out: Packed) -> Comparison:
    """Everything that these finished arms below the training step's folder say together."""
    orders = range(max(arm.order for arm in arms) + 1)
    pairs = {kind: [k for k in orders if Arm("gated", k) in arms and Arm(kind, k) in arms] for kind in CONTROL_KINDS}
    return Comparison(
        {arm.name: read_sealed(arm.folder(train) / FINISHED)[arm.kind] for arm in arms},
        {kind: pair([_held_out_difference(kind, k, train) for k in ks], held_out) for kind, ks in pairs.items() if ks},
        transition({kind: [_loss_difference(kind, k, train) if k in ks else None for k in orders]
                    for kind, ks in pairs.items()}),
    )  # fmt: skip


def pair(differences: Sequence[Tensor], held_out: Packed) -> Pairing:
    """From one (n,) tensor per data order: loss(gated) − loss(control) of every counted held-out token, in their order.

    ValueError if they are not of these tokens.
    """
    per_token = torch.stack([difference.double() for difference in differences])  # (orders, n)
    if per_token.shape[1] != held_out.n_counted:
        raise ValueError(f"{per_token.shape[1]} differences for {held_out.n_counted} tokens")
    nats = per_token.mean().item()
    variance = _variance_over_sequences(per_token.mean(0) - nats, held_out)
    if len(per_token) > 1:
        variance += per_token.mean(1).var().item() / len(per_token)
    error = math.sqrt(variance)
    return Pairing(nats, error, per_token.shape[1], len(per_token), _verdict(nats, error, len(per_token)))


def _variance_over_sequences(residuals: Tensor, held_out: Packed) -> float:
    """Of the mean of residuals (n,) around it: the sums over whole sequences vary independently of each other."""
    lengths = (held_out.labels[:, 1:] != IGNORED).sum(1)
    sums = torch.stack([part.sum() for part in residuals.split(lengths.tolist()) if len(part)])
    n = len(sums)
    if n > 1:
        return float(sums.square().sum()) * n / (n - 1) / len(residuals) ** 2
    return residuals.var().item() / len(residuals) if len(residuals) > 1 else 0.0


def _verdict(nats: float, error: float, n_orders: int) -> Verdict:
    errors = CERTAIN if n_orders == 1 else CERTAIN_T[min(n_orders - 1, len(CERTAIN_T)) - 1]
    if abs(nats) <= max(TIE_NATS, errors * error):
        return "no_difference"
    return "helped" if nats < 0 else "hurt"


def _held_out_difference(kind: Kind, order: int, train: Path) -> Tensor:
    gated, control = (load_measurement(Arm(k, order).folder(train) / LOSSES)[0].losses for k in ("gated", kind))
    return gated.double() - control.double()


def _loss_difference(kind: Kind, order: int, train: Path) -> list[float]:
    """At every step that both made, on the same batch."""
    gated, control = (read_metrics(Arm(k, order).metrics(train)) for k in ("gated", kind))
    other = {row["step"]: row["loss"] for row in control}
    return [row["loss"] - other[row["step"]] for row in gated if row["step"] in other]
