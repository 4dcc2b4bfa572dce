"""How good a schedule is, judged from its alphas alone.

Source: design notes, "Schedule search score". A converged schedule scores between 1 and 2, any other one at most 0, so
that no curve which misses its target can ever be the best.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..soul.schedule import SETTLED_DISTANCE

LARGEST_STRIDE = 8.0  # in units of (target − start) / N: no single step may be larger


@dataclass(frozen=True)
class ScheduleScore:
    """`settled_at` is the first step from which alpha stays at its target (None if it does not at the end);
    `stride` the largest step in units of the largest one allowed (1 is the limit)."""

    value: float
    converged: bool
    settled_at: int | None
    stride: float


def score(alphas: Sequence[float], target: float, smoothness_weight: float) -> ScheduleScore:
    """Score of a schedule of N = len(alphas) ≥ 2 steps that starts at alphas[0].

    Converged (settled within 0.01 of the target for the last 2 % of the steps, no step above the limit):
    1 + (1 − λ)(1 − settled_at/N) + λ(1 − stride). Otherwise −|α − target| at step ⌊0.98 N⌋, less what the largest step
    exceeds the limit by. ValueError for curves that are too short, not finite or start at the target.
    """
    n_steps = len(alphas)
    span = abs(target - alphas[0]) if n_steps else 0.0
    if n_steps < 2 or not all(map(math.isfinite, alphas)) or span == 0:
        raise ValueError("a schedule needs two steps or more, finite alphas and a target away from its start")
    stride = max(abs(b - a) for a, b in pairwise(alphas)) * n_steps / (LARGEST_STRIDE * span)
    judged_at = 98 * n_steps // 100
    settled_at = _settled_at(alphas, target)
    if settled_at is not None and settled_at <= judged_at and stride <= 1:
        early, smooth = 1 - settled_at / n_steps, 1 - stride
        value = 1 + (1 - smoothness_weight) * early + smoothness_weight * smooth
        return ScheduleScore(value, True, settled_at, stride)
    return ScheduleScore(-abs(alphas[judged_at] - target) - max(stride - 1, 0.0), False, settled_at, stride)


def _settled_at(alphas: Sequence[float], target: float) -> int | None:
    away = [i for i, alpha in enumerate(alphas) if not abs(alpha - target) < SETTLED_DISTANCE]
    first = away[-1] + 1 if away else 0
    return first if first < len(alphas) else None
