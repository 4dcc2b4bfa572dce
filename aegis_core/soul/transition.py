"""Whether the loss shows a transition: only as paired evidence, against both controls, over several data orders.

The loss of a single run has a change-point wherever one looks, also without any gate. What can be evidence is the
difference d(t) = loss of the annealed run − loss of its control, taken on identical batches. Two such runs drift apart
like a random walk while they learn, so a plain CUSUM raises false alarms. Here d is a drifting level plus noise,

    d(t) = m(t) + s(t)·ε(t),    m(t) = m(t−1) + √λ·s(t)·η(t),

with a noise scale s(t) that may change slowly, and the test asks whether a sudden shift of the level explains d better
than drift alone: the CUSUM of d whitened by that model, as a likelihood ratio. λ and the variance are estimated anew
with and without the shift, so that drift is not taken for a shift and a shift not for drift. A shift may take up to a
twentieth of the steps; what merely follows the much wider curve of alpha is drift.

Pure Python and numpy: the window may import it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from .level_shift import Floats, largest_shift

Outcome = Literal["observed", "not_observed", "not_measured"]
Reason = Literal["", "no_control", "too_few_orders", "too_few_steps", "zero_variance", "not_finite"]

CONTROLS = ("lora", "fixed")
MIN_STEPS = 40
MIN_ORDERS = 3
LEVEL = 0.04  # chance of a false alarm in a pair that does not drift; see critical_value
TOLERANCE = 0.05  # part of the steps by which the evidence of several orders may differ
MIN_TOLERANCE = 3
ROUNDING = 1e-6  # nats; differences that move less than this are float32 rounding, not noise
MOST_POINTS = 2000  # a longer series is averaged to this many points: time and memory stay bounded


@dataclass(frozen=True)
class Change:
    """What one pair shows. `step` counts from 1 and is the first of the new level; `size` and `standard_error` in nats.

    `size` is the step of annealed minus control: negative where the annealed run became the better one. `statistic` is
    compared with `critical`; `noise` is the standard deviation of the difference from one step to the next that is no
    drift, in nats. Where nothing was measured, `reason` says why and all numbers are None.
    """

    outcome: Outcome
    reason: Reason = ""
    n_steps: int = 0
    step: int | None = None
    size: float | None = None
    standard_error: float | None = None
    statistic: float | None = None
    critical: float | None = None
    noise: float | None = None


@dataclass(frozen=True)
class Transition:
    """The verdict over all pairs. `step`, `tolerance` (in steps) and `sizes` (control -> mean nats) where observed.

    `pairs` is control -> the changes of its data orders, in their order.
    """

    outcome: Outcome
    reason: Reason
    n_orders: int
    n_agreeing: int
    step: int | None
    tolerance: int | None
    sizes: dict[str, float]
    pairs: dict[str, tuple[Change, ...]]

    def row(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"pairs": {kind: [asdict(change) for change in self.pairs[kind]] for kind in self.pairs}}


def critical_value(n_steps: int) -> float:
    """What |statistic| must exceed: a normal variable does so at any of n_steps places with chance ≤ LEVEL.

    That union bound is the principle; benchmarks/transition.py shows what it comes to with drift, with growing noise
    and with real pairs.
    """
    return -NormalDist().inv_cdf(LEVEL / 2 / n_steps)


def paired_change(difference: Sequence[float]) -> Change:
    """Whether the level of loss(annealed) − loss(control), one value per optimiser step in nats, shifts suddenly."""
    whole: Floats = np.asarray(difference, dtype=np.float64)
    n_steps = len(whole)
    if n_steps < MIN_STEPS:
        return Change("not_measured", "too_few_steps", n_steps)
    if not np.isfinite(whole).all():
        return Change("not_measured", "not_finite", n_steps)
    n_per_point = math.ceil(n_steps / MOST_POINTS)
    points = whole[: n_steps // n_per_point * n_per_point].reshape(-1, n_per_point).mean(axis=1)
    if np.median(np.abs(np.diff(points))) < ROUNDING:
        return Change("not_measured", "zero_variance", n_steps)
    found = largest_shift(points)
    critical = critical_value(len(points))
    seen = found.statistic > critical
    return Change(
        outcome="observed" if seen else "not_observed",
        n_steps=n_steps,
        step=found.place * n_per_point + 1 if seen else None,
        size=found.size if seen else None,
        standard_error=found.standard_error if seen else None,
        statistic=found.statistic,
        critical=critical,
        noise=found.noise,
    )


def transition(differences: Mapping[str, Sequence[Sequence[float] | None]]) -> Transition:
    """The verdict from control ("lora", "fixed") -> one series of differences per data order (None: it did not run).

    Claimed only if, against both controls, on at least three data orders and at least half of them, the pair changes at
    one step (within the tolerance) and in one direction per control.
    """
    pairs = {
        control: tuple(
            Change("not_measured", "no_control") if series is None else paired_change(series)
            for series in differences.get(control, ())
        )
        for control in CONTROLS
    }
    orders = list(zip(*pairs.values(), strict=False))
    measured = [order for order in orders if all(change.outcome != "not_measured" for change in order)]
    if len(measured) < MIN_ORDERS:
        return Transition("not_measured", _why(pairs), len(measured), 0, None, None, {}, pairs)
    tolerance = max(MIN_TOLERANCE, round(TOLERANCE * max(change.n_steps for change in measured[0])))
    agreeing = _largest_agreement(measured, tolerance)
    if len(agreeing) < max(MIN_ORDERS, math.ceil(len(measured) / 2)):
        return Transition("not_observed", "", len(measured), len(agreeing), None, None, {}, pairs)
    sizes = {control: float(np.mean([order[i].size for order in agreeing])) for i, control in enumerate(CONTROLS)}
    step = round(float(np.median([_step(change) for order in agreeing for change in order])))
    return Transition("observed", "", len(measured), len(agreeing), step, tolerance, sizes, pairs)


_Order = tuple[Change, ...]


def _why(pairs: Mapping[str, tuple[Change, ...]]) -> Reason:
    """Why fewer than three data orders could be judged."""
    if not all(pairs.values()):
        return "no_control"
    spoilt = [change.reason for changes in pairs.values() for change in changes if change.reason]
    return spoilt[0] if spoilt else "too_few_orders"


def _largest_agreement(orders: list[_Order], tolerance: int) -> list[_Order]:
    """The most orders whose changes all lie within `tolerance` of one step, with one sign per control."""
    fired = [order for order in orders if all(change.outcome == "observed" for change in order)]
    groups = []
    for first in fired:
        for place in {_step(change) for change in first}:
            groups.append(
                [
                    order
                    for order in fired
                    if all(abs(_step(change) - place) <= tolerance for change in order)
                    and _signs(order) == _signs(first)
                ]
            )
    return max(groups, key=len, default=[])


def _step(change: Change) -> int:
    assert change.step is not None
    return change.step


def _signs(order: _Order) -> list[bool]:
    return [change.size is not None and change.size > 0 for change in order]
