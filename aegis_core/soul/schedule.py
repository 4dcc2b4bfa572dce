"""Alpha as a function of the optimiser step. Pure Python: the window draws these curves too.

Source: design notes, "Annealing schedules". Step i = 0 … N−1; p = clip((i − w)/((N−1)·e − w), 0, 1). With a hold h the
shape is asked at q(p), which stands still at ½ for the middle part h of the way; at h = 0 it is p itself.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

from ..plan import SoulPlan

HALFWAY_ALPHA = math.log(0.432 / 0.568)  # two_phase: gate 0.432 at half time
SETTLED_DISTANCE = 0.01
_EQUAL = 1e-9  # strides that differ by less, as a part, differ by rounding
_STRAIGHT = 1e-8  # below this steepness the sigmoid equals a straight line to rounding


def gate(alpha: float) -> float:
    """Openness of the gate, σ(α)."""
    return 1 / (1 + math.exp(-alpha)) if alpha >= 0 else math.exp(alpha) / (1 + math.exp(alpha))


def progress(step: int, n_steps: int, soul: SoulPlan) -> float:
    """p in [0, 1]: 0 through the warm-up, 1 from the end fraction on. The last step is exactly 1."""
    if step >= n_steps - 1:
        return 1.0
    warmup = soul.schedule.warmup_fraction * n_steps
    span = (n_steps - 1) * soul.schedule.end_fraction - warmup
    if span <= 0:
        return 0.0 if step <= warmup else 1.0
    return min(max((step - warmup) / span, 0.0), 1.0)


def alpha_at(step: int, n_steps: int, soul: SoulPlan) -> float:
    """Alpha for optimiser step `step` of `n_steps`; exactly alpha_start at p = 0, exactly alpha_target at p = 1.

    It never leaves the range between the two and never turns back.
    """
    p = progress(step, n_steps, soul)
    if p <= 0:
        return soul.alpha_start
    if p >= 1:
        return soul.alpha_target
    low, high = sorted((soul.alpha_start, soul.alpha_target))
    return min(max(_alpha(_rested(p, soul.schedule.hold_fraction), soul), low), high)


def curve(n_steps: int, soul: SoulPlan) -> list[float]:
    """Alpha at every step, (n_steps,); remembered, since all plots of one training ask for the same."""
    return list(_alphas(n_steps, soul))


@lru_cache(maxsize=4)
def _alphas(n_steps: int, soul: SoulPlan) -> tuple[float, ...]:
    return tuple(alpha_at(step, n_steps, soul) for step in range(n_steps))


def critical_step(n_steps: int, soul: SoulPlan) -> int:
    """The step into which alpha takes its largest stride; the middle one of equally large ones."""
    strides = [abs(b - a) for a, b in pairwise(curve(n_steps, soul))]
    top = max(strides)
    largest = [i for i, stride in enumerate(strides, 1) if stride >= top * (1 - _EQUAL)]
    return largest[(len(largest) - 1) // 2]


def half_open_step(n_steps: int, soul: SoulPlan) -> int | None:
    """The first step with alpha ≥ 0 (gate half open), or None if that never happens."""
    return next((i for i, alpha in enumerate(curve(n_steps, soul)) if alpha >= 0), None)


def phases(n_steps: int, soul: SoulPlan) -> list[str]:
    """latent, critical or settled for every step: critical where alpha moves at half its top speed or more."""
    alphas = curve(n_steps, soul)
    strides = [0.0] + [abs(b - a) for a, b in pairwise(alphas)]
    top = max(strides)
    moving = [i for i, stride in enumerate(strides) if stride > 0 and stride >= top / 2]
    first = moving[0] if moving else n_steps
    return [_phase(i, alpha, first, soul.alpha_target) for i, alpha in enumerate(alphas)]


def _phase(step: int, alpha: float, first_critical: int, target: float) -> str:
    if abs(alpha - target) < SETTLED_DISTANCE:
        return "settled"
    return "critical" if step >= first_critical else "latent"


def _rested(p: float, hold: float) -> float:
    """q(p): straight from 0 to ½, at rest there for the middle part `hold` < 1, straight on to 1."""
    if p < (1 - hold) / 2:
        return min(p / (1 - hold), 0.5)
    return max((p - hold) / (1 - hold), 0.5)


def _alpha(p: float, soul: SoulPlan) -> float:
    start, target = soul.alpha_start, soul.alpha_target
    if soul.schedule.kind == "two_phase":
        low, high = sorted((start, target))
        halfway = min(max(HALFWAY_ALPHA, low), high)
        return start + (halfway - start) * 2 * p if p < 0.5 else halfway + (target - halfway) * (2 * p - 1)
    return start + (target - start) * _SHAPES[soul.schedule.kind](p, soul.schedule.steepness)


def _linear(p: float, steepness: float) -> float:
    return p


def _sigmoid(p: float, steepness: float) -> float:
    """Logistic in p centred at ½, renormalised to run from exactly 0 to exactly 1.

    Written with σ(x) − ½ = tanh(x/2)/2, which loses no digits where the curve is nearly straight.
    """
    if steepness < _STRAIGHT:
        return p
    return (1 + math.tanh(steepness * (2 * p - 1) / 4) / math.tanh(steepness / 4)) / 2


def _cosine(p: float, steepness: float) -> float:
    return (1 - math.cos(math.pi * p)) / 2


def _exponential(p: float, steepness: float) -> float:
    """1 − e^{−kp}, normalised so that it arrives."""
    return math.expm1(-steepness * p) / math.expm1(-steepness)


_SHAPES: dict[str, Callable[[float, float], float]] = {
    "linear": _linear,
    "sigmoid": _sigmoid,
    "cosine": _cosine,
    "exponential": _exponential,
}
